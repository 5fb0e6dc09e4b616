"""Slice by slice what does not look from one row to another: the same numbers (but for rounding) in less memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.attention import FeedForward

from .memory_presets import ROWS_AT_ONCE


def row_slices(rows: int, most: int = ROWS_AT_ONCE) -> list[slice]:
    """0..rows in slices of at most ``most``; in one when gradients are kept, which need all of it anyway."""
    step = max(rows, 1) if torch.is_grad_enabled() else most
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


class SlicedFeedForward(FeedForward):
    """diffusers' feed-forward, slice by slice.

    At full size its hidden rows are what a block needs most memory for (17,776 × 12,288, twice: before and after the
    GELU). :func:`sliced` says how many rows go at once.
    """

    rows_at_once = ROWS_AT_ONCE

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:  # type: ignore[override] # [B, S, C] → [B, S, C]
        slices = row_slices(hidden_states.shape[1], self.rows_at_once)
        if len(slices) == 1:
            return super().forward(hidden_states)
        out = torch.empty_like(hidden_states)
        for some in slices:
            out[:, some] = super().forward(hidden_states[:, some])
        return out


@contextmanager
def sliced(model: torch.nn.Module, rows: int) -> Iterator[None]:
    """Within it the feed-forwards of ``model`` run at most ``rows`` rows (per batch element) at once."""
    layers = [module for module in model.modules() if isinstance(module, SlicedFeedForward)]
    before = [layer.rows_at_once for layer in layers]
    try:
        for layer in layers:
            layer.rows_at_once = rows
        yield
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.rows_at_once = was
