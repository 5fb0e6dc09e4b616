"""Pictures of a mesh: a lit preview, and the mesh laid over the photograph it was fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import InputError
from .geometry import FaceGeometry, rotation_from_angles
from .rasterise import Raster, rasterise

CLAY = np.array([0.60, 0.45, 0.37], np.float32)  #: linear RGB of a mesh that has no colours of its own
GLASS = np.array([0.13, 0.40, 0.62], np.float32)  #: linear RGB of a mesh that lies on a photograph: no skin has it
_SUPERSAMPLING = 2
_FILL = 0.86  # share of the picture's side that the mesh's longest extent takes
_LARGEST_WINDOW = 1400  # pixels; a mesh that is larger in the photograph needs no supersampling
_AMBIENT_SKY, _AMBIENT_GROUND = np.array([0.20, 0.22, 0.26], np.float32), np.array([0.12, 0.095, 0.08], np.float32)
_BACKGROUND_TOP, _BACKGROUND_BOTTOM = (
    np.array([0.905, 0.910, 0.920], np.float32),
    np.array([0.735, 0.745, 0.765], np.float32),
)


@dataclass(frozen=True)
class Light:
    """A distant lamp: where it stands (x right, y up, z towards the camera), its colour, and its softness 0..1."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float]
    wrap: float

    def diffuse(self, normals: FloatArray) -> FloatArray:
        """[..., 3] light that falls on surfaces with these unit normals [..., 3]."""
        facing = np.clip((normals @ _unit(self.direction) + self.wrap) / (1 + self.wrap), 0, 1)
        return facing[..., None] * np.array(self.colour, np.float32)

    def gloss(self, normals: FloatArray, sharpness: float) -> FloatArray:
        """[..., 3] its highlight for a viewer straight ahead (Blinn)."""
        half = _unit(_unit(self.direction) + np.array([0, 0, 1], np.float32))
        return np.clip(normals @ half, 0, 1)[..., None] ** sharpness * np.array(self.colour, np.float32)


KEY = Light((-0.55, 0.60, 0.75), (0.98, 0.92, 0.84), 0.12)
FILL = Light((0.85, 0.10, 0.55), (0.16, 0.19, 0.24), 0.45)
RIM = Light((0.55, 0.55, -0.75), (0.45, 0.47, 0.52), 0.00)


def render_mesh(
    geometry: FaceGeometry,
    size: int,
    yaw: float = 0,
    pitch: float = 0,
    roll: float = 0,
    colours: FloatArray | None = None,
) -> FloatArray:
    """A studio picture [S, S, 3] RGB 0..1 of the mesh, seen with the head at these angles (signs: HeadPose).

    size: the side in pixels. colours: [V, 3] sRGB 0..1 of the vertices, None for plain clay. The mesh fills the
    picture whatever its unit, and keeps its size when it turns. Raises InputError for impossible sizes or colours.
    """
    if colours is not None and colours.shape != geometry.vertices.shape:
        raise InputError(f"Mesh colours must be [{len(geometry.vertices)}, 3], one per vertex, not {colours.shape}.")
    fine = size * _SUPERSAMPLING
    points = _framed(geometry.vertices, rotation_from_angles(yaw, pitch, roll), fine)
    raster = rasterise(points, geometry.triangles, fine, fine)
    albedo = None if colours is None else raster.interpolate(geometry.triangles, np.square(colours).astype(np.float32))
    lit = shade(raster, points, geometry.triangles, albedo)
    return _averaged(np.where(raster.covered[..., None], lit, _background(fine)), size, size)


