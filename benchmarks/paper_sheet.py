"""The ablations' videos side by side: what a person sees of what the table measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fantasyid_core.arrays import FloatArray
from fantasyid_core.contact_sheet import Section, draw_contact_sheet
from fantasyid_core.training.variants import VARIANTS

HEIGHT = 150  #: of a picture, pixels


def draw_variants(
    videos: Mapping[str, npt.NDArray[np.uint8]],
    references: FloatArray,
    asked: Sequence[tuple[int, str]],
    chosen: Sequence[int],
) -> FloatArray:
    """A page [H, W, 3] RGB 0..1 with a row per variant: the first, the middle and the last frame of the ``chosen``.

    videos: variant → [N, T, S, S, 3]. references: [people, S, S, 3]. asked: [N] whose and what.
    """
    given = Section(
        "Given",
        "the reference picture, and what the prompt asks for",
        [references[asked[index][0]] for index in chosen],
        HEIGHT,
        [asked[index][1] for index in chosen],
    )
    rows = [_row(name, videos[name], asked, chosen) for name in VARIANTS if name in videos]
    return draw_contact_sheet("The same people and prompts by every variant", [given, *rows])


def _row(name: str, made: npt.NDArray[np.uint8], asked: Sequence[tuple[int, str]], chosen: Sequence[int]) -> Section:
    frames = {"first": 0, "middle": made.shape[1] // 2, "last": -1}
    pictures = [made[index, frame].astype(np.float32) / 255 for index in chosen for frame in frames.values()]
    labels = [f"{asked[index][1]}, {frame}" for index in chosen for frame in frames]
    return Section(VARIANTS[name].title, "", pictures, HEIGHT, labels)
