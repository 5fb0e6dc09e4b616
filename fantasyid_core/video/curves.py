"""Strength curves from elsewhere: a number, a list of numbers, or a curve as ComfyUI's curve editor draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from .strength import LayerStrength, StrengthBand

SAMPLES = 42  #: strengths that a drawn curve becomes: one per layer of the public checkpoint


def strength_from(curve: Any) -> LayerStrength:
    """``curve`` along the model's depth, in all steps.

    A number: the same in every layer. A list of numbers: from the first to the last layer, as many as there are, each
    covering an equal share of the depth. A drawn curve, ``{"points": [[x, y], ...], "interpolation": "linear" or
    "monotone_cubic"}`` or an object that evaluates itself (``interp(x)``): x from 0, the first layer, to 1, the last.
    Raises InputError for anything else, and for strengths out of range.
    """
    return LayerStrength((StrengthBand(tuple(_values(curve))),))


def _values(curve: Any) -> list[float]:
    middles = (np.arange(SAMPLES) + 0.5) / SAMPLES
    try:
        if isinstance(curve, Mapping):
            return _drawn(curve, middles)
        if hasattr(curve, "interp"):
            return [_rounded(curve.interp(float(x))) for x in middles]
        if isinstance(curve, Sequence) and not isinstance(curve, str):
            return [float(value) for value in curve]
        return [float(curve)]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            "This is no strength curve; connect a number, a list of numbers, or ComfyUI's Curve Editor."
        ) from error


def _drawn(curve: Mapping[str, Any], at: np.ndarray) -> list[float]:
    """The curve's height at ``at``; beyond its first and last point it stays level."""
    points = sorted((float(x), float(y)) for x, y in curve["points"])
    x, y = np.array(points).T
    if len(points) != len(np.unique(x)):
        raise ValueError("two points above each other")
    inside = at.clip(x[0], x[-1])
    if curve.get("interpolation") == "linear" or len(points) < 3:
        return [_rounded(value) for value in np.interp(inside, x, y)]
    from scipy.interpolate import PchipInterpolator  # what "monotone cubic" means: it never overshoots

    return [_rounded(value) for value in PchipInterpolator(x, y)(inside)]


def _rounded(value: Any) -> float:
    """Fine enough for a strength, and short when it is written as text."""
    return round(float(value), 4) + 0.0
