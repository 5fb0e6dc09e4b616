"""CogVideoX's decoder as diffusers wrote it, bit for bit, in less memory.

At full size one of its tensors takes 1.6 GB, so what is held without need decides whether a card can decode whole
frames (docs/memory.md has the figures).
"""

from __future__ import annotations

from typing import TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d, CogVideoXSpatialNorm3D
from torch import nn

_Module = TypeVar("_Module", bound=nn.Module)


class PointwiseConv3d(CogVideoXCausalConv3d):
    """A causal convolution of one frame: it looks at no frame before, so there is nothing to remember.

    diffusers' keeps its whole input for the next chunk and never reads it.
    """

    def forward(  # type: ignore[override] # diffusers' has no types
        self, inputs: torch.Tensor, conv_cache: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, None]:
        """[B, C, F, H, W] → the same size, and no memory."""
        return self.conv(inputs), None


class InPlaceSpatialNorm3D(CogVideoXSpatialNorm3D):
    """Norm, times one map, plus another: with one map at a time and in the norm's own memory."""

    def forward(  # type: ignore[override] # diffusers' has no types
        self, f: torch.Tensor, zq: torch.Tensor, conv_cache: dict[str, torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """f [B, C, F, H, W], latents zq [B, Z, F', H', W'] → f normalised, and nothing to remember."""
        if torch.is_grad_enabled():  # which wants the steps between
            return super().forward(f, zq, conv_cache)  # type: ignore[return-value] # diffusers says less than it does
        zq = _resized(zq, f.shape[2:])
        normed = self.norm_layer(f)
        normed.mul_(self.conv_y(zq)[0])
        normed.add_(self.conv_b(zq)[0])
        return normed, {}


def lean(vae: _Module) -> _Module:
    """``vae`` with these classes in place of diffusers', in place: same weights, same names, same numbers."""
    for module in vae.modules():
        if type(module) is CogVideoXCausalConv3d and module.time_kernel_size == 1:
            module.__class__ = PointwiseConv3d
        elif type(module) is CogVideoXSpatialNorm3D:
            module.__class__ = InPlaceSpatialNorm3D
    return vae


def _resized(zq: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Latents as large as the features, nearest neighbour; of an odd number of frames the first stands alone."""
    interpolate = nn.functional.interpolate
    if size[0] > 1 and size[0] % 2:
        rest = (size[0] - 1, *size[1:])
        return torch.cat([interpolate(zq[:, :, :1], size=(1, *size[1:])), interpolate(zq[:, :, 1:], size=rest)], dim=2)
    return interpolate(zq, size=tuple(size))
