"""Pictures made worse, as soft videos are: what the reader of heads must see through (train_embedder.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from ..video.vae import VideoAutoencoder

SMALLER, BLURRED, ENCODED = 1 / 8, 1 / 8, 1 / 24  #: shares of the pictures that are made so
SIDES = (40, 32, 24, 16)  #: pixels that a picture of 64 is made smaller to
MOST_BLUR = 2.5  #: pixels, deviation
MOST_LATENT_NOISE = 0.6  #: of the latents' deviation: what a young video model errs by
MOST_NOISE = 0.05  #: of white
ZOOM, SHIFT = 0.07, 0.03  #: logarithm; share of half the picture
TINT, BRIGHTNESS = 0.06, 0.10


def moved(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """[N, 3, S, S] a little nearer or farther and not quite in the middle."""
    count = len(pictures)
    theta = pictures.new_zeros(count, 2, 3)
    scale = torch.exp(ZOOM * _uniform(count, generator, pictures))
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, 0, 2] = SHIFT * _uniform(count, generator, pictures)
    theta[:, 1, 2] = SHIFT * _uniform(count, generator, pictures)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def spoiled(pictures: torch.Tensor, generator: torch.Generator, vae: VideoAutoencoder | None = None) -> torch.Tensor:
    """[N, 3, S, S] 0..1; more than half of them as they are but for noise, the rest made smaller, blurred, or passed
    through ``vae`` with noise on the latents. In the pictures' own precision also where a run computes in a lower one:
    they are data."""
    with torch.autocast(pictures.device.type, enabled=False):
        return _spoiled(pictures, generator, vae)


def _spoiled(pictures: torch.Tensor, generator: torch.Generator, vae: VideoAutoencoder | None) -> torch.Tensor:
    made, count = pictures.clone(), len(pictures)
    order = torch.randperm(count, generator=generator, device=pictures.device)
    ends = [int(count * share) for share in (SMALLER, SMALLER + BLURRED, SMALLER + BLURRED + ENCODED)]
    small, soft, coded = order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]]
    draw = torch.rand(3, generator=generator, device=pictures.device).tolist()
    if len(small):
        made[small] = smaller(pictures[small], SIDES[int(draw[0] * len(SIDES))])
    if len(soft):
        made[soft] = blurred(pictures[soft], 0.5 + draw[1] * (MOST_BLUR - 0.5))
    if vae is not None and len(coded):
        made[coded] = round_trip(pictures[coded], vae, MOST_LATENT_NOISE * draw[2], generator)
    level = MOST_NOISE * torch.rand(count, 1, 1, 1, generator=generator, device=pictures.device)
    return made + level * _normal(made.shape, generator, made)


def smaller(pictures: torch.Tensor, side: int) -> torch.Tensor:
    """[N, 3, S, S] with no more than ``side`` pixels worth of detail."""
    small = F.interpolate(pictures, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(small, pictures.shape[2:], mode="bilinear", align_corners=False)


def blurred(pictures: torch.Tensor, deviation: float) -> torch.Tensor:
    """[N, C, S, S] after a Gaussian of ``deviation`` pixels."""
    reach = max(int(3 * deviation + 0.5), 1)
    places = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.exp(-0.5 * (places / deviation) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    n, c, height, width = pictures.shape
    flat = F.pad(pictures.reshape(n * c, 1, height, width), (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, kernel), kernel.transpose(2, 3)).view(n, c, height, width)


@torch.no_grad()
def round_trip(
    pictures: torch.Tensor, vae: VideoAutoencoder, noise: float = 0.0, generator: torch.Generator | None = None
) -> torch.Tensor:
    """[N, 3, S, S] encoded and decoded as single frames; noise: on the latents, of their deviation."""
    latents = vae.encode(2 * pictures[:, :, None] - 1).latent_dist.mean
    if noise:
        latents = latents + noise / float(vae.config["scaling_factor"]) * _normal(latents.shape, generator, latents)
    return (vae.decode(latents).sample[:, :, 0] / 2 + 0.5).clamp(0, 1)


def tinted(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """[N, 3, S, S] in slightly other colours and brightness."""
    count = len(pictures)
    gain = 1 + TINT * _normal((count, 3, 1, 1), generator, pictures)
    return pictures * gain * (1 + BRIGHTNESS * _normal((count, 1, 1, 1), generator, pictures))


def recoloured_grey(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """[N, 3, S, S] → grey [N, 1, S, S] in which neither skin nor hair has the brightness that it had: channels mixed at
    random, a curve that for a fifth of them is not even monotone, light from elsewhere."""
    count = len(pictures)
    mix = -torch.log(torch.rand(count, 3, 1, 1, generator=generator, device=pictures.device).clamp(min=1e-6))
    grey = (pictures * mix / mix.sum(dim=1, keepdim=True)).sum(dim=1, keepdim=True).clamp(0, 1.5)
    grey = (grey + 1e-3) ** torch.exp(0.6 * _uniform(count, generator, pictures).view(-1, 1, 1, 1))
    bends, size, pace, phase = (
        torch.rand(count, 1, 1, 1, generator=generator, device=pictures.device) for _ in range(4)
    )
    grey = grey + (bends < 1 / 5) * 0.3 * size * torch.sin(2 * torch.pi * ((0.5 + pace) * grey + phase))
    light = F.interpolate(_normal((count, 1, 3, 3), generator, pictures), pictures.shape[2:], mode="bicubic")
    return grey * (1 + 0.2 * light)


def _uniform(count: int, generator: torch.Generator, like: torch.Tensor) -> torch.Tensor:
    """[count] in -1..1."""
    return 2 * torch.rand(count, generator=generator, device=like.device) - 1


def _normal(shape: torch.Size | tuple[int, ...], generator: torch.Generator | None, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=like.device)
