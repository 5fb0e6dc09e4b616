"""Meshes in and out of files: .ply .obj .glb .stl .off, and the release's point clouds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import FloatArray
from ..errors import InputError, MissingFileError
from ..weights.writing import beside
from .geometry import FLAME_TOPOLOGY, FREE_TOPOLOGY, FaceGeometry
from .head import HEAD_TOPOLOGY, load_head

if TYPE_CHECKING:
    import trimesh

READABLE = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off")
WRITABLE = (".ply", ".obj", ".glb")
FLAME_VERTICES = 5023
MAX_BYTES = 200_000_000  #: a head mesh has a few megabytes; beyond this it is something else
HEAD_HEIGHT = (0.1, 0.6)  #: metres, of a mesh that a model is to read


def load_mesh(path: Path | str, models_dirs: Sequence[Path] = ()) -> FaceGeometry:
    """A mesh file as geometry, vertices in the file's order.

    The topology is known by the vertices: 5023 are FLAME's, 3202 with the head's own triangles are our head's, anything
    else is "free". A cloud of 5023 points without triangles gets FLAME's from the user's mesh hierarchy, looked for in
    models_dirs. Raises MissingFileError when the file (or that hierarchy) is absent, InputError for another type of
    file, a damaged one, one without triangles, or a head that is not in metres.
    """
    path = Path(path)
    _check_readable(path)
    mesh = _read(path)
    vertices = np.asarray(mesh.vertices, dtype=np.float32)
    if not np.isfinite(vertices).all():
        raise InputError(f"{path.name} holds positions that are not numbers (NaN or infinity); export it again.")
    if not len(getattr(mesh, "faces", ())):
        return _point_cloud(path, vertices, models_dirs)
    triangles = np.asarray(mesh.faces, dtype=np.int32)  # type: ignore[union-attr]
    topology = _topology(vertices, triangles)
    if topology != FREE_TOPOLOGY:
        _check_metres(path, vertices)
    return FaceGeometry(vertices, triangles, topology, source=f"mesh file {path.name}")


def save_mesh(path: Path | str, geometry: FaceGeometry, colours: FloatArray | None = None) -> Path:
    """Write ``geometry`` as .ply, .obj or .glb by the name's ending, whole or not at all, and return the path.

    colours: [V, 3] RGB 0..1 per vertex. Raises InputError for another ending or a folder that cannot be written.
    """
    import trimesh

    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise InputError(f"A mesh is written as {', '.join(WRITABLE)}, so the name cannot end in '{path.suffix}'.")
    rgb = None if colours is None else (np.clip(colours, 0, 1) * 255).round().astype(np.uint8)
    mesh = trimesh.Trimesh(np.array(geometry.vertices), np.array(geometry.triangles), vertex_colors=rgb, process=False)
    with beside(path) as unfinished, unfinished.open("wb") as file:
        mesh.export(file, file_type=path.suffix.lower()[1:])
    return path


def _check_readable(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"There is no mesh file {path}; correct the name, or put the file there.")
    if path.suffix.lower() not in READABLE:
        raise InputError(f"{path.name} is no mesh file that can be read here; use one of {', '.join(READABLE)}.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path.name} is larger than {MAX_BYTES // 1_000_000} MB, too large for a head; simplify it.")


def _read(path: Path) -> trimesh.Trimesh | trimesh.PointCloud:
    """Every mesh of the file as one, or its points. trimesh's readers raise whatever their format's library raises."""
    import trimesh

    try:
        # maintain_order keeps an .obj's vertices as they are listed, which is what makes a topology
        found = trimesh.load(path, process=False, maintain_order=True)
        return found.to_mesh() if isinstance(found, trimesh.Scene) else found  # type: ignore[return-value]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{path.name} is damaged or not finished ({reason}); export it again.") from error


def _point_cloud(path: Path, vertices: FloatArray, models_dirs: Sequence[Path]) -> FaceGeometry:
    if path.suffix.lower() != ".ply":
        raise InputError(f"{path.name} has no triangles; export the mesh with its faces.")
    from .point_cloud import point_cloud_geometry
    from .transform_file import find_flame_hierarchy

    if len(vertices) != FLAME_VERTICES:
        raise InputError(
            f"{path.name} has no triangles and {len(vertices)} points; a point cloud must have FLAME's "
            f"{FLAME_VERTICES}, anything else needs its faces."
        )
    return point_cloud_geometry(path, find_flame_hierarchy(models_dirs))


def _topology(vertices: FloatArray, triangles: np.ndarray) -> str:
    if len(vertices) == FLAME_VERTICES:
        return FLAME_TOPOLOGY
    head = load_head()
    same = len(vertices) == len(head.base) and np.array_equal(triangles, head.triangles)
    return HEAD_TOPOLOGY if same else FREE_TOPOLOGY


def _check_metres(path: Path, vertices: FloatArray) -> None:
    height = float(np.ptp(vertices[:, 1]))
    if not HEAD_HEIGHT[0] <= height <= HEAD_HEIGHT[1]:
        raise InputError(
            f"The head in {path.name} is {height:.3g} high, but it must be in metres, upright and facing +z; "
            "scale or turn it."
        )
