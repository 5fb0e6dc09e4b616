"""Stage 1a: the mini's video autoencoder (video/patch_vae.py), from synthetic clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from ..video.mini import MINI_VAE, mini_vae
from ..video.patch_vae import PatchAutoencoder, principal_patches
from .arrays import draws, load_arrays, pixels
from .loop import Batch, Losses
from .shards import dataset_shards

KL_WEIGHT = 1e-4
EDGE_WEIGHT = 1.0  #: of the differences between neighbouring pixels: without it everything is soft
FEATURES_WEIGHT = 2.0  #: how much more eyes, nose tip and mouth count than the rest
FEATURES_RADIUS = 0.09  #: of the picture's side
MOST_NOISE = 0.10  #: of the latents' deviation, added before decoding: what a video model makes is never quite clean
PICTURES = 2  #: single frames that cost as much as a clip of 5
LINEAR_CLIPS = 512  #: that the linear start is fitted on


class VaeObjective(nn.Module):
    """Reconstruction with edges, features of the face counting more, and a light pull to unit Gaussian latents.

    decoder_only: the encoder stays as it is (latents made with it remain valid).
    """

    def __init__(self, vae: PatchAutoencoder, decoder_only: bool = False) -> None:
        super().__init__()
        self.vae, self.decoder_only = vae, decoder_only
        vae.requires_grad_(True)
        if decoder_only:
            vae.encoder.requires_grad_(False)

    def forward(self, batch: Batch) -> Losses:
        """Batch: "frames" [B, T, H, W, 3] bytes, "keypoints" [B, T, 5, 2] → loss, reconstruction, kl, psnr."""
        clean = batch["frames"].permute(0, 4, 1, 2, 3).float() / 127.5 - 1  # (B, 3, T, H, W)
        weight = features_weight(batch["keypoints"], clean.shape[-1])
        with torch.set_grad_enabled(not self.decoder_only and torch.is_grad_enabled()):
            posterior = self.vae.encode(clean).latent_dist
        latents = posterior.mean if self.decoder_only else posterior.sample()
        scale = latents.detach().std() * MOST_NOISE * torch.rand(len(clean), 1, 1, 1, 1, device=clean.device)
        decoded = self.vae.decode(latents + scale * torch.randn_like(latents)).sample
        error = ((decoded - clean).abs() * weight).mean()
        edges = sum((_difference(decoded - clean, axis).abs()).mean() for axis in (2, 3, 4) if clean.shape[axis] > 1)
        kl = posterior.kl().mean() / latents[0].numel()
        loss = error + EDGE_WEIGHT * edges + (0.0 if self.decoder_only else KL_WEIGHT * kl)
        psnr = -10 * torch.log10((decoded.detach() - clean).square().mean() / 4)
        return {"loss": loss, "reconstruction": error, "kl": kl, "psnr": psnr}


def _difference(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.narrow(axis, 1, x.shape[axis] - 1) - x.narrow(axis, 0, x.shape[axis] - 1)


class VaeStage:
    """Clips of ``frames`` frames out of the shards in ``data``, half of them mirrored.

    pictures: the share of steps that see PICTURES times as many single frames instead.
    """

    def __init__(
        self,
        data: Path,
        batch: int,
        frames: int = 5,
        pictures: float = 0.25,
        seed: int = 0,
        start: Path | None = None,
        decoder_only: bool = False,
        shards: int | None = None,
    ) -> None:
        self.arrays = load_arrays(dataset_shards(data)[:shards], ("frames", "keypoints"))
        if self.arrays["frames"].shape[1] < frames:
            raise InputError(
                f"The clips in {data} have {self.arrays['frames'].shape[1]} frames, too few for {frames}; "
                "lower --frames."
            )
        self.batch, self.frames, self.pictures, self.seed = batch, frames, pictures, seed
        vae = load_vae_folder(start) if start else mini_vae(seed)
        if not start:
            channels = int(vae.config["latent_channels"])
            vae.start_linear_(*principal_patches(pixels(self.arrays["frames"][:LINEAR_CLIPS]), channels))
        self.module: nn.Module = VaeObjective(vae, decoder_only)

    def settings(self) -> dict[str, Any]:
        """The architecture."""
        return {"vae": MINI_VAE}

    def batches(self, step: int, rank: int, world: int) -> Iterator[Batch]:
        """See :class:`loop.Stage`."""
        frames, keypoints = self.arrays["frames"], self.arrays["keypoints"]
        for _, draw in draws(len(frames), self.batch, step, self.seed, rank, world):
            length, indices = self.frames, draw.indices
            if draw.random.random() < self.pictures:
                length, indices = 1, draw.random.integers(0, len(frames), PICTURES * self.batch)
            starts = draw.random.integers(0, frames.shape[1] - length + 1, len(indices))
            chosen, points = (
                np.stack([array[i, s : s + length] for i, s in zip(indices, starts, strict=True)])
                for array in (frames, keypoints)
            )
            if draw.random.random() < 0.5:
                chosen, points = chosen[:, :, :, ::-1], points * [-1, 1] + [frames.shape[3] - 1, 0]
            yield {
                "frames": torch.from_numpy(np.ascontiguousarray(chosen)),
                "keypoints": torch.from_numpy(points.astype(np.float32)),
            }

    def sheet(self, module: nn.Module, path: Path) -> None:
        """Clips and below each what is left of it."""
        from .sheets import write_rows

        vae = cast(VaeObjective, module).vae
        clean = pixels(self.arrays["frames"][:6]).to(vae.device)
        decoded = vae.decode(vae.encode(clean).latent_dist.mean).sample[:, :, : clean.shape[2]]
        pairs = [x[:, ::4] for pair in zip(clean.cpu(), decoded.cpu(), strict=True) for x in pair]
        write_rows(path, [x.permute(1, 2, 3, 0).numpy() / 2 + 0.5 for x in pairs])

    def export(self, module: nn.Module, folder: Path) -> None:
        """The VAE as diffusers saves it, its scaling factor set so that the latents have deviation 1."""
        vae = cast(VaeObjective, module).vae
        some = [pixels(self.arrays["frames"][i : i + 8]).to(vae.device) for i in range(0, 64, 8)]
        spread = torch.cat([vae.encode(part).latent_dist.mean for part in some])
        vae.register_to_config(scaling_factor=round(1.0 / float(spread.detach().std()), 4))
        vae.save_pretrained(folder / "vae")


def features_weight(points: torch.Tensor, side: int) -> torch.Tensor:
    """Keypoints [B, T, 5, 2] pixels → [B, 1, T, side, side]: 1, and up to 1 + FEATURES_WEIGHT on the features."""
    axis = torch.arange(side, dtype=torch.float32, device=points.device)
    down = torch.exp(-(((axis - points[..., 1:]) / (FEATURES_RADIUS * side)) ** 2))  # (B, T, 5, side)
    across = torch.exp(-(((axis - points[..., :1]) / (FEATURES_RADIUS * side)) ** 2))
    bumps = (down[..., :, None] * across[..., None, :]).amax(dim=2)
    return (1 + FEATURES_WEIGHT * bumps)[:, None]


def load_vae_folder(folder: Path) -> PatchAutoencoder:
    """The VAE that :meth:`VaeStage.export` wrote, or that of a whole mini's file."""
    if folder.is_file():
        from ..weights.mini_file import load_mini

        return cast(PatchAutoencoder, load_mini(folder).vae)
    place = folder / "vae"
    if not (place / "config.json").is_file():
        raise InputError(f"There is no trained VAE in {folder}; train one with `fantasyid train vae`.")
    return PatchAutoencoder.from_pretrained(place, local_files_only=True)
