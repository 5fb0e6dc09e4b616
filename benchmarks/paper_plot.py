"""The ablations' directions as a picture: each row's RS and FM over the whole method's, here and in the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from fantasyid_core.training.variants import VARIANTS

_ROW, _LEFT, _PANEL, _TOP, _GAP = 40, 290, 250, 78, 40  # pixels
_OURS, _PAPER, _INK, _FAINT = "#1f5fa8", "#c2571a", "#222222", "#d9d9d9"
#: panel → the column that it shows (of paper_table), and which of a variant's four figures in the paper
PANELS = {"RS (likeness)": ("heads: RS", 1), "FM (motion of the face)": ("FM", 3)}


def plot(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """An SVG picture of the measured ablations; rows: variant → one measurement per seed, "full" among them.

    A row of which something was not measured has no point of ours in that panel.
    """
    shown = [name for name in VARIANTS if name in rows and name != "full"]
    height = _TOP + _ROW * len(shown) + 34
    width = _LEFT + len(PANELS) * (_PANEL + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(12, 22, "What is lost without a part: its row over the whole method's (1 = nothing)", 15),
        _dot(20, 44, _OURS),
        _text(32, 48, "here (bar: standard deviation over seeds)"),
        _diamond(_LEFT + 40, 44),
        _text(_LEFT + 52, 48, "the paper"),
    ]
    for index, name in enumerate(shown):
        parts.append(_text(_LEFT - 16, _middle(index) + 4, VARIANTS[name].title, anchor="end"))
    for index, (title, (column, figure)) in enumerate(PANELS.items()):
        parts += _panel(_LEFT + index * (_PANEL + _GAP), title, column, figure, rows, shown)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    left: float,
    title: str,
    column: str,
    figure: int,
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    shown: Sequence[str],
) -> list[str]:
    whole, paper = _values(rows.get("full", ()), column), VARIANTS["full"].paper[figure]
    ours = {name: _values(rows[name], column) / whole.mean() for name in shown} if whole.size else {}
    theirs = {name: VARIANTS[name].paper[figure] / paper for name in shown}
    every = [*theirs.values(), 1.0, *(float(x) for values in ours.values() for x in values)]
    low, high = min(every) - 0.08, max(every) + 0.08

    def at(value: float) -> float:
        return left + _PANEL * (value - low) / (high - low)

    bottom = _TOP + _ROW * len(shown)
    parts = [_text(left + _PANEL / 2, _TOP - 10, title, anchor="middle")]
    for tick in np.arange(np.ceil(low * 5) / 5, high, 0.2):
        colour, stroke = (_INK, 1.2) if abs(tick - 1) < 1e-9 else (_FAINT, 1)
        parts.append(_line(at(tick), _TOP, at(tick), bottom, colour, stroke))
        parts.append(_text(at(tick), bottom + 18, f"{tick:.1f}", anchor="middle"))
    for index, name in enumerate(shown):
        y = _middle(index)
        parts.append(_diamond(at(theirs[name]), y + 8))
        values = ours.get(name, np.zeros(0))
        if values.size:
            mean, spread = float(values.mean()), float(values.std())
            parts.append(_line(at(max(mean - spread, low)), y - 8, at(min(mean + spread, high)), y - 8, _OURS, 2))
            parts.append(_dot(at(mean), y - 8, _OURS))
    return parts


def _values(measured: Sequence[Mapping[str, Any]], column: str) -> np.ndarray:
    return np.array([row[column] for row in measured if row.get(column) is not None], float)


def _middle(index: int) -> float:
    return _TOP + _ROW * (index + 0.5)


def _text(x: float, y: float, text: str, size: int = 13, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{_INK}">{escape(text)}</text>'
    )


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, stroke: float) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" stroke-width="{stroke}"/>'
    )


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle class="ours" cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'


def _diamond(x: float, y: float) -> str:
    points = f"{x - 6:.1f},{y:.1f} {x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f}"
    return f'<polygon class="paper" points="{points}" fill="white" stroke="{_PAPER}" stroke-width="2"/>'
