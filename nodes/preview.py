"""A small moving picture of half-finished latents, while the sampler runs.

Decoding each step would cost seconds and memory. Latents are close to a linear image of the picture's colours, so a
straight line from the channels to RGB is fitted once per VAE, on a photograph whose latents and colours are both known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..fantasyid_core.images import load_photograph

if TYPE_CHECKING:
    from ..fantasyid_core.video.vae import VideoAutoencoder

PHOTOGRAPH = Path(__file__).resolve().parent.parent / "fantasyid_core" / "assets" / "astronaut.png"
SIDE = 256  #: pixels of the photograph that the line is fitted on
_RIDGE = 1e-3
_WEIGHTS = "_fantasyid_preview"


def latent_preview(vae: VideoAutoencoder) -> Callable[[torch.Tensor], list[Image.Image]]:
    """A function from latents [1, F, C, H, W] to F pictures of W × H, one for every four frames of the video.

    ``vae`` must be on its device; the fit is kept with it.
    """
    weights = preview_weights(vae)

    def pictures(latents: torch.Tensor) -> list[Image.Image]:
        colours = torch.einsum("fchw,cd->fhwd", latents[0].float().cpu(), weights[:-1]) + weights[-1]
        return [Image.fromarray(frame) for frame in (colours.clamp(0, 1) * 255).round().to(torch.uint8).numpy()]

    return pictures


def preview_weights(vae: Any) -> torch.Tensor:
    """[C + 1, 3] from scaled latents, and 1, to RGB 0..1. ``vae`` must be on its device; the fit is kept with it."""
    weights: torch.Tensor | None = getattr(vae, _WEIGHTS, None)
    if weights is None:
        weights = _fit(vae)
        setattr(vae, _WEIGHTS, weights)
    return weights


@torch.no_grad()
def _fit(vae: Any) -> torch.Tensor:
    """[C + 1, 3]: the line from scaled latents (and 1) to RGB 0..1 that fits the photograph best."""
    from ..fantasyid_core.video.vae import latent_scale

    photograph = Image.fromarray((load_photograph(PHOTOGRAPH) * 255).round().astype(np.uint8))
    pixels = torch.from_numpy(np.array(photograph.resize((SIDE, SIDE)), dtype=np.float32) / 255)  # (S, S, 3)
    video = (pixels * 2 - 1).permute(2, 0, 1)[None, :, None]  # (1, 3, 1, S, S)
    latents = vae.encode(video.to(vae.device, vae.dtype)).latent_dist.mode()[0, :, 0].float().cpu() * latent_scale(vae)
    side = SIDE // latents.shape[-1]
    colours = torch.nn.functional.avg_pool2d(pixels.permute(2, 0, 1), side).flatten(1).T  # (N, 3)
    values = torch.cat([latents.flatten(1).T, torch.ones(len(colours), 1)], dim=1)  # (N, C + 1)
    square = values.T @ values
    ridge = _RIDGE * square.diagonal().mean() * torch.eye(len(square))
    return torch.linalg.solve(square + ridge, values.T @ colours)