def overlay_mesh(photograph: FloatArray, geometry: FaceGeometry, opacity: float = 0.5) -> FloatArray:
    """The photograph [H, W, 3] RGB 0..1 with the mesh lying on it, lit and with its edges drawn.

    opacity: 0..1 of the surface that faces the camera; the photograph shines through. Raises InputError when the
    geometry has no pose, that is, was not made from a photograph.
    """
    if geometry.pose is None:
        raise InputError("This mesh has no pose in a photograph; fit it to a face, or show it with the mesh preview.")
    height, width = photograph.shape[:2]
    points = geometry.pose.project(geometry.vertices)
    x0, y0, x1, y1 = _window(points, height, width)
    picture = photograph.astype(np.float32, copy=True)
    if x1 <= x0 or y1 <= y0:
        return picture  # the mesh lies wholly beside the picture
    factor = _SUPERSAMPLING if max(x1 - x0, y1 - y0) <= _LARGEST_WINDOW else 1
    fine = _magnified(points, x0, y0, factor)
    raster = rasterise(fine, geometry.triangles, (y1 - y0) * factor, (x1 - x0) * factor)
    layer, alpha = _glass(raster, fine, geometry.triangles, opacity, factor)
    layer, alpha = (_averaged(part, y1 - y0, x1 - x0) for part in (layer * alpha, alpha))
    picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - alpha) + layer
    return picture


def shade(raster: Raster, points: FloatArray, triangles: IntArray, albedo: FloatArray | None = None) -> FloatArray:
    """[H, W, 3] sRGB 0..1 of the rastered mesh: key, fill and rim light, soft highlights, darkened hollows.

    points: [V, 3] pixels as they were rastered. albedo: [H, W, 3] linear RGB, None for clay.
    """
    normals = raster.interpolate(triangles, vertex_normals(points, triangles))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    behind = _seen_from_inside(raster, points, triangles)
    normals = np.where(behind, -normals, normals)
    sky = 0.5 + 0.5 * normals[..., 1:2]
    light = _AMBIENT_GROUND + sky * (_AMBIENT_SKY - _AMBIENT_GROUND)
    light = light + KEY.diffuse(normals) + FILL.diffuse(normals) + RIM.diffuse(normals)
    light *= _openness(raster, normals) * np.where(behind, 0.5, 1)
    gloss = 0.10 * KEY.gloss(normals, 28) + 0.05 * FILL.gloss(normals, 12)
    colour = (CLAY if albedo is None else albedo) * light + gloss * ~behind
    return _tone(colour)


def _seen_from_inside(raster: Raster, points: FloatArray, triangles: IntArray) -> npt.NDArray[np.bool_]:
    """[H, W, 1] true where an open mesh shows its inside: its triangles run the other way round there."""
    a, b, c = (points[triangles[:, corner], :2].astype(np.float64) for corner in range(3))
    clockwise = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) > (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])  # as y runs down
    return (clockwise[raster.triangle_index] & raster.covered)[..., None]


def vertex_normals(points: FloatArray, triangles: IntArray) -> FloatArray:
    """[V, 3] smooth unit normals (x right, y **up**, z towards the camera) of rastered points, whose y runs down."""
    corners = points.astype(np.float64)[triangles] * [1, -1, 1]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # length: twice the area
    normals = np.stack(
        [np.bincount(triangles.ravel(), np.repeat(faces[:, axis], 3), len(points)) for axis in range(3)], axis=1
    )
    return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _framed(vertices: FloatArray, rotation: FloatArray, side: int) -> FloatArray:
    """[V, 3] pixels: the turned mesh in the middle of a square picture."""
    turned = vertices @ rotation.T * np.array([1, -1, 1], np.float32)
    extent = max(float(np.ptp(vertices, axis=0).max()), 1e-9)
    middle = (turned.max(axis=0) + turned.min(axis=0)) / 2
    return ((turned - middle) * (side * _FILL / extent) + [(side - 1) / 2, (side - 1) / 2, 0]).astype(np.float32)


def _openness(raster: Raster, normals: FloatArray) -> FloatArray:
    """[H, W, 1] 0..1, how much sky each pixel sees: darker where the surface lies below its surroundings.

    Towards the outline every surface falls away without being hollow, so the effect fades where normals turn aside.
    """
    covered = raster.covered.astype(np.float32)
    depth = np.where(raster.covered, raster.depth, 0).astype(np.float32)
    side = max(float(np.sqrt(covered.sum())), 1.0)
    openness = np.ones_like(depth)
    facing = np.clip(normals[..., 2] * 1.6 - 0.45, 0, 1)
    for share, strength in ((0.02, 0.9), (0.07, 0.6)):
        radius = share * side
        weight = np.maximum(_blur(covered, radius), 1e-3)
        hollow = np.clip((_blur(depth, radius) / weight - depth) / radius - 0.08, 0, 2) * facing
        openness *= np.exp(-strength * hollow)
    return openness[..., None]


