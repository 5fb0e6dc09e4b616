"""Which video sizes a model can make, and where their patches lie."""

from __future__ import annotations

import torch

from ..config import ModelConfig, TransformerConfig
from ..errors import InputError

SPATIAL_COMPRESSION = 8  #: pixels per latent value, of every CogVideoX VAE
#: The VAE decodes latent frames in pairs, and three at the start: an even number of them comes out too long.
LATENT_FRAMES_AT_ONCE = 2


def latent_shape(config: ModelConfig, frames: int, height: int, width: int) -> tuple[int, int, int, int, int]:
    """[1, F, C, H, W] of the latents of a video of ``frames`` × ``height`` × ``width`` pixels."""
    dit = config.transformer
    latent_frames = (frames - 1) // dit.temporal_compression + 1
    return 1, latent_frames, dit.latent_channels, height // SPATIAL_COMPRESSION, width // SPATIAL_COMPRESSION


def check_video_size(frames: int, height: int, width: int, config: ModelConfig) -> None:
    """Raise InputError, naming the nearest size that works, unless the model can make this video.

    Frames must be 8k + 1 (with temporal compression 4), sides divisible by 16 (with patches of 2); with learned
    positions the sides must be the trained ones.
    """
    dit = config.transformer
    step = dit.temporal_compression * LATENT_FRAMES_AT_ONCE
    if frames < 1 or (frames - 1) % step:
        raise InputError(
            f"The video cannot have {frames} frames; take {_nearest(frames - 1, step, least=0) + 1}"
            f" (any multiple of {step} plus 1)."
        )
    side = SPATIAL_COMPRESSION * dit.patch_size
    if height < side or width < side or height % side or width % side:
        raise InputError(
            f"The video cannot be {width}×{height} pixels; take {_nearest(width, side, least=side)}×"
            f"{_nearest(height, side, least=side)} (both sides must be divisible by {side})."
        )
    _check_trained_size(height, width, dit)


def rotary_table(
    config: ModelConfig, frames: int, height: int, width: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary cos and sin, each [F·H·W, head_dim] float32, of a patch grid for latents [.., frames, .., height, width].

    As CogVideoX: the grid is fitted into the trained one keeping its aspect, so other sizes see familiar positions.
    """
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    dit = config.transformer
    grid = (height // dit.patch_size, width // dit.patch_size)
    base = (dit.sample_height // dit.patch_size, dit.sample_width // dit.patch_size)
    region = _fitted_region(grid, base)
    cos, sin = get_3d_rotary_pos_embed(dit.head_dim, region, grid, frames, device=torch.device(device))
    return cos, sin


def _fitted_region(grid: tuple[int, int], base: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(top, left), (bottom, right) of ``grid`` (rows, columns) scaled to fit into the middle of ``base``."""
    scale = min(base[0] / grid[0], base[1] / grid[1])
    rows, columns = round(scale * grid[0]), round(scale * grid[1])
    top, left = round((base[0] - rows) / 2), round((base[1] - columns) / 2)
    return (top, left), (top + rows, left + columns)


def _check_trained_size(height: int, width: int, dit: TransformerConfig) -> None:
    trained = (dit.sample_height * SPATIAL_COMPRESSION, dit.sample_width * SPATIAL_COMPRESSION)
    if dit.learned_positions and (height, width) != trained:
        raise InputError(
            f"This checkpoint makes {trained[1]}×{trained[0]} pixels only, because it learned its positions at that "
            f"size; set it instead of {width}×{height}."
        )


def _nearest(value: int, step: int, least: int) -> int:
    return max(least, round(value / step) * step)
