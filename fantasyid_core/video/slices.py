"""Slice by slice what does not look from one row to another: the same numbers (but for rounding) in less memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ROWS_AT_ONCE = 4096  #: per batch element; enough to keep a large card busy, a quarter of a full-size video


@contextmanager
def rows_at_once(rows: int) -> Iterator[None]:
    """Within it slices have at most ``rows`` rows, in the whole process.

    By the module's own number: torch.compile sees a change of that, and of a context variable it sees nothing.
    """
    global ROWS_AT_ONCE
    before, ROWS_AT_ONCE = ROWS_AT_ONCE, min(rows, ROWS_AT_ONCE)
    try:
        yield
    finally:
        ROWS_AT_ONCE = before


def row_slices(rows: int) -> list[slice]:
    """0..rows in slices of at most ROWS_AT_ONCE; in one when gradients are kept, which need all of it anyway."""
    step = max(rows, 1) if torch.is_grad_enabled() else ROWS_AT_ONCE
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
