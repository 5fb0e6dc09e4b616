"""Draw docs/images/synthetic-heads.jpg: people, and clips with their captions and references.

python tools/draw_synthetic_heads.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fantasyid_core.arrays import FloatArray
from fantasyid_core.drawing import font
from fantasyid_core.training.clips import Bytes, Clip, ClipOptions, make_clip
from fantasyid_core.training.sheets import write_rows

TARGET = Path(__file__).parent.parent / "docs/images/synthetic-heads.jpg"
SIDE = 96  #: pixels of a picture
PEOPLE, ACROSS, CLIPS = 36, 12, 10
FRAMES, REFERENCES = slice(0, 16, 2), slice(0, 4)
LINE = 20  #: pixels of a caption's line


def main() -> None:
    """First frames of PEOPLE, then CLIPS."""
    options = ClipOptions(seed=200, size=SIDE, crop=SIDE, frames=1, references=0)
    people = _shown([make_clip(options, index).frames[0] for index in range(PEOPLE)])
    rows = [people[start : start + ACROSS] for start in range(0, PEOPLE, ACROSS)]
    for index in range(CLIPS):
        clip = make_clip(ClipOptions(seed=100, size=SIDE, crop=SIDE), index)
        rows += [_caption(clip), _shown([*clip.frames[FRAMES], *clip.references[REFERENCES]])]
    write_rows(TARGET, rows, scale=1)
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1000:.0f} kB")


def _caption(clip: Clip) -> FloatArray:
    """[1, LINE, W, 3] RGB 0..1: the clip's words, as a row of the page."""
    line = Image.new("RGB", (ACROSS * SIDE, LINE), "white")
    ImageDraw.Draw(line).text((4, 3), clip.caption, "black", font(12))
    return _shown([np.asarray(line)])


def _shown(pictures: Sequence[Bytes]) -> FloatArray:
    """Pictures [H, W, 3] → [N, H, W, 3] RGB 0..1."""
    return np.asarray(np.stack(pictures) / 255, np.float32)


if __name__ == "__main__":
    main()
