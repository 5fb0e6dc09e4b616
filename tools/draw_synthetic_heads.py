"""Draw docs/images/synthetic-heads.jpg: people, and clips with their captions and references.

python tools/draw_synthetic_heads.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fantasyid_core.drawing import font
from fantasyid_core.training.clips import Bytes, Clip, ClipOptions, make_clip

TARGET = Path(__file__).parent.parent / "docs/images/synthetic-heads.jpg"
SIDE = 96  #: pixels of a picture
PEOPLE, ACROSS, CLIPS = 36, 12, 10
FRAMES, REFERENCES = slice(0, 16, 2), slice(0, 4)
LINE = 20  #: pixels of a caption's line


def main() -> None:
    """First frames of PEOPLE, then CLIPS."""
    people = [
        make_clip(ClipOptions(seed=200, size=SIDE, crop=SIDE, frames=1, references=0), index).frames[0]
        for index in range(PEOPLE)
    ]
    rows = [_row(people[start : start + ACROSS]) for start in range(0, PEOPLE, ACROSS)]
    for index in range(CLIPS):
        rows += _clip(make_clip(ClipOptions(seed=100, size=SIDE, crop=SIDE), index))
    Image.fromarray(np.concatenate(rows)).save(TARGET, quality=88)
    print(TARGET)


def _clip(clip: Clip) -> list[Bytes]:
    line = Image.new("RGB", (ACROSS * SIDE, LINE), "white")
    ImageDraw.Draw(line).text((4, 3), clip.caption, "black", font(12))
    return [np.asarray(line), _row([*clip.frames[FRAMES], *clip.references[REFERENCES]])]


def _row(pictures: list[Bytes]) -> Bytes:
    return np.concatenate(pictures, axis=1)


if __name__ == "__main__":
    main()
