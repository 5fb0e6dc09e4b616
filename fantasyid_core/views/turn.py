"""Show a photographed head from another side."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..arrays import FloatArray, IntArray
from ..errors import InputError
from ..faces.align import Matrix, alignment_matrix
from ..faces.face import CROP_SIZE
from ..geometry.geometry import HeadPose, rotation_from_angles
from ..geometry.rasterise import rasterise
from .fill import diffuse, sample, smoothstep
from .scene import Scene, moved_pose

MAX_ANGLE = 75.0  #: degrees of yaw or pitch; beyond, a photograph from the front has nothing left to show
_FINE = 2  # supersampling of the head's outline


@dataclass(frozen=True, eq=False)
class RenderedView:
    """crop: [512, 512, 3]. pose: how the head stands in it, crop pixels. coverage: 0..1 (see FaceViews)."""

    crop: FloatArray
    pose: HeadPose
    coverage: float


@dataclass(frozen=True, eq=False)
class _HeadLayer:
    """What the face of the mesh shows in ``window`` [H, W] of a view: photo, mirror [H, W, 3]; the rest [H, W]."""

    window: tuple[slice, slice]
    photo: FloatArray
    mirror: FloatArray
    usable: FloatArray
    mirror_usable: FloatArray
    seen: FloatArray
    face_share: FloatArray
    alpha: FloatArray


def render_view(scene: Scene, yaw: float, pitch: float) -> RenderedView:
    """``scene``'s head with the nose turned to these absolute angles in degrees, aligned like every face crop.

    Raises InputError for angles beyond MAX_ANGLE.
    """
    if not (abs(yaw) <= MAX_ANGLE and abs(pitch) <= MAX_ANGLE):
        raise InputError(
            f"Views can be turned by up to {MAX_ANGLE:g}°, but yaw {yaw:g}, pitch {pitch:g} was asked for."
        )
    turned = _turned_pose(scene, rotation_from_angles(yaw, pitch, scene.pose.yaw_pitch_roll[2]))
    matrix = alignment_matrix(turned.project(scene.keypoints)[:, :2], scene.padding)
    pose = moved_pose(turned, matrix)
    head = _head_layer(scene, pose)
    crop = _relief_layer(scene, turned, matrix)
    crop[head.window] += head.alpha[..., None] * (_completed(head) - crop[head.window])
    return RenderedView(crop.clip(0, 1), pose, _coverage(head))


def _turned_pose(scene: Scene, rotation: FloatArray) -> HeadPose:
    """The head with another rotation, its pivot where it was."""
    pivot = scene.pivot[None]
    still = scene.pose.project(pivot)[0, :2]
    swung = HeadPose(rotation, scene.pose.scale, np.zeros(2, np.float32)).project(pivot)[0, :2]
    return HeadPose(rotation, scene.pose.scale, still - swung)


def _head_layer(scene: Scene, pose: HeadPose) -> _HeadLayer:
    """The face of the mesh in the view: where its pixels are in the photograph and its mirror image, how well seen."""
    points = pose.project(scene.vertices)
    triangles = _facing(points, scene.triangles[(scene.opacity + scene.face_share)[scene.triangles].max(axis=1) > 0])
    window = _window(points[np.unique(triangles), :2])
    rows, columns = window
    fine = (points - np.array([columns.start, rows.start, 0], np.float32)) * np.float32(_FINE)
    fine[:, :2] += (_FINE - 1) / 2
    height, width = rows.stop - rows.start, columns.stop - columns.start
    raster = rasterise(fine, triangles, height * _FINE, width * _FINE)
    shares = (scene.usable, scene.mirror_usable, scene.seen, scene.face_share, scene.opacity)
    maps = raster.interpolate(triangles, np.column_stack([scene.photo_xy, scene.mirror_xy, *shares]))  # (.., 9)
    covered = raster.covered.astype(np.float32)[..., None]
    photo, mirror = (sample(scene.texture, maps[..., k : k + 2]) * covered for k in (0, 2))
    small = np.concatenate([_halved(part) for part in (photo, mirror, maps[..., 4:], covered)], axis=-1)  # (.., 12)
    small[..., :11] /= np.maximum(small[..., 11:], 1e-6)
    usable, mirror_usable, seen, face_share, alpha, cover = (small[..., k] for k in range(6, 12))
    return _HeadLayer(window, small[..., :3], small[..., 3:6], usable, mirror_usable, seen, face_share, alpha * cover)


def _window(xy: FloatArray) -> tuple[slice, slice]:
    """Rows and columns of the crop that the points [V, 2] span, at least one pixel."""
    low = np.clip(np.floor(xy.min(axis=0, initial=CROP_SIZE)), 0, CROP_SIZE - 1).astype(int)
    high = np.clip(np.ceil(xy.max(axis=0, initial=0)) + 1, low + 1, CROP_SIZE).astype(int)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _facing(points: FloatArray, triangles: IntArray) -> IntArray:
    """Those of the triangles that turn their outside to the camera; x right, y down."""
    a, b, c = (points[triangles[:, corner], :2] for corner in range(3))
    return triangles[(b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) < (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])]


def _completed(head: _HeadLayer) -> FloatArray:
    """[H, W, 3] the head's colours: the photograph's, else its mirror image's in the same light, else smooth."""
    both = head.usable * head.mirror_usable * (head.alpha > 0.5)
    light = diffuse(head.photo - head.mirror, both)  # how the sides differ where both are seen, carried on
    mirrored = (1 - head.usable) * head.mirror_usable
    known = np.clip(head.usable + mirrored, 0, 1)[..., None]
    colour = (head.usable[..., None] * head.photo + mirrored[..., None] * (head.mirror + light)) / np.maximum(
        known, 1e-4
    )
    return diffuse(colour.clip(0, 1), known[..., 0] * (head.alpha > 0.02))


