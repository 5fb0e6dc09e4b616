"""A photograph of a face taken apart: what it shows of the head's surface, and a relief for all that is not head."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import InputError
from ..faces.align import MAX_PADDING, alignment_matrix, warp_square
from ..faces.face import CROP_SIZE, Face
from ..geometry.geometry import FaceGeometry, HeadPose
from ..geometry.rasterise import Raster, rasterise
from ..geometry.render import vertex_normals
from .fill import sample, smoothstep
from .relief import Relief, make_relief

MARGIN = 128  #: pixels of the photograph kept around the 512 crop, to be turned into view
WIDE = CROP_SIZE + 2 * MARGIN
_OCCLUDER_RADIUS = 3  # pixels by which a nearer surface is widened before it hides others: the fit is not exact
_DEPTH_TOLERANCE = 0.008  # metres
_TURNED = (10.0, 25.0)  # degrees of yaw from which on one side of the head is clearly better known than the other
_STRIP = 24.0  # pixels of the photograph's border that are repeated beyond it


@dataclass(frozen=True, eq=False)
class Scene:
    """All in pixels of the wide crop: the 512 crop with MARGIN more on every side.

    texture: [WIDE, WIDE, 3]. pose: how the head stands in it. vertices: [V, 3] metres, head frame. triangles: [F, 3].
    keypoints: [5, 3] the face's keypoints on the mesh, head frame. padding: of the face's crop. pivot: [3] the point
    that stays in place when the head turns, head frame. Per vertex: photo_xy [V, 2] where the photograph shows it, and
    how well, usable [V] for a picture and, more strictly, seen [V] for the count; mirror_xy, mirror_usable: the same of
    its mirror image; face_share [V] 1 on the face, 0 on the rest of the head; opacity [V] 1 where a picture shows
    the mesh, that is, the face and whatever only the mirror image knows; 0 where the relief does better, which is less
    steep than the mesh at the face's sides. relief: everything else.
    """

    texture: FloatArray
    pose: HeadPose
    vertices: FloatArray
    triangles: IntArray
    keypoints: FloatArray
    padding: float
    pivot: FloatArray
    photo_xy: FloatArray
    usable: FloatArray
    seen: FloatArray
    mirror_xy: FloatArray
    mirror_usable: FloatArray
    face_share: FloatArray
    opacity: FloatArray
    relief: Relief


def make_scene(face: Face, geometry: FaceGeometry) -> Scene:
    """Take ``face`` apart along ``geometry``. Raises InputError when the mesh has no pose or misses the face."""
    if geometry.pose is None:
        raise InputError(
            "This mesh has no pose in the photograph, so no view can be rendered from it; use a mesh fitted to the "
            "photograph, or ask for no rendered angles."
        )
    matrix = face.matrix.astype(np.float64) + np.array([[0, 0, MARGIN], [0, 0, MARGIN]])
    pose = moved_pose(geometry.pose, matrix)
    points = pose.project(geometry.vertices)
    triangles = _outside_out(points, geometry.triangles)
    raster = rasterise(points, triangles, WIDE, WIDE)
    on_image = np.concatenate([face.keypoints, np.ones((5, 1), np.float32)], axis=1) @ matrix.T
    keypoints = _carried_onto_mesh(on_image, raster, geometry.vertices, triangles)
    facing = vertex_normals(points, triangles)[:, 2]
    visible = _visible(points, raster, _DEPTH_TOLERANCE * pose.scale)
    usable = smoothstep(0.05, 0.40, facing) * visible
    mirror_xy, mirror_usable = _mirrored(geometry.vertices, points[:, :2], usable)
    better_mirrored = smoothstep(0.15, 0.5, mirror_usable - usable) * smoothstep(*_TURNED, abs(pose.yaw_pitch_roll[0]))
    pivot = _skull_centre(geometry.vertices, keypoints)
    surface = raster.interpolate(triangles, geometry.vertices)
    relief = make_relief(raster, surface, pose, pivot, keypoints)
    face_share = _face_share(geometry.vertices, keypoints)
    lifted = smoothstep(0.004, 0.012, (relief.depth_at(points[:, :2]) - points[:, 2]) / pose.scale)
    on_mesh = face_share * (1 - lifted * (1 - mirror_usable) * visible)
    return Scene(
        texture=_wide_texture(face.photograph, matrix),
        pose=pose,
        vertices=geometry.vertices,
        triangles=triangles,
        keypoints=keypoints,
        padding=_padding(face),
        pivot=pivot,
        photo_xy=points[:, :2],
        usable=usable * (1 - better_mirrored),
        seen=smoothstep(0.15, 0.50, facing) * visible,
        mirror_xy=mirror_xy,
        mirror_usable=mirror_usable,
        face_share=face_share,
        opacity=np.maximum(on_mesh, better_mirrored * _above_chin(geometry.vertices, keypoints)),
        relief=relief,
    )


def moved_pose(pose: HeadPose, matrix: npt.ArrayLike) -> HeadPose:
    """``pose`` in the pixels that ``matrix`` [2, 3] carries the photograph's pixels to (a similarity)."""
    linear = np.asarray(matrix, dtype=np.float64)
    scale = float(np.hypot(linear[0, 0], linear[1, 0]))
    if not scale > 0:
        raise InputError("The face's alignment matrix shrinks the face to a point; align the face again.")
    cosine, sine = linear[0, 0] / scale, linear[1, 0] / scale  # clockwise in the image, as its y runs down
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    translation = linear[:, :2] @ pose.translation + linear[:, 2]
    return HeadPose((turn @ pose.rotation).astype(np.float32), pose.scale * scale, translation.astype(np.float32))


