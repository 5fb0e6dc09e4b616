"""The 2D branch without the face abstractor (the paper's ablation): a Q-Former, as many tokens of the same width.

Learned queries read the image features through cross-attention and one another through self-attention, layer after
layer, before a feed-forward; nothing keeps a token at a place of the face.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..config import FaceAbstractorConfig
from .face_abstractor import FaceAbstractor


class Attention(nn.Module):
    """Pre-norm multi-head attention of queries to features; the caller adds the residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor, read: torch.Tensor | None = None) -> torch.Tensor:  # [N, Q, D], [N, L, D]
        """What ``x`` learns from ``read`` (already normalised), or from itself."""
        x = self.norm(x)
        key, value = self.to_kv(x if read is None else read).chunk(2, dim=-1)
        heads = [t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(x), key, value)]
        return self.to_out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class QFormer(nn.Module):
    """Features of a grid² map → pooled_grid² tokens of ``output_width``, like the face abstractor's (36 × 2048)."""

    def __init__(self, config: FaceAbstractorConfig, grid: int, output_width: int) -> None:
        super().__init__()
        width, inner = config.width, config.feed_forward_multiple * config.width
        self.config, self.grid = config, grid
        self.pos_emb = nn.Parameter(torch.zeros(1, grid**2, width))
        self.read_norm = nn.LayerNorm(width)
        self.queries = nn.Parameter(torch.zeros(1, config.tokens, width))
        self.self_attention = nn.ModuleList(Attention(width, config.heads) for _ in range(config.layers))
        self.cross_attention = nn.ModuleList(Attention(width, config.heads) for _ in range(config.layers))
        self.feed_forward = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False)
            )
            for _ in range(config.layers)
        )
        self.norm_out = nn.LayerNorm(width)
        self.proj_out = nn.Parameter(torch.zeros(width, output_width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # [N, 1 + grid², width] → [N, tokens, output_width]
        """The 2D identity tokens; ``features`` is the vision tower's hidden state, class row first (not read)."""
        read = self.read_norm(features.to(self.proj_out.dtype)[:, 1:] + self.pos_emb)
        x = self.queries.expand(len(read), -1, -1)
        for own, cross, forward in zip(self.self_attention, self.cross_attention, self.feed_forward, strict=True):
            x = x + own(x)
            x = x + cross(x, read)
            x = x + forward(x)
        return self.norm_out(x) @ self.proj_out


def build_face_branch(config: FaceAbstractorConfig, grid: int, output_width: int) -> FaceAbstractor | QFormer:
    """The 2D branch that ``config.kind`` names."""
    return (QFormer if config.kind == "q-former" else FaceAbstractor)(config, grid, output_width)
