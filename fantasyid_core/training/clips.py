"""One training sample: a clip of a synthetic talking head, its caption, its truth, and references of the same person.

Clip k of seed s is the same whoever makes it: every part draws from a generator seeded by (s, part, k) alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from ..arrays import FloatArray, IntArray
from ..errors import InputError
from ..faces.align import alignment_matrix
from ..faces.face import CROP_SIZE
from ..geometry.head import load_head
from .anatomy import anatomy
from .captions import write_caption
from .draw_frames import Stage, draw, pose_vertices, project
from .figure import Figure, build_figure
from .motion import FACE_ACTIONS, HEAD_ACTIONS, Motion, draw_motion, draw_views
from .people import draw_person
from .scene import COLOURS, LIGHTS, SCENES, SHOTS, Scene, draw_camera, draw_scene

Bytes = npt.NDArray[np.uint8]

SMALLEST_SIZE, LARGEST_SIZE = 32, 256  #: pixels
ZOOMS = (0.8, 1.6)  #: how much a close-up shrinks or enlarges at most
BACKGROUNDS = (*COLOURS, *SCENES)
_PERSON, _TAKE, _REFERENCES = 0, 1, 2  # streams of random numbers
_KEYPOINT_JITTER = 0.0015  # metres: a detector does not find the same spot twice


@dataclass(frozen=True)
class ClipOptions:
    """seed: 0 or more. size: pixels, a multiple of 8. frames: 4k + 1 for the mini's video autoencoder. references: how
    many crops of the person from elsewhere; crop: their side. people: how many different ones there are (clip k shows
    person k modulo ``people``), None for a new one in every clip."""

    seed: int = 0
    size: int = 64
    frames: int = 17
    references: int = 6
    crop: int = 64
    people: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("crop", self.crop)):
            if not SMALLEST_SIZE <= value <= LARGEST_SIZE or value % 8:
                raise InputError(
                    f"The {name} of synthetic clips is a multiple of 8 between {SMALLEST_SIZE} and {LARGEST_SIZE} "
                    f"pixels, but it is {value}."
                )
        if self.frames < 1 or self.frames > 257:
            raise InputError(f"A synthetic clip has 1 to 257 frames, but {self.frames} were asked for.")
        if self.references < 0 or self.references > 16:
            raise InputError(f"A clip has 0 to 16 references, but {self.references} were asked for.")
        if self.seed < 0:
            raise InputError(f"The seed must be 0 or more, but it is {self.seed}.")
        if self.people is not None and self.people < 1:
            raise InputError(f"There must be at least one person, but {self.people} were asked for.")


@dataclass(frozen=True, eq=False)
class Clip:
    """T frames of S × S pixels, R references of C × C pixels, I identity numbers; pictures are uint8 sRGB.

    frames: [T, S, S, 3]. caption. shape: [120] coefficients of load_head(), the geometry's truth. identity: [I], see
    people.identity_names. angles: [T, 3] yaw, pitch, roll in degrees (signs: HeadPose). expression: [T, 52] ARKit
    weights. keypoints: [T, 5, 2] frame pixels, image-left first. references: [R, C, C, 3] aligned crops of the same
    person elsewhere (other light, clothes, background, side and face); reference_cover: [R, C, C] 255 on the person;
    reference_angles: [R, 3]; reference_expression: [R, 52]. labels: [5] numbers of the head's and the face's action,
    background, light and shot in HEAD_ACTIONS, FACE_ACTIONS, BACKGROUNDS, LIGHTS, SHOTS. person: whose clip it is.
    """

    frames: Bytes
    caption: str
    shape: FloatArray
    identity: FloatArray
    angles: FloatArray
    expression: FloatArray
    keypoints: FloatArray
    references: Bytes
    reference_cover: Bytes
    reference_angles: FloatArray
    reference_expression: FloatArray
    labels: IntArray
    person: int

    def arrays(self) -> dict[str, Any]:
        """Everything by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def make_clip(options: ClipOptions, index: int) -> Clip:
    """Clip number ``index`` of these options."""
    with _one_thread():
        return _made(options, index)


