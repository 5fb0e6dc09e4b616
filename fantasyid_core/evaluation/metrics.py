"""The metrics of one clip: RS, IFS and FM as the paper names them, and what keeps them from being misread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError, NoFaceError
from .clips import METRIC_FPS
from .embedders import similarity
from .motion import face_motion
from .watch import Person, SeenFace

YAW_EDGES = (0.0, 15.0, 30.0, 45.0, 90.0)  #: degrees of |yaw| that RS is told apart by
SAME_PICTURE = 0.999  #: similarity above which two photographs are one and the same


@dataclass(frozen=True)
class YawBin:
    """RS over the ``frames`` whose head is turned by ``low`` to ``high`` degrees to either side; None without any."""

    low: float
    high: float
    frames: int
    rs: float | None


@dataclass(frozen=True)
class ClipMetrics:
    """One clip against one person. None: cannot be told from this clip, or was not asked for.

    frames: how many were looked at; faces: how many of them show a face. All means are over the latter.
    rs: mean similarity of reference and frames. rs_lowest: that of the worst frame. ifs: mean similarity of consecutive
    frames. fm: mean length of the optical flow on the still-held face, crop pixels per 1/8 second. flicker: mean grey
    difference 0..1 that the flow does not explain; where it is high, fm is not movement. yaw_low, yaw_high: degrees.
    rank1: share of frames that are nearer to their own reference than to everybody else's. copy_paste: 1 where the
    frames are the reference picture itself, 0 where another picture of the person is as near, below 0 where nearer.
    per_frame: similarity to the reference, None without a face. rank1_geometry: as rank1, by the head's shape alone,
    for eyes that can tell it (HeadEyes).
    """

    name: str
    person: str
    frames: int
    faces: int
    rs: float
    rs_lowest: float
    ifs: float | None
    fm: float | None
    flicker: float | None
    yaw_low: float
    yaw_high: float
    rs_by_yaw: tuple[YawBin, ...]
    rank1: float | None
    copy_paste: float | None
    per_frame: tuple[float | None, ...]
    rank1_geometry: float | None = None

    @property
    def yaw_range(self) -> float:
        """Degrees between the clip's leftmost and rightmost look."""
        return self.yaw_high - self.yaw_low


def measure_clip(name: str, seen: Sequence[SeenFace | None], people: Sequence[Person], number: int = 0) -> ClipMetrics:
    """The metrics of the clip ``seen`` (see watch), made from the reference of ``people[number]``.

    The other ``people`` are the ones it may be mistaken for. Raises NoFaceError when no frame shows a face.
    """
    faces = [face for face in seen if face is not None]
    person = people[number]
    if not faces:
        raise NoFaceError(f"None of the {len(seen)} frames of {name} that were looked at shows a face.")
    embeddings = np.stack([face.embedding for face in faces])  # (n, D)
    rs = similarity(embeddings, person.reference.embedding)  # (n,)
    yaw = np.array([face.yaw_pitch_roll[0] for face in faces])
    fm, flicker = clip_motion(seen)
    remaining = iter(rs)
    return ClipMetrics(
        name=name,
        person=person.name,
        frames=len(seen),
        faces=len(faces),
        rs=float(rs.mean()),
        rs_lowest=float(rs.min()),
        ifs=inter_frame_similarity(seen),
        fm=fm,
        flicker=flicker,
        yaw_low=float(yaw.min()),
        yaw_high=float(yaw.max()),
        rs_by_yaw=tuple(_yaw_bin(low, high, yaw, rs) for low, high in pairwise(YAW_EDGES)),
        rank1=rank_one(embeddings, people, number),
        copy_paste=copy_paste_score(embeddings, person),
        per_frame=tuple(None if face is None else float(next(remaining)) for face in seen),
        rank1_geometry=rank_one_by_geometry(faces, people, number),
    )


def inter_frame_similarity(seen: Sequence[SeenFace | None]) -> float | None:
    """IFS: mean similarity of consecutive frames that both show a face; None when there are none."""
    pairs = [(a.embedding, b.embedding) for a, b in pairwise(seen) if a is not None and b is not None]
    return float(np.mean([similarity(a, b) for a, b in pairs])) if pairs else None


def clip_motion(seen: Sequence[SeenFace | None]) -> tuple[float | None, float | None]:
    """(FM, flicker) over consecutive frames that both show a face; the flow is scaled to 1/8 second."""
    held = [(face.time, face.still) if face is not None and face.still is not None else None for face in seen]
    pairs = [(a, b) for a, b in pairwise(held) if a is not None and b is not None]
    if not pairs:
        return None, None
    measured = np.array([face_motion(a[1], b[1]) for a, b in pairs])  # (n, 2)
    seconds = np.array([max(b[0] - a[0], 1e-3) for a, b in pairs])
    return float((measured[:, 0] / (seconds * METRIC_FPS)).mean()), float(measured[:, 1].mean())


def rank_one(embeddings: np.ndarray, people: Sequence[Person], number: int) -> float | None:
    """Share of the frames [n, D] that are nearest to the reference of ``people[number]``; None for a single person."""
    if len(people) < 2:
        return None
    references = np.stack([person.reference.embedding for person in people])  # (P, D)
    nearest = similarity(embeddings[:, None], references[None]).argmax(axis=1)
    return float((nearest == number).mean())


def rank_one_by_geometry(faces: Sequence[SeenFace], people: Sequence[Person], number: int) -> float | None:
    """The same by the head's shape alone; None where the eyes could not tell it."""
    made = [face.geometry for face in faces if face.geometry is not None]
    known = [person.reference.geometry for person in people if person.reference.geometry is not None]
    if len(known) < 2 or len(known) < len(people) or not made:
        return None
    nearest = similarity(np.stack(made)[:, None], np.stack(known)[None]).argmax(axis=1)
    return float((nearest == number).mean())


def copy_paste_score(embeddings: np.ndarray, person: Person) -> float | None:
    """How much nearer the frames [n, D] are to the reference than to other pictures of the person, as a share of what
    lies between these pictures; None without other pictures. Raises InputError when one is the reference itself."""
    if not person.others:
        return None
    scores = []
    for other in person.others:
        between = 1.0 - float(similarity(person.reference.embedding, other.embedding))
        if between < 1.0 - SAME_PICTURE:
            raise InputError(f"The other photograph of {person.name} is the reference itself; give a different one.")
        nearer = similarity(embeddings, person.reference.embedding) - similarity(embeddings, other.embedding)
        scores.append(float(nearer.mean()) / between)
    return float(np.mean(scores))


def _yaw_bin(low: float, high: float, yaw: np.ndarray, rs: np.ndarray) -> YawBin:
    inside = (np.abs(yaw) >= low) & (np.abs(yaw) < high)
    return YawBin(low, high, int(inside.sum()), float(rs[inside].mean()) if inside.any() else None)
