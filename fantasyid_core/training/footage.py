"""Clips of real people for training: video files and what happens in them, through the rooms of faces and geometry.

Each file is cut into clips as long as the model makes them, at the metrics' and the release's 8 frames per second. A
clip is the square around its face, or a close-up framed as its references are; its references are its own frames that
differ most in viewpoint (the paper's multi-view collection); its head is fitted to its most frontal frame. What happens
stands in a text file beside the video (``clip.mp4`` and ``clip.txt``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import FantasyIDError, InputError
from ..evaluation.clips import METRIC_FPS, at_rate, read_frames
from ..faces.align import warp_square
from ..faces.detect import align_detection
from ..faces.detectors import Detector, make_detector
from ..faces.face import Face
from ..faces.landmarks import detect_landmarks_with_score
from ..geometry.fit import fit_head
from ..images import to_uint8
from ..progress import ProgressCallback, silent
from ..views.collect import PAPER_COUNT, collect_views
from .clips import close_up_matrix, crop_matrix, neutral_vertices
from .latents import COLLECTED, FIRST, Sample, check_framing, write_encoded

if TYPE_CHECKING:
    from ..video.vae import VideoAutoencoder

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif", ".webp")
MOST_MISSING = 0.25  #: share of a clip's frames that may show no face
MIN_LANDMARK_SCORE = 0.5  #: below, the landmark network itself sees no face
MARGIN = 0.55  #: of the face boxes' size, added around them on every side: hair, shoulders, and room to turn
PER_SHARD = 64


@dataclass(frozen=True, eq=False)
class Sighting:
    """The face in one frame. angles: yaw, pitch, roll in degrees. shape: [120] of the parametric head."""

    face: Face
    angles: tuple[float, float, float]
    shape: FloatArray


def encode_footage(
    videos: Path,
    vae: VideoAutoencoder,
    out: Path,
    frames: int = 17,
    size: int = 64,
    own: int = PAPER_COUNT,
    report: ProgressCallback = silent,
    closer: bool = False,
) -> tuple[list[Path], list[str]]:
    """Encode every video file in ``videos`` to shards in ``out``; returns these, and a sentence per clip left out.

    frames: of each clip, 4k + 1. size: pixels of its side. own: views that the collection keeps. closer: every clip is
    framed as its references are, by its first face, as in `train latents --close-up`. Raises InputError when there is
    no video, none of them gives a clip, or ``out`` holds clips that were framed otherwise.
    """
    files = sorted(path for path in videos.iterdir() if path.suffix.lower() in VIDEOS) if videos.is_dir() else []
    if not files:
        raise InputError(f"{videos} holds no videos ({', '.join(VIDEOS)}); put some there, each with its text file.")
    check_framing(out, closer)
    detector, left_out, made = make_detector(), list[str](), list[Path]()
    waiting: list[Sample] = []
    for done, file in enumerate(files, 1):
        try:
            for sample in clips_of(file, detector, frames, size, own, left_out, closer):
                waiting.append(sample)
                if len(waiting) == PER_SHARD:
                    made.append(_write(out, len(made), waiting, vae, closer))
                    waiting = []
        except FantasyIDError as error:
            left_out.append(f"{file.name}: {error}")
        report(done, len(files), None)
    if waiting:
        made.append(_write(out, len(made), waiting, vae, closer))
    if not made:
        raise InputError(f"None of the {len(files)} videos gives a clip. The first reason: {left_out[0]}")
    return made, left_out


def clips_of(
    file: Path, detector: Detector, frames: int, size: int, own: int, left_out: list[str], closer: bool = False
) -> Iterator[Sample]:
    """The clips of one video, one after the other. Raises InputError when it has no text or is too short."""
    caption = _caption(file)
    pictures: list[FloatArray] = []
    number = 0
    for frame in at_rate(read_frames(file), METRIC_FPS):
        pictures.append(frame.picture)
        if len(pictures) == frames:
            try:
                yield make_sample(pictures, detector, size, own, caption, closer)
            except FantasyIDError as error:
                left_out.append(f"{file.name}, clip {number}: {error}")
            pictures, number = [], number + 1
    if number == 0:
        raise InputError(f"it has {len(pictures)} frames at {METRIC_FPS:g} per second, and a clip needs {frames}.")


def make_sample(
    pictures: Sequence[FloatArray], detector: Detector, size: int, own: int, caption: str, closer: bool = False
) -> Sample:
    """A clip out of frames [H, W, 3] RGB 0..1. Raises InputError when too many of them show no face."""
    sightings = [sight(picture, detector) for picture in pictures]
    seen = [sighting for sighting in sightings if sighting is not None]
    if len(seen) < (1 - MOST_MISSING) * len(pictures):
        raise InputError(f"only {len(seen)} of {len(pictures)} frames show a face")
    if closer:
        square = close_up_matrix(seen[0].face.keypoints, size)
    else:
        square = square_around(np.stack([sighting.face.box for sighting in seen]), size)
    chosen = collect_views(
        [None if s is None else s.face.crop for s in sightings],
        [None if s is None else s.angles for s in sightings],
        own,
    )
    crops = [_crop(seen[0], size), *(_crop(sightings[index], size) for index in np.resize(chosen, own))]
    frontal = min(seen, key=lambda sighting: abs(sighting.angles[0]) + abs(sighting.angles[1]))
    return Sample(
        np.stack([to_uint8(warp_square(picture, square, size)) for picture in pictures]),
        np.stack(crops),
        np.repeat(np.array([FIRST, COLLECTED], np.uint8), [1, own]),
        neutral_vertices([frontal.shape])[0],
        caption,
    )


def sight(picture: FloatArray, detector: Detector) -> Sighting | None:
    """The largest face of ``picture``; None when there is none."""
    found = detector.detect(picture)
    if not found:
        return None
    face = align_detection(picture, max(found, key=lambda one: one.size))
    landmarks, score = detect_landmarks_with_score(face)
    if score < MIN_LANDMARK_SCORE:
        return None
    head = fit_head(landmarks)
    assert head.pose is not None and head.shape is not None  # fit_head always finds them
    return Sighting(face, head.pose.yaw_pitch_roll, head.shape)


def square_around(boxes: FloatArray, size: int) -> npt.NDArray[np.float64]:
    """[2, 3] picture pixels → pixels of a square of ``size`` that shows all ``boxes`` [N, 4] xyxy and a margin."""
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    face = (boxes[:, 2:] - boxes[:, :2]).max(axis=1).mean()
    side = float((high - low).max() + 2 * MARGIN * face)
    scale = size / side
    shift = (size - 1) / 2 - scale * (low + high) / 2
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


def _crop(sighting: Sighting | None, size: int) -> npt.NDArray[np.uint8]:
    assert sighting is not None  # the collection keeps frames with a face
    return to_uint8(warp_square(sighting.face.photograph, crop_matrix(sighting.face.keypoints, size), size))


def _caption(file: Path) -> str:
    text = file.with_suffix(".txt")
    try:
        caption = " ".join(text.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"it has no text: write what happens in it into {text.name}, beside it.") from error
    if not caption:
        raise InputError(f"its text file {text.name} is empty: write what happens in it.")
    return caption


def _write(out: Path, number: int, samples: Sequence[Sample], vae: VideoAutoencoder, closer: bool) -> Path:
    path = out / f"latents-{number:05d}.safetensors"
    write_encoded(path, samples, vae, closer)
    return path
