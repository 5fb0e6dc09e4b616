"""Into the latent space and back, with CogVideoX's own VAE or the mini's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..arrays import FloatArray
from ..errors import InputError
from ..images import NEUTRAL_GREY
from ..out_of_memory import Ladder, Way
from ..progress import ProgressCallback, silent
from .memory_presets import MEMORY_PRESETS, TILE, MemoryPreset
from .size import LATENT_FRAMES_AT_ONCE, SPATIAL_COMPRESSION

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    from .patch_vae import PatchAutoencoder

    VideoAutoencoder = AutoencoderKLCogVideoX | PatchAutoencoder

TILE_OVERLAP = 8  #: of which shared with the neighbour, blended linearly


def latent_scale(vae: VideoAutoencoder) -> float:
    """What the VAE's own latents are multiplied by to be the transformer's."""
    factor = float(vae.config["scaling_factor"])
    return 1.0 / factor if vae.config["invert_scale_latents"] else factor


def stretch(crop: Image.Image, width: int, height: int) -> Image.Image:
    """As released: the square crop is stretched to the video's size, faces come out wide."""
    return crop.resize((width, height), Image.Resampling.LANCZOS)


def letterbox(crop: Image.Image, width: int, height: int) -> Image.Image:
    """The whole crop in the middle, its aspect kept, on the grey that also lies beyond the photograph's edge."""
    scale = min(width / crop.width, height / crop.height)
    size = (max(1, round(scale * crop.width)), max(1, round(scale * crop.height)))
    page = Image.new("RGB", (width, height), NEUTRAL_GREY)
    page.paste(crop.resize(size, Image.Resampling.LANCZOS), ((width - size[0]) // 2, (height - size[1]) // 2))
    return page


def centre(crop: Image.Image, width: int, height: int) -> Image.Image:
    """The crop fills the frame, its aspect kept; what overhangs is cut off evenly."""
    scale = min(crop.width / width, crop.height / height)
    left, top = (crop.width - scale * width) / 2, (crop.height - scale * height) / 2
    box = (left, top, left + scale * width, top + scale * height)
    return crop.resize((width, height), Image.Resampling.LANCZOS, box=box)


#: How the square reference crop becomes a picture of the video's size.
FITS: dict[str, Callable[[Image.Image, int, int], Image.Image]] = {
    "stretch": stretch,
    "letterbox": letterbox,
    "centre": centre,
}


def reference_pixels(crop: FloatArray, height: int, width: int, fit: str) -> torch.Tensor:
    """Crop [S, S, 3] RGB 0..1 → picture [1, 3, height, width] -1..1. Raises InputError for an unknown ``fit``."""
    if fit not in FITS:
        raise InputError(f"There is no way to fit the reference called '{fit}'; choose one of: {', '.join(FITS)}.")
    levels = np.clip(crop * 255.0 + 0.5, 0, 255).astype(np.uint8)  # as released, resampled from 8-bit levels
    picture = np.asarray(FITS[fit](Image.fromarray(levels), width, height), dtype=np.float32) / 255.0
    return torch.from_numpy(2.0 * picture - 1.0).permute(2, 0, 1)[None]


@torch.no_grad()
def encode_reference(
    vae: VideoAutoencoder,
    crop: FloatArray,
    frames: int,
    height: int,
    width: int,
    generator: torch.Generator,
    fit: str = "letterbox",
) -> torch.Tensor:
    """Crop [512, 512, 3] RGB 0..1 → reference latents [1, F, C, H, W] of a video: at frame 0, zeros behind.

    frames, height, width: of the video in pixels (see check_video_size). generator: its first draw is the posterior
    sample; the sampler goes on with it. fit: one of FITS, "stretch" as released. In the VAE's dtype, on its device.
    """
    return encode_pixels(vae, reference_pixels(crop, height, width, fit), frames, generator)


@torch.no_grad()
def encode_pixels(vae: VideoAutoencoder, pixels: torch.Tensor, frames: int, generator: torch.Generator) -> torch.Tensor:
    """Picture [1, 3, 8·H, 8·W] -1..1 → the same as :func:`encode_reference`, for a video of ``frames`` frames."""
    posterior = vae.encode(pixels[:, :, None].to(vae.device, vae.dtype)).latent_dist
    first = posterior.sample(generator).permute(0, 2, 1, 3, 4) * latent_scale(vae)  # (1, 1, C, H, W)
    behind = (frames - 1) // int(vae.config["temporal_compression_ratio"])
    return torch.cat([first, first.new_zeros(1, behind, *first.shape[2:])], dim=1)


@torch.no_grad()
def decode_latents(
    vae: VideoAutoencoder,
    latents: torch.Tensor,
    tiled: bool = False,
    progress: ProgressCallback = silent,
    ladder: Ladder | None = None,
) -> FloatArray:
    """Latents [1, F, C, H, W] → frames [4·(F-1)+1, 8·H, 8·W, 3] RGB 0..1.

    Streamed: two latent frames at a time (three at the start) leave the device as pixels, exactly as if decoded at
    once. tiled: also in overlapping tiles of 256 pixels, for small cards; seams are blended and the result differs
    slightly. F must be odd (see check_video_size). ladder: what says so otherwise, None = whole frames; when the memory
    is too small, it goes down to tiles, then smaller ones. Raises InputError when it is too small for the smallest.
    """
    ladder = ladder or Ladder(MEMORY_PRESETS)
    height, width = latents.shape[-2:]

    def side(preset: MemoryPreset) -> int:
        return TILE if tiled else preset.tile

    def way(preset: MemoryPreset) -> Way:
        most = side(preset) or max(height, width)
        return Way((min(most, height) * min(most, width),), preset.decoding)

    return ladder.run(
        "VAE",
        lambda: _decoded(vae, latents, side(ladder.preset), progress),
        way,
        "The memory is too small even to decode in tiles; close what else uses it, or make fewer or smaller frames.",
    )


def _decoded(vae: VideoAutoencoder, latents: torch.Tensor, side: int, progress: ProgressCallback) -> FloatArray:
    if latents.ndim != 5 or len(latents) != 1 or latents.shape[1] % LATENT_FRAMES_AT_ONCE == 0:
        raise InputError(
            f"The decoder takes one video latent [1, odd frames, channels, height, width], not {list(latents.shape)}; "
            "connect the latent of the FantasyID sampler."
        )
    z = latents.permute(0, 2, 1, 3, 4).to(vae.device, vae.dtype) / latent_scale(vae)  # (1, C, F, H, W)
    shape = (
        int(vae.config["temporal_compression_ratio"]) * (z.shape[2] - 1) + 1,
        *(8 * side for side in z.shape[3:]),
        3,
    )
    video, weight = torch.zeros(shape), torch.zeros(1, shape[1], shape[2], 1)
    tiles = list(_tiles(z.shape[3], z.shape[4], side)) if side else [(slice(None), slice(None))]
    chunks = _chunks(z.shape[2])
    for index, (rows, columns) in enumerate(tiles):
        pixel_rows, pixel_columns = _pixels(rows), _pixels(columns)
        ramp = _ramp(video[0, pixel_rows, pixel_columns].shape[:2]) if len(tiles) > 1 else torch.ones(1, 1, 1, 1)
        weight[:, pixel_rows, pixel_columns] += ramp
        for done, start, decoded in _stream(vae, z[..., rows, columns], chunks):
            video[start : start + len(decoded), pixel_rows, pixel_columns] += ramp * decoded
            progress(index * len(chunks) + done, len(tiles) * len(chunks), None)
    return (video / weight).numpy()


def _stream(vae: VideoAutoencoder, z: torch.Tensor, chunks: list[slice]) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Decode z [1, C, F, H, W] chunk by chunk: (chunks done, first frame, frames [f, 8·H, 8·W, 3] RGB 0..1)."""
    memory, start = None, 0
    for done, chunk in enumerate(chunks, 1):
        part = z[:, :, chunk]
        if vae.post_quant_conv is not None:
            part = vae.post_quant_conv(part)
        pixels, memory = vae.decoder(part, conv_cache=memory)  # (1, 3, f, 8·H, 8·W), -1..1
        memory = _spent(memory)
        frames = (pixels[0].permute(1, 2, 3, 0).float() / 2 + 0.5).clamp(0, 1).cpu()
        yield done, start, frames
        start += len(frames)


class _Spent(dict[str, Any]):
    """What a chunk leaves to the next, which takes it out piece by piece, so that old and new are not held at once."""

    def get(self, key: str, default: Any = None) -> Any:
        """Take out, for good."""
        return self.pop(key, default)


def _spent(memory: Any) -> Any:
    """A decoder's memory, dictionaries in dictionaries, as :class:`_Spent`."""
    return _Spent({key: _spent(value) for key, value in memory.items()}) if isinstance(memory, dict) else memory


def _chunks(latent_frames: int) -> list[slice]:
    """Latent frames in pairs, the odd one with the first pair: how the VAE was trained to be fed."""
    edges = [0, *range(min(3, latent_frames), latent_frames + 1, LATENT_FRAMES_AT_ONCE)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _tiles(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    for top in _tile_starts(height, side):
        for left in _tile_starts(width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _tile_starts(length: int, side: int) -> list[int]:
    """Evenly spread starts, so that the last tile is as large as the others."""
    count = 1 if length <= side else -(-(length - TILE_OVERLAP) // (side - TILE_OVERLAP))
    return [round(k * (length - side) / max(count - 1, 1)) for k in range(count)]


def _pixels(latent: slice) -> slice:
    if latent == slice(None):
        return latent
    return slice(latent.start * SPATIAL_COMPRESSION, latent.stop * SPATIAL_COMPRESSION)


def _ramp(shape: torch.Size) -> torch.Tensor:
    """Weights [1, h, w, 1] that rise linearly from each edge over the overlap; never 0."""
    overlap = TILE_OVERLAP * SPATIAL_COMPRESSION
    sides = []
    for size in shape:
        distance = torch.minimum(torch.arange(size), torch.arange(size - 1, -1, -1)) + 0.5
        sides.append((distance / overlap).clamp(max=1.0))
    return (sides[0][:, None] * sides[1][None])[None, :, :, None]
