"""The look that every drawn page of the pack shares: colours, type, rounded cards."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .arrays import FloatArray

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAGE, CARD, TRACK = (22, 24, 29), (34, 37, 44), (58, 62, 72)
INK, FAINT = (236, 238, 242), (150, 156, 168)
AMBER, BLUE, GREEN, ROSE = (255, 176, 32), (96, 208, 255), (126, 214, 138), (255, 124, 130)


def font(size: int) -> Font:
    """Pillow's own typeface, ``size`` pixels high; it knows no arrows."""
    return ImageFont.load_default(size)


def wrap(text: str, typeface: Font, width: float) -> list[str]:
    """``text`` broken at its spaces into lines of at most ``width`` pixels; a longer word keeps a line of its own."""
    lines = [""]
    for word in text.split():
        candidate = f"{lines[-1]} {word}".strip()
        if typeface.getlength(candidate) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = candidate
    return lines


def shortened(text: str, typeface: Font, width: float) -> str:
    """``text``, its end cut off with an ellipsis where it is wider than ``width`` pixels."""
    if typeface.getlength(text) <= width:
        return text
    while text and typeface.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def paste_rounded(page: Image.Image, picture: Image.Image, corner: tuple[int, int], radius: int) -> None:
    """Put ``picture`` onto ``page`` at ``corner``, its own corners rounded smoothly."""
    fine = Image.new("L", (picture.width * 4, picture.height * 4), 0)
    ImageDraw.Draw(fine).rounded_rectangle((0, 0, fine.width - 1, fine.height - 1), radius * 4, 255)
    page.paste(picture, corner, fine.resize(picture.size, Image.Resampling.LANCZOS))


def finished(page: Image.Image) -> FloatArray:
    """The page as [H, W, 3] RGB 0..1."""
    return np.asarray(page.convert("RGB"), dtype=np.float32) / np.float32(255.0)
