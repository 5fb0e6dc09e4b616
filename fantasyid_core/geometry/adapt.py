"""A geometry as a model's 3D branch reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .correspondence import find_correspondence, to_flame_topology
from .geometry import FLAME_TOPOLOGY, FaceGeometry
from .head import HEAD_TOPOLOGY, load_head


def in_topology(geometry: FaceGeometry, topology: str, models_dirs: Sequence[Path] = ()) -> FaceGeometry:
    """``geometry`` itself, or our head carried over to FLAME's topology when the model reads that.

    The head is carried over with a neutral expression where its coefficients are known (docs/geometry.md). models_dirs:
    where the user's mesh hierarchy is looked for. Any other topology is left as it is, for the model to refuse.
    Raises MissingFileError when the mesh hierarchy is absent.
    """
    if (geometry.topology, topology) != (HEAD_TOPOLOGY, FLAME_TOPOLOGY):
        return geometry
    head = load_head()
    if geometry.shape is not None:
        geometry = head.geometry(geometry.shape, None, geometry.pose, geometry.source)
    return to_flame_topology(geometry, find_correspondence(models_dirs, head.geometry()))
