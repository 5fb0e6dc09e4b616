"""The first two rooms' golden numbers: alignment and face preprocessing, mesh hierarchy, DECA and FLAME."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from ..faces.align import TEMPLATE, alignment_matrix, warp_crop
from ..geometry.deca import DecaEncoder, split
from ..geometry.flame import Flame, flame_vertices
from ..geometry.spirals import build_spirals
from ..identity.eva import eva_input
from ..video.vae import stretch
from ..weights.golden_rule import array_input, fill_module, generator
from .check import Array, Check, compare, exact
from .golden import Golden

ArrayNumbers = Iterator[tuple[str, Array]]


def preprocess_numbers(golden: dict[str, Array]) -> ArrayNumbers:
    """face_preprocess.npz (golden README, g); every stage starts from the golden output of the one before."""
    yield "template", np.asarray(TEMPLATE)
    landmarks = golden.get("landmarks")
    if landmarks is not None:
        yield "affine", np.stack([alignment_matrix(points) for points in landmarks])
    if landmarks is not None and "image_rgb" in golden:
        photograph = golden["image_rgb"].astype(np.float32) / np.float32(255)
        crop = warp_crop(photograph, alignment_matrix(landmarks[0]), smooth=False)
        yield "crop_bgr", np.rint(crop * 255)[..., ::-1]
    if "crop_bgr" in golden:
        yield from _from_crop(np.ascontiguousarray(golden["crop_bgr"][..., ::-1]))


def _from_crop(crop: Array) -> ArrayNumbers:  # uint8 RGB [512, 512, 3]
    pixels = torch.from_numpy(crop.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
    prepared = eva_input(pixels, 336)
    yield "eva_input", prepared[:, :, ::4, ::4].numpy()
    yield "eva_input_sum", prepared.double().sum((2, 3)).numpy()
    picture = np.asarray(stretch(Image.fromarray(crop), 720, 480), dtype=np.float32) / 127.5 - 1.0
    yield "pipeline_image_8x", picture.transpose(2, 0, 1)[None, :, ::8, ::8]


def hierarchy_checks(file: str, golden: dict[str, Array], folder: Golden) -> Iterator[Check]:
    """mesh_hierarchy.npz: spirals rebuilt by our ring walk from the faces; the rest is input, checked for sense."""
    for key, array in golden.items():
        kind, _, rest = key.partition("_")
        level = int(rest[0]) if rest[:1].isdigit() else -1
        if kind == "spiral" and f"face_{level}" in golden:
            yield _spiral_check(file, key, level, golden, folder)
        elif kind in ("down", "up", "face") and level >= 0:
            yield _input_check(file, key, array, golden, level)
        else:
            yield compare(file, key, None, array)


def _spiral_check(file: str, key: str, level: int, golden: dict[str, Array], folder: Golden) -> Check:
    count, length = golden[key].shape
    vertices = _level_vertices(level, golden, folder)
    ours = build_spirals(golden[f"face_{level}"], count, length, vertices)
    if level < 3:
        return compare(file, key, ours, golden[key])
    # Where the mesh ends before a spiral is full, the release takes the nearest vertices of the mean mesh, which is in
    # no golden file: there another head's vertices stand in, and only the set of rows is compared (9, as it counts).
    differing = int((ours != golden[key]).any(axis=1).sum())
    note = f"unused by the network; {differing} of {count} rows by another head's nearest vertices (at most 9)"
    return exact(file, key, differing <= 9, note)


def _level_vertices(level: int, golden: dict[str, Array], folder: Golden) -> Array | None:
    if level < 3 or not all(f"down_{i}" in golden for i in range(level)):
        return None
    vertices = next(iter(folder.all_vertices.values()))[0].numpy()
    for step in range(level):
        vertices = vertices[golden[f"down_{step}"]]
    return vertices


def _input_check(file: str, key: str, array: Array, golden: dict[str, Array], level: int) -> Check:
    """Indices point at vertices that exist; interpolation weights are finite."""
    if key.endswith("weight"):
        return Check(file, key, "input" if bool(np.isfinite(array).all()) else "FAIL", note="interpolation weights")
    points_into = level + 1 if key.startswith("up") else level
    spiral = golden.get(f"spiral_{points_into}")
    limit = len(spiral) if spiral is not None else int(array.max()) + 1
    good = bool(array.min() >= 0 and array.max() < limit)
    return Check(
        file, key, "input" if good else "FAIL", note=f"indices into the {limit} vertices of level {points_into}"
    )


@torch.no_grad()
def deca_numbers(folder: Golden) -> ArrayNumbers:
    """deca.safetensors (golden README, h)."""
    encoder = DecaEncoder()
    fill_module(encoder, lambda name: f"E_flame.{name}")
    encoder.eval()
    image = torch.from_numpy(generator("input:deca.image").random((1, 3, 224, 224)).astype(np.float32))
    features = encoder.encoder(image)
    parameters = encoder.layers(features)
    yield from {"encoder_features": features.numpy(), "encoder_params": parameters.numpy()}.items()
    flame = golden_flame(folder)
    shape, expression = array_input("flame.shape", (2, 100)), array_input("flame.exp", (2, 50))
    yield "verts", flame_vertices(flame, shape, expression, array_input("flame.pose", (2, 6), 0.3))
    yield "verts_zero_pose", flame_vertices(flame, shape, expression, np.zeros((2, 6), np.float32))
    parts = split(parameters)
    yield "chain_verts", flame_vertices(flame, parts["shape"], parts["expression"], parts["pose"])


def golden_flame(folder: Golden) -> Flame:
    """The FLAME-like model that the golden numbers were made with: noise, not FLAME."""

    def noise(name: str, shape: tuple[int, ...]) -> Array:
        return generator(f"input:flame.{name}").standard_normal(shape)

    skinning = np.exp(noise("weights", (5023, 5)))
    regressor = np.abs(noise("J_regressor", (5, 5023)))
    basis = 0.001 * noise("shapedirs", (5023, 3, 400))
    return Flame(
        template=(0.1 * noise("v_template", (5023, 3))).astype(np.float32),
        triangles=folder.hierarchy_arrays["face_0"],
        shape_basis=basis[..., :100].astype(np.float32),
        expression_basis=basis[..., 300:350].astype(np.float32),
        pose_basis=(0.001 * noise("posedirs", (5023, 3, 36))).astype(np.float32),
        joint_regressor=(regressor / regressor.sum(axis=1, keepdims=True)).astype(np.float32),
        skinning=(skinning / skinning.sum(axis=1, keepdims=True)).astype(np.float32),
    )
