"""Our licence-free head in FLAME's topology, for the release checkpoint without FLAME weights.

The user's mesh hierarchy (``transform.pkl``) carries FLAME's mean mesh. It is laid onto our neutral head once
(registration.py), which gives every FLAME vertex a place on our head; the result stays in the user's models folder.
A fitted head then moves FLAME's mean by the difference between it and our neutral head: with no difference the network
sees exactly the mean face, in the scale and place it was trained with. Head size is not transferred: one photograph
does not show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import FloatArray, IntArray, checked_array
from ..errors import CheckpointError, InputError
from .geometry import FaceGeometry, HeadPose
from .hierarchy import MeshHierarchy
from .registration import Similarity, fit_similarity, lay_onto, small_parts
from .surface import Doubles, Surface
from .transform_file import find_flame_hierarchy

_Shapes = dict[str, tuple[int | None, ...]]
CACHE_NAME = "head_to_flame.safetensors"
_FORMAT = "fantasyid-head-correspondence-1"
_NO_MATCH = 0.01  # metres: further from our head than this, a FLAME vertex has no counterpart and does not vote
_HEAD_HEIGHT = (0.15, 0.6)  # metres, crown to the lower end of the neck


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Where the vertices of one head topology (V of them) lie on another head.

    source: topology of our head; target: topology of the result. triangle: [V] of our head, barycentric: [V, 3].
    rest: [V, 3] where those points are on our neutral head. part: [V] 0 on the head, k on the k-th separate part (an
    eyeball). matched: [V] 0..1, whether there is a counterpart. template: [V, 3], the target's mean; triangles: [F, 3].
    scale, rotation, shift: the similarity template → our neutral head. distance: median in metres, template laid onto
    our head → its surface.
    """

    source: str
    target: str
    triangle: IntArray
    barycentric: FloatArray
    rest: FloatArray
    part: IntArray
    matched: FloatArray
    template: FloatArray
    triangles: IntArray
    scale: float
    rotation: FloatArray
    shift: FloatArray
    distance: float

    def __post_init__(self) -> None:
        count = len(self.template)
        floats: _Shapes = {"barycentric": (count, 3), "rest": (count, 3), "template": (count, 3)}
        floats |= {"matched": (count,), "rotation": (3, 3), "shift": (3,)}
        whole: _Shapes = {"triangle": (count,), "part": (count,), "triangles": (None, 3)}
        for shapes, dtype in ((floats, np.float32), (whole, np.int32)):
            for name, shape in shapes.items():
                array = checked_array(f"The correspondence's {name}", getattr(self, name), shape, dtype)
                object.__setattr__(self, name, array)

    @property
    def similarity(self) -> Similarity:
        """Template → our neutral head."""
        return Similarity(self.scale, self.rotation.astype(np.float64), self.shift.astype(np.float64))


def register(neutral: FaceGeometry, template: FloatArray, triangles: IntArray, target: str) -> Correspondence:
    """Lay ``template`` [V, 3] (metres, facing +z) onto our neutral head. About ten seconds.

    Raises InputError when either mesh is no upright head in metres.
    """
    height = float(np.ptp(template[:, 1]))
    if not _HEAD_HEIGHT[0] < height < _HEAD_HEIGHT[1]:
        raise InputError(f"The mean mesh of {target} is {height:.3g} high, which is no head in metres; get it again.")
    similarity, laid = lay_onto(template, triangles, neutral.vertices, neutral.triangles)
    found = Surface(neutral.vertices, neutral.triangles).nearest(laid)
    part = small_parts(triangles, len(template))
    on_head = part == 0
    return Correspondence(
        neutral.topology,
        target,
        found.triangle,
        found.barycentric.astype(np.float32),
        found.position.astype(np.float32),
        part,
        (on_head & (found.distance < _NO_MATCH)).astype(np.float32),
        template,
        triangles,
        similarity.scale,
        similarity.rotation.astype(np.float32),
        similarity.shift.astype(np.float32),
        float(np.median(found.distance[on_head])),
    )