def _wide_texture(photograph: FloatArray, matrix: npt.NDArray[np.float64]) -> FloatArray:
    """[WIDE, WIDE, 3] the photograph around the face; beyond its border a narrow strip of it goes on, mirrored."""
    texture = warp_square(photograph, matrix, WIDE)
    height, width = photograph.shape[:2]
    backward = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    rows, columns = np.mgrid[0:WIDE, 0:WIDE]
    xy = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ backward.T  # photograph pixels
    strip = _STRIP / np.hypot(matrix[0, 0], matrix[1, 0])
    inside = np.stack([_kept_inside(xy[..., 0], width, strip), _kept_inside(xy[..., 1], height, strip)], axis=-1)
    if np.allclose(inside, xy, atol=0.5):
        return texture
    return sample(texture, (inside @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))


def _kept_inside(coordinate: npt.NDArray[np.float64], size: int, strip: float) -> npt.NDArray[np.float64]:
    """Coordinates beyond a border (whose outermost pixels are mixed with grey) folded back, by ``strip`` at most.

    A plain mirror would show a second head of hair above the first.
    """
    low, high = 1.0, max(size - 2.0, 1.0)
    beyond = np.maximum(low - coordinate, 0) - np.maximum(coordinate - high, 0)  # > 0: fold to larger coordinates
    fold = np.sign(beyond) * np.minimum(strip * -np.expm1(-np.abs(beyond) / strip), (high - low) / 2)
    return np.clip(coordinate, low, high) + fold


def _outside_out(points: FloatArray, triangles: IntArray) -> IntArray:
    """The triangles [F, 3], all turned round if the foremost part of the mesh shows its inside (as some files do)."""
    facing = vertex_normals(points, triangles)[:, 2]
    foremost = points[:, 2] >= np.quantile(points[:, 2], 0.9)
    return np.ascontiguousarray(triangles[:, ::-1]) if np.median(facing[foremost]) < 0 else triangles


def _carried_onto_mesh(
    xy: npt.NDArray[np.float64], raster: Raster, vertices: FloatArray, triangles: IntArray
) -> FloatArray:
    """[5, 3] the points of the mesh, head frame, at (or nearest to) the pixels ``xy`` [5, 2]."""
    rows, columns = np.nonzero(raster.covered)
    if len(rows) == 0:
        raise InputError("The 3D face lies outside this photograph's crop; fit it to this very face.")
    distance = (columns[:, None] - xy[:, 0]) ** 2 + (rows[:, None] - xy[:, 1]) ** 2
    nearest = distance.argmin(axis=0)
    pixel = rows[nearest], columns[nearest]
    if np.sqrt(distance.min(axis=0)).max() > CROP_SIZE / 4:
        raise InputError("The 3D face and the photograph's face are in different places; fit it to this very face.")
    corners = vertices[triangles[raster.triangle_index[pixel]]]  # (5, 3, 3)
    return np.einsum("kc,kcd->kd", raster.barycentric[pixel], corners).astype(np.float32)


