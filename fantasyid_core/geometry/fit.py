"""Fit the parametric head to the 468 landmarks of one photograph: pose, shape and expression at once.

Gauss-Newton on a weak-perspective camera with a Gaussian prior on both coefficient vectors, expressions held in 0..1,
and a Cauchy weight per landmark, so that a hand before the mouth or a few wild points do not bend the face.
One photograph does not show how large a head is: the prior's mean size decides, and the camera's scale follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, checked_array
from ..errors import InputError
from .geometry import FaceGeometry, HeadPose
from .head import LANDMARKS, HeadModel, load_head

EYE_CORNERS = (33, 263)  #: outer corners; the inter-ocular distance is measured between them
#: MediaPipe's face oval. At the outline the points slide along the cheek as the head turns.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
#: Deviations in metres on the head. Larger than the network's jitter, since neighbouring landmarks err together.
SIGMA_IMAGE, SIGMA_DEPTH = 0.004, 0.008
OVAL_WEIGHT = 0.3
EXPRESSION_DEVIATION = 0.35
#: Nothing in 468 landmarks tells of the gaze or the tongue.
UNSEEN_EXPRESSIONS = ("eyeLook", "tongueOut")
UNSEEN_DEVIATION = 0.01
ROBUST_RADIUS = 3.0  # deviations beyond which a landmark loses its say
ITERATIONS = 12

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Problem:
    """What does not change while fitting. E: expressions, S: shapes, P = S + E.

    target: [468, 3] landmarks, y up, pixels. base: [468, 3] metres. basis: [P, 468, 3]. inverse_deviation: [468, 3]
    of one measurement, per metre. prior: [P] inverse deviation of the coefficients. bounded: [P] true where 0..1.
    """

    target: Doubles
    base: Doubles
    basis: Doubles
    inverse_deviation: Doubles
    prior: Doubles
    bounded: npt.NDArray[np.bool_]


@dataclass
class _State:
    """rotation [3, 3], scale pixels per metre, translation [3] pixels (y up), coefficients [P]."""

    rotation: Doubles
    scale: float
    translation: Doubles
    coefficients: Doubles

    def points(self, problem: _Problem) -> Doubles:
        """[468, 3] the landmarks on the head of these coefficients, metres."""
        return problem.base + np.tensordot(self.coefficients, problem.basis, axes=1)


def fit_head(
    landmarks: npt.ArrayLike,
    head: HeadModel | None = None,
    *,
    neutral_expression: bool = False,
) -> FaceGeometry:
    """The head that explains ``landmarks`` [468, 3]: x right, y down in photograph pixels, z towards the camera.

    vertices: head frame, metres, turned to the front; pose: how the head stood; shape and expression: coefficients.
    neutral_expression: leave the expression out of the vertices (its coefficients are kept all the same).
    Raises InputError for another shape, values that are not numbers, or landmarks that all lie on one spot.
    """
    head = head or load_head()
    points = checked_array("The face landmarks", landmarks, (LANDMARKS, 3)).astype(np.float64)
    if interocular(points) < 1e-3:
        raise InputError("The landmarks' eye corners lie on one spot; find the landmarks of this face again.")
    problem = _problem(points * [1, -1, 1], head)
    state = _first_pose(problem)
    for _ in range(ITERATIONS):
        _improve(state, problem)
    shape, expression = np.split(state.coefficients.astype(np.float32), [len(head.shape_basis)])
    translation = np.array([state.translation[0], -state.translation[1]], np.float32)
    return FaceGeometry(
        head.vertices(shape, None if neutral_expression else expression),
        head.triangles,
        head.topology,
        HeadPose(state.rotation.astype(np.float32), float(state.scale), translation),
        shape,
        expression,
        "licence-free head fitted to 468 landmarks" + (", expression left out" if neutral_expression else ""),
    )


def interocular(landmarks: npt.NDArray[np.floating]) -> float:
    """Distance of the outer eye corners of ``landmarks`` [468, 3], in their unit, depth included."""
    return float(np.linalg.norm(landmarks[EYE_CORNERS[0]] - landmarks[EYE_CORNERS[1]]))


def reprojection_error(geometry: FaceGeometry, landmarks: FloatArray, head: HeadModel | None = None) -> float:
    """Mean distance in the picture between a fitted head's landmarks and ``landmarks`` [468, 3], as a share of the
    inter-ocular distance. Raises InputError when the geometry was not fitted by fit_head."""
    head = head or load_head()
    if geometry.pose is None or geometry.shape is None or geometry.topology != head.topology:
        raise InputError("Only a head that was fitted to landmarks can be compared with them; extract it again.")
    on_skin = head.landmarks(head.vertices(geometry.shape, geometry.expression))
    found = geometry.pose.project(on_skin + head.landmark_offset)
    distance = np.linalg.norm(found[:, :2] - np.asarray(landmarks)[:, :2], axis=1)
    return float(distance.mean() / interocular(np.asarray(landmarks)))


def _problem(target: Doubles, head: HeadModel) -> _Problem:
    corners = head.triangles[head.landmark_triangle]  # [468, 3]
    basis = np.concatenate([head.shape_basis, head.expression_basis])
    basis = np.einsum("plkd,lk->pld", basis[:, corners], head.landmark_weight).astype(np.float64)
    inverse = np.tile(1.0 / np.array([SIGMA_IMAGE, SIGMA_IMAGE, SIGMA_DEPTH]), (LANDMARKS, 1))
    inverse[list(OVAL)] *= OVAL_WEIGHT
    deviation = np.full(len(basis), 1.0)
    deviation[len(head.shape_basis) :] = [
        UNSEEN_DEVIATION if name.startswith(UNSEEN_EXPRESSIONS) else EXPRESSION_DEVIATION
        for name in head.expression_names
    ]
    bounded = np.arange(len(basis)) >= len(head.shape_basis)
    base = (head.landmarks(head.base) + head.landmark_offset).astype(np.float64)
    return _Problem(target, base, basis, inverse, 1.0 / deviation, bounded)


def _first_pose(problem: _Problem) -> _State:
    """Similarity between the mean head and the landmarks (Umeyama 1991), weighted."""
    weight = problem.inverse_deviation[:, 0] ** 2
    weight = weight / weight.sum()
    centre, target_centre = weight @ problem.base, weight @ problem.target
    source, target = problem.base - centre, problem.target - target_centre
    left, size, right = np.linalg.svd((target * weight[:, None]).T @ source)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left @ (sign[:, None] * right)
    scale = float((size * sign).sum() / (weight @ (source**2).sum(axis=1)))
    translation = target_centre - scale * rotation @ centre
    return _State(rotation, max(scale, 1e-6), translation, np.zeros(len(problem.basis)))


def _improve(state: _State, problem: _Problem) -> None:
    """One Gauss-Newton step over rotation vector, log scale, translation and coefficients."""
    turned = state.points(problem) @ state.rotation.T  # [468, 3] metres
    residual = (problem.target - state.translation) / state.scale - turned
    weight = problem.inverse_deviation * _robust(residual * problem.inverse_deviation)[:, None]
    jacobian = np.concatenate(
        [
            np.cross(np.eye(3)[:, None], turned[None]),
            turned[None],
            np.repeat(np.eye(3)[:, None], LANDMARKS, axis=1),
            problem.basis @ state.rotation.T,
        ]
    )  # [7 + P, 468, 3]
    rows = (jacobian * weight).reshape(len(jacobian), -1)
    prior = np.concatenate([np.zeros(7), problem.prior**2])
    gradient = rows @ (residual * weight).ravel()
    gradient[7:] -= problem.prior**2 * state.coefficients
    system = rows @ rows.T + np.diag(prior)
    step = _bounded_step(system, gradient, state.coefficients, problem.bounded)
    state.rotation = _rotation(step[:3]) @ state.rotation
    state.translation = state.translation + state.scale * step[4:7]
    state.scale *= float(np.exp(np.clip(step[3], -0.5, 0.5)))
    state.coefficients = state.coefficients + step[7:]


def _robust(residual: Doubles) -> Doubles:
    """[468] square roots of Cauchy weights, of residuals [468, 3] in deviations, relative to their own median."""
    distance = np.linalg.norm(residual, axis=1)
    typical = max(float(np.median(distance)), 1e-9)
    return np.asarray(1.0 / np.sqrt(1.0 + (distance / (ROBUST_RADIUS * typical)) ** 2))


def _bounded_step(system: Doubles, gradient: Doubles, coefficients: Doubles, bounded: npt.NDArray[np.bool_]) -> Doubles:
    """The step [7 + P] that solves ``system`` · step = ``gradient``; bounded coefficients stay in 0..1 (active set)."""
    step = np.zeros(len(gradient))
    fixed = np.zeros(len(gradient), bool)
    for _ in range(6):
        free = ~fixed
        step[free] = np.linalg.solve(
            system[np.ix_(free, free)], gradient[free] - system[np.ix_(free, fixed)] @ step[fixed]
        )
        reached = coefficients + step[7:]
        outside = bounded & ((reached < -1e-9) | (reached > 1 + 1e-9))
        if not outside.any():
            break
        step[7:][outside] = np.clip(reached[outside], 0, 1) - coefficients[outside]
        fixed[7:] |= outside
    step[7:] = np.where(bounded, np.clip(coefficients + step[7:], 0, 1) - coefficients, step[7:])
    return step


def _rotation(vector: Doubles) -> Doubles:
    """[3, 3] the rotation by ``vector`` [3], axis times angle in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
