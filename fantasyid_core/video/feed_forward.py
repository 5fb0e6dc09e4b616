"""The blocks' feed-forward."""

from __future__ import annotations

import torch
from diffusers.models.attention import FeedForward

from .slices import row_slices


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
