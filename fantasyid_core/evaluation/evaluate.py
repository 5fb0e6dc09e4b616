"""Measure clips against the people they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import FloatArray
from ..errors import FantasyIDError, InputError, NoFaceError
from ..progress import ProgressCallback, silent
from . import motion, watch
from .clips import METRIC_FPS, Frame
from .frechet import frechet_distance
from .metrics import ClipMetrics, measure_clip
from .watch import Looker, Person, SeenFace

#: Settings that every number depends on; they travel with every result.
SETTINGS: Mapping[str, Any] = {
    "frames per second": METRIC_FPS,
    "face": "the one of the frame before, else the largest",
    "smaller frames are enlarged to a shorter side of": watch.MIN_SIDE,
    "flow": "Farnebäck on the face, px of a 256 px crop of 20 cm per 1/8 s, less the face's own shift, roll and zoom",
    "crop": motion.SIDE,
}


@dataclass(frozen=True)
class Case:
    """A clip and who it was made from. frames: see clips.read_frames. person: a number into the people."""

    name: str
    frames: Iterable[Frame]
    person: int = 0


@dataclass(frozen=True)
class Evaluation:
    """fid: between the faces of all clips (fid_faces[0]) and the real ones (fid_faces[1]); None when not asked for.

    people: how many references rank-1 chooses among. failures: one sentence per clip that could not be measured.
    """

    clips: tuple[ClipMetrics, ...]
    embedder: str
    people: int
    fid: float | None = None
    fid_faces: tuple[int, int] = (0, 0)
    failures: tuple[str, ...] = ()

    def mean(self, metric: str) -> float | None:
        """The mean of one of ClipMetrics' numbers over the clips that have it; every clip counts the same."""
        values = [value for clip in self.clips if (value := getattr(clip, metric)) is not None]
        return float(np.mean(values)) if values else None


def evaluate(
    cases: Sequence[Case],
    people: Sequence[Person],
    eyes: Looker,
    embedder_name: str = "dlib",
    real: Iterable[Iterable[Frame]] = (),
    progress: ProgressCallback = silent,
) -> Evaluation:
    """The metrics of every clip of ``cases``; the other ``people`` are those it may be mistaken for.

    real: clips or photographs of real faces; with them (and eyes that see ``features``) FID is told. A clip that cannot
    be measured goes into ``failures``. Raises InputError when there is no clip or FID gets a single face,
    NoFaceError when none of the real pictures shows one.
    """
    if not cases:
        raise InputError("There is no clip to evaluate; give at least one video.")
    clips: list[ClipMetrics] = []
    failures: list[str] = []
    made: list[FloatArray] = []  # only the features are kept: pictures of many clips would fill the memory
    for done, case in enumerate(cases, start=1):
        try:
            seen = watch.watch(case.frames, eyes)
            clips.append(measure_clip(case.name, seen, people, case.person))
            made += _features(seen)
        except FantasyIDError as error:
            failures.append(str(error))
        progress(done, len(cases), None)
    real_clips = [_features(watch.watch(frames, eyes)) for frames in real]
    wanted = [features for clip in real_clips for features in clip]
    if real_clips and not wanted:
        raise NoFaceError("No face was found in the real pictures that FID compares with; give pictures of faces.")
    fid = frechet_distance(np.stack(made), np.stack(wanted)) if made and wanted else None
    return Evaluation(tuple(clips), embedder_name, len(people), fid, (len(made), len(wanted)), tuple(failures))


def _features(seen: Sequence[SeenFace | None]) -> list[FloatArray]:
    """What FID compares, of every face; none unless the eyes look for them."""
    return [face.features for face in seen if face is not None and face.features is not None]
