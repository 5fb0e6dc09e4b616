"""DECA (Feng et al. 2021): FLAME coefficients from a photograph, in two ways of feeding it.

"as released" is what the authors' point-cloud script does: the whole photograph squeezed to 224², and vertices with the
predicted expression, jaw and head rotation. "recommended" is what DECA was trained for and the paper means: a crop
around the face, and vertices of the person's shape alone. The weights are the user's own (DECA and FLAME licences).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import nn

from ..arrays import FloatArray
from ..errors import CheckpointError, InputError
from ..faces.face import Face
from ..weights.catalog import entry, find
from ..weights.torch_archive import read_torch_archive
from .flame import Flame, flame_vertices, read_flame, root_joint, rotation_matrices
from .geometry import FLAME_TOPOLOGY, FaceGeometry, HeadPose

InputPath = Literal["as released", "recommended"]
INPUT_PATHS: tuple[InputPath, ...] = ("as released", "recommended")
IMAGE_SIZE = 224
MARGIN = 1.25  #: DECA's crop, relative to the face box
BOX_SHIFT = 0.12  #: and how far below the box's centre it looks, in box sizes

#: the encoder's 236 outputs, in order
PARTS = {"shape": 100, "texture": 50, "expression": 50, "pose": 6, "camera": 3, "light": 27}


class DecaEncoder(nn.Module):
    """ResNet-50 and two linear layers: [B, 3, 224, 224] RGB 0..1 → [B, 236] coefficients (``PARTS``).

    State-dict names are those of ``E_flame`` in DECA's file.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ResNet50()
        self.layers = nn.Sequential(nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, sum(PARTS.values())))

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # [B, 3, 224, 224] → [B, 236]
        result: torch.Tensor = self.layers(self.encoder(image))
        return result


