"""What all synthetic heads share: where on the mean head everything is, and a map of the skin to paint on.

The skin is unrolled like a fish-eye picture taken from inside the skull: the face in the middle, the nape at the rim.
There is no seam, and the face gets most of the pixels. Every place that paint needs (brows, lids, cheeks, beard,
hairline …) is told on the mean head, so it moves with whatever shape and expression the head takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..geometry.geometry import rotation_from_angles
from ..geometry.head import HeadModel, load_head
from ..geometry.rasterise import rasterise
from .noise import noise_pictures

MAP = 320  #: side of the skin map in pixels
CENTRE = np.array([0.0, -0.015, -0.06], np.float32)  #: of the skull; the map's directions start here
EAR_PATCH = 10  #: the map's corner of this many pixels holds the colour of the ears
_EAR_UV, _EAR_RADIUS = ((0.847, 0.622), (0.847, 0.342)), 0.030  # where MakeHuman's texture has the ears
_LOOKS = 48  # directions from which the baked ambient light is gathered
_SOFT_DEPTH = 0.006  # metres by which a surface must be hidden to count as dark

#: MediaPipe's landmarks of the right side (x < 0); |x| serves both sides.
_BROW = ((107, 55), (66, 65), (105, 52), (63, 53), (70, 46))  # upper and lower edge, inside to outside
_EYE_OUTLINE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
_UPPER_LID = (33, 246, 161, 160, 159, 158, 157, 173, 133)
_FOLD = (129, 203, 206, 216, 212)  # from the wing of the nose round the mouth's corner


@dataclass(frozen=True, eq=False)
class SkinMap:
    """The map's texels, each [MAP, MAP] float32 unless said otherwise; masks are 0..1.

    position: [MAP, MAP, 3] metres on the mean head. azimuth: degrees, 0 in front, its sign the side's. brow_across:
    metres above (+) or below the brow's middle line; brow_along: 0 at its inner end, 1 at its outer one.
    """

    position: FloatArray
    azimuth: FloatArray
    brow_across: FloatArray
    brow_along: FloatArray
    masks: dict[str, FloatArray]

    def __getitem__(self, name: str) -> FloatArray:
        return self.masks[name]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The bust without its hair shell, V vertices; uv: [V, 2] pixels on the skin map; openness: [V] 0..1 how much
    light reaches a vertex; follow: [V] 0..1 how much it turns with the head; eye: [V] −1 right, 1 left eyeball, 0 else;
    ear: [V] bool; ear_distance: [V] metres; azimuth: [V] degrees; expressions: [52, 3, V] metres per unit, by axis."""

    head: HeadModel
    vertices: int
    triangles: IntArray
    region: tuple[str, ...]
    region_of: IntArray
    uv: FloatArray
    openness: FloatArray
    follow: FloatArray
    eye: IntArray
    ear: npt.NDArray[np.bool_]
    ear_distance: FloatArray
    azimuth: FloatArray
    skin_map: SkinMap
    noise: dict[str, FloatArray]
    expressions: FloatArray
    keypoint_landmarks: tuple[tuple[int, ...], ...] = (
        (33, 133, 159, 145),
        (362, 263, 386, 374),
        (4,),
        (61,),
        (291,),
    )


@lru_cache(maxsize=1)
def anatomy() -> Anatomy:
    """Worked out once per process (about a second)."""
    head = load_head(whole=True)
    regions = head.region_names
    unwanted = [regions.index(name) for name in ("mouth closure", "hair", "eye sockets")]
    kept = ~np.isin(head.region, unwanted)
    triangles, region_of = head.triangles[kept], head.region[kept]
    count = int(triangles.max()) + 1
    base = head.base[:count]
    ear = _ears(head, count)
    uv = unroll(base)
    return Anatomy(
        head=head,
        vertices=count,
        triangles=np.ascontiguousarray(triangles),
        region=regions,
        region_of=region_of,
        uv=uv,
        openness=_openness(base, triangles),
        follow=follows_head(base),
        eye=_eyes(head, count),
        ear=ear,
        ear_distance=_distance_to(base[ear], base),
        azimuth=azimuth(base),
        skin_map=_skin_map(head, triangles, region_of, uv, ear),
        noise=noise_pictures(MAP),
        expressions=np.ascontiguousarray(head.expression_basis[:, :count].transpose(0, 2, 1)),
    )


def azimuth(points: FloatArray) -> FloatArray:
    """[...] degrees round the head's vertical axis, 0 in front, of points [..., 3]."""
    return np.degrees(np.arctan2(points[..., 0], points[..., 2] - CENTRE[2])).astype(np.float32)


