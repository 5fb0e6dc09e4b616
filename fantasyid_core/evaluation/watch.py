"""Look at every frame the way the metrics do: one face per frame, its identity, its pose, and the face held still."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from ..arrays import FloatArray
from ..errors import NoFaceError
from ..faces.detect import align_detection
from ..faces.detectors import Detector, make_detector
from ..faces.face import Detection
from ..faces.landmarks import detect_landmarks_with_score
from ..geometry.fit import fit_head
from .clips import METRIC_FPS, Frame, at_rate
from .embedders import Embedder, make_embedder
from .frechet import fid_features
from .motion import StillFace, held_still

MIN_SIDE = 256  #: pixels; a smaller frame is enlarged to this first, since small faces are easily missed
MIN_LANDMARK_SCORE = 0.5  #: below, the landmark network itself sees no face where the detector saw one
_SAME_FACE = 0.3  # overlap of boxes (intersection over union) from frame to frame


class Looker(Protocol):
    """Whatever the metrics look with; ``str`` of it says what finds the faces."""

    def see(self, frame: Frame, near: FloatArray | None = None) -> SeenFace | None:
        """The face of ``frame`` that overlaps the box ``near`` [4], else the largest; None when there is none."""
        ...


@dataclass(frozen=True)
class Eyes:
    """What the metrics look at photographed faces with. features: whether FID's features are wanted too."""

    embedder: Embedder = field(default_factory=make_embedder)
    detector: Detector = field(default_factory=make_detector)
    features: bool = False

    def __str__(self) -> str:
        return str(self.detector)

    def see(self, frame: Frame, near: FloatArray | None = None) -> SeenFace | None:
        """See :class:`Looker`."""
        picture = _large_enough(frame.picture)
        detection = _the_face(self.detector.detect(picture), near)
        if detection is None:
            return None
        face = align_detection(picture, detection)
        landmarks, score = detect_landmarks_with_score(face)
        if score < MIN_LANDMARK_SCORE:
            return None
        pose = fit_head(landmarks).pose
        assert pose is not None  # fit_head always finds one
        return SeenFace(
            frame.time,
            detection.box,
            self.embedder.embed(face, landmarks),
            pose.yaw_pitch_roll,
            held_still(picture, landmarks, pose),
            fid_features(picture, landmarks) if self.features else None,
            mouth_open(landmarks),
        )


@dataclass(frozen=True, eq=False)
class SeenFace:
    """time: seconds. box: [4] xyxy pixels of the picture that was looked at. embedding: [D] (see Embedder).
    yaw_pitch_roll: degrees, signs as HeadPose. still: None where motion is not measured. features: [256] for FID, or
    None when not wanted. mouth: the gap between the lips as a share of the mouth's width, 0 for a closed one (HeadEyes
    has another unit). geometry: [G] of the head's shape alone, where the eyes can tell it."""

    time: float
    box: FloatArray
    embedding: FloatArray
    yaw_pitch_roll: tuple[float, float, float]
    still: StillFace | None
    features: FloatArray | None = None
    mouth: float = 0.0
    geometry: FloatArray | None = None


@dataclass(frozen=True)
class Person:
    """reference: the photograph that a video was made from. others: further photographs of the same person."""

    name: str
    reference: SeenFace
    others: tuple[SeenFace, ...] = ()


def watch(frames: Iterable[Frame], eyes: Looker, fps: float = METRIC_FPS) -> list[SeenFace | None]:
    """The face in each of the ``frames`` that are nearest to every 1 / fps seconds; None where there is none.

    It is the face that was there in the frame before (the boxes overlap), else the largest.
    """
    seen: list[SeenFace | None] = []
    box: FloatArray | None = None
    for frame in at_rate(frames, fps):
        face = eyes.see(frame, box)
        seen.append(face)
        box = face.box if face is not None else box
    return seen


def mouth_open(landmarks: FloatArray) -> float:
    """The gap between the inner lips of ``landmarks`` [468, 3], as a share of the mouth's width."""
    upper, lower, left, right = landmarks[[13, 14, 78, 308], :2]
    return float(np.linalg.norm(upper - lower) / max(float(np.linalg.norm(left - right)), 1e-6))


def see_person(name: str, reference: FloatArray, eyes: Looker, others: Sequence[FloatArray] = ()) -> Person:
    """The person in the photograph ``reference`` [H, W, 3] and in ``others``. Raises NoFaceError naming the person."""
    faces = [eyes.see(Frame(0.0, photograph)) for photograph in (reference, *others)]
    found = [face for face in faces if face is not None]
    if len(found) < len(faces):
        which = "the photograph" if faces[0] is None else "another photograph"
        raise NoFaceError(f"No face was found in {which} of {name} ({eyes}); give one that shows the face.")
    return Person(name, found[0], tuple(found[1:]))


def _large_enough(picture: FloatArray) -> FloatArray:
    """``picture`` [H, W, 3], enlarged (cubic) when its shorter side is below MIN_SIDE."""
    height, width = picture.shape[:2]
    scale = MIN_SIDE / min(height, width)
    if scale <= 1.0:
        return picture
    size = (round(width * scale), round(height * scale))
    larger = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.float32).clip(0.0, 1.0)
    larger.flags.writeable = False
    return larger


def _the_face(found: Sequence[Detection], near: FloatArray | None) -> Detection | None:
    if not found:
        return None
    if near is not None:
        closest = max(found, key=lambda face: _overlap(face.box, near))
        if _overlap(closest.box, near) >= _SAME_FACE:
            return closest
    return max(found, key=lambda face: face.size)


def _overlap(a: FloatArray, b: FloatArray) -> float:
    """Intersection over union of two boxes xyxy."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = max(float(width), 0.0) * max(float(height), 0.0)
    areas = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]))
    return both / max(areas - both, 1e-9)