def _relief_layer(scene: Scene, turned: HeadPose, matrix: Matrix) -> FloatArray:
    """[512, 512, 3] hair, neck and background, turned with the head as far as they hang on it."""
    relief = scene.relief
    flip = np.array([1, -1, 1])
    turn = flip[:, None] * (turned.rotation @ scene.pose.rotation.T) * flip  # in pixels, y down
    pivot = scene.pose.project(scene.pivot[None])[0]
    offset = np.column_stack([relief.xy, relief.depth]) - pivot
    moved = pivot + offset + relief.turning[:, None] * (offset @ turn.T - offset)
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    points = np.column_stack([moved[:, :2] @ matrix[:, :2].T + matrix[:, 2], moved[:, 2] * scale]).astype(np.float32)
    raster = rasterise(points, relief.triangles, CROP_SIZE, CROP_SIZE)
    xy = diffuse(raster.interpolate(relief.triangles, relief.xy), raster.covered.astype(np.float32))
    return _without_sparkle(scene.texture, xy)


def _without_sparkle(texture: FloatArray, xy: FloatArray) -> FloatArray:
    """[H, W, 3] the texture at ``xy`` [H, W, 2], averaged where neighbouring pixels lie far apart in it.

    That is so where the sheet is seen nearly edge-on and where it folds behind itself: without this, such an outline
    is a jagged line of stray colours.
    """
    image = sample(texture, xy)
    span = np.maximum(np.abs(np.diff(xy, axis=1, append=xy[:, -1:])), np.abs(np.diff(xy, axis=0, append=xy[-1:])))
    strain = np.asarray(cv2.dilate(span.max(axis=-1), np.ones((3, 3), np.uint8)), np.float32)
    blurred = sample(np.asarray(cv2.GaussianBlur(texture, (0, 0), 3.0), np.float32), xy)
    blurred = np.asarray(cv2.GaussianBlur(blurred, (0, 0), 1.0), np.float32)
    return image + smoothstep(2.0, 4.0, strain)[..., None] * (blurred - image)


def _coverage(head: _HeadLayer) -> float:
    """The share of the face in view that the photograph really shows."""
    total = float(head.face_share.sum())
    return float(np.clip((head.face_share * head.seen).sum() / total, 0, 1)) if total > 0 else 0.0


def _halved(image: FloatArray) -> FloatArray:
    """The mean of every _FINE × _FINE square."""
    size = (image.shape[1] // _FINE, image.shape[0] // _FINE)
    channels = [cv2.resize(image[..., k], size, interpolation=cv2.INTER_AREA) for k in range(image.shape[2])]
    return np.stack(channels, axis=-1).astype(np.float32)
