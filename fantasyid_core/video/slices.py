"""Slice by slice what does not look from one row to another: the same numbers (but for rounding) in less memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.attention import FeedForward

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


class SlicedFeedForward(FeedForward):
    """diffusers' feed-forward, slice by slice.

    At full size its hidden rows are what a block needs most memory for (17,776 × 12,288, twice: before and after the
    GELU).
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:  # type: ignore[override] # [B, S, C] → [B, S, C]
        slices = row_slices(hidden_states.shape[1])
        if len(slices) == 1:
            return super().forward(hidden_states)
        out = torch.empty_like(hidden_states)
        for some in slices:
            out[:, some] = super().forward(hidden_states[:, some])
        return out
