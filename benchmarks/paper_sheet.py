"""The ablations' videos side by side: what a person sees of what the table measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fantasyid_core.arrays import FloatArray
from fantasyid_core.contact_sheet import BACKGROUND, Section, draw_contact_sheet
from fantasyid_core.training.variants import VARIANTS

HEIGHT = 150  #: of a picture, pixels
FRAMES = {"first": 0.0, "middle": 0.5, "last": 1.0}  #: of each video


def draw_variants(
    videos: Mapping[str, npt.NDArray[np.uint8]],
    references: FloatArray,
    asked: Sequence[tuple[int, str]],
    chosen: Sequence[int],
) -> FloatArray:
    """A page [H, W, 3] RGB 0..1 with a row per variant: the first, the middle and the last frame of the ``chosen``.

    videos: variant → [N, T, S, S, 3]. references: [people, S, S, 3]. asked: [N] whose and what.
    """
    shown = [references[asked[index][0]] for index in chosen]
    given = Section(
        "Given",
        "the reference picture, and what the prompt asks for",
        [picture for reference in shown for picture in (reference, *[_empty(reference)] * (len(FRAMES) - 1))],
        HEIGHT,
        [label for index in chosen for label in (asked[index][1], *[""] * (len(FRAMES) - 1))],
    )
    rows = [_row(name, videos[name], chosen) for name in VARIANTS if name in videos]
    return draw_contact_sheet("The same people and prompts by every variant", [given, *rows])


def _row(name: str, made: npt.NDArray[np.uint8], chosen: Sequence[int]) -> Section:
    times = [round(part * (made.shape[1] - 1)) for part in FRAMES.values()]
    pictures = [made[index, time].astype(np.float32) / 255 for index in chosen for time in times]
    labels = [*FRAMES] * len(chosen)
    _, likeness, _, motion = VARIANTS[name].paper
    return Section(VARIANTS[name].title, f"in the paper: RS {likeness}, FM {motion}", pictures, HEIGHT, labels)


def _empty(like: FloatArray) -> FloatArray:
    return np.broadcast_to(np.array(BACKGROUND, np.float32) / 255, like.shape)
