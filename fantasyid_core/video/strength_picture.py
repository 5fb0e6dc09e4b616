"""A layer strength to look at: a heat map of layers × steps, and one line that says where it acts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..arrays import FloatArray
from ..drawing import AMBER, CARD, FAINT, INK, PAGE, ROSE, TRACK, finished, font, shortened
from ..errors import InputError
from .strength import LayerStrength

WIDTH, HEIGHT = 960, 640  #: pixels of the picture
MAP = (120, 84, 790, 550)  # left, top, right, bottom of the heat map
_SCALE = (840, 84, 864, 550)  # of the colour scale
_STOPS = ((0.0, TRACK), (0.5, (150, 112, 54)), (1.0, AMBER), (3.0, ROSE))  # strength → colour
_MOST = 1000  # layers or steps; more cannot be told apart, and no model has them


def strength_table(strength: LayerStrength, layers: int, steps: int) -> FloatArray:
    """The strength of each layer in each step: [layers, steps]. InputError unless both are 1..1000."""
    if not (1 <= layers <= _MOST and 1 <= steps <= _MOST):
        raise InputError(f"A strength is drawn for 1 to {_MOST} layers and steps, not for {layers} and {steps}.")
    columns = [strength.for_layers(layers, step / steps) for step in range(steps)]
    return np.array(columns, dtype=np.float32).T


def describe_strength(strength: LayerStrength, layers: int, steps: int) -> str:
    """Where the identity acts, e.g. ``The identity acts in layers 1–21 of 42, in steps 1–12 of 20.``"""
    table = strength_table(strength, layers, steps)
    acts = table > 0
    if not acts.any():
        return "The identity acts in no layer at any step."
    which_layers, which_steps = _ranges(acts.any(axis=1)), _ranges(acts.any(axis=0))
    level = table[acts]
    low, high = float(level.min()), float(level.max())
    much = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    where = f"in layers {which_layers} of {layers}, in steps {which_steps} of {steps}"
    return f"The identity acts {where}, strength {much}."


def draw_strength(strength: LayerStrength, layers: int, steps: int) -> FloatArray:
    """The heat map, first layer on top, first step on the left: [640, 960, 3] RGB 0..1."""
    table = strength_table(strength, layers, steps)
    page = Image.new("RGB", (WIDTH, HEIGHT), PAGE)
    draw = ImageDraw.Draw(page)
    draw.text((MAP[0], 26), "Identity strength per layer and step", INK, font(24))
    _draw_map(draw, table)
    _draw_axes(draw, layers, steps)
    _draw_scale(page, draw, max(1.0, float(table.max())))
    draw.text((MAP[0], 604), shortened(str(strength), font(16), WIDTH - MAP[0] - 30), FAINT, font(16))
    return finished(page)


def _draw_map(draw: ImageDraw.ImageDraw, table: FloatArray) -> None:
    layers, steps = table.shape
    left, top, right, bottom = MAP
    draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), CARD)
    columns = np.linspace(left, right, steps + 1).round().astype(int)
    rows = np.linspace(top, bottom, layers + 1).round().astype(int)
    gap = 1 if min((right - left) / steps, (bottom - top) / layers) >= 6 else 0
    for layer, (y0, y1) in enumerate(pairwise(rows)):
        for step, (x0, x1) in enumerate(pairwise(columns)):
            if x1 > x0 and y1 > y0:
                draw.rectangle((x0, y0, x1 - 1 - gap, y1 - 1 - gap), _colour(float(table[layer, step])))


def _draw_axes(draw: ImageDraw.ImageDraw, layers: int, steps: int) -> None:
    """First, last and a few between, each at the middle of its row or column."""
    left, top, right, bottom = MAP
    for layer in _ticks(layers, 7):
        draw.text((left - 12, top + (layer - 0.5) / layers * (bottom - top)), str(layer), FAINT, font(15), "rm")
    for step in _ticks(steps, 11):
        draw.text((left + (step - 0.5) / steps * (right - left), bottom + 10), str(step), FAINT, font(15), "mt")
    draw.text((left - 12, top - 22), "layer", INK, font(15), "rm")
    draw.text((right + 10, bottom + 10), "step", INK, font(15), "lt")


def _draw_scale(page: Image.Image, draw: ImageDraw.ImageDraw, most: float) -> None:
    left, top, right, bottom = _SCALE
    levels = np.linspace(most, 0.0, bottom - top)
    bar = np.array([_colour(float(level)) for level in levels], np.uint8)[:, None].repeat(right - left, axis=1)
    page.paste(Image.fromarray(bar), (left, top))
    for level in sorted({0.0, 1.0, most}):
        if level in (0.0, 1.0) or level - 1.0 > 0.06 * most:  # or its number would lie on the other
            draw.text((right + 10, bottom - level / most * (bottom - top)), f"{level:.3g}", FAINT, font(15), "lm")


def _colour(level: float) -> tuple[int, int, int]:
    positions = [position for position, _ in _STOPS]
    red, green, blue = (
        round(float(np.interp(level, positions, [colour[channel] for _, colour in _STOPS]))) for channel in range(3)
    )
    return red, green, blue


def _ticks(count: int, most: int) -> list[int]:
    """1, ``count`` and evenly spread whole numbers between, at most ``most`` of them."""
    return sorted({round(float(x)) for x in np.linspace(1, count, min(count, most))})


def _ranges(acts: Any) -> str:
    """``1–3, 7``: the numbers, from 1 on, of what is true in ``acts`` [N]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], acts.astype(int), [0]])))
    runs = zip(edges[::2] + 1, edges[1::2], strict=True)
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
