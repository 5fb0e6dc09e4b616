"""The licence-free parametric head: MakeHuman's CC0 head with a prior over shapes and the 52 ARKit expressions.

It is linear: vertices = base + shape · shape_basis + expression · expression_basis. Shape coefficients are principal
components of a stated distribution of people (tools/head_prior.py), one unit being one standard deviation, so the
squared length of a coefficient vector says how unusual a face is. Expression coefficients are ARKit's, 0 = rest,
1 = fully so. Adults only: MakeHuman's child targets are left out.

The vertices lie along a Hilbert curve over the unrolled head, nose in the middle: neighbours in the list are
neighbours on the head. The two eyeballs come last (right, then left). The skin is one orientable manifold with three
borders (neck and eyelids); the mouth is closed by a strip between the lips that opens with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray, checked_array
from ..errors import CheckpointError, InputError, MissingFileError
from .geometry import FaceGeometry, HeadPose

HEAD_FILE = Path(__file__).parent.parent / "assets" / "head.safetensors"
HEAD_TOPOLOGY = "makehuman-head-3202"  #: face, ears, skull, neck and eyeballs: 3202 vertices, 6300 triangles
BUST_TOPOLOGY = "makehuman-bust-5690"  #: the head's 3202 first, then shoulders, mouth, sockets, teeth, lashes, hair
LANDMARKS = 468  #: of MediaPipe's face mesh
MACRO_CONCENTRATION = 0.5  #: of the Dirichlet distribution of race × sex × age in the prior


@dataclass(frozen=True, eq=False)
class HeadModel:
    """V vertices, F triangles, S shape and E = 52 expression coefficients, T face and M race × sex × age targets.

    base: [V, 3] metres, the mean adult at rest in the head frame (origin between the eyeballs). triangles: [F, 3].
    region: [F] numbers into ``region_names``. uv: [F, 3, 2] texture coordinates of the triangles' corners, v up.
    shape_basis: [S, V, 3], expression_basis: [E, V, 3] metres per unit. projection: [S, T + M] turns target weights
    into shape coefficients. landmark_triangle: [468], landmark_weight: [468, 3] where MediaPipe's landmarks lie on the
    skin; landmark_offset: [468, 3] metres from there to where its network sees them, measured on drawn heads (it sees
    a flatter relief and a narrower outline than there is).
    """

    topology: str
    base: FloatArray
    triangles: IntArray
    region: IntArray
    region_names: tuple[str, ...]
    uv: FloatArray
    shape_basis: FloatArray
    expression_basis: FloatArray
    projection: FloatArray
    target_names: tuple[str, ...]
    macro_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    landmark_triangle: IntArray
    landmark_weight: FloatArray
    landmark_offset: FloatArray

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(getattr(self, field.name), np.ndarray):
                getattr(self, field.name).flags.writeable = False

    def vertices(self, shape: npt.ArrayLike | None = None, expression: npt.ArrayLike | None = None) -> FloatArray:
        """[V, 3] metres. shape [S] and expression [E]; None is the mean person, the face at rest.

        Raises InputError when a coefficient vector has another length.
        """
        vertices = self.base.astype(np.float64)
        for name, value, basis in (
            ("shape", shape, self.shape_basis),
            ("expression", expression, self.expression_basis),
        ):
            if value is not None:
                weights = checked_array(f"The head's {name} coefficients", value, (len(basis),))
                vertices += np.tensordot(weights, basis, axes=1)
        return vertices.astype(np.float32)

    def landmarks(self, vertices: FloatArray) -> FloatArray:
        """[468, 3] MediaPipe's landmarks on the skin of a head of these ``vertices`` [V, 3], in the head frame."""
        corners = vertices[self.triangles[self.landmark_triangle]]  # [468, 3 corners, 3]
        return np.einsum("lkd,lk->ld", corners, self.landmark_weight).astype(np.float32)

    def geometry(
        self,
        shape: npt.ArrayLike | None = None,
        expression: npt.ArrayLike | None = None,
        pose: HeadPose | None = None,
        source: str = "",
    ) -> FaceGeometry:
        """The mesh of these coefficients. shape [S], expression [E]."""
        vertices = self.vertices(shape, expression)
        kept_shape = None if shape is None else np.asarray(shape, np.float32)
        kept_expression = None if expression is None else np.asarray(expression, np.float32)
        return FaceGeometry(vertices, self.triangles, self.topology, pose, kept_shape, kept_expression, source)

    def shape_of_targets(self, weights: Mapping[str, float]) -> FloatArray:
        """[S] the coefficients nearest to these MakeHuman target weights, by name; what is not named is 0.

        The race × sex × age weights ("asian-female-young" …) are absolute: given any of them, they should sum to 1.
        Raises InputError for a name that the head does not have.
        """
        names = [*self.target_names, *self.macro_names]
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise InputError(f"The head has no target {unknown[0]!r}; its names are in HeadModel.target_names.")
        vector = np.array([weights.get(name, 0.0) for name in names])
        if any(name in weights for name in self.macro_names):
            vector[len(self.target_names) :] -= 1 / len(self.macro_names)  # the base holds their mean
        return (self.projection @ vector).astype(np.float32)

    def random_shape(self, generator: np.random.Generator, spread: float = 1.0) -> FloatArray:
        """[S] the coefficients of a random person: targets normal, race × sex × age Dirichlet (more varied than normal
        draws of the coefficients). spread: 1 = the prior, 0 = the mean person."""
        macro = generator.dirichlet(np.full(len(self.macro_names), MACRO_CONCENTRATION)) - 1 / len(self.macro_names)
        normal = generator.standard_normal(len(self.shape_basis))
        from_macro = self.projection[:, len(self.target_names) :] @ macro
        return (spread * (from_macro + normal * self._target_share)).astype(np.float32)

    @property
    def _target_share(self) -> FloatArray:
        """[S] deviation of each coefficient that the race × sex × age weights leave to the face targets."""
        count = len(self.macro_names)
        projection = self.projection[:, len(self.target_names) :].astype(np.float64)
        covariance = (np.eye(count) / count - 1 / count**2) / (count * MACRO_CONCENTRATION + 1)
        explained = np.einsum("sm,mn,sn->s", projection, covariance, projection)
        return np.sqrt(np.clip(1.0 - explained, 0.0, 1.0))


