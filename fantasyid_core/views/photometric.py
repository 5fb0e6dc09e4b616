"""Mild changes of light, as another camera or another hour would make them."""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray
from ..errors import InputError

# Standard deviations at strength 1, as exponents; drawn values are cut at two of them.
_BRIGHTNESS, _CONTRAST, _WARMTH = 0.12, 0.12, 0.05


def change_light(crop: FloatArray, strength: float, random: np.random.Generator) -> FloatArray:
    """[H, W, 3] ``crop`` with another brightness, gamma and colour temperature, drawn from ``random``.

    strength: 0 (nothing changes) .. 1 (as another camera would see it). Raises InputError beyond.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"The photometric strength lies between 0 and 1, but it is {strength:g}.")
    brightness, contrast, warmth = np.clip(random.standard_normal(3), -2, 2) * strength
    gain = np.exp(_BRIGHTNESS * brightness + _WARMTH * warmth * np.array([1, 0, -1]))
    changed = np.clip(crop, 0, 1) ** np.exp(_CONTRAST * contrast) * gain
    return changed.clip(0, 1).astype(np.float32)