class ResNet50(nn.Module):
    """He et al. 2016 with the stride on the 3×3 convolutions; [B, 3, 224, 224] → [B, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 64, 3, 1)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer3 = _stage(512, 256, 6, 2)
        self.layer4 = _stage(1024, 512, 3, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # [B, 3, 224, 224] → [B, 2048]
        x = self.maxpool(self.bn1(self.conv1(image)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))  # an average pool over the 7×7 that is left


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with a shortcut."""

    def __init__(self, wide_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(wide_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or wide_in != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(wide_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [B, C, H, W] → [B, 4·width, H/stride, W/stride]
        inner = self.bn1(self.conv1(x)).relu()
        inner = self.bn2(self.conv2(inner)).relu()
        result: torch.Tensor = (self.bn3(self.conv3(inner)) + self.downsample(x)).relu()
        return result


def _stage(wide_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Bottleneck(wide_in, width, stride), *rest)


def read_deca(path: Path) -> DecaEncoder:
    """The encoder of DECA's ``deca_model.tar`` (read by allow-list, on any torch), or of a .safetensors of it.

    Strict: raises CheckpointError when a tensor is missing, unknown or of another shape.
    """
    weights = _encoder_weights(path)
    with torch.device("meta"):
        encoder = DecaEncoder()
    expected = encoder.state_dict()
    wrong = [name for name in expected if name not in weights or weights[name].shape != expected[name].shape]
    unknown = [name for name in weights if name not in expected and not name.startswith("encoder.fc.")]
    if wrong or unknown:
        raise CheckpointError(
            f"{path.name} is not DECA's model: {len(wrong)} tensors are missing or of another shape and {len(unknown)} "
            f"unknown (first: {', '.join((wrong + unknown)[:10])}); get deca_model.tar from DECA's repository."
        )
    values = {name: weights[name].to(tensor.dtype) for name, tensor in expected.items()}
    encoder.load_state_dict(values, assign=True)
    return encoder.eval().requires_grad_(False)


def _encoder_weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return {name.removeprefix("E_flame."): tensor for name, tensor in load_file(path).items()}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name} cannot be read ({error}); convert DECA again.") from error
    content = read_torch_archive(path)
    weights = content.get("E_flame") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path.name} holds no E_flame, so it is not DECA's model; get deca_model.tar again.")
    return {name: tensor for name, tensor in weights.items() if isinstance(tensor, torch.Tensor)}


@dataclass(frozen=True, eq=False)
class DecaExtractor:
    """Face → FaceGeometry in FLAME's topology, by DECA."""

    encoder: DecaEncoder
    flame: Flame
    input_path: InputPath = "recommended"

    def __post_init__(self) -> None:
        if self.input_path not in INPUT_PATHS:
            raise InputError(f"The input path is one of {', '.join(INPUT_PATHS)}, not {self.input_path!r}.")

    def extract(self, face: Face) -> FaceGeometry:
        """The face's mesh: with pose, expression and jaw in the vertices "as released", without them "recommended"."""
        matrix = released_matrix(face) if self.input_path == "as released" else crop_matrix(face)
        image = released_image(face) if self.input_path == "as released" else cropped_image(face, matrix)
        parts = coefficients(self.encoder, image)
        return decode(self.flame, parts, matrix, self.input_path)


def find_deca(models_dirs: Sequence[Path], input_path: InputPath = "recommended") -> DecaExtractor:
    """DECA with FLAME from the user's models folders; MissingFileError names file, folder, licence and origin."""
    flame, deca = (find(entry(key), models_dirs) for key in ("flame", "deca"))
    return DecaExtractor(read_deca(deca), read_flame(flame), input_path)


@torch.no_grad()
def coefficients(encoder: DecaEncoder, image: FloatArray) -> dict[str, FloatArray]:
    """[224, 224, 3] RGB 0..1 → the named coefficients, each [1, n] (``PARTS``)."""
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    device = next(encoder.parameters()).device
    return split(encoder(batch.to(device)).cpu())


def split(output: torch.Tensor) -> dict[str, FloatArray]:
    """[B, 236] → the named coefficients, each [B, n]."""
    pieces = output.split(list(PARTS.values()), dim=1)
    return {name: piece.numpy() for name, piece in zip(PARTS, pieces, strict=True)}


def released_image(face: Face) -> FloatArray:
    """[224, 224, 3]: the whole photograph, squeezed by PIL's bilinear filter, aspect ratio not kept (release.md §5)."""
    from PIL import Image

    picture = Image.fromarray((np.clip(face.photograph, 0, 1) * 255).round().astype(np.uint8))
    small = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def released_matrix(face: Face) -> FloatArray:
    """[2, 3] photograph pixels → pixels of ``released_image``."""
    height, width = face.photograph.shape[:2]
    return np.array([[IMAGE_SIZE / width, 0, 0], [0, IMAGE_SIZE / height, 0]], dtype=np.float32)


def crop_matrix(face: Face) -> FloatArray:
    """[2, 3] photograph pixels → DECA's crop: a square 1.25 times the box, its centre a little below the box's."""
    x0, y0, x1, y1 = (float(side) for side in face.box)
    size = (x1 - x0 + y1 - y0) / 2
    left = (x0 + x1) / 2 - MARGIN * size / 2
    top = (y0 + y1) / 2 + BOX_SHIFT * size - MARGIN * size / 2
    scale = (IMAGE_SIZE - 1) / (MARGIN * size)
    return np.array([[scale, 0, -scale * left], [0, scale, -scale * top]], dtype=np.float32)


def cropped_image(face: Face, matrix: FloatArray) -> FloatArray:
    """[224, 224, 3] RGB 0..1: the photograph through ``matrix`` [2, 3], black outside."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    crop = cv2.warpAffine(face.photograph, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.clip(crop, 0, 1).astype(np.float32)


def decode(flame: Flame, parts: dict[str, FloatArray], matrix: FloatArray, input_path: InputPath) -> FaceGeometry:
    """One FaceGeometry from DECA's coefficients [1, n]; ``matrix`` [2, 3] led from the photograph to DECA's image."""
    shape, pose = parts["shape"], parts["pose"]
    if input_path == "as released":
        expression = parts["expression"]
        vertices, rotation = flame_vertices(flame, shape, expression, pose)[0], np.eye(3, dtype=np.float32)
        root = np.zeros(3, dtype=np.float32)
    else:
        expression = np.zeros_like(parts["expression"])
        vertices, rotation = flame_vertices(flame, shape)[0], rotation_matrices(pose[:, :3])[0]
        root = root_joint(flame, shape)[0]
    return FaceGeometry(
        vertices,
        flame.triangles,
        FLAME_TOPOLOGY,
        _head_pose(parts["camera"][0], rotation, root, matrix),
        shape[0],
        expression[0],
        f"DECA and FLAME, {input_path}",
    )


def _head_pose(camera: FloatArray, rotation: FloatArray, root: FloatArray, matrix: FloatArray) -> HeadPose | None:
    """DECA's orthographic camera (scale, x, y in units of half its image) in photograph pixels.

    A squeezed photograph has two scales; their geometric mean is given. None where DECA's scale is not positive.
    """
    scale, x, y = (float(value) for value in camera)
    per_pixel = np.sqrt(float(matrix[0, 0]) * float(matrix[1, 1]))
    if not scale > 0:
        return None
    origin = root - rotation @ root  # where the rotation about the root joint takes the head frame's origin
    half = IMAGE_SIZE / 2
    in_image = np.array([half * (1 + scale * (origin[0] + x)), half * (1 - scale * (origin[1] + y))])
    in_photograph = (in_image - matrix[:, 2]) / np.array([matrix[0, 0], matrix[1, 1]])
    return HeadPose(rotation, half * scale / per_pixel, in_photograph)