def _made(options: ClipOptions, index: int) -> Clip:
    person_index = index if options.people is None else index % options.people
    figure = build_figure(draw_person(_generator(options, _PERSON, person_index)))
    generator = _generator(options, _TAKE, index)
    motion = draw_motion(generator, options.frames)
    scene, camera = draw_scene(generator, options.size), draw_camera(generator, options.frames)
    stage = _filmed(options, scene, camera.scale, camera.centre, camera.distance)
    posed = pose_vertices(figure, motion.expression, motion.angles, motion.shoulders)
    pictures = draw(figure, posed, stage, options.size)
    references, cover, views = _references(figure, options, index)
    return Clip(
        frames=pictures.frames,
        caption=write_caption(generator, figure.person.woman, motion, scene, camera.shot),
        shape=figure.person.shape,
        identity=figure.person.vector(),
        angles=motion.angles,
        expression=motion.expression,
        keypoints=keypoints(posed, stage.affine, stage.distance),
        references=references,
        reference_cover=cover,
        reference_angles=views.angles,
        reference_expression=views.expression,
        labels=_labels(motion, scene, camera.shot),
        person=person_index,
    )


def _generator(options: ClipOptions, stream: int, index: int) -> np.random.Generator:
    return np.random.default_rng([options.seed, stream, index])


def _labels(motion: Motion, scene: Scene, shot: str) -> IntArray:
    numbers = (
        HEAD_ACTIONS.index(motion.head_action),
        FACE_ACTIONS.index(motion.face_action),
        BACKGROUNDS.index(scene.background_name),
        LIGHTS.index(scene.light.name),
        SHOTS.index(shot),
    )
    return np.array(numbers, np.int32)


def _filmed(options: ClipOptions, scene: Scene, scale: FloatArray, centre: FloatArray, distance: float) -> Stage:
    """The clip's own camera: upright, its background moving with it."""
    frames = len(scale)
    affine = np.zeros((frames, 2, 3), np.float32)
    affine[:, 0, 0] = affine[:, 1, 1] = scale * options.size
    affine[:, :, 2] = centre * options.size - 0.5
    shifts = (centre - centre[:1]) * options.size * 0.6
    return Stage(affine, np.full(frames, distance, np.float32), (scene,) * frames, shifts.astype(np.float32))


def keypoints(posed: FloatArray, affine: FloatArray, distance: FloatArray) -> FloatArray:
    """[T, 5, 2] picture pixels of eyes, nose tip and mouth corners, image-left first, of posed vertices [3, V, T]."""
    head, groups = anatomy().head, anatomy().keypoint_landmarks
    marks = [mark for group in groups for mark in group]
    corners = posed[:, head.triangles[head.landmark_triangle[marks]]]  # [3, L, 3 corners, T]
    points = np.einsum("dlkt,lk->dlt", corners, head.landmark_weight[marks])
    flat = project(points.astype(np.float32), affine, distance)[:2].transpose(2, 1, 0)  # [T, L, 2]
    ends = np.cumsum([len(group) for group in groups])
    return np.stack([part.mean(axis=1) for part in np.split(flat, ends[:-1], axis=1)], axis=1)


def crop_matrix(points: npt.ArrayLike, side: int) -> npt.NDArray[np.float64]:
    """[2, 3] picture pixels → pixels of an aligned crop of ``side``: the room of faces' alignment, made smaller."""
    matrix = alignment_matrix(points) * (side / CROP_SIZE)
    matrix[:, 2] += 0.5 * side / CROP_SIZE - 0.5
    return np.asarray(matrix)