def to_flame_topology(geometry: FaceGeometry, correspondence: Correspondence) -> FaceGeometry:
    """``geometry``, our head fitted to a face, in the topology, scale and place of the correspondence's target.

    Give it a neutral expression to give the network a neutral face; whatever expression the vertices have is carried
    over. Raises InputError for a mesh of another topology.
    """
    if geometry.topology != correspondence.source:
        raise InputError(
            f"Only a {correspondence.source} mesh can be carried over to {correspondence.target}, "
            f"not one of the topology {geometry.topology}."
        )
    points = np.einsum(
        "vc,vcd->vd",
        correspondence.barycentric.astype(np.float64),
        geometry.vertices[geometry.triangles[correspondence.triangle]],
    )
    align = fit_similarity(points, correspondence.rest, correspondence.matched.astype(np.float64))
    moved = _with_rigid_parts(align.apply(points) - correspondence.rest, correspondence.part)
    to_target = correspondence.rotation.astype(np.float64) / correspondence.scale  # p @ R is Rᵀ p
    vertices = (correspondence.template + moved @ to_target).astype(np.float32)
    return FaceGeometry(
        vertices,
        correspondence.triangles,
        correspondence.target,
        _carried_pose(geometry.pose, align, correspondence.similarity),
        source=f"{geometry.source or geometry.topology}, carried over to {correspondence.target}",
    )


def find_correspondence(models_dirs: Sequence[Path], neutral: FaceGeometry) -> Correspondence:
    """The correspondence of our neutral head with the user's FLAME mesh hierarchy.

    It is computed once (about ten seconds) and kept beside the user's FLAME files when that folder can be written.
    Raises MissingFileError when there is no mesh hierarchy, CheckpointError when it carries no mean mesh.
    """
    hierarchy = find_flame_hierarchy(models_dirs)
    path = next((folder for folder in map(_flame_folder, models_dirs) if folder.is_dir()), None)
    return correspondence_with(hierarchy, neutral, path / CACHE_NAME if path else None)


def correspondence_with(hierarchy: MeshHierarchy, neutral: FaceGeometry, cache: Path | None = None) -> Correspondence:
    """``register`` with the hierarchy's mean mesh, or what ``cache`` holds of an earlier call with the same meshes."""
    if hierarchy.template is None or hierarchy.triangles is None:
        raise CheckpointError("The mesh hierarchy carries no mean mesh; convert the release's transform.pkl again.")
    key = _key(hierarchy, neutral)
    kept = load_correspondence(cache, key) if cache is not None and cache.is_file() else None
    if kept is not None:
        return kept
    made = register(neutral, hierarchy.template, hierarchy.triangles, hierarchy.topology)
    if cache is not None:
        save_correspondence(made, cache, key)
    return made


def save_correspondence(correspondence: Correspondence, path: Path, key: str) -> bool:
    """Write it as .safetensors; False where the folder cannot be written (it is then computed again next time)."""
    from safetensors.numpy import save

    arrays = {
        name: np.ascontiguousarray(np.asarray(value))
        for name, value in vars(correspondence).items()
        if not isinstance(value, str)
    }
    metadata = {"format": _FORMAT, "key": key, "source": correspondence.source, "target": correspondence.target}
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(save(arrays, metadata))
        partial.replace(path)
    except OSError:
        return False
    return True


def load_correspondence(path: Path, key: str) -> Correspondence | None:
    """What ``save_correspondence`` wrote for the same meshes, or None when the file is older, other or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT or metadata.get("key") != key:
                return None
            values: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        values |= {name: values[name].item() for name in ("scale", "distance")}
        return Correspondence(metadata["source"], metadata["target"], **values)
    except (SafetensorError, OSError, KeyError, TypeError, InputError):
        return None


def _with_rigid_parts(moved: Doubles, part: IntArray) -> Doubles:
    """[V, 3] displacements, those of each separate part replaced by their mean: an eyeball stays round."""
    result = moved.copy()
    for number in range(1, int(part.max()) + 1):
        result[part == number] = moved[part == number].mean(axis=0)
    return result


def _carried_pose(pose: HeadPose | None, align: Similarity, similarity: Similarity) -> HeadPose | None:
    """The camera for the target's frame: first target → our neutral head, then back through ``align``."""
    if pose is None:
        return None
    rotation = align.rotation.T @ similarity.rotation
    shift = align.rotation.T @ (similarity.shift - align.shift) / align.scale
    middle = pose.project(shift[None].astype(np.float32))[0, :2]
    turn = pose.rotation.astype(np.float64) @ rotation
    return HeadPose(turn.astype(np.float32), pose.scale * similarity.scale / align.scale, middle)


def _key(hierarchy: MeshHierarchy, neutral: FaceGeometry) -> str:
    digest = hashlib.sha256()
    for array in (hierarchy.template, hierarchy.triangles, neutral.vertices, neutral.triangles):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _flame_folder(models_dir: Path) -> Path:
    return Path(models_dir) / "fantasyid" / "flame"
