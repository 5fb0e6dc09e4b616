"""The network that reads latents for the perceptual loss (latent_reader.py), from encoded clips of drawn heads.

A batch holds people seen four times each: the first latent frame of their clip, one of the later ones, and two of their
pictures from elsewhere. Losses: a supervised contrast of the identity embeddings (Khosla et al. 2020), and what the
clip's frames show of the head, cell by cell (surface.py). Noise of up to six tenths of the latents' deviation is added,
because what it will read is never clean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..errors import InputError
from .arrays import draws
from .latent_reader import LatentReader, save_latent_reader
from .latents import ELSEWHERE, SURFACE, EncodedClips
from .loop import Batch, Losses
from .surface_head import surface_errors
from .train_embedder import WARMEST, contrast

FILE = "reader.safetensors"
TAKES = 4  #: latent frames of a person in a batch: two of the clip, two from elsewhere
NOISE = 0.6  #: of the latents' deviation, at most


class ReaderObjective(nn.Module):
    """Batches of :class:`ReaderStage` → losses."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reader = LatentReader(channels)
        self.scale = nn.Parameter(torch.tensor(10.0).log())

    def forward(self, batch: Batch) -> Losses:
        """Batch: "latents" [4P, C, h, w], those of clips in front; "surface" [2P, 10, h, w]; "person" [4P];
        "noise_seed" → loss and its parts."""
        clean = batch["latents"].float()
        generator = torch.Generator(clean.device).manual_seed(batch["noise_seed"])
        size = NOISE * torch.rand(len(clean), 1, 1, 1, generator=generator, device=clean.device)
        found = self.reader(clean + size * torch.randn(clean.shape, generator=generator, device=clean.device))
        same = batch["person"][:, None] == batch["person"][None]
        itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
        identity = contrast(found.identity * self.scale.exp().clamp(max=WARMEST), found.identity, same, itself)
        true = batch["surface"].float()
        told = surface_errors(found.surface[: len(true)].permute(0, 2, 3, 1), true.permute(0, 2, 3, 1))
        return {"loss": identity + torch.stack([*told.values()]).sum(), "identity": identity, **told}


class ReaderStage:
    """Latent frames out of encoded ``clips``; batch: of frames, TAKES for each person."""

    def __init__(self, clips: EncodedClips, batch: int, seed: int = 0) -> None:
        if batch % TAKES or batch < 2 * TAKES:
            raise InputError(f"The batch of {batch} must hold two people or more {TAKES} times; choose a multiple.")
        if SURFACE not in clips.arrays:
            raise InputError("These latents do not say what they show of the head; make them anew from drawn clips.")
        self.clips, self.batch, self.seed = clips, batch, seed
        self._elsewhere = np.flatnonzero(clips.arrays["reference_kinds"][0] == ELSEWHERE)
        if len(self._elsewhere) < 2:
            raise InputError("These latents have fewer than 2 pictures from elsewhere; make them with --elsewhere 2.")
        heads = clips.arrays["vertices"].reshape(len(clips), -1)
        self._person = np.unique(heads, axis=0, return_inverse=True)[1].reshape(-1)  # who has the same head
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module: nn.Module = ReaderObjective(clips.arrays["latents"].shape[2])

    def settings(self) -> dict[str, Any]:
        """What the network reads."""
        return {"channels": self.clips.arrays["latents"].shape[2]}

    def batches(self, step: int, rank: int, world: int) -> Iterator[Batch]:
        """See :class:`loop.Stage`."""
        arrays, frames = self.clips.arrays, self.clips.arrays["latents"].shape[1]
        for _, draw in draws(len(self.clips), self.batch // TAKES, step, self.seed, rank, world):
            chosen, random = draw.indices, draw.random
            later = random.integers(1, max(2, frames), len(chosen)) % frames
            places = np.argsort(random.random((len(chosen), len(self._elsewhere))), axis=1)[:, :2].T
            shown = [arrays["latents"][chosen, 0], arrays["latents"][chosen, later]]
            shown += [arrays["reference_latents"][chosen, self._elsewhere[place]] for place in places]
            surfaces = [arrays[SURFACE][chosen, 0], arrays[SURFACE][chosen, later]]
            made = {
                "latents": np.concatenate(shown),
                "surface": np.concatenate(surfaces),
                "person": self._person[np.tile(chosen, TAKES)],
            }
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in made.items()}
            yield tensors | {"noise_seed": int(random.integers(0, 2**62))}

    def sheet(self, module: nn.Module, path: Path) -> None:
        """Where heads are found: for six clips how much of each cell is covered, the truth above."""
        from .sheets import write_rows

        with torch.no_grad():
            latents = torch.from_numpy(self.clips.arrays["latents"][:6, 0].astype(np.float32))
            reader = cast(ReaderObjective, module).reader
            found = reader(latents.to(reader.first.weight.device)).surface[:, :1].float().cpu()
        true = torch.from_numpy(self.clips.arrays[SURFACE][:6, 0, :1].astype(np.float32))
        rows = [nn.functional.interpolate(some.clamp(0, 1), scale_factor=8.0) for some in (true, found)]
        write_rows(path, [row.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy() for row in rows])

    def export(self, module: nn.Module, folder: Path) -> None:
        """The network alone."""
        save_latent_reader(cast(ReaderObjective, module).reader, folder / FILE)
