"""Spirals: the fixed order in which a vertex and its neighbours are read (SpiralNet++, Gong et al. 2019).

A checkpoint's weights know the order of neighbours that it was trained with, and that order is an accident of the mesh
library that walked the rings: where a ring starts depends on the order in which faces were added. ``OneRings`` keeps
the same book as that library (a half-edge mesh grown face by face, the OpenMesh rules), so that spirals come out
number for number: a face that would make an edge belong to three faces is left out, and a vertex's walk starts at its
last boundary edge and runs clockwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import InputError
from .hierarchy import SPIRAL_LENGTH


class OneRings:
    """The clockwise neighbours of every vertex, in the order in which OpenMesh would give them.

    Half-edge h runs ``origin[h]`` → ``origin[h ^ 1]``; ``h ^ 1`` is its twin. ``rejected``: the faces left out because
    they would not be manifold. triangles: [F, 3]; they are added one after the other.
    """

    def __init__(self, triangles: IntArray, vertex_count: int) -> None:
        self.origin: list[int] = []
        self.next: list[int] = []
        self.previous: list[int] = []
        self.free: list[bool] = []  # no face on this side yet
        self.edge: dict[tuple[int, int], int] = {}
        self.start: list[int] = [-1] * vertex_count  # an outgoing half-edge, a free one wherever there is one
        self.rejected: list[int] = []
        for number, corners in enumerate(np.asarray(triangles).tolist()):
            if not self._add(corners):
                self.rejected.append(number)

    def of(self, vertex: int) -> list[int]:
        """The neighbours of ``vertex``, clockwise seen from outside."""
        return [self.origin[h ^ 1] for h in self._outgoing(vertex)]

    def _outgoing(self, vertex: int) -> Iterator[int]:
        first = half = self.start[vertex]
        while half >= 0:
            yield half
            half = self.next[half ^ 1]
            if half == first:
                return

    def _add(self, corners: list[int]) -> bool:
        pairs = [(corners[i], corners[(i + 1) % 3]) for i in range(3)]
        halves = [self.edge.get(pair, -1) for pair in pairs]
        closed = any(self.start[v] >= 0 and not self.free[self.start[v]] for v in corners)
        if closed or any(h >= 0 and not self.free[h] for h in halves):
            return False
        if not all(self._make_adjacent(halves[i], halves[(i + 1) % 3]) for i in range(3)):
            return False
        new = [h < 0 for h in halves]
        halves = [h if h >= 0 else self._new_edge(*pair) for h, pair in zip(halves, pairs, strict=True)]
        self._link_face(pairs, halves, new)
        return True

    def _new_edge(self, a: int, b: int) -> int:
        half = len(self.origin)
        self.origin += [a, b]
        self.next += [-1, -1]
        self.previous += [-1, -1]
        self.free += [True, True]
        self.edge[a, b], self.edge[b, a] = half, half + 1
        return half

    def _link(self, half: int, following: int) -> None:
        self.next[half], self.previous[following] = following, half

    def _make_adjacent(self, half: int, following: int) -> bool:
        """Two old edges of the new face may have other faces between them in the vertex's fan: move those aside."""
        if half < 0 or following < 0 or self.next[half] == following:
            return True
        gap = following ^ 1
        while True:  # turn about the vertex to the next gap in its fan
            gap = self.next[gap] ^ 1
            if self.free[gap]:
                break
        if gap == half:
            return False
        after, patch_start, patch_end = self.next[gap], self.next[half], self.previous[following]
        self._link(gap, patch_start)
        self._link(patch_end, after)
        self._link(half, following)
        return True

    def _link_face(self, pairs: list[tuple[int, int]], halves: list[int], new: list[bool]) -> None:
        links: list[tuple[int, int]] = []
        touched: list[int] = []
        for i in range(3):
            j = (i + 1) % 3
            vertex = pairs[i][1]
            if new[i] or new[j]:
                links += self._links_at(vertex, halves[i], halves[j], new[i], new[j])
            elif self.start[vertex] == halves[j]:
                touched.append(vertex)
            self.free[halves[i]] = False
        for half, following in links:
            self._link(half, following)
        for vertex in touched:  # its starting edge has just got a face: start at a free one, if one is left
            self.start[vertex] = next((h for h in self._outgoing(vertex) if self.free[h]), self.start[vertex])

    def _links_at(self, vertex: int, into: int, out: int, into_new: bool, out_new: bool) -> list[tuple[int, int]]:
        """The new successions about ``vertex``, where the face comes in along ``into`` and leaves along ``out``."""
        links = [(into, out)]
        if into_new and out_new:
            if self.start[vertex] < 0:
                self.start[vertex] = into ^ 1
                return [(out ^ 1, into ^ 1), *links]
            after = self.start[vertex]
            return [(self.previous[after], into ^ 1), (out ^ 1, after), *links]
        if into_new:
            self.start[vertex] = into ^ 1
            return [(self.previous[out], into ^ 1), *links]
        self.start[vertex] = self.next[into]
        return [(out ^ 1, self.next[into]), *links]


def build_spirals(
    triangles: IntArray, vertex_count: int, length: int = SPIRAL_LENGTH, vertices: FloatArray | None = None
) -> IntArray:
    """[V, length] spirals of a mesh: the vertex, its ring, then ring after ring until ``length`` is reached.

    triangles: [F, 3]. vertices: [V, 3], needed only for a vertex whose part of the mesh has fewer than ``length``
    vertices: its spiral is then its nearest vertices in space, as in the release. Raises InputError when they are
    needed and absent. The release's spirals of FLAME come out exactly (release.md §4).
    """
    rings = OneRings(triangles, vertex_count)
    neighbours = [rings.of(vertex) for vertex in range(vertex_count)]
    spirals = np.empty((vertex_count, length), dtype=np.int32)
    for vertex in range(vertex_count):
        spiral = _spiral(vertex, neighbours, length)
        spirals[vertex] = spiral[:length] if spiral else _nearest(vertex, vertices, length)
    return spirals


def _spiral(vertex: int, neighbours: list[list[int]], length: int) -> list[int]:
    """At least ``length`` vertices ring by ring, or an empty list where the mesh ends before."""
    spiral, ring = [vertex], neighbours[vertex]
    following = _next_ring(ring, spiral, neighbours)
    spiral = spiral + ring
    while following and len(spiral) + len(following) < length:
        ring = following
        following = _next_ring(ring, spiral, neighbours)
        spiral = spiral + ring
    return spiral + following if following else []


def _next_ring(ring: list[int], inside: list[int], neighbours: list[list[int]]) -> list[int]:
    """The vertices around ``ring``: about each of its vertices, from a ring vertex on."""
    known = set(ring) | set(inside)
    result: list[int] = []
    for vertex in ring:
        around = neighbours[vertex]
        cut = next((i for i, other in enumerate(around) if other in ring), len(around))
        for other in around[cut:] + around[:cut]:
            if other not in known:
                known.add(other)
                result.append(other)
    return result


def _nearest(vertex: int, vertices: FloatArray | None, length: int) -> IntArray:
    if vertices is None or len(vertices) < length:
        raise InputError(
            f"Vertex {vertex} has fewer than {length - 1} connected neighbours, so its spiral needs the mesh's "
            "vertex positions."
        )
    distance = np.linalg.norm(vertices.astype(np.float64) - vertices[vertex], axis=1)
    nearest: IntArray = np.argsort(distance, kind="stable")[:length].astype(np.int32)
    return nearest
