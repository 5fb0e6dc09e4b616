"""Decoding latents to frames: at once, streamed, streamed in tiles; time, peak memory, and whether they agree.

python -m benchmarks.decode                          the mini's VAE, 9 frames of 64×448
python -m benchmarks.decode --real --size 3x24x36    a VAE of the released size (random weights), a small video
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.measure import (
    MEBIBYTE,
    default_device,
    interleaved,
    peak_extra,
    print_heading,
    print_table,
    ratio,
)
from fantasyid_core.arrays import FloatArray
from fantasyid_core.video.vae import TILE, TILE_OVERLAP, decode_latents

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

REAL, NARROW = (128, 256, 256, 512), (16, 24, 48, 96)  #: channels of CogVideoX's VAE: the release's, and a CPU's
DIFFUSERS_TILE = 8 * TILE  #: pixels; our tile and overlap for both


def main() -> None:
    """Measure and print."""
    options = _options()
    frames, height, width = (int(side) for side in options.size.split("x"))
    vae = _vae(REAL if options.real else NARROW)
    torch.nn.Module.to(vae, options.device, getattr(torch, options.dtype)).requires_grad_(False)
    latents = torch.randn(1, frames, 16, height, width, generator=torch.Generator().manual_seed(0))
    print_heading(
        f"Decoding latents {list(latents.shape)} to {4 * (frames - 1) + 1} frames of {8 * width}×{8 * height}, "
        f"{'released size' if options.real else 'narrow'} VAE, {options.dtype}, {options.repeats} interleaved rounds",
        options.device,
    )
    _print_ways(_ways(vae, latents.to(options.device)), options.repeats, options.device)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = default_device()
    parser.add_argument("--device", default=device, choices=["cpu", "cuda"])
    parser.add_argument("--real", action="store_true", default=device == "cuda")
    parser.add_argument("--size", default="13x60x90" if device == "cuda" else "3x56x8")
    parser.add_argument(
        "--dtype", default="bfloat16" if device == "cuda" else "float32", choices=["float32", "bfloat16"]
    )
    parser.add_argument("--repeats", type=int, default=2)
    return parser.parse_args()


def _vae(channels: tuple[int, ...]) -> AutoencoderKLCogVideoX:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    torch.manual_seed(0)
    return AutoencoderKLCogVideoX(
        block_out_channels=channels,
        layers_per_block=3 if channels == REAL else 1,
        norm_num_groups=min(channels[0] // 2, 32),
        latent_channels=16,
        scaling_factor=0.7,
    ).eval()


def _ways(vae: AutoencoderKLCogVideoX, latents: torch.Tensor) -> dict[str, Callable[[], FloatArray]]:
    """diffusers' decoder as the release calls it, its tiling, and our two."""

    def diffusers(tiled: bool) -> FloatArray:
        # with its own default overlaps of 1/6 and 1/5 the frames come out a few pixels too large at this tile
        vae.enable_tiling(DIFFUSERS_TILE, DIFFUSERS_TILE, TILE_OVERLAP / TILE, TILE_OVERLAP / TILE)
        vae.use_tiling = tiled
        z = latents.permute(0, 2, 1, 3, 4).to(vae.dtype) / vae.config["scaling_factor"]
        pixels: Any = vae.decode(z).sample  # (1, 3, F, H, W) -1..1
        vae.use_tiling = False
        return (pixels[0].permute(1, 2, 3, 0).float() / 2 + 0.5).clamp(0, 1).cpu().numpy()

    return {
        "whole (the release)": lambda: diffusers(tiled=False),
        "streamed (ours)": lambda: decode_latents(vae, latents),
        "tiled (diffusers)": lambda: diffusers(tiled=True),
        "streamed and tiled (ours)": lambda: decode_latents(vae, latents, tiled=True),
    }


@torch.no_grad()
def _print_ways(ways: dict[str, Callable[[], FloatArray]], repeats: int, device: str) -> None:
    timings = interleaved(ways, repeats, device)
    first = next(iter(ways))
    expected, base = ways[first](), peak_extra(ways[first], device)
    rows = []
    for name, way in ways.items():
        video = way()
        memory = peak_extra(way, device)
        least, middle = ratio(timings[name], timings[first])
        difference = np.abs(video - expected)
        rows.append(
            [
                name,
                f"{timings[name].least:.3f}",
                f"{timings[name].middle:.3f}",
                f"{least:.3f} / {middle:.3f}",
                f"{memory / MEBIBYTE:.0f}",
                f"{memory / base:.3f}",
                f"{difference.max():.2g} / {difference.mean():.2g}",
            ]
        )
    header = ["way", "min s", "median s", "time / whole", "peak extra MiB", "memory / whole", "difference max / mean"]
    print_table(header, rows)
    print("\nDifferences are of frames in 0..1; tiles see less of their surroundings, so they differ at seams.")


if __name__ == "__main__":
    main()
