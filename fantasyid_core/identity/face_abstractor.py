"""The 2D branch (paper: face abstractor, a C-Abstractor): image features → a few locality-keeping face tokens.

Only what reaches the output is built. The release's module overwrites its own result in a loop over ten layers, so of
144 million parameters 18 million count: the fifth mapping, the last layer, the output matrix and, because each layer
adds its position tensor *in place* to the shared input, the position tensor of the last layer but one. Leaving the rest
out changes nothing, not even by rounding (release parts 1, 3 and 4).
"""

from __future__ import annotations

import re
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..config import FaceAbstractorConfig

SQUEEZE = 4  #: squeeze-excitation works at a fourth of a bottleneck's **input** channels
OFFICIAL_KEYS: tuple[tuple[str, str], ...] = (
    (r"^mapping\.", "mapping_4."),
    (r"^pos_emb_before$", "layers.8.0.pos_emb"),
    (r"^pos_emb$", "layers.9.0.pos_emb"),
    (r"^stage1\.0\.", "layers.9.0.net.0.b1."),
    (r"^stage1\.1\.", "layers.9.0.net.0.b2."),
    (r"^stage1\.2\.", "layers.9.0.net.0.b3."),
    (r"^stage2\.0\.", "layers.9.0.net.2.b1."),
    (r"^stage2\.1\.", "layers.9.0.net.2.b2."),
    (r"^stage2\.2\.", "layers.9.0.net.2.b3."),
    (r"\.norm\.(weight|bias)$", r".bn.\1"),
    (r"^readout\.", "layers.9.0.readout."),
    (r"^feed_forward\.", "layers.9.1."),
)  #: our names → the released checkpoint's, applied in this order; what no line matches keeps its name


def official_key(our_key: str) -> str:
    """The name in a released checkpoint of this module's parameter ``our_key``."""
    key = our_key
    for pattern, replacement in OFFICIAL_KEYS:
        key = re.sub(pattern, replacement, key)
    return f"face_abstractor.{key}"


class ConvNorm(nn.Module):
    """A convolution without bias, then a layer norm over the channels of every pixel."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, C, H, W] → [N, C', H, W]
        return self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
    """Weigh each channel by what the whole map holds."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, C, H, W] → [N, C, H, W]
        gate = self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class Bottleneck(nn.Module):
    """Residual bottleneck: 1×1, depthwise 3×3, squeeze-excitation, 1×1."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, channels)
        self.conv2 = ConvNorm(channels, channels, kernel=3, groups=channels)
        self.se = SqueezeExcite(channels, inputs // SQUEEZE)
        self.conv3 = ConvNorm(channels, channels)
        self.downsample = ConvNorm(inputs, channels) if inputs != channels else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, C_in, H, W] → [N, C, H, W]
        y = F.silu(self.conv2(F.silu(self.conv1(x))))
        y = self.conv3(self.se(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.silu(y + shortcut)


class AbstractorStages(NamedTuple):
    """What the abstractor computes on its way (see the golden numbers of the release)."""

    entered: torch.Tensor  # [N, grid², width] mapped features with both position tensors
    stage1: torch.Tensor  # [N, hidden, grid, grid]
    pooled: torch.Tensor  # [N, hidden, pooled, pooled]
    stage2: torch.Tensor  # [N, hidden, pooled, pooled]
    readout: torch.Tensor  # [N, pooled², width]


class FaceAbstractor(nn.Module):
    """Features of a grid² map → pooled_grid² tokens of ``output_width`` (release: 24² × 1024 → 36 × 2048)."""

    def __init__(self, config: FaceAbstractorConfig, grid: int, output_width: int) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden
        self.config = config
        self.grid = grid
        self.mapping = nn.Sequential(
            *(nn.Linear(width, width), nn.LayerNorm(width), nn.LeakyReLU(0.01)),
            *(nn.Linear(width, width), nn.LayerNorm(width), nn.LeakyReLU(0.01)),
            nn.Linear(width, width),
        )
        self.pos_emb_before = nn.Parameter(torch.zeros(1, grid**2, width))
        self.pos_emb = nn.Parameter(torch.zeros(1, grid**2, width))
        self.stage1 = self._stage(width)
        self.stage2 = self._stage(hidden)
        self.readout = nn.Sequential(nn.Linear(hidden, width), nn.SiLU(), nn.Linear(width, width))
        inner = config.feed_forward_multiple * width
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, inner, bias=False), nn.GELU(), nn.Linear(inner, width, bias=False)
        )
        self.proj_out = nn.Parameter(torch.zeros(width, output_width))

    def _stage(self, inputs: int) -> nn.Sequential:
        hidden = self.config.hidden
        return nn.Sequential(
            *(Bottleneck(inputs if block == 0 else hidden, hidden) for block in range(self.config.blocks_per_stage))
        )

    def stages(self, features: torch.Tensor) -> AbstractorStages:  # [N, 1 + grid², width]
        """Every intermediate result; ``features`` is the vision tower's hidden state, class row first."""
        # The order of the additions is the release's: layer 8's positions, then layer 9's.
        entered = self.mapping(features)[:, 1:] + self.pos_emb_before + self.pos_emb
        map_ = entered.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        stage1 = self.stage1(map_)
        pooled = F.adaptive_avg_pool2d(stage1, self.config.pooled_grid)
        stage2 = self.stage2(pooled)
        return AbstractorStages(entered, stage1, pooled, stage2, self.readout(stage2.flatten(2).transpose(1, 2)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # [N, 1 + grid², width] → [N, tokens, output_width]
        """The 2D identity tokens. There is no residual connection around the feed-forward, as in the release."""
        features = features.to(self.proj_out.dtype)
        return self.feed_forward(self.stages(features).readout) @ self.proj_out
