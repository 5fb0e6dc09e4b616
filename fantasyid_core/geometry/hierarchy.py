"""The mesh hierarchy of the 3D branch: how a fine mesh shrinks to few vertices and grows back, and its spirals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..arrays import FloatArray, IntArray, checked_array
from ..errors import CheckpointError, InputError

SPIRAL_LENGTH = 9  #: vertices of one spiral, the centre first (release: SpiralNet++ with 9)
_FORMAT = "fantasyid-mesh-hierarchy-1"


@dataclass(frozen=True, eq=False)
class MeshHierarchy:
    """Levels of one mesh, fine → coarse (FLAME: 5023 → 1256 → 314), with V_l vertices on level l.

    topology: the name that ``FaceGeometry.topology`` must have. spirals: [V_l, S] vertex indices per level, the centre
    first; the network reads levels 0 and 1. down: [V_(l+1)] indices, coarse vertex j **is** fine vertex ``down[l][j]``.
    up_index, up_weight: [V_l, 3], fine vertex i is the weighted sum of three coarse ones; weights may be zero or
    negative and sum to about 1. template: [V_0, 3] metres, the mean mesh, and triangles: [F, 3] of level 0; both None
    where unknown (needed only to draw a point cloud or to register another head).

    Raises InputError when a shape or an index does not fit.
    """

    topology: str
    spirals: tuple[IntArray, ...]
    down: tuple[IntArray, ...]
    up_index: tuple[IntArray, ...]
    up_weight: tuple[FloatArray, ...]
    template: FloatArray | None = None
    triangles: IntArray | None = None

    def __post_init__(self) -> None:
        if not self.topology:
            raise InputError("A mesh hierarchy needs the name of its topology.")
        steps = len(self.down)
        if steps < 1 or len(self.up_index) != steps or len(self.up_weight) != steps or len(self.spirals) < steps:
            raise InputError(
                f"A mesh hierarchy with {steps} steps down needs as many steps up and spirals, but it has "
                f"{len(self.up_index)} and {len(self.spirals)}."
            )
        sizes = (len(self.up_index[0]), *(len(picks) for picks in self.down))
        for level in range(steps):
            self._freeze_step(level, sizes[level], sizes[level + 1])
        self._freeze_spirals(sizes)
        self._freeze_template(sizes[0])

    def _freeze_step(self, level: int, fine: int, coarse: int) -> None:
        self._freeze("down", level, _indices(f"Step {level} down", self.down[level], (coarse,), fine))
        index = _indices(f"Step {level} up", self.up_index[level], (fine, 3), coarse)
        self._freeze("up_index", level, index)
        weight = checked_array(f"The weights of step {level} up", self.up_weight[level], (fine, 3))
        self._freeze("up_weight", level, weight)

    def _freeze_spirals(self, sizes: tuple[int, ...]) -> None:
        if len(self.spirals) > len(sizes):
            raise InputError(f"A mesh hierarchy of {len(sizes)} levels cannot have {len(self.spirals)} spirals.")
        length = self.spirals[0].shape[-1]
        for level, spiral in enumerate(self.spirals):
            indices = _indices(f"The spirals of level {level}", spiral, (sizes[level], length), sizes[level])
            self._freeze("spirals", level, indices)

    def _freeze_template(self, fine: int) -> None:
        if self.template is not None:
            object.__setattr__(self, "template", checked_array("The mean mesh", self.template, (fine, 3)))
        if self.triangles is not None:
            triangles = np.asarray(self.triangles)
            shape = (triangles.shape[0] if triangles.ndim else 0, 3)
            object.__setattr__(self, "triangles", _indices("The triangles", triangles, shape, fine))

    def _freeze(self, field: str, level: int, array: IntArray | FloatArray) -> None:
        arrays = list(getattr(self, field))
        arrays[level] = array
        object.__setattr__(self, field, tuple(arrays))

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Vertices per level, fine → coarse."""
        return (len(self.up_index[0]), *(len(picks) for picks in self.down))

    @property
    def coarse_vertices(self) -> IntArray:
        """[V_last] which vertices of the finest level the coarsest level is made of."""
        picks = self.down[0]
        for step in self.down[1:]:
            picks = picks[step]
        return picks


def save_hierarchy(hierarchy: MeshHierarchy, path: Path) -> None:
    """Write the whole hierarchy as one .safetensors file (int32 and float32 arrays, topology in the metadata)."""
    from safetensors.numpy import save_file

    tensors = {
        f"{name}.{level}": np.ascontiguousarray(array)
        for name in ("spirals", "down", "up_index", "up_weight")
        for level, array in enumerate(getattr(hierarchy, name))
    }
    for name in ("template", "triangles"):
        if getattr(hierarchy, name) is not None:
            tensors[name] = np.ascontiguousarray(getattr(hierarchy, name))
    save_file(tensors, path, metadata={"format": _FORMAT, "topology": hierarchy.topology})


def load_hierarchy(path: Path) -> MeshHierarchy:
    """Read what ``save_hierarchy`` wrote. Raises CheckpointError when the file is something else or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be read as a mesh hierarchy ({error}); make it again.") from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path.name} is not a FantasyID mesh hierarchy; convert the release's transform.pkl.")
    try:
        return _from_tensors(metadata.get("topology", ""), tensors)
    except InputError as error:
        raise CheckpointError(f"{path.name} is damaged: {error}") from error


def _from_tensors(topology: str, tensors: dict[str, np.ndarray]) -> MeshHierarchy:
    def levels(name: str) -> tuple[np.ndarray, ...]:
        count = sum(key.startswith(f"{name}.") for key in tensors)
        missing = [f"{name}.{level}" for level in range(count) if f"{name}.{level}" not in tensors]
        if missing:
            raise InputError(f"the array {missing[0]} is missing.")
        return tuple(tensors[f"{name}.{level}"] for level in range(count))

    return MeshHierarchy(
        topology,
        levels("spirals"),
        levels("down"),
        levels("up_index"),
        levels("up_weight"),
        tensors.get("template"),
        tensors.get("triangles"),
    )


def _indices(name: str, value: np.ndarray, shape: tuple[int, ...], limit: int) -> IntArray:
    """``value`` as checked int32 indices in 0..limit-1."""
    if not np.issubdtype(np.asarray(value).dtype, np.integer):
        raise InputError(f"{name} must be whole numbers, not {np.asarray(value).dtype}.")
    array: IntArray = checked_array(name, value, shape, np.int32)
    if array.min() < 0 or array.max() >= limit:
        raise InputError(f"{name} points at vertices that do not exist (0 to {limit - 1} do).")
    return array
