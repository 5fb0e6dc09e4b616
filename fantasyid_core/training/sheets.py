"""Pictures of what a model can do, written while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..arrays import FloatArray
from ..weights.writing import beside

GAP = 2  #: pixels


def write_rows(path: Path, rows: Sequence[FloatArray], scale: int = 2) -> None:
    """Rows of pictures [N, H, W, 3] RGB 0..1 (each row with its own N) on one page, ``scale`` times as large."""
    height = sum(row.shape[1] + GAP for row in rows)
    width = max(len(row) * (row.shape[2] + GAP) for row in rows)
    page = np.full((height, width, 3), 255, np.uint8)
    top = 0
    for row in rows:
        for place, picture in enumerate(np.clip(row * 255 + 0.5, 0, 255).astype(np.uint8)):
            left = place * (picture.shape[1] + GAP)
            page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        top += row.shape[1] + GAP
    image = Image.fromarray(page)
    with beside(path) as part:
        image.resize((scale * width, scale * height), Image.Resampling.BICUBIC).save(part, format="JPEG", quality=92)