def _glass(
    raster: Raster, points: FloatArray, triangles: IntArray, opacity: float, factor: int
) -> tuple[FloatArray, FloatArray]:
    """Colour [H, W, 3] and alpha [H, W, 1] of a translucent mesh with its edges drawn."""
    albedo = np.broadcast_to(GLASS, (*raster.depth.shape, 3))
    normals = raster.interpolate(triangles, vertex_normals(points, triangles))
    facing = np.clip(normals[..., 2:], 0, 1)
    edge = _edges(raster, points, triangles, 0.4 * factor)[..., None] * (0.2 + 0.8 * facing)
    alpha = np.where(raster.covered[..., None], opacity + (1 - opacity) * 0.4 * edge, 0)
    lit = shade(raster, points, triangles, albedo)
    return (lit + (1 - lit) * 0.5 * edge).astype(np.float32), alpha.astype(np.float32)


def _edges(raster: Raster, points: FloatArray, triangles: IntArray, width: float) -> FloatArray:
    """[H, W] 0..1, 1 on the mesh's edges: a pixel's barycentric weight × the triangle's height is its distance."""
    xy = points.astype(np.float64)[triangles][:, :, :2]
    opposite = np.linalg.norm(np.roll(xy, -1, axis=1) - np.roll(xy, 1, axis=1), axis=2)
    a, b = xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0]
    heights = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])[:, None] / np.maximum(opposite, 1e-9)
    distance = (raster.barycentric * heights.astype(np.float32)[raster.triangle_index]).min(axis=-1)
    roomy = np.clip(heights.min(axis=1) / (8 * width), 0, 1).astype(np.float32)  # lines must not fill small triangles
    return np.clip(1.5 - distance / width, 0, 1) * roomy[raster.triangle_index] * raster.covered


def _window(points: FloatArray, height: int, width: int) -> tuple[int, int, int, int]:
    """The part of the picture in which the mesh lies, xyxy."""
    low, high = np.floor(points[:, :2].min(axis=0)).astype(int) - 1, np.ceil(points[:, :2].max(axis=0)).astype(int) + 2
    return max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)


def _magnified(points: FloatArray, x0: int, y0: int, factor: int) -> FloatArray:
    """Pixels of the window at (x0, y0), ``factor`` times finer; a pixel's centre stays its centre."""
    moved = (points - np.array([x0, y0, 0], np.float32)) * np.float32(factor)
    return (moved + np.array([(factor - 1) / 2, (factor - 1) / 2, 0], np.float32)).astype(np.float32)


def _background(side: int) -> FloatArray:
    """[S, S, 3] a neutral studio wall: lighter above, a little darker in the corners."""
    down = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    across = np.linspace(-1, 1, side, dtype=np.float32)
    corner = (across[:, None] ** 2 + across[None, :] ** 2)[..., None]
    return (_BACKGROUND_TOP + down * (_BACKGROUND_BOTTOM - _BACKGROUND_TOP)) * (1 - 0.045 * corner)


def _tone(linear: FloatArray) -> FloatArray:
    """Linear light → sRGB 0..1, with a soft shoulder so that highlights keep their shape."""
    return np.sqrt(linear / (1 + 0.18 * linear) * 1.22).clip(0, 1).astype(np.float32)


def _averaged(image: FloatArray, height: int, width: int) -> FloatArray:
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.float32).reshape(height, width, image.shape[2]).clip(0, 1)


def _blur(image: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur of [H, W]; wide ones are done on a smaller picture, which looks the same and takes no time."""
    shrink = max(int(sigma / 4), 1)
    height, width = image.shape
    size = (max(width // shrink, 1), max(height // shrink, 1))
    small = image if shrink == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), max(sigma / shrink, 0.3))
    whole = soft if shrink == 1 else cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole, dtype=np.float32)


def _unit(direction: tuple[float, float, float] | FloatArray) -> FloatArray:
    vector = np.asarray(direction, dtype=np.float32)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
