"""An exact z-buffer in NumPy: which triangle, and which point of it, every pixel shows.

Pixel convention: the pixel of column c and row r has its centre at (x, y) = (c, r), as OpenCV's ``remap`` and
``warpAffine`` have it, so the image covers −0.5 .. width − 0.5. A triangle owns a pixel whose centre lies inside it;
a centre that lies exactly on an edge belongs to the triangle to its right or below. Triangles that share an edge
therefore neither leave a gap nor cover a pixel twice.

Method: every triangle is cut into the rows it crosses. Both triangles of an edge compute its crossings from the same
two end points in the same order, hence to the same last bit. All spans of all triangles are expanded at once, and one
unbuffered maximum over (depth, triangle) keys leaves the nearest triangle of every pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import InputError

_FRAGMENTS_AT_ONCE = 4_000_000  # bounds the memory to some 200 MB however deep the scene is
_EMPTY = np.iinfo(np.int64).min

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Raster:
    """What a z-buffer knows.

    triangle_index: [H, W], −1 where nothing is. barycentric: [H, W, 3] weights of the triangle's corners, their sum 1,
    0 where nothing is. depth: [H, W] z of the nearest surface (larger is nearer), −inf where nothing is.
    """

    triangle_index: IntArray
    barycentric: FloatArray
    depth: FloatArray

    @property
    def covered(self) -> npt.NDArray[np.bool_]:
        """[H, W], true where a triangle is."""
        return self.triangle_index >= 0

    def interpolate(self, triangles: IntArray, values: FloatArray) -> FloatArray:
        """[H, W, C] the vertices' ``values`` [V, C] at every pixel, 0 where nothing is."""
        found = np.flatnonzero(self.triangle_index.ravel() >= 0)
        corners = triangles[self.triangle_index.ravel()[found]]  # [P, 3]
        weights = self.barycentric.reshape(-1, 3)[found]
        image = np.zeros((self.triangle_index.size, values.shape[1]), np.float32)
        image[found] = sum(values[corners[:, k]] * weights[:, k, None] for k in range(3))
        return image.reshape(*self.triangle_index.shape, values.shape[1])


def rasterise(points: FloatArray, triangles: IntArray, height: int, width: int) -> Raster:
    """The z-buffer of ``points`` [V, 3] (x right, y down, in pixels; z towards the camera) and ``triangles`` [F, 3].

    Triangles count from both sides; those without area show nothing. Of surfaces at the same float32 depth the one with
    the lowest triangle index shows. Raises InputError when the size, a point or an index is impossible.
    """
    _check(points, triangles, height, width)
    corners = points.astype(np.float64)[triangles]  # [F, 3, 3]
    keys = np.full(height * width, _EMPTY)
    for pixel, depth, triangle in _fragments(corners, height, width):
        np.maximum.at(keys, pixel, _key(depth, len(triangles) - 1 - triangle))
    return _resolve(keys, corners, height, width)


def _check(points: FloatArray, triangles: IntArray, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise InputError(f"A picture of a mesh needs at least 1×1 pixels, but {width}×{height} were asked for.")
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(f"A mesh is points [V, 3] and triangles [F, 3], not {points.shape} and {triangles.shape}.")
    if not np.isfinite(points).all():
        raise InputError("The mesh holds points that are not numbers (NaN or infinity); make the mesh again.")
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(points)):
        raise InputError("The mesh's triangles point at vertices that do not exist; export the mesh again.")


def _key(depth: FloatArray, priority: Indices) -> Indices:
    """[P] integers that sort as (depth, priority): a float's bits sort as integers once negative ones are flipped."""
    bits = depth.view(np.int32)
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
    return (ordered << 32) | priority


def _fragments(corners: Doubles, height: int, width: int) -> Iterator[tuple[Indices, FloatArray, Indices]]:
    """Every pixel of every triangle, by the piece: pixel index [P], depth [P] float32, triangle index [P]."""
    triangle, row, first, length = _spans(corners, height, width)
    slope, nearest, farthest = _depth_slopes(corners), corners[:, :, 2].max(axis=1), corners[:, :, 2].min(axis=1)
    origin = corners[triangle, 0]
    start_depth = origin[:, 2] + ((first - origin[:, 0])[:, None] * slope[triangle])[:, 0]
    start_depth += (row - origin[:, 1]) * slope[triangle, 1]
    ends = np.cumsum(length)
    pieces = np.searchsorted(ends, np.arange(_FRAGMENTS_AT_ONCE, ends[-1] if len(ends) else 0, _FRAGMENTS_AT_ONCE))
    for spans in np.split(np.arange(len(length)), np.unique(pieces)):
        step, owner = _expand(length[spans])
        owner = spans[owner]
        of = triangle[owner]
        depth = np.clip(start_depth[owner] + step * slope[of, 0], farthest[of], nearest[of])  # slivers overshoot
        yield row[owner] * width + first[owner] + step, depth.astype(np.float32), of


