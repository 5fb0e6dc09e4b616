"""Mesh levels for a topology of our own: collapse edges by quadric error, keeping a subset of the vertices.

The fine mesh shrinks by half-edge collapses (Garland and Heckbert 1997; the removed vertex moves onto a neighbour, as
in the meshes of CoMA, Ranjan et al. 2018), so that every coarse vertex is a fine vertex.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import InputError
from .hierarchy import MeshHierarchy
from .spirals import build_spirals
from .surface import Doubles, Surface

_BORDER_WEIGHT = 100.0  # how much dearer it is to move the border than the surface
_EDGE_SHARE = 0.1  # preference for short edges, so that flat places keep some vertices


def build_hierarchy(
    vertices: FloatArray, triangles: IntArray, sizes: tuple[int, ...], topology: str, importance: Doubles | None = None
) -> MeshHierarchy:
    """Levels of ``sizes`` vertices (fine → coarse, without the finest) for a mesh [V, 3], [F, 3].

    importance: [V] > 0, how dear an error is at each vertex; None is 1. Spirals for every level but the coarsest;
    weights of the way up are barycentric on the coarser mesh. The sizes come out exactly unless the mesh cannot be
    collapsed so far: then InputError.
    """
    dear = np.ones(len(vertices)) if importance is None else np.asarray(importance, np.float64)
    meshes = [(np.asarray(vertices, np.float64), np.asarray(triangles, np.int32))]
    down: list[IntArray] = []
    for size in sizes:
        picks, coarse = decimate(*meshes[-1], size, dear)
        down.append(picks)
        dear = dear[picks]
        meshes.append((meshes[-1][0][picks], coarse))
    spirals = [build_spirals(faces, len(points), vertices=points.astype(np.float32)) for points, faces in meshes[:-1]]
    up = [_way_up(meshes[level][0], *meshes[level + 1]) for level in range(len(sizes))]
    index, weight = tuple(i for i, _ in up), tuple(w for _, w in up)
    return MeshHierarchy(topology, tuple(spirals), tuple(down), index, weight, vertices, triangles)


def decimate(
    vertices: Doubles, triangles: IntArray, size: int, importance: Doubles | None = None
) -> tuple[IntArray, IntArray]:
    """[size] which vertices stay, ascending, and the triangles [F', 3] between them, in new numbers.

    importance: [V] > 0, how dear an error is at each vertex. Raises InputError when the mesh cannot shrink so far.
    """
    mesh = _Collapser(vertices, triangles, np.ones(len(vertices)) if importance is None else importance)
    mesh.run(size)
    picks = np.array(sorted(mesh.alive), dtype=np.int32)
    number = np.full(len(vertices), -1, dtype=np.int32)
    number[picks] = np.arange(len(picks))
    return picks, number[np.array(list(mesh.faces.values()), dtype=np.int32)]


class _Collapser:
    """A triangle mesh whose vertices are merged into neighbours, cheapest first."""

    def __init__(self, vertices: Doubles, triangles: IntArray, importance: Doubles) -> None:
        self.points = np.asarray(vertices, np.float64)
        self.faces = dict(enumerate(map(tuple, np.asarray(triangles).tolist())))
        self.around: list[set[int]] = [set() for _ in range(len(vertices))]
        for number, face in self.faces.items():
            for vertex in face:
                self.around[vertex].add(number)
        self.alive = {vertex for vertex in range(len(vertices)) if self.around[vertex]}
        self.importance = importance
        self.quadrics = _quadrics(self.points, np.asarray(triangles)) * importance[:, None, None]
        self.version = [0] * len(vertices)
        self.queue: list[tuple[float, int, int, int, int]] = []

    def run(self, size: int) -> None:
        for vertex in sorted(self.alive):
            self._offer(vertex)
        while len(self.alive) > size:
            if not self.queue:
                raise InputError(f"The mesh cannot be reduced below {len(self.alive)} vertices; ask for more.")
            _, gone, kept, gone_version, kept_version = heapq.heappop(self.queue)
            current = (self.version[gone], self.version[kept]) == (gone_version, kept_version)
            if current and {gone, kept} <= self.alive and self._allowed(gone, kept):
                self._collapse(gone, kept)

    def neighbours(self, vertex: int) -> set[int]:
        return {other for number in self.around[vertex] for other in self.faces[number]} - {vertex}

    def _offer(self, vertex: int) -> None:
        for other in sorted(self.neighbours(vertex)):
            for gone, kept in ((vertex, other), (other, vertex)):
                cost = self._cost(gone, kept)
                heapq.heappush(self.queue, (cost, gone, kept, self.version[gone], self.version[kept]))

    def _cost(self, gone: int, kept: int) -> float:
        place = np.append(self.points[kept], 1.0)
        edge = self.points[gone] - self.points[kept]
        quadric = self.quadrics[gone] + self.quadrics[kept]
        return float(place @ quadric @ place + _EDGE_SHARE * self.importance[gone] * (edge @ edge) ** 2)

    def _allowed(self, gone: int, kept: int) -> bool:
        """The surface stays a surface (link condition), keeps its parts, and no triangle turns over."""
        shared = self.around[gone] & self.around[kept]
        opposite = {vertex for number in shared for vertex in self.faces[number]} - {gone, kept}
        if self.neighbours(gone) & self.neighbours(kept) != opposite or len(self.around[gone] | self.around[kept]) < 5:
            return False
        if len(shared) == 2 and self._on_border(gone):
            return False  # two borders would touch, or the border move inwards
        if any(len(self.around[vertex]) <= 3 and not self._on_border(vertex) for vertex in opposite):
            return False
        return all(self._keeps_side(number, gone, kept) for number in self.around[gone] - shared)

    def _on_border(self, vertex: int) -> bool:
        return len(self.neighbours(vertex)) != len(self.around[vertex])

    def _keeps_side(self, number: int, gone: int, kept: int) -> bool:
        face = self.faces[number]
        before = _normal(*(self.points[v] for v in face))
        after = _normal(*(self.points[kept if v == gone else v] for v in face))
        lengths = float(np.linalg.norm(before) * np.linalg.norm(after))
        return float(before @ after) > 0.2 * lengths and lengths > 0

    def _collapse(self, gone: int, kept: int) -> None:
        for number in list(self.around[gone]):
            face = self.faces[number]
            if kept in face:
                for vertex in face:
                    self.around[vertex].discard(number)
                del self.faces[number]
            else:
                self.faces[number] = tuple(kept if v == gone else v for v in face)
                self.around[kept].add(number)
        self.around[gone].clear()
        self.alive.discard(gone)
        self.quadrics[kept] += self.quadrics[gone]
        self.version[kept] += 1
        self._offer(kept)


def _quadrics(points: Doubles, triangles: IntArray) -> Doubles:
    """[V, 4, 4] squared distances to the planes around each vertex, by area; border edges add upright planes."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = normal / np.maximum(area, 1e-20)
    total = np.zeros((len(points), 4, 4))
    _add_planes(total, triangles, normal, a, area[:, 0])
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, first, count = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    border = first[count == 1]
    along = points[edges[border, 1]] - points[edges[border, 0]]
    upright = np.cross(along, normal[border % len(triangles)])
    upright /= np.maximum(np.linalg.norm(upright, axis=1, keepdims=True), 1e-20)
    _add_planes(total, edges[border], upright, points[edges[border, 0]], _BORDER_WEIGHT * (along**2).sum(axis=1))
    return total


def _add_planes(
    total: Doubles, corners: npt.NDArray[np.integer], normal: Doubles, point: Doubles, weight: Doubles
) -> None:
    plane = np.concatenate([normal, -np.einsum("nd,nd->n", normal, point)[:, None]], axis=1)
    quadric = weight[:, None, None] * plane[:, :, None] * plane[:, None, :]
    for column in range(corners.shape[1]):
        np.add.at(total, corners[:, column], quadric)


def _normal(a: Doubles, b: Doubles, c: Doubles) -> Doubles:
    result: Doubles = np.cross(b - a, c - a)
    return result


def _way_up(fine: Doubles, coarse: Doubles, triangles: IntArray) -> tuple[IntArray, FloatArray]:
    """[V, 3] coarse vertices and weights whose sum is nearest to each fine vertex."""
    found = Surface(coarse, triangles).nearest(fine)
    return triangles[found.triangle].astype(np.int32), found.barycentric.astype(np.float32)
