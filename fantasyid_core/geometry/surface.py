"""The nearest point of a triangle mesh, with NumPy and a k-d tree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray

Doubles = npt.NDArray[np.float64]
_SPACING = 0.004  # metres between the samples by which candidate triangles are found
_CANDIDATES = 8


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points of a mesh. triangle: [N] indices; barycentric: [N, 3] weights of its corners, ≥ 0, their sum 1.

    position: [N, 3]; distance: [N] from the points that were asked about.
    """

    triangle: IntArray
    barycentric: Doubles
    position: Doubles
    distance: Doubles


class Surface:
    """A mesh that answers which of its points is nearest. vertices: [V, 3] metres; triangles: [F, 3]."""

    def __init__(self, vertices: FloatArray | Doubles, triangles: IntArray) -> None:
        from scipy.spatial import cKDTree

        self.corners = np.asarray(vertices, dtype=np.float64)[triangles]  # [F, 3, 3]
        normal = np.cross(self.corners[:, 1] - self.corners[:, 0], self.corners[:, 2] - self.corners[:, 0])
        self.normals = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-20)
        samples, self.owner = _samples(self.corners)
        self.tree = cKDTree(samples)

    def nearest(self, points: FloatArray | Doubles, normals: Doubles | None = None) -> SurfacePoints:
        """The nearest points to ``points`` [N, 3].

        With ``normals`` [N, 3], only triangles that face the same way are taken; where there is none near, the
        distance is infinite.
        """
        points = np.asarray(points, dtype=np.float64)
        _, index = self.tree.query(points, k=_CANDIDATES)
        candidates = self.owner[index]  # [N, K]
        weights = _closest_weights(points[:, None], self.corners[candidates])  # [N, K, 3]
        position = np.einsum("nkc,nkcd->nkd", weights, self.corners[candidates])
        distance = np.linalg.norm(position - points[:, None], axis=2)
        if normals is not None:
            facing = np.einsum("nkd,nd->nk", self.normals[candidates], normals)
            distance = np.where(facing > 0.3, distance, np.inf)
        best = distance.argmin(axis=1)
        row = np.arange(len(points))
        triangle = candidates[row, best].astype(np.int32)
        return SurfacePoints(triangle, weights[row, best], position[row, best], distance[row, best])


def outward_normals(vertices: FloatArray | Doubles, triangles: IntArray) -> Doubles:
    """[V, 3] unit normals of the vertices, weighted by area; outwards where triangles are counter-clockwise outside."""
    corners = np.asarray(vertices, np.float64)[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(total, triangles[:, corner], face)
    result: Doubles = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)
    return result


def _samples(corners: Doubles) -> tuple[Doubles, npt.NDArray[np.int64]]:
    """Points spread over every triangle, no further apart than ``_SPACING``, and whose they are."""
    edge = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    steps = np.clip(np.ceil(edge / _SPACING), 1, 32).astype(int)
    points, owners = [], []
    for count in np.unique(steps):
        of = np.flatnonzero(steps == count)
        a, b = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
        inside = a + b <= count
        weights = np.stack([a[inside], b[inside], (count - a - b)[inside]], axis=1) / count
        points.append(np.einsum("sc,fcd->fsd", weights, corners[of]).reshape(-1, 3))
        owners.append(np.repeat(of, len(weights)))
    return np.concatenate(points), np.concatenate(owners)


def _closest_weights(points: Doubles, corners: Doubles) -> Doubles:
    """[..., 3] barycentric weights of the point of each triangle [..., 3, 3] that is nearest to ``points`` [..., 3].

    The plane's point where it lies inside, else the best of the three edges.
    """
    a, b, c = (corners[..., k, :] for k in range(3))
    inside = _plane_weights(points, a, b, c)
    best = inside
    distance = np.where((inside >= 0).all(axis=-1), -1.0, np.inf)
    for k, (start, end) in enumerate(((a, b), (b, c), (c, a))):
        along = end - start
        length = np.maximum(np.einsum("...d,...d", along, along), 1e-20)
        t = np.clip(np.einsum("...d,...d", points - start, along) / length, 0, 1)
        away = np.linalg.norm(start + t[..., None] * along - points, axis=-1)
        weights = np.zeros_like(inside)
        weights[..., k], weights[..., (k + 1) % 3] = 1 - t, t
        better = away < distance
        best, distance = np.where(better[..., None], weights, best), np.where(better, away, distance)
    return best


def _plane_weights(points: Doubles, a: Doubles, b: Doubles, c: Doubles) -> Doubles:
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (np.einsum("...d,...d", p, q) for p, q in ((u, u), (u, v), (v, v)))
    wu, wv = np.einsum("...d,...d", w, u), np.einsum("...d,...d", w, v)
    area = uu * vv - uv * uv
    area = np.where(area > 1e-24, area, np.nan)  # a triangle without area: its edges answer
    second, third = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    return np.nan_to_num(np.stack([1 - second - third, second, third], axis=-1), nan=-1.0)
