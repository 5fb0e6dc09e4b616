"""Multi-view face collection for training (paper: "multi-view face augmentation").

From a training clip's face crops, keep the few whose viewpoints differ most and draw one of them as the reference of
that training sample: the model then never learns to copy the reference's view into the video.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import InputError, NoFaceError
from ..geometry.geometry import rotation_from_angles
from .makers import View, stack_views
from .views import FaceViews

PAPER_COUNT = 6  #: how many crops the paper keeps of each clip
_TIE = 1e-3  # degrees per clip length: among equal viewpoints, moments far apart are preferred


def collect_views(
    crops: Sequence[FloatArray | None], poses: Sequence[npt.ArrayLike | None], count: int = PAPER_COUNT
) -> IntArray:
    """Indices [≤ count] of the frames whose viewpoints differ most, the most unusual first.

    crops: one face crop per frame in time order, None where no face was found. poses: yaw, pitch, roll in degrees per
    frame, ignored where there is no crop. Greedy max–min: first the frame farthest from the clip's mean viewpoint, then
    again and again the one farthest from all kept ones; the distance is the angle of the rotation between two heads.
    Frames that all look alike are taken spread over time; a clip with fewer faces gives what it has.
    Raises NoFaceError when no frame has a face, InputError for a count below 1 or a face without a finite pose.
    """
    if count < 1:
        raise InputError(f"At least one view must be kept, but {count} were asked for.")
    if len(crops) != len(poses):
        raise InputError(f"{len(crops)} crops need {len(crops)} head poses, but {len(poses)} were given.")
    frames = np.array([index for index, crop in enumerate(crops) if crop is not None], np.int32)
    if len(frames) == 0:
        raise NoFaceError(f"None of the clip's {len(crops)} frames shows a face; leave this clip out.")
    rotations = np.stack([_rotation(poses[index], index) for index in frames])  # (N, 3, 3)
    times = (frames / max(len(crops) - 1, 1)).astype(np.float32)
    return frames[_farthest_first(rotations, times, count)]


def draw_reference(indices: npt.ArrayLike, random: np.random.Generator) -> int:
    """One of the collected ``indices`` at random: the frame that is this training sample's reference."""
    choices = np.asarray(indices).ravel()
    if len(choices) == 0:
        raise InputError("There is no collected view to draw a reference from.")
    return int(random.choice(choices))


def views_of_clip(
    crops: Sequence[FloatArray | None],
    poses: Sequence[npt.ArrayLike | None],
    random: np.random.Generator,
    count: int = PAPER_COUNT,
) -> FaceViews:
    """The collected crops [512, 512, 3] of a clip as FaceViews, a drawn one first; all of weight 1."""
    kept = [int(index) for index in collect_views(crops, poses, count)]
    reference = draw_reference(kept, random)
    order = [reference, *(index for index in kept if index != reference)]
    views = []
    for index in order:
        crop, pose = crops[index], np.asarray(poses[index], np.float64)
        assert crop is not None  # collect_views gives only frames with a face
        views.append(View(crop, 1.0, (float(pose[0]), float(pose[1]), float(pose[2])), 1.0, f"frame {index}"))
    return stack_views(views)


def _rotation(pose: npt.ArrayLike | None, frame: int) -> FloatArray:
    angles = np.asarray(pose if pose is not None else [], dtype=np.float64)
    if angles.shape != (3,) or not np.isfinite(angles).all():
        raise InputError(f"Frame {frame} has a face but no head pose of yaw, pitch and roll; leave the frame out.")
    return rotation_from_angles(*angles)


def _farthest_first(rotations: FloatArray, times: FloatArray, count: int) -> list[int]:
    """Positions in ``rotations`` [N, 3, 3] at moments ``times`` [N] 0..1, each farthest from those before it."""
    chosen = [int(_angles_to(rotations, rotations.mean(axis=0)).argmax())]
    nearest = np.full(len(rotations), np.inf)
    while len(chosen) < min(count, len(rotations)):
        last = chosen[-1]
        distance = _angles_to(rotations, rotations[last]) + _TIE * np.abs(times - times[last])
        nearest = np.minimum(nearest, distance)
        nearest[chosen] = -np.inf
        chosen.append(int(nearest.argmax()))
    return chosen


def _angles_to(rotations: FloatArray, other: FloatArray) -> npt.NDArray[np.float64]:
    """[N] degrees between every rotation and ``other`` [3, 3] (which may be a mean, then only their order counts).

    From the Frobenius distance 2·√2·sin(angle / 2), which is exact where arccos of a trace is noise: near zero.
    """
    distance = np.linalg.norm((rotations - other).reshape(len(rotations), 9).astype(np.float64), axis=1)
    return np.degrees(2 * np.arcsin(np.clip(distance / (2 * np.sqrt(2)), 0, 1)))
