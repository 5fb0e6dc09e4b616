"""The identity card: a picture of what an identity holds, and how it was made."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..arrays import FloatArray
from ..drawing import AMBER, BLUE, CARD, FAINT, INK, PAGE, TRACK, Colour, finished, font, paste_rounded, wrap
from ..images import to_uint8
from .identity import Identity

WIDTH = 1080  #: pixels of the card; its height follows from what there is to say
_MARGIN, _PICTURE, _CHART = 36, 384, 170
_LEFT = _MARGIN + _PICTURE + 36  # of the column with the text
_NAMES = 150  # width of the notes' names
_MOST_VIEWS = 10
_VIEW = re.compile(r"(.+?) \((\d+(?:\.\d+)?)\)(?:, |$)")
_COUNTS = re.compile(r"(\d+) (2D|3D)")
_COLOURS: dict[str, Colour] = {"2D": AMBER, "3D": BLUE, "": FAINT}


@dataclass(frozen=True)
class TokenNorms:
    """Lengths of an identity's tokens. parts: (name, count) in order: "2D", "3D", or "" where it is not known."""

    values: FloatArray  # [T]
    parts: tuple[tuple[str, int], ...]

    def lines(self) -> list[str]:
        """For instance ``36 2D tokens, length 0.91 to 1.32, mean 1.10``, one line per part."""
        lines, start = [], 0
        for name, count in self.parts:
            values = self.values[start : start + count]
            start += count
            low, high, mean = float(values.min()), float(values.max()), float(values.mean())
            what = f"{count} {name} tokens".replace("  ", " ")
            lines.append(f"{what}, length {low:.3g} to {high:.3g}, mean {mean:.3g}")
        return lines


def token_norms(identity: Identity) -> TokenNorms:
    """The length of each token, and which are 2D and 3D as far as the identity's notes tell."""
    values = np.asarray(torch.linalg.vector_norm(identity.tokens, dim=1).numpy(), np.float32)
    counts = [(name, int(count)) for count, name in _COUNTS.findall(identity.provenance.get("tokens", ""))]
    known = sum(count for _, count in counts) == len(values)
    return TokenNorms(values, tuple(counts) if known else (("", len(values)),))


def describe_identity(identity: Identity) -> str:
    """What the card says, as lines of text."""
    width = f"{len(identity.tokens)} tokens of {identity.tokens.shape[1]} numbers"
    about = [f"model: {identity.model}", f"holds: {width}", f"reference crop: {identity.reference_fit} in the frame"]
    notes = [f"{name}: {note}" for name, note in identity.provenance.items()]
    return "\n".join([*about, *token_norms(identity).lines(), *notes])


def draw_identity_card(identity: Identity, name: str = "") -> FloatArray:
    """[H, 1080, 3] RGB 0..1: the reference crop, model, notes, the views with their weights, the tokens' lengths.

    name: shown as the title; without one it is "Identity".
    """
    notes = [(key, note) for key, note in identity.provenance.items() if not _weighted(key, note)]
    views = [view for key, note in identity.provenance.items() if _weighted(key, note) for view in _views(key, note)]
    rows = [(key, wrap(note, font(17), WIDTH - _MARGIN - _LEFT - _NAMES)) for key, note in notes]
    text_height = (
        108 + sum(24 * len(lines) for _, lines in rows) + (44 + 26 * min(len(views), _MOST_VIEWS + 1)) * bool(views)
    )
    top = _MARGIN + max(_PICTURE + 60, text_height) + 24
    page = Image.new("RGB", (WIDTH, top + _CHART + 92), PAGE)
    draw = ImageDraw.Draw(page)
    _draw_reference(page, draw, identity)
    y = _draw_title(draw, identity, name or "Identity")
    y = _draw_notes(draw, rows, y)
    _draw_views(draw, views, y)
    _draw_norms(draw, token_norms(identity), top)
    return finished(page)


def _weighted(key: str, note: str) -> bool:
    """Whether this note lists views with weights."""
    return key.split(", ")[-1] == "views" and _VIEW.match(note) is not None


