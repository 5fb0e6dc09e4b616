"""The mini's video autoencoder: patches of 8×8 pixels × 4 frames, first by a straight line, then by what that misses.

AutoencoderKLCogVideoX convolves at full resolution, which a CPU does slowly. This one starts as the best linear
autoencoder of such patches (their principal components) and adds residual blocks that work on the latent grid, where a
CPU is fast, and a small refiner at half resolution, which removes the patches' borders. Seen from outside it is
CogVideoX's: 8×8×4, 16 channels, causal in time (the first frame stands alone), the same ``encode``, ``decode`` and
streaming ``decoder``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

SIDE, TIMES = 8, 4  #: pixels and frames of a patch
PATCH = 3 * TIMES * SIDE * SIDE
HALF = 3 * 2 * 2  #: channels of a picture at half resolution
LOG_VARIANCE = -5.0  #: of the posterior, fixed: what is smaller than 0.08 is lost, so the encoder makes it larger

Cache = dict[str, torch.Tensor]


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc] # (two base classes of diffusers disagree)
    """Videos [B, 3, 4·k+1, H, W] -1..1 ↔ latents [B, C, k+1, H/8, W/8]; H and W are multiples of 8."""

    post_quant_conv = None

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        encoder_width: int = 128,
        decoder_width: int = 192,
        encoder_blocks: int = 3,
        decoder_blocks: int = 6,
        refiner_width: int = 48,
        scaling_factor: float = 1.0,
        invert_scale_latents: bool = False,
        temporal_compression_ratio: int = TIMES,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(latent_channels, encoder_width, encoder_blocks)
        self.decoder = Decoder(latent_channels, decoder_width, decoder_blocks, refiner_width)

    def encode(self, video: torch.Tensor) -> AutoencoderKLOutput:
        """[B, 3, T, H, W] -1..1 → ``.latent_dist`` of [B, C, (T-1)/4+1, H/8, W/8]."""
        mean = self.encoder(video)
        return AutoencoderKLOutput(DiagonalGaussianDistribution(torch.cat([mean, mean * 0 + LOG_VARIANCE], dim=1)))

    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """[B, C, F, h, w] → ``.sample`` [B, 3, 4·(F-1)+1, 8·h, 8·w], about -1..1."""
        return DecoderOutput(self.decoder(latents)[0])

    def start_linear_(self, mean: torch.Tensor, directions: torch.Tensor, scale: torch.Tensor) -> None:
        """Become the linear autoencoder of patches: ``mean`` [768], orthonormal ``directions`` [768, C], and by what
        each of the C values is multiplied to be a latent."""
        with torch.no_grad():
            into, out = (directions * scale).T, directions / scale
            for convolution, matrix in ((self.encoder.straight, into), (self.decoder.straight, out)):
                convolution.weight.zero_()
                convolution.weight[:, :, 1, 1] = matrix
            assert self.encoder.straight.bias is not None and self.decoder.straight.bias is not None
            self.encoder.straight.bias.copy_(-into @ mean)
            self.decoder.straight.bias.copy_(mean)


class Encoder(nn.Module):
    """[B, 3, T, H, W] → means [B, C, (T-1)/4+1, H/8, W/8]."""

    def __init__(self, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.straight = nn.Conv2d(PATCH, channels, 3, padding=1)
        self.inward = nn.Conv2d(PATCH, width, 1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.outward = _silent(nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        first = video[:, :, :1].expand(-1, -1, TIMES - 1, -1, -1)
        patches = _to_patches(torch.cat([first, video], dim=2))  # (B, F, 768, h, w)
        flat = patches.flatten(0, 1)
        hidden = self.inward(flat).unflatten(0, patches.shape[:2])
        for block in self.blocks:
            hidden, _ = block(hidden, None)
        means = self.straight(flat) + self.outward(F.silu(hidden.flatten(0, 1)))
        return means.unflatten(0, patches.shape[:2]).transpose(1, 2)


class Decoder(nn.Module):
    """[B, C, F, h, w] and what came before → (video, what the next chunk of latents must know)."""

    def __init__(self, channels: int, width: int, blocks: int, refiner: int) -> None:
        super().__init__()
        self.straight = nn.Conv2d(channels, PATCH, 3, padding=1)
        self.inward = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.outward = _silent(nn.Conv2d(width, PATCH, 3, padding=1))
        self.features = nn.Conv2d(width, PATCH, 1)
        self.refiner = nn.Sequential(
            nn.Conv2d(2 * HALF, refiner, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(refiner, refiner, 3, padding=1),
            nn.SiLU(),
            _silent(nn.Conv2d(refiner, HALF, 3, padding=1)),
        )

    def forward(self, latents: torch.Tensor, conv_cache: Cache | None = None) -> tuple[torch.Tensor, Cache]:
        z = latents.transpose(1, 2)  # (B, F, C, h, w)
        flat, cache = z.flatten(0, 1), Cache()
        hidden = self.inward(flat).unflatten(0, z.shape[:2])
        for index, block in enumerate(self.blocks):
            hidden, cache[str(index)] = block(hidden, None if conv_cache is None else conv_cache[str(index)])
        hidden = F.silu(hidden.flatten(0, 1))
        patches = (self.straight(flat) + self.outward(hidden)).unflatten(0, z.shape[:2])
        features = self.features(hidden).unflatten(0, z.shape[:2])
        frames, seen = (_to_frames(x, keep_all=conv_cache is not None) for x in (patches, features))  # (B, T, 3, H, W)
        half = F.pixel_unshuffle(torch.cat([frames, seen], dim=2).flatten(0, 1), 2)
        refined = frames + F.pixel_shuffle(self.refiner(half), 2).unflatten(0, frames.shape[:2])
        return refined.transpose(1, 2), cache


class Block(nn.Module):
    """A residual block on the latent grid that sees its neighbours and, in half of its channels, the frame before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width, 1, 1))
        self.look = nn.Conv2d(width + width // 2, width, 3, padding=1)
        self.mix = _silent(nn.Conv2d(width, width, 1))

    def forward(self, x: torch.Tensor, before: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """[B, F, D, h, w] and the frame before [B, 1, D/2, h, w] (None: the first repeated) → the same, for later."""
        normed = x * x.square().mean(dim=2, keepdim=True).add(1e-6).rsqrt() * self.gain
        some = normed[:, :, : normed.shape[2] // 2]
        earlier = torch.cat([some[:, :1] if before is None else before, some[:, :-1]], dim=1)
        hidden = F.silu(self.look(torch.cat([normed, earlier], dim=2).flatten(0, 1)))
        return x + self.mix(hidden).unflatten(0, x.shape[:2]), some[:, -1:]


def _to_patches(video: torch.Tensor) -> torch.Tensor:
    """[B, 3, 4·F, 8·h, 8·w] → [B, F, 768, h, w]; a patch is ordered as [3, 4, 8, 8]."""
    b, c, t, h, w = video.shape
    parts = video.reshape(b, c, t // TIMES, TIMES, h // SIDE, SIDE, w // SIDE, SIDE)
    return parts.permute(0, 2, 1, 3, 5, 7, 4, 6).reshape(b, t // TIMES, PATCH, h // SIDE, w // SIDE)


def _to_frames(patches: torch.Tensor, keep_all: bool) -> torch.Tensor:
    """[B, F, 768, h, w] → [B, 4·F, 3, 8·h, 8·w], without the three that stand before a video's first frame."""
    b, f, _, h, w = patches.shape
    parts = patches.reshape(b, f, 3, TIMES, SIDE, SIDE, h, w).permute(0, 1, 3, 2, 6, 4, 7, 5)
    frames = parts.reshape(b, f * TIMES, 3, h * SIDE, w * SIDE)
    return frames if keep_all else frames[:, TIMES - 1 :]


def _silent(convolution: nn.Conv2d) -> nn.Conv2d:
    """One that adds nothing until it is trained."""
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def principal_patches(video: torch.Tensor, channels: int, at_once: int = 32) -> tuple[torch.Tensor, ...]:
    """(mean, directions, scale) for :meth:`PatchAutoencoder.start_linear_`, of clips [N, 3, T, H, W] -1..1.

    Latents come out with deviation 1 as a whole; directions of small deviation are raised a little, so that they
    survive the noise.
    """
    total, square, count = torch.zeros(PATCH), torch.zeros(PATCH, PATCH), 0
    for part in video.split(at_once):
        first = part[:, :, :1].expand(-1, -1, TIMES - 1, -1, -1)
        rows = _to_patches(torch.cat([first, part], dim=2)).permute(0, 1, 3, 4, 2).reshape(-1, PATCH)
        total, square, count = total + rows.sum(dim=0), square + rows.T @ rows, count + len(rows)
    mean = total / count
    values, vectors = torch.linalg.eigh((square / count - torch.outer(mean, mean)).double())
    spread = values.flip(0)[:channels].sqrt().float()
    scale = spread**-0.5
    scale = scale / (scale * spread).square().mean().sqrt()
    return mean, vectors.flip(1)[:, :channels].float(), scale
