"""A z-buffer for many small pictures of one moving mesh: several frames at once, ten times as fast as the exact one.

``geometry.rasterise`` is exact and takes one picture; training data wants thousands of frames of 128 pixels a second.
Here triangles that face away are dropped first, and the rest are tested in blocks of equal size, so that every step
is one broadcast over all triangles of all frames. An edge may be drawn by both its triangles (the nearer one stays).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray

_BLOCKS = (1, 2, 3, 4, 6, 9, 14, 24, 48, 4096)  # pixels; a triangle is tested in the smallest block that holds it
_EDGE = np.float32(-1e-4)  # slack of the inside test: rounding must not leave cracks between neighbours
_SMALLEST_AREA = np.float32(1e-6)  # pixels²

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Fragments:
    """The visible points of the mesh in T frames of S × S pixels; P is the number of covered pixels of all frames.

    pixel: [P] index into T·S·S. triangle: [P]. second, third: [P] weights of the triangle's second and third corner
    (the first has the rest). corners: [P, 3] index into the T·V points.
    """

    pixel: Indices
    triangle: Indices
    second: FloatArray
    third: FloatArray
    corners: Indices

    def interpolate(self, values: FloatArray) -> FloatArray:
        """[P, C] of the moving ``values`` [T·V, C]."""
        return _mixed(values, self.corners, self.second, self.third)

    def interpolate_corners(self, values: FloatArray) -> FloatArray:
        """[P, C] of ``values`` [F, 3, C] that every triangle has of its own and that do not move."""
        own = values[self.triangle]
        first = np.float32(1) - self.second - self.third
        return own[:, 0] * first[:, None] + own[:, 1] * self.second[:, None] + own[:, 2] * self.third[:, None]


def _mixed(values: FloatArray, corners: Indices, second: FloatArray, third: FloatArray) -> FloatArray:
    first = values[corners[:, 0]]
    mixed = first + (values[corners[:, 1]] - first) * second[:, None]
    mixed += (values[corners[:, 2]] - first) * third[:, None]
    return mixed


def rasterise_frames(points: FloatArray, triangles: IntArray, two_sided: npt.NDArray[np.bool_], side: int) -> Fragments:
    """What T frames of ``side`` × ``side`` pixels show of ``points`` [T, V, 3] (pixels, y down, z towards the camera).

    triangles: [F, 3], counter-clockwise seen from outside (with y up). two_sided: [F], true where the back shows too.
    Pixel centres are at whole numbers.
    """
    frames, vertices = points.shape[:2]
    flat = (triangles.astype(np.intp)[None] + (np.arange(frames) * vertices)[:, None, None]).reshape(-1, 3)
    set_up = _set_up(points.reshape(-1, 3), flat, np.tile(two_sided, frames), side)
    pieces = [_block(set_up, block, smaller, side, len(triangles)) for smaller, block in _pairs()]
    pixel, depth, second, third, triangle = (np.concatenate([piece[n] for piece in pieces]) for n in range(5))
    nearest = np.full(frames * side * side, -np.inf, np.float32)
    np.maximum.at(nearest, pixel, depth)
    shown = np.full(frames * side * side, -1, np.intp)
    front = np.flatnonzero(depth >= nearest[pixel])
    shown[pixel[front]] = front  # of equally near ones the last stays
    chosen = shown[shown >= 0]
    owner = triangle[chosen]
    return Fragments(pixel[chosen], owner % len(triangles), second[chosen], third[chosen], flat[owner])


def _pairs() -> list[tuple[int, int]]:
    return list(zip((0, *_BLOCKS[:-1]), _BLOCKS, strict=True))


@dataclass(frozen=True, eq=False)
class _Setup:
    """Triangles that may show. index: [N]; size: [N] side of the bounding box, pixels; column, row: [N] its corner in
    the frame; end_column, end_row: [N]; values: [N, 9] second and third weight and depth there, and their slopes
    (value, per column, per row)."""

    index: Indices
    size: Indices
    column: Indices
    row: Indices
    end_column: Indices
    end_row: Indices
    values: FloatArray


def _set_up(points: FloatArray, triangles: Indices, two_sided: npt.NDArray[np.bool_], side: int) -> _Setup:
    x, y, z = (np.ascontiguousarray(points[:, axis])[triangles.T] for axis in range(3))  # [3, N]
    bx, by, cx, cy = x[1] - x[0], y[1] - y[0], x[2] - x[0], y[2] - y[0]
    area = by * cx - bx * cy  # y runs down: positive in front
    column, end_column = _range(x, side)
    row, end_row = _range(y, side)
    seen = (area > _SMALLEST_AREA) | (two_sided & (area < -_SMALLEST_AREA))
    kept = np.flatnonzero(seen & (end_column > column) & (end_row > row))
    x0, y0, z0, z1, z2 = x[0][kept], y[0][kept], z[0][kept], z[1][kept], z[2][kept]
    bx, by, cx, cy, column, row = bx[kept], by[kept], cx[kept], cy[kept], column[kept], row[kept]
    per = np.float32(1) / area[kept]
    px, py = column.astype(np.float32) - x0, row.astype(np.float32) - y0
    second_x, second_y, third_x, third_y = -cy * per, cx * per, by * per, -bx * per
    second, third = px * second_x + py * second_y, px * third_x + py * third_y
    b, c = z1 - z0, z2 - z0
    values = (second, second_x, second_y, third, third_x, third_y)
    values += (z0 + second * b + third * c, second_x * b + third_x * c, second_y * b + third_y * c)
    end_column, end_row = end_column[kept], end_row[kept]
    size = np.maximum(end_column - column, end_row - row)
    return _Setup(kept, size, column, row, end_column, end_row, np.stack(values, axis=1))


def _range(coordinate: FloatArray, side: int) -> tuple[Indices, Indices]:
    """[N] first pixel centre of triangles with these corners [3, N], and the one behind the last."""
    low = np.minimum(np.minimum(coordinate[0], coordinate[1]), coordinate[2])
    high = np.maximum(np.maximum(coordinate[0], coordinate[1]), coordinate[2])
    limit = np.float32(side)
    first = np.ceil(np.clip(low, 0, limit)).astype(np.intp)
    return first, np.ceil(np.clip(high + np.float32(1e-3), 0, limit)).astype(np.intp)


def _block(set_up: _Setup, block: int, smaller: int, side: int, count: int) -> tuple[npt.NDArray, ...]:
    """Pixel, depth, second and third weight, triangle of all fragments of triangles of this block size."""
    rows = np.flatnonzero((set_up.size > smaller) & (set_up.size <= block))
    block = min(block, int(set_up.size[rows].max()) if len(rows) else 1)
    offset = np.arange(block, dtype=np.float32)
    second, sx, sy, third, tx, ty, depth, dx, dy = set_up.values[rows].T[:, :, None, None]  # each [N, 1, 1]
    column, row = offset[None, None, :], offset[None, :, None]
    b = (second + sy * row) + sx * column  # [N, rows, columns]
    c = (third + ty * row) + tx * column
    inside = (b >= _EDGE) & (c >= _EDGE) & (b + c <= np.float32(1) - _EDGE)
    owner, down, right = np.nonzero(inside)
    of = rows[owner]
    fits = (set_up.column[of] + right < side) & (set_up.row[of] + down < side)
    owner, down, right, of = owner[fits], down[fits], right[fits], of[fits]
    index = set_up.index[of]
    pixel = (index // count) * (side * side) + (set_up.row[of] + down) * side + set_up.column[of] + right
    z = depth[owner, 0, 0] + dy[owner, 0, 0] * down + dx[owner, 0, 0] * right
    return pixel, z.astype(np.float32), b[owner, down, right], c[owner, down, right], index
