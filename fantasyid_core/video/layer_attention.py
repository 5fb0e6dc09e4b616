"""Layer-aware injection: every block attends to the identity with weights of its own (paper, section 3.3).

``LayerAttention`` is what the authors released; ``LayerBlock`` is the paper's F_l around it. The transformer block
adds ``F_l(Attention(Q = video, K = V = identity))`` to its video tokens; text tokens are left alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..config import ModelConfig


class LayerIdentity(NamedTuple):
    """What one layer needs of the identity, computed once per generation.

    key, value: [1 or B, heads, T, head_dim]. strength: scalar factor on what is added; None = as trained.
    region: [1 or B, N, 1] factor per video token, None = everywhere. grid: frames, rows, columns with F·H·W = N.
    """

    key: torch.Tensor
    value: torch.Tensor
    strength: torch.Tensor | None
    region: torch.Tensor | None
    grid: tuple[int, int, int]


class LayerAttention(nn.Module):
    """Video tokens [B, N, C] look at identity tokens [1 or B, T, I]; key names are the checkpoint's.

    Both sides are normalised; heads × head_dim need not be C; no bias, no gate (release.md part d).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, heads, head_dim = config.transformer.width, config.injection.heads, config.injection.head_dim
        self.heads = heads
        self.head_dim = head_dim
        self.norm1 = nn.LayerNorm(config.identity_width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(config.identity_width, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, width, bias=False)

    def keys_values(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Identity tokens [B, T, I] → keys and values, each [B, heads, T, head_dim]."""
        key, value = self.to_kv(self.norm1(tokens)).chunk(2, dim=-1)  # (B, T, heads·head_dim)
        return self._split_heads(key), self._split_heads(value)

    def forward(self, video: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """What the video tokens [B, N, C] take from the identity: [B, N, C]. One identity serves the whole batch."""
        query = self._split_heads(self.to_q(self.norm2(video)))  # (B, heads, N, head_dim)
        key, value = (x.expand(len(query), -1, -1, -1) for x in (key, value))  # (B, heads, T, head_dim)
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, head_dim)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def _split_heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)


class LayerBlock(nn.Module):
    """The paper's F_l: one light convolution and a normalisation with weights of each layer's own.

    F_l(x) = x + norm(conv(x)). The norm's scale and shift start at zero, so F_l starts as the identity function,
    exactly: a model initialised from the release's checkpoint computes what the release computes (difference 0.0)
    until training moves the norm. The convolution is depthwise, 3×3 over each latent frame: motion is the video
    attention's business, and a 2-D depthwise kernel is fast everywhere.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width, bias=False)
        self.norm = nn.LayerNorm(width)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(self, x: torch.Tensor, grid: tuple[int, int, int]) -> torch.Tensor:
        """Video tokens [B, F·H·W, C] on their grid (F, H, W) → [B, F·H·W, C]."""
        batch, tokens, width = x.shape
        frames, rows, columns = grid
        maps = x.reshape(batch * frames, rows, columns, width).permute(0, 3, 1, 2)  # (B·F, C, H, W)
        mixed = self.conv(maps).permute(0, 2, 3, 1).reshape(batch, tokens, width)
        return x + self.norm(mixed)
