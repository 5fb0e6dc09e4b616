"""What tokens halfway through the DiT's layers must tell of the head they show: a loss that only training has.

As in REPA (Yu et al. 2024), where inner tokens must resemble those of a picture network; here the truth itself is at
hand (surface.py). A head's shape changes the picture by little, so the velocity's error alone hardly rewards reading
the 3D tokens; this does. The small network goes with the training: a finished model does not have it.
"""

from __future__ import annotations

import torch
from torch import nn

from ..video.step_cache import RunBlock
from .surface import CHANNELS, COVER, EXPRESSION, SHAPE, WHERE

PARTS = (("where", WHERE), ("shape", SHAPE), ("expression", EXPRESSION))


class AfterBlocks:
    """Runs all blocks and keeps the video tokens behind the first ``blocks`` of them (see ThroughBlocks)."""

    kept: torch.Tensor  #: [B, N, C]

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    def through(self, run: RunBlock, blocks: int, video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Video [B, N, C] behind all blocks."""
        for i in range(blocks):
            video, text = run(i, video, text)
            if i == self.blocks - 1:
                self.kept = video
        return video


class SurfaceHead(nn.Module):
    """Tokens [B, N, C] → ten numbers each (surface.py), and how far they are from the truth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, CHANNELS))

    def forward(self, tokens: torch.Tensor, truth: torch.Tensor) -> dict[str, torch.Tensor]:
        """Video tokens [B, F·H·W, C] and surfaces [B, F, 10, H, W] → mean squared errors."""
        return surface_errors(self.read(tokens.float()), truth.permute(0, 1, 3, 4, 2).flatten(1, 3))


def surface_errors(told: torch.Tensor, true: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean squared errors of surfaces [..., 10] by part; where no head is, only the cover counts."""
    cover, error = true[..., COVER], (told - true).square()
    errors = {"cover": error[..., COVER].mean()}
    for name, part in PARTS:
        errors[name] = (error[..., part] * cover).sum() / (3 * cover.sum()).clamp(min=1.0)
    return errors
