"""The EVA02-CLIP vision tower of the 2D branch: a face crop → a grid of image features.

Written from the architecture's description (release part 5; EVA-CLIP, Sun et al. 2023; EVA-02, Fang et al. 2023).
Parameter names are those of EVA-CLIP's own checkpoints without their leading ``visual.``. The release reads the hidden
state behind block 20 of 24 and nothing behind it, so the tower that runs ends there; ``FullEvaTower`` has the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..config import EvaConfig

EPS = 1e-6  #: of every layer norm in the tower
ROPE_THETA = 10000.0
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
FULL_LAYERS = 24  #: blocks of the whole tower
FULL_EMBEDDING = 768  #: width of its CLIP embedding
HIDDEN_EVERY = 4  #: the release taps the tower behind each fourth block


def eva_input(
    crops: torch.Tensor,  # [N, 3, H, W]
    size: int,
) -> torch.Tensor:  # [N, 3, size, size]
    """RGB crops 0..1 → what the tower reads: anti-aliased bicubic resize, **not** clamped, CLIP normalisation, float32.

    A crop that is not square is stretched, as the release does. Source: release part 5, step 5.
    """
    resized = F.interpolate(crops.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    mean = resized.new_tensor(CLIP_MEAN).view(1, 3, 1, 1)
    std = resized.new_tensor(CLIP_STD).view(1, 3, 1, 1)
    return (resized - mean) / std


def rotary_tables(config: EvaConfig) -> tuple[torch.Tensor, torch.Tensor]:  # [grid², head_dim] each
    """Cosine and sine of the 2-D rotary position code of the patch rows, always on the CPU.

    Half of each head turns with the row, half with the column; positions are index · reference grid / grid, every angle
    stands twice in a row because pairs of neighbours are rotated.
    """
    axis_dim = config.width // config.heads // 2
    exponents = torch.arange(0, axis_dim, 2, device="cpu")[: axis_dim // 2].float() / axis_dim
    frequencies = 1.0 / ROPE_THETA**exponents  # [axis_dim / 2]
    positions = torch.arange(config.grid, device="cpu") / config.grid * config.rope_reference_grid
    angles = (positions[:, None] * frequencies).repeat_interleave(2, dim=-1)  # [grid, axis_dim]
    rows = angles[:, None, :].expand(-1, config.grid, -1)
    columns = angles[None, :, :].expand(config.grid, -1, -1)
    both = torch.cat([rows, columns], dim=-1).reshape(config.grid**2, 2 * axis_dim)
    return both.cos(), both.sin()


def rotate(
    x: torch.Tensor,  # [N, heads, 1 + grid², head_dim]
    cos: torch.Tensor,  # [grid², head_dim]
    sin: torch.Tensor,  # [grid², head_dim]
) -> torch.Tensor:  # [N, heads, 1 + grid², head_dim]
    """Turn the pairs of neighbouring values of the patch rows; the class row stays as it is."""
    patches = x[:, :, 1:]
    even, odd = patches.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return torch.cat([x[:, :, :1], patches * cos + turned * sin], dim=2)


class EvaAttention(nn.Module):
    """Self-attention with biased q and v, unbiased k, rotary positions and a layer norm before the projection."""

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.inner_attn_ln = nn.LayerNorm(width, eps=EPS)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x: torch.Tensor,  # [N, 1 + grid², width]
        cos: torch.Tensor,  # [grid², head_dim]
        sin: torch.Tensor,  # [grid², head_dim]
    ) -> torch.Tensor:  # [N, 1 + grid², width]
        q = self._split(F.linear(x, self.q_proj.weight, self.q_bias))
        k = self._split(self.k_proj(x))
        v = self._split(F.linear(x, self.v_proj.weight, self.v_bias))
        attended = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.proj(self.inner_attn_ln(attended.transpose(1, 2).flatten(2)))

    def _split(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, heads, T, head_dim]
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class EvaFeedForward(nn.Module):
    """SwiGLU with a layer norm inside: w3(norm(silu(w1 x) · w2 x))."""

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.width, config.mlp_hidden)
        self.w2 = nn.Linear(config.width, config.mlp_hidden)
        self.ffn_ln = nn.LayerNorm(config.mlp_hidden, eps=EPS)
        self.w3 = nn.Linear(config.mlp_hidden, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, T, width]
        return self.w3(self.ffn_ln(F.silu(self.w1(x)) * self.w2(x)))


class EvaBlock(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=EPS)
        self.attn = EvaAttention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=EPS)
        self.mlp = EvaFeedForward(config)

    def forward(
        self,
        x: torch.Tensor,  # [N, 1 + grid², width]
        cos: torch.Tensor,  # [grid², head_dim]
        sin: torch.Tensor,  # [grid², head_dim]
    ) -> torch.Tensor:  # [N, 1 + grid², width]
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class EvaPatchEmbed(nn.Module):
    """Non-overlapping patches by one convolution, row by row."""

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # [N, 3, S, S] → [N, grid², width]
        return self.proj(images).flatten(2).transpose(1, 2)


class EvaTower(nn.Module):
    """The part of the tower that reaches the identity tokens."""

    rope_cos: torch.Tensor
    rope_sin: torch.Tensor

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.width))
        self.patch_embed = EvaPatchEmbed(config)
        self.blocks = nn.ModuleList(EvaBlock(config) for _ in range(config.layers))
        cos, sin = rotary_tables(config)
        # A checkpoint repeats these tables in every block; they follow from the sizes, so none is kept in ours.
        self.register_buffer("rope_cos", cos, persistent=False)
        self.register_buffer("rope_sin", sin, persistent=False)

    def embed(self, images: torch.Tensor) -> torch.Tensor:  # [N, 3, S, S] → [N, 1 + grid², width]
        """Class row and patch rows with their learned positions: the input of block 0."""
        patches = self.patch_embed(images.to(self.pos_embed.dtype))
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # [N, 3, S, S] → [N, 1 + grid², width]
        """The hidden state behind the last block, without a final norm; ``images`` as ``eva_input`` makes them."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x, self.rope_cos, self.rope_sin)
        return x


class EvaFeatures(NamedTuple):
    """Everything the release reads from the whole tower; all but the last hidden state are without effect there."""

    hidden: tuple[torch.Tensor, ...]  # five times [N, 1 + grid², width]
    embedding: torch.Tensor  # [N, 768] the CLIP embedding, not normalised


class FullEvaTower(EvaTower):
    """All blocks, final norm and head, for verifying an installation; ``config.layers`` counts all blocks."""

    def __init__(self, config: EvaConfig, embedding: int = FULL_EMBEDDING) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.width, eps=EPS)
        self.head = nn.Linear(config.width, embedding)

    def features(self, images: torch.Tensor) -> EvaFeatures:  # [N, 3, S, S]
        """The hidden states behind each fourth block but the last, and the embedding of the class row."""
        x = self.embed(images)
        hidden = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x, self.rope_cos, self.rope_sin)
            if number % HIDDEN_EVERY == 0 and number < len(self.blocks):
                hidden.append(x)
        return EvaFeatures(tuple(hidden), self.head(self.norm(x[:, 0])))


def official_key(our_key: str) -> str:
    """The name in an EVA-CLIP checkpoint of this tower's parameter ``our_key``."""
    return f"visual.{our_key}"
