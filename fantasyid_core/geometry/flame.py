"""FLAME (Li et al. 2017) on plain arrays: blend shapes, joints and linear blend skinning (release.md §5).

The model file is the user's own, got from the Max Planck Institute under its licence; nothing of it is in this package.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import FloatArray, IntArray, checked_array
from ..errors import CheckpointError, InputError
from ..weights.safe_pickle import SparseMatrix, read_pickle

VERTICES = 5023
SHAPE_COEFFICIENTS = 100  #: of 300 in the file; DECA predicts so many
EXPRESSION_COEFFICIENTS = 50  #: of 100 in the file
PARENTS = (-1, 0, 1, 1, 1)  #: joints: global, neck, jaw, two eyes
_EXPRESSION_START = 300  # of the 400 blend shapes in the file
_FORMAT = "fantasyid-flame-1"


@dataclass(frozen=True, eq=False)
class Flame:
    """The arrays of a FLAME model; V vertices (5023), J = 5 joints.

    template: [V, 3] metres. triangles: [F, 3]. shape_basis: [V, 3, 100]. expression_basis: [V, 3, 50]. pose_basis:
    [V, 3, 36], per entry of R - I of joints 1 to 4. joint_regressor: [J, V]. skinning: [V, J], rows sum to 1.
    """

    template: FloatArray
    triangles: IntArray
    shape_basis: FloatArray
    expression_basis: FloatArray
    pose_basis: FloatArray
    joint_regressor: FloatArray
    skinning: FloatArray

    def __post_init__(self) -> None:
        count, joints = len(self.template), len(PARENTS)
        shapes = {
            "template": (count, 3),
            "shape_basis": (count, 3, SHAPE_COEFFICIENTS),
            "expression_basis": (count, 3, EXPRESSION_COEFFICIENTS),
            "pose_basis": (count, 3, 9 * (joints - 1)),
            "joint_regressor": (joints, count),
            "skinning": (count, joints),
        }
        for name, shape in shapes.items():
            object.__setattr__(self, name, checked_array(f"FLAME's {name}", getattr(self, name), shape))
        triangles: IntArray = checked_array("FLAME's triangles", self.triangles, (None, 3), np.int32)
        if triangles.min() < 0 or triangles.max() >= count:
            raise InputError("FLAME's triangles point at vertices that do not exist.")
        object.__setattr__(self, "triangles", triangles)


def read_flame(path: Path) -> Flame:
    """FLAME from its official ``generic_model.pkl`` (Python-2 pickle with chumpy arrays, read by allow-list), or from
    the .safetensors that ``save_flame`` wrote. Raises CheckpointError for anything else.
    """
    content = _read_arrays(path) if path.suffix == ".safetensors" else _from_official(path)
    try:
        return Flame(**content)
    except (InputError, TypeError) as error:
        raise CheckpointError(f"{path.name} is not a FLAME model ({error}); get FLAME 2020 from its site.") from error


def save_flame(flame: Flame, path: Path) -> None:
    """Write the arrays as one .safetensors file, for the user's own models folder (FLAME's licence stays on it)."""
    from safetensors.numpy import save_file

    arrays = {field.name: np.ascontiguousarray(getattr(flame, field.name)) for field in fields(flame)}
    save_file(arrays, path, metadata={"format": _FORMAT, "licence": "FLAME model licence (Max Planck)"})


def flame_vertices(
    flame: Flame, shape: FloatArray, expression: FloatArray | None = None, pose: FloatArray | None = None
) -> FloatArray:
    """[B, V, 3] metres. shape: [B, S ≤ 100]; expression: [B, E ≤ 50]; pose: [B, 6] axis-angle, global then jaw.

    Absent expression or pose is neutral; neck and eyes always are (release.md §5). Float32 throughout.
    """
    shaped = _shaped(flame, shape, expression)
    if pose is None:
        return shaped
    batch = len(shaped)
    rotations = np.tile(np.eye(3, dtype=np.float32), (batch, len(PARENTS), 1, 1))
    rotations[:, 0], rotations[:, 2] = rotation_matrices(pose[:, :3]), rotation_matrices(pose[:, 3:6])
    bend = (rotations[:, 1:] - np.eye(3, dtype=np.float32)).reshape(batch, -1)
    posed = shaped + np.einsum("bk,vck->bvc", bend, flame.pose_basis, optimize=True)
    turn, shift = _chain(rotations, np.einsum("jv,bvc->bjc", flame.joint_regressor, shaped, optimize=True))
    turn = np.einsum("vj,bjrc->bvrc", flame.skinning, turn, optimize=True)
    shift = np.einsum("vj,bjr->bvr", flame.skinning, shift, optimize=True)
    result: FloatArray = np.einsum("bvrc,bvc->bvr", turn, posed) + shift
    return result


def root_joint(flame: Flame, shape: FloatArray, expression: FloatArray | None = None) -> FloatArray:
    """[B, 3] metres: the point about which the global rotation turns."""
    root: FloatArray = np.einsum("v,bvc->bc", flame.joint_regressor[0], _shaped(flame, shape, expression))
    return root


def rotation_matrices(axis_angle: FloatArray) -> FloatArray:
    """[B, 3, 3] from [B, 3] axis times angle in radians (Rodrigues, with the release's guard against zero)."""
    vector = np.asarray(axis_angle, dtype=np.float32)
    angle = np.linalg.norm(vector + np.float32(1e-8), axis=1)[:, None, None]
    x, y, z = (vector / angle[:, :, 0]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    result: FloatArray = np.eye(3, dtype=np.float32) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)
    return result


def _shaped(flame: Flame, shape: FloatArray, expression: FloatArray | None) -> FloatArray:
    """[B, V, 3] template + shape + expression, in rest pose."""
    shape = _coefficients("shape", shape, SHAPE_COEFFICIENTS)
    result = flame.template + np.einsum("bk,vck->bvc", shape, flame.shape_basis[..., : shape.shape[1]], optimize=True)
    if expression is not None:
        expression = _coefficients("expression", expression, EXPRESSION_COEFFICIENTS)
        basis = flame.expression_basis[..., : expression.shape[1]]
        result = result + np.einsum("bk,vck->bvc", expression, basis, optimize=True)
    return result


def _coefficients(name: str, value: FloatArray, limit: int) -> FloatArray:
    array: FloatArray = checked_array(f"FLAME's {name} coefficients", value, (None, None))
    if array.shape[1] > limit:
        raise InputError(f"FLAME takes at most {limit} {name} coefficients, not {array.shape[1]}.")
    return array


def _chain(rotations: FloatArray, joints: FloatArray) -> tuple[FloatArray, FloatArray]:
    """World rotation [B, J, 3, 3] and shift [B, J, 3] of each joint: p → turn · p + shift, relative to the rest pose.

    rotations: [B, J, 3, 3] local; joints: [B, J, 3] rest positions.
    """
    turn, place = rotations.copy(), joints.copy()
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            continue
        turn[:, joint] = turn[:, parent] @ rotations[:, joint]
        bone = joints[:, joint] - joints[:, parent]
        place[:, joint] = place[:, parent] + np.einsum("brc,bc->br", turn[:, parent], bone)
    return turn, place - np.einsum("bjrc,bjc->bjr", turn, joints)


def _from_official(path: Path) -> dict[str, Any]:
    content = read_pickle(path)
    needed = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table")
    missing = [name for name in needed if not isinstance(content, dict) or name not in content]
    if missing:
        raise CheckpointError(
            f"{path.name} is not a FLAME model: it has no {missing[0]}; get FLAME 2020 from its site."
        )
    if tuple(np.asarray(content["kintree_table"])[0].astype(np.int32).tolist()) != PARENTS:
        raise CheckpointError(
            f"{path.name} has another skeleton than FLAME's five joints; get FLAME 2020 from its site."
        )
    regressor, blend = content["J_regressor"], np.asarray(content["shapedirs"])
    start = _EXPRESSION_START
    return {
        "template": content["v_template"],
        "triangles": np.asarray(content["f"]).astype(np.int32),
        "shape_basis": blend[..., :SHAPE_COEFFICIENTS],
        "expression_basis": blend[..., start : start + EXPRESSION_COEFFICIENTS],
        "pose_basis": content["posedirs"],
        "joint_regressor": regressor.toarray() if isinstance(regressor, SparseMatrix) else regressor,
        "skinning": content["weights"],
    }


def _read_arrays(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be read ({error}); convert FLAME again.") from error
