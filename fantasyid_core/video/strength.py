"""How strongly each layer takes the identity, and during which part of the denoising."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from math import isfinite

from ..errors import InputError

MAX_STRENGTH = 10.0
_BAND = re.compile(r"^(?P<values>[^@]+?)\s*(?:@\s*(?P<start>[\d.]+)\s*-\s*(?P<end>[\d.]+)\s*%\s*)?$")


@dataclass(frozen=True)
class StrengthBand:
    """Strengths along the model's depth, for one stretch of the denoising.

    values: first to last layer, 1 = as trained, 0 = off; as many as the model has identity layers, or fewer, each
    then covering an equal share of the depth. start, end: fractions of the steps, 0..1; ``end`` itself is outside.
    """

    values: tuple[float, ...]
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not self.values or not all(isfinite(v) and 0.0 <= v <= MAX_STRENGTH for v in self.values):
            raise InputError(f"Identity strengths must be numbers from 0 to {MAX_STRENGTH:g}, not {self.values}.")
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise InputError(
                f"The identity's part of the steps must run from a smaller to a larger percentage within 0 to 100, "
                f"not from {100 * self.start:g} to {100 * self.end:g}."
            )

    def __str__(self) -> str:
        values = " ".join(_number(value) for value in self.values)
        whole = (self.start, self.end) == (0.0, 1.0)
        return values if whole else f"{values} @ {_number(100 * self.start)}-{_number(100 * self.end)}%"


@dataclass(frozen=True)
class LayerStrength:
    """Identity strength per layer × per fraction of the steps. Where no band lies it is 0; the first band counts.

    As text: strengths along the depth, then optionally the steps, bands separated by semicolons, e.g.
    ``1 1 0.5 @ 0-60%; 0.8 @ 60-100%``. :func:`parse_strength` reads it back.
    """

    bands: tuple[StrengthBand, ...] = (StrengthBand((1.0,)),)

    def at(self, layer: int, layers: int, fraction: float) -> float:
        """The strength of identity layer ``layer`` of ``layers`` at ``fraction`` (step / steps, 0 ≤ fraction < 1)."""
        for band in self.bands:
            if band.start <= fraction < band.end:
                return band.values[min(int((layer + 0.5) / layers * len(band.values)), len(band.values) - 1)]
        return 0.0

    def for_layers(self, layers: int, fraction: float) -> tuple[float, ...]:
        """:meth:`at` for each of ``layers`` identity layers."""
        return tuple(self.at(layer, layers, fraction) for layer in range(layers))

    def scaled(self, factor: float) -> LayerStrength:
        """The same shape, ``factor`` times as strong."""
        return LayerStrength(tuple(replace(band, values=tuple(v * factor for v in band.values)) for band in self.bands))

    def between(self, start: float, end: float) -> LayerStrength:
        """The same within the fractions ``start`` ≤ step / steps < ``end``; 0 outside."""
        StrengthBand((0.0,), start, end)  # refuses an impossible range
        cut = (replace(b, start=max(b.start, start), end=max(b.start, start, min(b.end, end))) for b in self.bands)
        return LayerStrength(tuple(band for band in cut if band.start < band.end))

    def __str__(self) -> str:
        return "; ".join(map(str, self.bands)) or "0"


#: Starting points by name. None was tuned on the public checkpoint, which has never been measured this way.
PRESETS: dict[str, LayerStrength] = {
    "balanced": LayerStrength(),
    "likeness first": LayerStrength((StrengthBand((1.3,)),)),
    # the first steps lay out the scene and its movement; the identity joins fully once that stands
    "motion first": LayerStrength((StrengthBand((0.4,), 0.0, 0.25), StrengthBand((1.0,), 0.25, 1.0))),
    "early layers": LayerStrength((StrengthBand((1.0, 0.0)),)),
    "late layers": LayerStrength((StrengthBand((0.0, 1.0)),)),
}


def parse_strength(text: str) -> LayerStrength:
    """A preset's name, or the text form of a :class:`LayerStrength`. Raises InputError, saying what it should be.

    Wide letters, as Chinese and Japanese keyboards type them (``１；０．５＠０-６０％``), count as their narrow ones.
    """
    text = unicodedata.normalize("NFKC", text)
    named = PRESETS.get(text.strip().lower())
    return named or LayerStrength(tuple(_parse_band(part.strip()) for part in text.split(";") if part.strip()))


def _parse_band(text: str) -> StrengthBand:
    match = _BAND.match(text)
    try:
        if match is None:
            raise ValueError(text)
        values = tuple(float(value) for value in match["values"].replace(",", " ").split())
        start, end = float(match["start"] or 0.0) / 100, float(match["end"] or 100.0) / 100
    except ValueError as error:
        raise InputError(
            f"'{text}' is not a layer strength; write strengths from the first to the last layer and, if you like, "
            f"the steps, as in '1 1 0.5 @ 0-80%', or one of: {', '.join(PRESETS)}."
        ) from error
    return StrengthBand(values, start, end)


def _number(value: float) -> str:
    return f"{value:.10g}"
