"""Who stands where, as a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..arrays import FloatArray
from .people import People, people_pixels, region_maps

COLOURS = ((255, 176, 32), (96, 208, 255), (126, 214, 138), (255, 124, 130), (190, 150, 255), (255, 140, 220))
_DARK = np.array((22, 24, 29), np.float32) / 255
_TINT = 0.15  #: how much of a region's colour lies over the picture


def draw_people(people: People, height: int = 480, width: int = 720) -> FloatArray:
    """The reference picture with everybody's region in a colour and a number: [height, width, 3] RGB 0..1.

    A region is tinted as strongly as it counts in the first frame, and outlined where it counts half or more. Where
    nobody stands the picture is dark.
    """
    page = (people_pixels(people, height, width)[0].permute(1, 2, 0).numpy() + 1) / 2  # (H, W, 3)
    maps = region_maps(people, 1, height, width)[:, 0].numpy()  # (P, H, W)
    taken = maps.sum(axis=0)[..., None]
    drawn = page * taken + (0.35 * page + 0.65 * _DARK) * (1 - taken)
    for level, colour in zip(maps, _colours(len(maps)), strict=True):
        share = (_TINT + (1 - _TINT) * _outline(level))[..., None] * level[..., None]
        drawn = drawn * (1 - share) + np.array(colour, np.float32) / 255 * share
    picture = Image.fromarray((drawn * 255).round().astype(np.uint8))
    for number, (level, colour) in enumerate(zip(maps, _colours(len(maps)), strict=True), start=1):
        _number(ImageDraw.Draw(picture), number, level, colour)
    return np.asarray(picture, dtype=np.float32) / np.float32(255)


def _colours(count: int) -> list[tuple[int, int, int]]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _outline(level: FloatArray, line: int = 4) -> FloatArray:
    """1 on the inner edge of where ``level`` [H, W] is at least one half, 0 elsewhere."""
    inside = level >= 0.5
    padded = np.pad(inside, line)
    core = inside.copy()
    height, width = inside.shape
    for down, right in ((0, line), (2 * line, line), (line, 0), (line, 2 * line)):
        core &= padded[down : down + height, right : right + width]
    return (inside & ~core).astype(np.float32)


def _number(draw: ImageDraw.ImageDraw, number: int, level: FloatArray, colour: tuple[int, int, int]) -> None:
    """A numbered disc in the upper left of the region; nothing when the region is not in this frame."""
    if level.max() <= 0:
        return
    rows, columns = np.nonzero(level >= level.max() / 2)
    top = int(rows.min())
    left = int(columns[rows == top].min())
    x, y, radius = min(left + 30, level.shape[1] - 24), min(top + 30, level.shape[0] - 24), 20
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    draw.text((x, y), str(number), fill=(16, 18, 22), font=ImageFont.load_default(24), anchor="mm")
