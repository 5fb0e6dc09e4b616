"""A geometry as a model's 3D branch reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..input_path import InputPath
from .correspondence import find_correspondence, to_flame_topology
from .geometry import FLAME_TOPOLOGY, FaceGeometry
from .head import HEAD_TOPOLOGY, load_head


def for_model(
    geometry: FaceGeometry,
    topology: str,
    input_path: InputPath = "recommended",
    models_dirs: Sequence[Path] = (),
) -> FaceGeometry:
    """``geometry`` as a model reads it that wants ``topology``.

    Our head loses its expression unless "as released" (where its coefficients are known), and is carried over to
    FLAME's topology when the model reads that (docs/geometry.md); models_dirs is where the user's mesh hierarchy is
    looked for. Any other geometry is left as it is, for the model to take or to refuse.
    Raises MissingFileError when the mesh hierarchy is needed and absent.
    """
    if geometry.topology != HEAD_TOPOLOGY:
        return geometry
    head = load_head()
    if geometry.shape is not None and input_path == "recommended":
        geometry = head.geometry(geometry.shape, None, geometry.pose, geometry.source)
    if topology == FLAME_TOPOLOGY:
        geometry = to_flame_topology(geometry, find_correspondence(models_dirs, head.geometry()))
    return geometry
