"""A z-buffer for many small pictures of one moving mesh: several frames at once, far faster than the exact one.

``geometry.rasterise`` is exact and takes one picture; training data wants hundreds of pictures a second. Here
triangles that face away are dropped first. Small ones (most) are tested in blocks of equal size, large ones are cut
into rows, and every step is one broadcast over all triangles of all frames. An edge may be drawn by both its triangles
(the nearer one stays).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray

_BLOCKS = np.array([1, 2, 3, 4])  # pixels; a small triangle is tested in the smallest that holds it
_EDGE = np.float32(-1e-4)  # slack of the inside test: rounding must not leave cracks between neighbours
_SMALLEST_AREA = np.float32(1e-6)  # pixels²

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Fragments:
    """The visible points of the mesh in T frames of S × S pixels; P is the number of covered pixels of all frames.

    pixel: [P] index into T·S·S. triangle: [P]. second, third: [P] weights of the triangle's second and third corner
    (the first has the rest). corners: [3, P] index into the V·T points.
    """

    pixel: Indices
    triangle: Indices
    second: FloatArray
    third: FloatArray
    corners: Indices

    def interpolate(self, values: FloatArray) -> FloatArray:
        """[P, C] of the moving ``values`` [V·T, C]."""
        first, second, third = (_picked(values, corner) for corner in self.corners)
        second -= first
        third -= first
        second *= self.second[:, None]
        third *= self.third[:, None]
        first += second
        first += third
        return first

    def interpolate_corners(self, values: FloatArray) -> FloatArray:
        """[P, C] of ``values`` [F, 3, C] that every triangle has of its own and that do not move: the first corner's,
        and the second's and third's difference from it."""
        first, second, third = (_picked(values[:, corner], self.triangle) for corner in range(3))
        second *= self.second[:, None]
        third *= self.third[:, None]
        first += second
        first += third
        return first


def _picked(values: npt.NDArray, index: Indices) -> npt.NDArray:
    """values[index] of rows; ``take`` is ten times as fast as indexing."""
    return np.take(values, index, axis=0, mode="clip")


def rasterise_frames(points: FloatArray, triangles: IntArray, two_sided: npt.NDArray[np.bool_], side: int) -> Fragments:
    """What T frames of ``side`` × ``side`` pixels show of ``points`` [3, V, T]: x, y (pixels, y down), z to the camera.

    triangles: [F, 3], counter-clockwise seen from outside (with y up). two_sided: [F], true where the back shows too.
    Pixel centres are at whole numbers.
    """
    frames = points.shape[2]
    seen = _visible(points, triangles, two_sided, side)
    *small, large = _groups(seen)
    pieces = [_block(seen, rows, side) for rows in small if len(rows)]
    if len(large):
        pieces.append(_rows(seen, large, side))
    if not pieces:
        empty, none = np.zeros(0, np.intp), np.zeros(0, np.float32)
        return Fragments(empty, empty, none, none, np.zeros((3, 0), np.intp))
    pixel, depth, second, third, owner = (np.concatenate([piece[n] for piece in pieces]) for n in range(5))
    nearest = np.full(frames * side * side, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    front = np.flatnonzero(depth >= _picked(nearest, pixel))
    shown = np.full(frames * side * side, -1, np.intp)
    shown[_picked(pixel, front)] = front  # of equally near ones the last stays
    chosen = shown[shown >= 0]
    index = _picked(seen.index, _picked(owner, chosen))
    triangle, frame = index // frames, index % frames
    corners = np.stack([_picked(corner, triangle) for corner in triangles.T.astype(np.intp)]) * frames + frame
    return Fragments(_picked(pixel, chosen), triangle, _picked(second, chosen), _picked(third, chosen), corners)


@dataclass(frozen=True, eq=False)
class _Visible:
    """N triangles that may show. index: [N] triangle · T + frame; start: [N] pixel index of the bounding box's upper
    left corner; wide, high: [N] its pixels; column, row: [N]; values: [9, N] second and third weight and depth at that
    corner, each with its slope per column and per row."""

    index: Indices
    start: Indices
    wide: Indices
    high: Indices
    column: Indices
    row: Indices
    values: FloatArray


def _visible(points: FloatArray, triangles: IntArray, two_sided: npt.NDArray[np.bool_], side: int) -> _Visible:
    frames = points.shape[2]
    x, y, z = points
    a, b, c = triangles.T
    x0, y0 = _picked(x, a), _picked(y, a)  # [F, T]
    bx, by, cx, cy = _picked(x, b) - x0, _picked(y, b) - y0, _picked(x, c) - x0, _picked(y, c) - y0
    area = by * cx - bx * cy  # y runs down: positive in front
    seen = (area > _SMALLEST_AREA) | (two_sided[:, None] & (area < -_SMALLEST_AREA))
    index = np.flatnonzero(seen)
    x0, y0, bx, by, cx, cy, area = (_picked(part.ravel(), index) for part in (x0, y0, bx, by, cx, cy, area))
    column, wide = _range(x0, bx, cx, side)
    row, high = _range(y0, by, cy, side)
    kept = np.flatnonzero((wide > 0) & (high > 0))
    index, column, row, wide, high = (_picked(part, kept) for part in (index, column, row, wide, high))
    x0, y0, bx, by, cx, cy = (_picked(part, kept) for part in (x0, y0, bx, by, cx, cy))
    triangle, frame = index // frames, index % frames
    z0, z1, z2 = (_picked(z.ravel(), _picked(corner, triangle) * np.intp(frames) + frame) for corner in (a, b, c))
    per = np.float32(1) / area[kept]
    px, py = column.astype(np.float32) - x0, row.astype(np.float32) - y0
    second_x, second_y, third_x, third_y = -cy * per, cx * per, by * per, -bx * per
    second, third = px * second_x + py * second_y, px * third_x + py * third_y
    b_, c_ = z1 - z0, z2 - z0
    depth = (z0 + second * b_ + third * c_, second_x * b_ + third_x * c_, second_y * b_ + third_y * c_)
    values = np.stack([second, second_x, second_y, third, third_x, third_y, *depth])
    return _Visible(index, frame * (side * side) + row * side + column, wide, high, column, row, values)


def _range(start: FloatArray, b: FloatArray, c: FloatArray, side: int) -> tuple[Indices, Indices]:
    """[N] first pixel centre within triangles of corners start, start + b, start + c, and how many there are."""
    low = start + np.minimum(np.minimum(b, c), np.float32(0))
    high = start + np.maximum(np.maximum(b, c), np.float32(0))
    first = np.ceil(np.clip(low, 0, side))
    return first.astype(np.intp), (np.ceil(np.clip(high + np.float32(1e-3), 0, side)) - first).astype(np.intp)


def _groups(seen: _Visible) -> list[Indices]:
    """Which triangles' boxes fit each of the blocks and, last, none of them."""
    size = np.searchsorted(_BLOCKS, np.maximum(seen.wide, seen.high)).astype(np.int8)
    order = np.argsort(size, kind="stable")
    ends = np.searchsorted(size[order], np.arange(len(_BLOCKS) + 1))
    return [order[low:high] for low, high in zip(ends, [*ends[1:], len(order)], strict=True)]