def _views(key: str, note: str) -> list[tuple[str, float]]:
    whose = key.removesuffix("views")  # "A, " of a mix
    return [(f"{whose}{source}", float(weight)) for source, weight in _VIEW.findall(note)]


def _draw_reference(page: Image.Image, draw: ImageDraw.ImageDraw, identity: Identity) -> None:
    crop = Image.fromarray(to_uint8(identity.reference)).resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS)
    paste_rounded(page, crop, (_MARGIN, _MARGIN), 18)
    under = _MARGIN + _PICTURE + 14
    draw.text((_MARGIN, under), "The reference crop", INK, font(18))
    draw.text((_MARGIN, under + 24), f"{identity.reference_fit} in the video's first frame", FAINT, font(16))


def _draw_title(draw: ImageDraw.ImageDraw, identity: Identity, name: str) -> int:
    draw.text((_LEFT, _MARGIN - 6), wrap(name, font(34), WIDTH - _MARGIN - _LEFT)[0], INK, font(34))
    made = f"{len(identity.tokens)} tokens of {identity.tokens.shape[1]} numbers, by {identity.model}"
    draw.text((_LEFT, _MARGIN + 42), made, FAINT, font(18))
    return _MARGIN + 84


def _draw_notes(draw: ImageDraw.ImageDraw, rows: list[tuple[str, list[str]]], y: int) -> int:
    for key, lines in rows:
        draw.text((_LEFT, y), key, FAINT, font(17))
        for line in lines:
            draw.text((_LEFT + _NAMES, y), line, INK, font(17))
            y += 24
    return y


def _draw_views(draw: ImageDraw.ImageDraw, views: list[tuple[str, float]], y: int) -> None:
    """A bar for each view's weight, the heaviest one full."""
    if not views:
        return
    draw.text((_LEFT, y + 14), "Views and how much each counts", INK, font(18))
    y += 46
    heaviest = max(max(weight for _, weight in views), 1e-9)
    left, right = _LEFT + 260, WIDTH - _MARGIN - 56
    for source, weight in views[:_MOST_VIEWS]:
        draw.text((_LEFT, y), source, FAINT, font(16))
        draw.rounded_rectangle((left, y + 6, right, y + 13), 4, TRACK)
        end = left + round((right - left) * weight / heaviest)
        if end > left + 8:
            draw.rounded_rectangle((left, y + 6, end, y + 13), 4, AMBER)
        draw.text((WIDTH - _MARGIN, y), f"{weight:.2f}", INK, font(16), "ra")
        y += 26
    if len(views) > _MOST_VIEWS:
        draw.text((_LEFT, y), f"and {len(views) - _MOST_VIEWS} more", FAINT, font(16))


def _draw_norms(draw: ImageDraw.ImageDraw, norms: TokenNorms, top: int) -> None:
    """A bar per token, as high as it is long, on a card across the page; what they are is said below."""
    left, right, bottom = _MARGIN, WIDTH - _MARGIN, top + _CHART
    draw.rounded_rectangle((left, top, right, bottom), 14, CARD)
    draw.text((left + 18, top + 12), "The tokens' lengths", INK, font(18))
    x0, x1, floor, ceiling = left + 18, right - 18, bottom - 14, top + 46
    colours = [_COLOURS[name] for name, count in norms.parts for _ in range(count)]
    edges = np.linspace(x0, x1, len(norms.values) + 1)
    gap = 1.0 if edges[1] - edges[0] >= 3 else 0.0
    highest = max(float(norms.values.max()), 1e-9)
    for value, colour, start, end in zip(norms.values, colours, edges, edges[1:], strict=False):
        height = (floor - ceiling) * float(value) / highest
        draw.rectangle((start, floor - height, max(start, end - gap - 1), floor), colour)
    x = left
    for (name, _), line in zip(norms.parts, norms.lines(), strict=True):
        draw.rounded_rectangle((x, bottom + 18, x + 14, bottom + 32), 4, _COLOURS[name])
        draw.text((x + 24, bottom + 14), line, FAINT, font(17))
        x += 40 + round(font(17).getlength(line)) + 24