@lru_cache(maxsize=2)
def load_head(whole: bool = False) -> HeadModel:
    """The head that FaceGeometry carries or, when ``whole``, the bust with teeth, tongue, lashes and hair shell.

    Both take the same coefficients, and the bust's first 3202 vertices are the head's. The bust holds every region,
    so what draws it leaves out "mouth closure" and whichever it does not want.
    Raises MissingFileError when the asset is absent and CheckpointError when it is damaged.
    """
    arrays, header = _read(HEAD_FILE)
    vertices, triangles = map(int, header["geometry"].split(","))
    if whole:
        vertices, triangles = len(arrays["base"]), len(arrays["triangles"])
    targets = np.concatenate([_dense(arrays, kind, vertices) for kind in ("shape", "macro")])
    basis = (arrays["mixture"] @ targets.reshape(len(targets), -1)).reshape(-1, vertices, 3)
    return HeadModel(
        topology=BUST_TOPOLOGY if whole else HEAD_TOPOLOGY,
        base=arrays["base"][:vertices].copy(),
        triangles=arrays["triangles"][:triangles].astype(np.int32),
        region=arrays["region"][:triangles].astype(np.int32),
        region_names=tuple(header["regions"].split(",")),
        uv=arrays["uv"][:triangles].astype(np.float32),
        shape_basis=basis,
        expression_basis=_dense(arrays, "expression", vertices),
        projection=arrays["projection"],
        landmark_triangle=arrays["landmark.triangle"].astype(np.int32),
        landmark_weight=arrays["landmark.weight"],
        landmark_offset=arrays["landmark.offset"],
        **{f"{kind}_names": tuple(header[f"{kind}_names"].split(",")) for kind in ("target", "macro", "expression")},
    )


def _read(path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingFileError(f"{path.name} (3 MB, CC0) is missing from {path.parent}; install the pack again.")
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["header"])
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.name} is damaged ({error}); install the pack again.") from error


def _dense(arrays: dict[str, npt.NDArray[Any]], kind: str, vertices: int) -> FloatArray:
    """[N, V, 3] targets out of their sparse rows: target n owns rows start[n] .. start[n + 1]."""
    start, vertex = arrays[f"{kind}.start"], arrays[f"{kind}.vertex"].astype(np.int64)
    target = np.repeat(np.arange(len(start) - 1), np.diff(start))
    dense = np.zeros((len(start) - 1, len(arrays["base"]), 3), np.float32)
    dense[target, vertex] = arrays[f"{kind}.delta"]
    return np.ascontiguousarray(dense[:, :vertices])