def _block(seen: _Visible, rows: Indices, side: int) -> tuple[npt.NDArray, ...]:
    """Pixel, depth, second and third weight, and row in ``seen`` of every fragment of the triangles ``rows``."""
    wide, high = int(seen.wide[rows].max()), int(seen.high[rows].max())
    values = np.take(seen.values[:6], rows, axis=1, mode="clip")
    right = np.arange(wide, dtype=np.float32)[:, None]
    down = np.arange(high, dtype=np.float32)[:, None, None]
    b = (values[0] + values[2] * down) + values[1] * right  # [high, wide, N]: long rows are fast
    c = (values[3] + values[5] * down) + values[4] * right
    inside = (np.minimum(b, c) >= _EDGE) & (b + c <= np.float32(1) - _EDGE)
    found = np.flatnonzero(inside)
    place, owner = found // len(rows), found % len(rows)
    below, aside = place // wide, place % wide
    of = rows[owner]
    if wide * high > 1:
        fits = np.flatnonzero((_picked(seen.column, of) + aside < side) & (_picked(seen.row, of) + below < side))
        found, below, aside, of = (_picked(part, fits) for part in (found, below, aside, of))
    depth, right_, down_ = (_picked(part, of) for part in seen.values[6:])
    depth = depth + down_ * below.astype(np.float32) + right_ * aside.astype(np.float32)
    pixel = _picked(seen.start, of) + below * side + aside
    return pixel, depth, _picked(b.ravel(), found), _picked(c.ravel(), found), of


def _rows(seen: _Visible, rows: Indices, side: int) -> tuple[npt.NDArray, ...]:
    """As _block, for large triangles: the pixels of a row that lie within all three edges are a run."""
    owner, down = _counted(seen.high[rows])
    of = rows[owner]
    below = down.astype(np.float32)
    values = np.take(seen.values, of, axis=1, mode="clip")  # [9, spans]
    slopes = values[1::3]
    at = values[0::3] + values[2::3] * below  # second and third weight and depth at the row's start
    weight = np.stack([at[0], at[1], 1 - at[0] - at[1]]) - _EDGE
    slope = np.stack([slopes[0], slopes[1], -slopes[0] - slopes[1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -weight / slope
    first = np.where(slope > 0, crossing, 0).max(axis=0)
    last = np.where(slope < 0, crossing, np.float32(side)).min(axis=0)
    empty = ((slope == 0) & (weight < 0)).any(axis=0)
    start = np.ceil(np.clip(first, 0, side)).astype(np.intp)
    end = np.minimum(np.floor(np.clip(last, -1, side)).astype(np.intp), seen.wide[of] - 1)
    run, right = _counted(np.where(empty, 0, np.maximum(end - start + 1, 0)))
    right += start[run]
    step = right.astype(np.float32)
    second, third, depth = (_picked(at[n], run) + _picked(slopes[n], run) * step for n in range(3))
    owner = _picked(of, run)
    return _picked(seen.start, owner) + _picked(down, run) * side + right, depth, second, third, owner


def _counted(length: Indices) -> tuple[Indices, Indices]:
    """For every entry that often: its number, and 0 .. length − 1."""
    owner = np.repeat(np.arange(len(length)), length)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
