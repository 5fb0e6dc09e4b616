"""The end of the 3D branch: a 1-D convolution ladder along the vertex index, from one row per vertex to few tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..config import VertexNetConfig
from ..errors import InputError

KERNELS = (5, 5, 3, 3)
STRIDES = (4, 4, 2, 2)
GROUPS = 8  #: of every group norm


class ConvNormMish(nn.Module):
    """1-D convolution, group norm, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        self.group_norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, C, L] → [N, C', L']
        return F.mish(self.group_norm(self.conv1d(x)))


class ReducerBlock(nn.Module):
    """A strided convolution, one more at the same length, and a strided shortcut added behind both."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_in = ConvNormMish(inputs, outputs, kernel, stride)
        self.conv_out = ConvNormMish(outputs, outputs, 3, 1)
        self.residual_conv = nn.Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, C, L] → [N, C', L']
        return self.conv_out(self.conv_in(x)) + self.residual_conv(x)


class VertexReducer(nn.Module):
    """Descriptor [N, V, width] → tokens [N, T, C], in the model's dtype (FLAME: 5023 × 128 → 79 × 2048).

    Neighbours are neighbours in the mesh's vertex order, not on its surface: another order is another input.
    """

    def __init__(self, config: VertexNetConfig) -> None:
        super().__init__()
        widths = (config.width, *config.reducer_widths)
        if len(config.reducer_widths) != len(STRIDES) or any(width % GROUPS for width in config.reducer_widths):
            raise InputError(
                f"The 3D branch's reducer needs {len(STRIDES)} widths divisible by {GROUPS}, not "
                f"{config.reducer_widths}."
            )
        self.conv_block1, self.conv_block2, self.conv_block3, self.conv_block4 = (
            ReducerBlock(widths[i], widths[i + 1], KERNELS[i], STRIDES[i]) for i in range(len(STRIDES))
        )

    def forward(self, descriptor: torch.Tensor) -> torch.Tensor:  # [N, V, width] → [N, T, C]
        """The 3D identity tokens."""
        x = descriptor.to(self.conv_block1.residual_conv.weight.dtype).transpose(1, 2)
        for block in (self.conv_block1, self.conv_block2, self.conv_block3, self.conv_block4):
            x = block(x)
        return x.transpose(1, 2)


def official_key(our_key: str) -> str:
    """The name in a released checkpoint of this module's parameter ``our_key``."""
    return f"vertex_reducer.{our_key}"
