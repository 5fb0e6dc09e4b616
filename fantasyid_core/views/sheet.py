"""The contact sheet of a person's views."""

from __future__ import annotations

from math import ceil

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..arrays import FloatArray
from ..images import to_uint8
from .views import FaceViews

_PAGE, _CARD, _TRACK = (22, 24, 29), (34, 37, 44), (58, 62, 72)
_INK, _FAINT = (236, 238, 242), (150, 156, 168)
_WEIGHT, _COVERAGE = (255, 176, 32), (96, 208, 255)
_NAMES = ("yaw", "pitch", "roll")
_FINE = 2  # rounded corners and bars are drawn twice as large


def draw_view_sheet(views: FaceViews, tile: int = 288, columns: int | None = None) -> FloatArray:
    """[H, W, 3] RGB 0..1: every view on a card with its source, head angles, weight and coverage.

    tile: side of a picture in pixels. columns: cards per row, None for what looks balanced (at most 4).
    """
    count = len(views.crops)
    columns = columns or (count if count <= 4 else 3 if count in (5, 6, 9) else 4)
    margin, width, height = tile // 14, tile, tile + _text_height(tile)
    rows = ceil(count / columns)
    size = (columns * (width + margin) + margin, rows * (height + margin) + margin)
    page = Image.new("RGB", size, _PAGE)
    heaviest = float(views.weights.max())
    for index in range(count):
        corner = (margin + index % columns * (width + margin), margin + index // columns * (height + margin))
        page.paste(_card(views, index, tile, heaviest), corner)
    return np.asarray(page, dtype=np.float32) / np.float32(255.0)


def _card(views: FaceViews, index: int, tile: int, heaviest: float) -> Image.Image:
    """The picture of one view with its text and two bars below, corners rounded."""
    side, height = tile * _FINE, (tile + _text_height(tile)) * _FINE
    card = Image.new("RGB", (side, height), _CARD)
    card.paste(Image.fromarray(to_uint8(views.crops[index])).resize((side, side), Image.Resampling.LANCZOS))
    draw = ImageDraw.Draw(card)
    inset, small, y = side // 20, side // 19, side + side // 28
    title = views.sources[index] + (" (reference)" if index == 0 else "")
    draw.text((inset, y), title, _INK, ImageFont.load_default(side // 16))
    draw.text((inset, y + side // 12), _angles(views.poses[index]), _FAINT, ImageFont.load_default(small))
    weight, coverage = float(views.weights[index]), float(views.coverage[index])
    bars = (("weight", f"{weight:.2f}", weight / heaviest, _WEIGHT), ("seen", f"{coverage:.0%}", coverage, _COVERAGE))
    for row, (name, value, share, colour) in enumerate(bars):
        top = y + side // 6 + row * side // 14
        _bar(draw, (inset, top, side - inset), side // 90, (name, value), share, colour, small)
    return _rounded(card).resize((tile, tile + _text_height(tile)), Image.Resampling.LANCZOS)


def _bar(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int, int],
    thick: int,
    texts: tuple[str, str],
    share: float,
    colour: tuple[int, int, int],
    size: int,
) -> None:
    """A name, a bar that is ``share`` (0..1) full, and a value, on one line from x0 at y to x1."""
    x0, y, x1 = place
    font = ImageFont.load_default(size)
    left, right, middle = x0 + round(size * 4.2), x1 - round(size * 2.9), y + round(size * 0.62)
    draw.text((x0, y), texts[0], _FAINT, font)
    draw.text((x1, y), texts[1], _INK, font, anchor="ra")
    draw.rounded_rectangle((left, middle - thick, right, middle + thick), thick, _TRACK)
    end = left + round((right - left) * min(max(share, 0.0), 1.0))
    if end > left + 2 * thick:
        draw.rounded_rectangle((left, middle - thick, end, middle + thick), thick, colour)


def _rounded(card: Image.Image) -> Image.Image:
    mask = Image.new("L", card.size, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, card.width - 1, card.height - 1), card.width // 24, 255)
    page = Image.new("RGB", card.size, _PAGE)
    page.paste(card, mask=mask)
    return page


def _text_height(tile: int) -> int:
    return round(tile * 0.37)


def _angles(pose: FloatArray) -> str:
    whole = [round(float(angle)) for angle in pose]
    return "   ".join(
        f"{name} {angle:+d}°" if angle else f"{name} 0°" for name, angle in zip(_NAMES, whole, strict=True)
    )