def _spans(corners: Doubles, height: int, width: int) -> tuple[Indices, Indices, Indices, Indices]:
    """The rows of every triangle: triangle [S], row [S], first column [S], number of columns ≥ 1 [S]."""
    x, y = corners[:, :, 0], corners[:, :, 1]
    order = np.lexsort((x, y), axis=-1)  # top to bottom, and one order for both triangles of an edge
    xy = np.take_along_axis(corners[:, :, :2], order[:, :, None], axis=1)
    first_row, end_row = _whole(xy[:, 0, 1], height), _whole(xy[:, 2, 1], height)
    step, triangle = _expand(np.where(_doubled_area(corners) != 0, end_row - first_row, 0))
    row = first_row[triangle] + step
    top, middle, bottom = xy[triangle, 0], xy[triangle, 1], xy[triangle, 2]
    upper = (row < middle[:, 1])[:, None]
    one = _crossing(top, bottom, row)
    other = _crossing(np.where(upper, top, middle), np.where(upper, middle, bottom), row)
    first, end = _whole(np.minimum(one, other), width), _whole(np.maximum(one, other), width)
    kept = end > first
    return triangle[kept], row[kept], first[kept], (end - first)[kept]


def _whole(coordinate: Doubles, limit: int) -> Indices:
    """The first pixel centre at or behind the coordinate, kept inside 0 .. limit."""
    return np.ceil(np.clip(coordinate, 0, limit)).astype(np.int64)


def _expand(length: Indices) -> tuple[Indices, Indices]:
    """0 .. length − 1 for every entry, in a row, and the entry that each belongs to."""
    owner = np.repeat(np.arange(len(length)), length)
    return np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length), owner


def _crossing(start: Doubles, end: Doubles, row: Indices) -> Doubles:
    """[S] where the edges start → end ([S, 2], start above end) cross their rows."""
    return start[:, 0] + (row - start[:, 1]) * (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])


def _doubled_area(corners: Doubles) -> Doubles:
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _depth_slopes(corners: Doubles) -> Doubles:
    """[F, 2] how depth changes per pixel in x and in y; 0 for triangles without area."""
    a, b, area = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], _doubled_area(corners)
    slopes = np.stack([a[:, 2] * b[:, 1] - b[:, 2] * a[:, 1], b[:, 2] * a[:, 0] - a[:, 2] * b[:, 0]], axis=1)
    return slopes / np.where(area == 0, np.inf, area)[:, None]


def _resolve(keys: Indices, corners: Doubles, height: int, width: int) -> Raster:
    """The winning triangle of every pixel, and where in it the pixel's centre lies."""
    found = np.flatnonzero(keys != _EMPTY)
    triangle = len(corners) - 1 - (keys[found] & 0xFFFFFFFF)
    ordered = (keys[found] >> 32).astype(np.int32)
    index = np.full(height * width, -1, np.int32)
    depth = np.full(height * width, -np.inf, np.float32)
    barycentric = np.zeros((height * width, 3), np.float32)
    index[found] = triangle
    depth[found] = np.where(ordered < 0, ordered ^ np.int32(0x7FFFFFFF), ordered).view(np.float32)
    barycentric[found] = _barycentric(_affine(corners)[triangle], found % width, found // width)
    shape = (height, width)
    return Raster(index.reshape(shape), barycentric.reshape(*shape, 3), depth.reshape(shape))


def _affine(corners: Doubles) -> Doubles:
    """[F, 6] first corner's x and y, then how the second and the third corner's weight change in x and in y."""
    a, b, area = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], _doubled_area(corners)
    changes = np.stack([b[:, 1], -b[:, 0], -a[:, 1], a[:, 0]], axis=1) / np.where(area == 0, np.inf, area)[:, None]
    return np.concatenate([corners[:, 0, :2], changes], axis=1)


def _barycentric(affine: Doubles, x: Indices, y: Indices) -> FloatArray:
    """[P, 3] weights of the corners at the pixel centres, none below 0, their sum 1; affine: [P, 6] of _affine."""
    x0, y0, second_x, second_y, third_x, third_y = affine.T
    px, py = x - x0, y - y0
    second = np.clip(px * second_x + py * second_y, 0, 1)
    third = np.clip(px * third_x + py * third_y, 0, 1 - second)
    return np.stack([1 - second - third, second, third], axis=1, dtype=np.float32)
