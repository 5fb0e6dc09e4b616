"""One picture that shows a whole generation: photograph → 3D → views → identity → video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .arrays import FloatArray

PAGE_WIDTH = 1600
MARGIN = 40
GAP = 16
TOKEN_PICTURE = (PAGE_WIDTH - 2 * MARGIN, 200)  #: width, height
BACKGROUND = (22, 24, 29)
INK = (236, 238, 242)
FAINT = (150, 156, 168)


@dataclass(frozen=True)
class Section:
    """One row of the sheet: a title, one line of explanation, and pictures ([H, W, 3] RGB 0..1) of equal height."""

    title: str
    caption: str
    pictures: Sequence[FloatArray]
    height: int = 320
    labels: Sequence[str] = ()


def draw_contact_sheet(heading: str, sections: Sequence[Section], footer: str = "") -> FloatArray:
    """All ``sections`` one below the other on a dark page, [H, 1600, 3] RGB 0..1. Rows that are too wide shrink."""
    rows = [_section_picture(section) for section in sections]
    foot_lines = _wrap(footer, _font(20), PAGE_WIDTH - 2 * MARGIN) if footer else []
    height = 120 + sum(row.height + 36 for row in rows) + 30 * len(foot_lines) + 30
    page = Image.new("RGB", (PAGE_WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, 36), heading, INK, _font(44))
    y = 120
    for row in rows:
        page.paste(row, (MARGIN, y))
        y += row.height + 36
    for line in foot_lines:
        draw.text((MARGIN, y), line, FAINT, _font(20))
        y += 30
    return np.asarray(page, dtype=np.float32) / 255.0


def token_picture(tokens: FloatArray) -> FloatArray:
    """Identity tokens [T, C] as a heat map: one column per token, its channels averaged into 64 rows.

    Each token is normalised, as every layer reads it: 2D and 3D tokens differ many times over in length.
    """
    rows = min(64, tokens.shape[1])
    channels = tokens.shape[1] // rows * rows
    read = (tokens - tokens.mean(axis=1, keepdims=True)) / (tokens.std(axis=1, keepdims=True) + 1e-6)
    folded = read[:, :channels].reshape(len(tokens), rows, -1).mean(axis=2).T
    spread = np.abs(folded).max() or 1.0
    level = np.clip(folded / spread, -1.0, 1.0)[..., None]
    warm, cold, zero = np.array([1.0, 0.62, 0.25]), np.array([0.28, 0.6, 1.0]), np.array([0.1, 0.11, 0.13])
    colours = zero + np.maximum(level, 0) * (warm - zero) + np.maximum(-level, 0) * (cold - zero)
    picture = Image.fromarray((np.clip(colours, 0, 1) * 255).astype(np.uint8))
    return np.asarray(picture.resize(TOKEN_PICTURE, Image.Resampling.NEAREST), dtype=np.float32) / 255.0


def _section_picture(section: Section) -> Image.Image:
    pictures = [_as_image(picture, section.height) for picture in section.pictures]
    available = PAGE_WIDTH - 2 * MARGIN
    total = sum(picture.width for picture in pictures) + GAP * (len(pictures) - 1)
    shrink = min(1.0, (available - GAP * (len(pictures) - 1)) / (total - GAP * (len(pictures) - 1)))
    if shrink < 1.0:
        pictures = [_as_image(picture, int(section.height * shrink)) for picture in section.pictures]
    top = 76
    label_space = 30 if section.labels else 0
    row = Image.new("RGB", (available, top + pictures[0].height + label_space), BACKGROUND)
    draw = ImageDraw.Draw(row)
    draw.text((0, 0), section.title, INK, _font(28))
    draw.text((0, 38), section.caption, FAINT, _font(20))
    x = 0
    for index, picture in enumerate(pictures):
        row.paste(picture, (x, top))
        if index < len(section.labels):
            draw.text((x, top + picture.height + 6), section.labels[index], FAINT, _font(18))
        x += picture.width + GAP
    return row


def _as_image(picture: FloatArray, height: int) -> Image.Image:
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        candidate = f"{lines[-1]} {word}".strip()
        if font.getlength(candidate) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = candidate
    return lines