def unroll(points: FloatArray) -> FloatArray:
    """[..., 2] pixels on the skin map of points [..., 3] of the mean head."""
    ray = points - CENTRE
    ray = ray / np.linalg.norm(ray, axis=-1, keepdims=True)
    away = np.arccos(np.clip(ray[..., 2], -1, 1))
    radius = (away / np.pi) ** 0.8
    flat = np.maximum(np.hypot(ray[..., 0], ray[..., 1]), 1e-6)
    plane = np.stack([ray[..., 0], -ray[..., 1]], axis=-1) / flat[..., None] * radius[..., None]
    return ((plane * 0.5 + 0.5) * (MAP - 1)).astype(np.float32)


def follows_head(points: FloatArray) -> FloatArray:
    """[...] 0 on the shoulders, 1 on the head, smooth along the neck, of points [..., 3] of the mean bust."""
    along = points[..., 1] + 0.45 * (points[..., 2] - CENTRE[2])
    return smooth_step(along, -0.155, -0.085)


def smooth_step(value: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> FloatArray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    share = np.clip((np.asarray(value, np.float32) - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def _ears(head: HeadModel, count: int) -> npt.NDArray[np.bool_]:
    """[V] by their place in MakeHuman's texture, where the ears lie flat."""
    skin = head.region == head.region_names.index("skin")
    corners, uv = head.triangles[skin].ravel(), head.uv[skin].reshape(-1, 2)
    near = np.min([np.hypot(*(uv - centre).T) for centre in _EAR_UV], axis=0) < _EAR_RADIUS
    ear = np.zeros(len(head.base), bool)
    ear[corners[near]] = True
    return ear[:count]


def _distance_to(some: FloatArray, points: FloatArray) -> FloatArray:
    """[V] metres from points [V, 3] to the nearest of ``some`` [N, 3]."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(some).query(points)[0], np.float32)


def _eyes(head: HeadModel, count: int) -> IntArray:
    ball = np.unique(head.triangles[head.region == head.region_names.index("eyes")])
    eye = np.zeros(len(head.base), np.int32)
    eye[ball] = np.where(head.base[ball, 0] > 0, 1, -1)
    return eye[:count]


def _openness(base: FloatArray, triangles: IntArray) -> FloatArray:
    """[V] the share of directions of the sky from which each vertex of the mean bust is seen."""
    golden = np.pi * (3 - np.sqrt(5))
    side, scale = 160, 340.0
    seen, total = np.zeros(len(base)), 1e-6 + np.zeros(len(base))
    normals = _normals(base, triangles)
    for look in range(_LOOKS):
        height = 1 - 1.5 * (look + 0.5) / _LOOKS  # from the zenith to a little below the horizon
        turned = base @ rotation_from_angles(np.degrees(look * golden), -np.degrees(np.arcsin(height)), 0).T
        facing = normals @ rotation_from_angles(np.degrees(look * golden), -np.degrees(np.arcsin(height)), 0).T[:, 2]
        points = (turned * np.array([scale, -scale, scale]) + [side / 2, side / 2 - 15, 0]).astype(np.float32)
        depth = rasterise(points, triangles, side, side).depth
        column, row = (np.clip(np.rint(points[:, axis]), 0, side - 1).astype(int) for axis in (0, 1))
        hidden = np.clip((depth[row, column] - points[:, 2]) / (scale * _SOFT_DEPTH) - 0.6, 0, 1)
        weight = np.clip(facing, 0, 1)
        seen += weight * (1 - hidden)
        total += weight
    return np.clip(seen / total * 1.12, 0.12, 1).astype(np.float32)


def _normals(points: FloatArray, triangles: IntArray) -> FloatArray:
    corners = points[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(points)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], faces)
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _skin_map(
    head: HeadModel, triangles: IntArray, region_of: IntArray, uv: FloatArray, ear: npt.NDArray[np.bool_]
) -> SkinMap:
    names = head.region_names
    skin = np.isin(region_of, [names.index(name) for name in ("skin", "lips", "bust")])
    skin &= ~ear[triangles].any(axis=1) & (np.ptp(uv[triangles], axis=1).max(axis=1) < MAP / 5)  # not round the nape
    base = head.base[: len(uv)]
    radius = np.linalg.norm(base - CENTRE, axis=1).astype(np.float32) * 100
    raster = rasterise(np.column_stack([uv, radius]).astype(np.float32), triangles[skin], MAP, MAP)
    position = raster.interpolate(triangles[skin], base)
    position = _filled(position, raster.covered)
    lips = region_of[skin] == names.index("lips")
    lip = (lips[raster.triangle_index] & raster.covered).astype(np.float32)
    marks = head.landmarks(head.base)
    masks = _masks(position, marks) | {"lips": cv2.GaussianBlur(lip, (0, 0), 1.0)}
    across, along = _brow_coordinates(position, marks)
    return SkinMap(position, azimuth(position), across, along, masks)


def _filled(position: FloatArray, covered: npt.NDArray[np.bool_]) -> FloatArray:
    """Texels that no triangle covers get the place of the nearest one that has."""
    from scipy.ndimage import distance_transform_edt

    row, column = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    return np.ascontiguousarray(position[row, column])


def _mirrored(position: FloatArray) -> FloatArray:
    """Both halves of the face laid on the right one (x < 0)."""
    return np.concatenate([-np.abs(position[..., :1]), position[..., 1:]], axis=-1)


def _distance(position: FloatArray, points: FloatArray) -> FloatArray:
    """[...] metres from places [..., 3] to the polyline through ``points`` [N, 3]."""
    nearest = np.full(position.shape[:-1], np.inf, np.float32)
    for start, end in pairwise(points):
        edge = end - start
        share = np.clip((position - start) @ edge / max(float(edge @ edge), 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(position - start - share[..., None] * edge, axis=-1))
    return nearest.astype(np.float32)


def _spot(position: FloatArray, point: npt.ArrayLike, radius: float) -> FloatArray:
    return np.exp(-((np.linalg.norm(position - np.asarray(point), axis=-1) / radius) ** 2)).astype(np.float32)


def _masks(position: FloatArray, marks: FloatArray) -> dict[str, FloatArray]:
    half = _mirrored(position)
    x, y, z = np.abs(position[..., 0]), position[..., 1], position[..., 2]
    turn = np.abs(azimuth(position))
    front = smooth_step(z, -0.05, -0.02)
    outline = _distance(half, marks[[*_EYE_OUTLINE, _EYE_OUTLINE[0]]])
    lid = _distance(half, marks[list(_UPPER_LID)] + np.array([0, 0.005, 0], np.float32))
    cheek_line = np.interp(turn, [0, 25, 50, 70, 85], [-0.055, -0.052, -0.046, -0.022, -0.005])
    chin = smooth_step(-y, 0.074, 0.082) * smooth_step(-x, -0.030, -0.016) * front
    lower = smooth_step(cheek_line - y, 0.0, 0.012) * smooth_step(y, -0.140, -0.118) * smooth_step(-turn, -92, -80)
    mouth = smooth_step(-np.hypot(x / 0.026, (y + 0.069) / 0.0105), -1.25, -0.85)
    moustache = (
        smooth_step(-np.abs(x), -0.031, -0.024) * smooth_step(-y, 0.0475, 0.0515) * smooth_step(y, -0.075, -0.066)
    )
    return {
        "cheek": _spot(half, np.array([-0.040, -0.034, 0.014], np.float32), 0.020),
        "nose": _spot(position, marks[4], 0.015) + 0.5 * _spot(half, marks[98], 0.008),
        "nose_line": _spot(position * np.array([1, 0.35, 1], np.float32), marks[4] * [1, 0.35, 1], 0.012),
        "forehead": _spot(position, marks[151], 0.03),
        "under_eye": _spot(
            half * np.array([1, 1.6, 1], np.float32), (marks[145] + [0.003, -0.008, 0]) * [1, 1.6, 1], 0.015
        ),
        "lid": np.exp(-((lid / 0.007) ** 2)).astype(np.float32) * smooth_step(y, -0.006, 0.004),
        "eye_line": np.exp(-((outline / 0.0016) ** 2)).astype(np.float32),
        "socket": np.exp(-((outline / 0.009) ** 2)).astype(np.float32),
        "fold": np.exp(-((_distance(half, marks[list(_FOLD)]) / 0.0028) ** 2)).astype(np.float32),
        "crow": _spot(half, marks[33] + np.array([-0.010, 0.002, -0.008], np.float32), 0.011),
        "moustache": moustache * front * (1 - mouth),
        "goatee": np.clip(chin * smooth_step(y, -0.125, -0.115), 0, 1) * (1 - mouth),
        "beard": lower * (1 - mouth),
        "nostril": _spot(half, marks[98] + np.array([0.006, -0.002, 0.004], np.float32), 0.0045),
    }


def _brow_coordinates(position: FloatArray, marks: FloatArray) -> tuple[FloatArray, FloatArray]:
    half = _mirrored(position)
    middle = np.array([(marks[upper] + marks[lower]) / 2 for upper, lower in _BROW])  # inside to outside
    away = -half[..., 0]
    inner, outer = -middle[0, 0], -middle[-1, 0]
    along = ((away - inner) / (outer - inner)).astype(np.float32)
    height = np.interp(away, -middle[:, 0], middle[:, 1])
    front = half[..., 2] > -0.03
    return np.where(front, half[..., 1] - height, 1.0).astype(np.float32), along
