"""Lays one head mesh onto another: landmarks seen in pictures of both, then a smooth deformation.

Both meshes are rendered as clay, our own face detector and landmark network look at the pictures, and what they find is
lifted back to the surfaces: 468 places with a meaning, on meshes that come with none. A similarity brings the
landmarks together; after that every vertex is drawn to the nearest surface that faces the same way, held by its
neighbours ever more loosely (the optimal-step scheme of Amberg et al. 2007, with a graph Laplacian on displacements).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import InputError, NoFaceError
from .geometry import rotation_from_angles
from .rasterise import Raster, rasterise
from .render import shade
from .surface import Doubles, Surface, outward_normals

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ..faces.face import Face

_PICTURE = 640  # pixels
_FIELD = 0.32  # metres that the picture's side covers, its top just above the head
_YAWS = (0.0, 30.0, -30.0)
_FRONTAL = 0.35  # cosine between surface and line of sight below which a lifted landmark is unsure
_STIFFNESS = (300.0, 100.0, 30.0, 10.0, 5.0, 3.0)
_LANDMARK_WEIGHT = 0.02  # times the stiffness: landmarks lead at first, the surface decides in the end
_FEWEST_LANDMARKS = 100
_TIES = 4  # neighbours that a vertex of a separate part gets in other parts
_BACKGROUND = 0.8
_REACH = 0.012  # metres: a surface further away than this hardly draws


@dataclass(frozen=True, eq=False)
class Similarity:
    """p → scale · rotation · p + shift. rotation: [3, 3]; shift: [3]."""

    scale: float
    rotation: Doubles
    shift: Doubles

    def apply(self, points: FloatArray | Doubles) -> Doubles:
        """[N, 3] → [N, 3]."""
        result: Doubles = self.scale * np.asarray(points, np.float64) @ self.rotation.T + self.shift
        return result


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks on a mesh, M = 3 views × 468. triangle: [M], −1 where none was found; barycentric: [M, 3];
    weight: [M] 0..1, how squarely the surface faced the viewer."""

    triangle: IntArray
    barycentric: Doubles
    weight: Doubles

    def positions(self, vertices: FloatArray | Doubles, triangles: IntArray) -> Doubles:
        """[M, 3] where they lie on the mesh when its vertices are ``vertices`` [V, 3]."""
        corners = np.asarray(vertices, np.float64)[triangles[self.triangle]]
        result: Doubles = np.einsum("mc,mcd->md", self.barycentric, corners)
        return result


