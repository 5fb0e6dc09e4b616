"""The release's ``transform.pkl``: FLAME's mesh at five sizes, and the matrices between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import CheckpointError, InputError
from ..weights.catalog import entry, find
from ..weights.safe_pickle import SparseMatrix, read_pickle
from .geometry import FLAME_TOPOLOGY
from .hierarchy import MeshHierarchy, load_hierarchy
from .spirals import build_spirals

LEVELS = 3  #: of five in the file; the network reads no more


def find_flame_hierarchy(models_dirs: Sequence[Path]) -> MeshHierarchy:
    """FLAME's mesh hierarchy from the user's models folders: our converted file, or the release's ``transform.pkl``.

    Raises MissingFileError (with licence and origin) when there is neither, CheckpointError when it is damaged.
    """
    path = find(entry("mesh_hierarchy"), models_dirs)
    return load_hierarchy(path) if path.suffix == ".safetensors" else read_transform_pickle(path)


def read_transform_pickle(path: Path, levels: int = LEVELS, topology: str = FLAME_TOPOLOGY) -> MeshHierarchy:
    """The finest ``levels`` levels of a ``transform.pkl`` (release.md §4), with the mean mesh and the spirals.

    The pickle is read by allow-list: nothing in it runs. Raises CheckpointError for any other content.
    """
    content = read_pickle(path)
    try:
        return _hierarchy(content, levels, topology)
    except (InputError, AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} does not hold the mesh levels of the FantasyID release ({error}); get it from their git tree."
        ) from error


def _hierarchy(content: Any, levels: int, topology: str) -> MeshHierarchy:
    vertices = [_array(content["vertices"][level], np.float32) for level in range(levels)]
    faces = [_array(content["face"][level], np.int32) for level in range(levels)]
    steps = range(levels - 1)
    down = [_picks(content["down_transform"][level]) for level in steps]
    up = [_weights(content["up_transform"][level]) for level in steps]
    spirals = [build_spirals(faces[level], len(vertices[level]), vertices=vertices[level]) for level in steps]
    return MeshHierarchy(
        topology,
        tuple(spirals),
        tuple(down),
        tuple(index for index, _ in up),
        tuple(weight for _, weight in up),
        vertices[0],
        faces[0],
    )


def _array(value: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """[n, 3] of ``dtype``."""
    array = np.asarray(value)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "fiu":
        raise ValueError(f"a mesh has the shape {array.shape}")
    return array.astype(dtype)


def _picks(matrix: SparseMatrix) -> IntArray:
    """[rows] the column of the single 1 in every row of a downward matrix."""
    order = np.argsort(matrix.rows, kind="stable")
    if not np.array_equal(matrix.rows[order], np.arange(matrix.shape[0])) or not (matrix.data == 1).all():
        raise ValueError("a downward matrix does more than pick vertices")
    return matrix.columns[order].astype(np.int32)


def _weights(matrix: SparseMatrix) -> tuple[IntArray, FloatArray]:
    """[rows, 3] columns, ascending, and weights of an upward matrix that stores three entries per row (0 included)."""
    order = np.lexsort((matrix.columns, matrix.rows))
    if not np.array_equal(matrix.rows[order], np.repeat(np.arange(matrix.shape[0]), 3)):
        raise ValueError("an upward matrix does not have three entries per row")
    index = matrix.columns[order].reshape(-1, 3).astype(np.int32)
    return index, matrix.data[order].reshape(-1, 3).astype(np.float32)