def own_crops(frames: Bytes, points: FloatArray, side: int) -> Bytes:
    """[N, side, side, 3] aligned crops out of a clip's own ``frames`` [N, S, S, 3] with keypoints [N, 5, 2], as the
    paper's multi-view collection takes them; what lies beyond the picture is grey."""
    made = [
        cv2.warpAffine(frame, crop_matrix(point, side), (side, side), flags=cv2.INTER_LINEAR, borderValue=(128,) * 3)
        for frame, point in zip(frames, points, strict=True)
    ]
    return np.stack(made).astype(np.uint8)


def close_up_matrix(points: FloatArray, side: int, least: float = 0.0, most: float = np.inf) -> npt.NDArray[np.float64]:
    """[2, 3] picture pixels → pixels of a square of ``side`` in which the face of keypoints [5, 2] lies where an
    aligned crop has it, as large as there but not turned. The zoom is held between ``least`` and ``most``."""
    aligned = crop_matrix(points, side)
    zoom = float(np.clip(np.hypot(aligned[0, 0], aligned[1, 0]), least, most))
    centre = np.asarray(points).mean(axis=0)
    shift = aligned[:, :2] @ centre + aligned[:, 2] - zoom * centre
    return np.array([[zoom, 0.0, shift[0]], [0.0, zoom, shift[1]]])


def close_up(frames: Bytes, points: FloatArray) -> Bytes:
    """``frames`` [N, S, S, 3] with keypoints [N, 5, 2], all moved and zoomed alike, until the first one's face lies
    where an aligned crop has it; not turned. What lies beyond the picture goes on as its edge."""
    side = frames.shape[1]
    matrix = close_up_matrix(points[0], side, *ZOOMS)
    made = [
        cv2.warpAffine(frame, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        for frame in frames
    ]
    return np.stack(made).astype(np.uint8)


def _one_thread() -> AbstractContextManager[object]:
    """Within it a matrix product takes one thread: how many share it would decide how its sums are rounded."""
    context: AbstractContextManager[object] = _matrix_libraries().limit(limits=1)
    return context


@lru_cache(maxsize=1)
def _matrix_libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _references(figure: Figure, options: ClipOptions, index: int) -> tuple[Bytes, Bytes, Motion]:
    """Crops of the person from other sides, each a photograph of its own."""
    generator, count, side = _generator(options, _REFERENCES, index), options.references, options.crop
    views = draw_views(generator, max(count, 1))
    if count == 0:
        none = Motion("still", "calm", "", views.angles[:0], views.shoulders[:0], views.expression[:0])
        return np.zeros((0, side, side, 3), np.uint8), np.zeros((0, side, side), np.uint8), none
    scenes = tuple(draw_scene(generator, side) for _ in range(count))
    distance = generator.uniform(0.6, 3.0, count).astype(np.float32)
    posed = pose_vertices(figure, views.expression, views.angles, views.shoulders)
    metres = np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1))
    seen = keypoints(posed, metres, distance) + generator.normal(0, _KEYPOINT_JITTER, (count, 5, 2))
    affine = np.stack([crop_matrix(points * 1000, side) * [1000, 1000, 1] for points in seen]).astype(np.float32)
    pictures = draw(figure, posed, Stage(affine, distance, scenes, np.zeros((count, 2), np.float32)), side)
    return pictures.frames, pictures.cover, views


@lru_cache(maxsize=1)
def _neutral_basis() -> tuple[FloatArray, FloatArray]:
    head = load_head()
    return head.base.reshape(-1), np.ascontiguousarray(head.shape_basis.reshape(len(head.shape_basis), -1))


def neutral_vertices(shapes: npt.ArrayLike) -> FloatArray:
    """[B, 3202, 3] metres: heads of HEAD_TOPOLOGY at rest with shape coefficients [B, 120], the 3D branch's input."""
    base, basis = _neutral_basis()
    weights = np.atleast_2d(np.asarray(shapes, np.float32))
    return (base + weights @ basis).reshape(len(weights), -1, 3).astype(np.float32)