def fit_similarity(
    source: FloatArray | Doubles, target: FloatArray | Doubles, weight: Doubles | None = None, scaled: bool = True
) -> Similarity:
    """The similarity source → target, both [N, 3], of least weighted squares (Umeyama 1991); not ``scaled``: rigid."""
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    share = np.full(len(source), 1 / len(source)) if weight is None else weight / weight.sum()
    middle, goal = share @ source, share @ target
    a, b = source - middle, target - goal
    u, size, vt = np.linalg.svd((share[:, None] * b).T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = float((size * sign).sum() / (share @ (a * a).sum(axis=1))) if scaled else 1.0
    return Similarity(scale, rotation, goal - scale * rotation @ middle)


def find_landmarks(vertices: FloatArray, triangles: IntArray) -> Landmarks:
    """The 468 landmarks on a head mesh [V, 3] (metres, facing +z) from three pictures of it.

    Raises InputError when no face is seen: the mesh is no head, or does not stand upright facing +z.
    """
    views = list(_views(vertices, triangles))
    return Landmarks(*(np.concatenate(part) for part in zip(*views, strict=True)))


def _views(vertices: FloatArray, triangles: IntArray) -> Iterator[tuple[IntArray, Doubles, Doubles]]:
    """Per view: triangle [468], barycentric [468, 3] and weight [468] of the landmarks."""
    from ..faces.landmarks import detect_landmarks_with_score

    surface = Surface(vertices, triangles)
    for yaw in _YAWS:
        rotation = rotation_from_angles(yaw, 0, 0)
        points = _pixels(vertices @ rotation.T)
        raster = rasterise(points, triangles, _PICTURE, _PICTURE)
        face = _face(raster, points, triangles)
        landmarks, _ = detect_landmarks_with_score(face)
        x, y = (np.clip(np.rint(landmarks[:, k]), 0, _PICTURE - 1).astype(int) for k in range(2))
        triangle = raster.triangle_index[y, x]
        facing = surface.normals[triangle] @ rotation[2]
        sure = (triangle >= 0) & (facing > _FRONTAL)
        yield triangle, raster.barycentric[y, x].astype(np.float64), np.where(sure, facing**2, 0.0)


def _pixels(points: FloatArray) -> FloatArray:
    """[V, 3] metres → picture pixels, x right, y down: the head's top at the picture's top."""
    zoom = _PICTURE / _FIELD
    top = points[:, 1].max()
    head = points[points[:, 1] > top - 0.25]
    middle = (head[:, 0].min() + head[:, 0].max()) / 2 if len(head) else 0.0
    x = (points[:, 0] - middle) * zoom + _PICTURE / 2
    return np.stack([x, (top + 0.01 - points[:, 1]) * zoom, points[:, 2] * zoom], axis=1).astype(np.float32)


def _face(raster: Raster, points: FloatArray, triangles: IntArray) -> Face:
    """The face that our detector sees in a clay picture of the rastered ``points`` [V, 3] (pixels)."""
    from ..faces.detect import choose_face, detect_faces
    from ..faces.detectors import make_detector

    clay = np.where(raster.covered[..., None], shade(raster, points, triangles), _BACKGROUND).astype(np.float32)
    try:
        return choose_face(detect_faces(clay, make_detector()))
    except NoFaceError as error:
        raise InputError(
            "No face was recognised on the mesh, so it cannot be laid onto another head; it must be a head in metres "
            "that stands upright and faces +z."
        ) from error


def lay_onto(
    vertices: FloatArray, triangles: IntArray, target: FloatArray, target_triangles: IntArray
) -> tuple[Similarity, Doubles]:
    """Deform a head mesh [V, 3] until it lies on ``target`` [W, 3]: the similarity that comes first, and where the
    vertices end, [V, 3].

    Separate parts of the mesh (eyeballs) move with what is next to them. Raises InputError when either is no head.
    """
    ours, theirs = find_landmarks(vertices, triangles), find_landmarks(target, target_triangles)
    weight = np.minimum(ours.weight, theirs.weight)
    goals = theirs.positions(target, target_triangles)
    if (weight > 0).sum() < _FEWEST_LANDMARKS:
        raise InputError("Too few landmarks were seen on both meshes; they must be upright heads that face +z.")
    similarity = fit_similarity(ours.positions(vertices, triangles), goals, weight)
    start = similarity.apply(vertices)
    anchors = _Anchors(triangles[ours.triangle], ours.barycentric, goals, _LANDMARK_WEIGHT * weight)
    return similarity, _deformed(start, triangles, target, target_triangles, anchors)


@dataclass(frozen=True, eq=False)
class _Anchors:
    """Surface points that have a place to go to. corners: [M, 3] vertex indices; barycentric: [M, 3]; goal: [M, 3]
    metres; weight: [M]."""

    corners: IntArray
    barycentric: Doubles
    goal: Doubles
    weight: Doubles


def _deformed(
    start: Doubles, triangles: IntArray, target: FloatArray, target_triangles: IntArray, anchors: _Anchors
) -> Doubles:
    """[V, 3] from ``start`` [V, 3]: each stiffness is solved twice, with the nearest points found anew."""
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import splu

    surface, border = Surface(target, target_triangles), border_triangles(target_triangles)
    part = small_parts(triangles, len(start))
    laplacian = _laplacian(start, triangles, part)
    rows = np.repeat(np.arange(len(anchors.corners)), 3)
    shape = (len(anchors.corners), len(start))
    picks = csr_matrix((anchors.barycentric.ravel(), (rows, anchors.corners.ravel())), shape)
    pull, smooth = picks.T @ diags(anchors.weight), laplacian.T @ laplacian
    current = start
    for stiffness in np.repeat(_STIFFNESS, 2):
        found = surface.nearest(current, outward_normals(current, triangles))
        weight = np.exp(-((found.distance / _REACH) ** 2)) * ~border[found.triangle] * (part == 0)
        goal = np.where(weight[:, None] > 0, found.position, current)
        system = diags(weight) + stiffness * (pull @ picks + smooth)
        wanted = weight[:, None] * (goal - start) + stiffness * (pull @ (anchors.goal - picks @ start))
        current = start + splu(system.tocsc()).solve(wanted)
    return current


def _laplacian(points: Doubles, triangles: IntArray, part: IntArray) -> csr_matrix:
    """[V, V] vertex minus the mean of its neighbours. Small separate parts are tied to the nearest of the others."""
    from scipy.sparse import coo_matrix, diags, identity
    from scipy.spatial import cKDTree

    pairs = _edges(triangles)
    for number in range(1, int(part.max()) + 1):
        inside, outside = np.flatnonzero(part == number), np.flatnonzero(part != number)
        _, near = cKDTree(points[outside]).query(points[inside], k=_TIES)
        pairs = np.concatenate([pairs, np.stack([np.repeat(inside, _TIES), outside[near].ravel()], axis=1)])
    count = len(points)
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), (count, count)).tocsr()
    graph = ((graph + graph.T) > 0).astype(np.float64)
    degree = np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1)
    return identity(count, format="csr") - diags(1 / degree) @ graph


def small_parts(triangles: IntArray, count: int) -> IntArray:
    """[V] 0 for vertices of the head, 1, 2, … for those of separate parts (the eyeballs): under a quarter of it."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = _edges(triangles)
    _, label = connected_components(coo_matrix((np.ones(len(pairs)), pairs.T), (count, count)), directed=False)
    small = np.flatnonzero(np.bincount(label) < count / 4)
    number = np.zeros(label.max() + 1, dtype=np.int32)
    number[small] = np.arange(1, len(small) + 1)
    result: IntArray = number[label]
    return result


def _edges(triangles: IntArray) -> npt.NDArray[np.integer]:
    """[3F, 2] the three edges of every triangle."""
    return np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def border_triangles(triangles: IntArray) -> npt.NDArray[np.bool_]:
    """[F] whether a triangle has an edge that no other triangle shares."""
    _, owner, count = np.unique(np.sort(_edges(triangles), axis=1), axis=0, return_inverse=True, return_counts=True)
    result: npt.NDArray[np.bool_] = (count[owner.ravel()] == 1).reshape(3, -1).any(axis=0)
    return result