def _visible(points: FloatArray, raster: Raster, tolerance: float) -> FloatArray:
    """[V] 1 where nothing of the mesh stands before a vertex in the photograph, 0 where something does."""
    depth = np.where(raster.covered, raster.depth, -1e6).astype(np.float32)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _OCCLUDER_RADIUS + 1,) * 2)
    nearest = np.asarray(cv2.dilate(depth, kernel), np.float32)
    rows, columns = np.rint(points[:, 1]).astype(int), np.rint(points[:, 0]).astype(int)
    inside = (rows >= 0) & (rows < WIDE) & (columns >= 0) & (columns < WIDE)
    before = nearest[rows.clip(0, WIDE - 1), columns.clip(0, WIDE - 1)]
    return smoothstep(-2 * tolerance, -tolerance, points[:, 2] - before) * inside


def _mirrored(vertices: FloatArray, xy: FloatArray, usable: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where the photograph shows every vertex's mirror image [V, 2], and how well [V]."""
    from scipy.spatial import cKDTree

    plane = (vertices[:, 0].max() + vertices[:, 0].min()) / 2
    reflected = (vertices - [plane, 0, 0]) * [-1, 1, 1] + [plane, 0, 0]
    distance, neighbours = cKDTree(vertices).query(reflected, k=min(4, len(vertices)))
    weight = 1 / (distance.reshape(len(vertices), -1) + 1e-5)
    weight /= weight.sum(axis=1, keepdims=True)
    neighbours = neighbours.reshape(weight.shape)
    mirrored = np.einsum("vk,vkd->vd", weight, xy[neighbours])
    return mirrored.astype(np.float32), np.einsum("vk,vk->v", weight, usable[neighbours]).astype(np.float32)


def _face_share(vertices: FloatArray, keypoints: FloatArray) -> FloatArray:
    """[V] 1 on the face from hairline to chin and cheek to cheek, fading to 0 before ears, scalp and neck.

    Measured with the distance of eyes and mouth, about 7 cm in an adult.
    """
    eyes, mouth = keypoints[:2].mean(axis=0), keypoints[3:].mean(axis=0)
    unit = max(float(eyes[1] - mouth[1]), 1e-4)
    x = (vertices[:, 0] - (eyes[0] + mouth[0]) / 2) / unit
    y = (vertices[:, 1] - eyes[1]) / unit
    oval = np.hypot(x / 1.40, np.where(y > -0.35, (y + 0.35) / 1.30, (y + 0.35) / 1.42))
    front = (vertices[:, 2] - eyes[2]) / unit
    return (1 - smoothstep(0.85, 1.0, oval)) * smoothstep(-1.05, -0.75, front)


def _above_chin(vertices: FloatArray, keypoints: FloatArray) -> FloatArray:
    """[V] 1 on the head, 0 on the neck."""
    eyes, mouth = keypoints[:2, 1].mean(), keypoints[3:, 1].mean()
    unit = max(float(eyes - mouth), 1e-4)
    return smoothstep(-1.05, -0.75, (vertices[:, 1] - mouth) / unit)


def _skull_centre(vertices: FloatArray, keypoints: FloatArray) -> FloatArray:
    """[3] the middle of the head at the height of the eyes: turning about it moves the outline least."""
    eyes, mouth = keypoints[:2].mean(axis=0), keypoints[3:].mean(axis=0)
    level = vertices[np.abs(vertices[:, 1] - eyes[1]) < 0.5 * abs(eyes[1] - mouth[1]) + 1e-6]
    return ((level.max(axis=0) + level.min(axis=0)) / 2).astype(np.float32)


def _padding(face: Face) -> float:
    """The padding that the face's crop was made with."""
    plain = alignment_matrix(face.keypoints)
    ratio = np.hypot(plain[0, 0], plain[1, 0]) / np.hypot(face.matrix[0, 0], face.matrix[1, 0])
    return float(np.clip((ratio - 1) / 2, 0, MAX_PADDING))
