"""A small network that reads latents of drawn heads, and the perceptual loss that is taken with its eyes.

The velocity's squared error counts every latent number alike, and a face's likeness, its eyes and its mouth are few of
them. With ``--perceptual`` the clean latents that a prediction implies must also look right to a network that tells
people, shapes and faces apart: its features at several depths, as in LPIPS (Zhang et al. 2018), here of latents
(Berrada et al. 2024). train_reader.py trains it on encoded clips; the metrics' networks take no part in it, nor it in
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..evaluation.head_network import Residual
from ..weights.network_file import NetworkFile
from .surface import CHANNELS

NETWORK_FILE = NetworkFile(
    "fantasyid latent reader 1",
    "latent reader",
    missing="`fantasyid train reader` makes one",
    damaged="train it again",
    made_by="fantasyid train reader",
)
IDENTITY = 128  #: numbers of an identity embedding
_WIDTH, _BLOCKS = 128, 4


class LatentReading(NamedTuple):
    """What N latent frames show. features: of the blocks, [N, 128, h, w] each. surface: [N, 10, h, w] as surface.py has
    it. identity: [N, 128] of length 1."""

    features: tuple[torch.Tensor, ...]
    surface: torch.Tensor
    identity: torch.Tensor


class LatentReader(nn.Module):
    """Single latent frames [N, C, h, w] of deviation about 1 → LatentReading."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.first = nn.Conv2d(channels, _WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList([Residual(_WIDTH) for _ in range(_BLOCKS)])
        self.surface_out = nn.Sequential(nn.GroupNorm(8, _WIDTH), nn.SiLU(), nn.Conv2d(_WIDTH, CHANNELS, 1))
        self.looks = nn.Sequential(
            nn.GroupNorm(8, _WIDTH), nn.SiLU(), nn.Conv2d(_WIDTH, 32, 1), nn.AdaptiveAvgPool2d(8), nn.Flatten(),
            nn.Linear(32 * 64, 256), nn.SiLU(), nn.Linear(256, IDENTITY),
        )  # fmt: skip

    def forward(self, latents: torch.Tensor) -> LatentReading:
        seen, features = self.first(latents), list[torch.Tensor]()
        for block in self.blocks:
            seen = block(seen)
            features.append(seen)
        return LatentReading(tuple(features), self.surface_out(seen), F.normalize(self.looks(seen), dim=1))


def perceptual_distance(reader: LatentReader, made: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """[N] how far ``made`` latents [N, C, h, w] are from the ``true`` ones to the reader's eyes: the mean, over its
    depths and its identity embedding, of the squared distances of features of length 1 (0 = alike, 2 = unrelated)."""
    with torch.no_grad():
        wanted = reader(true)
    found = reader(made)
    identity = (found.identity - wanted.identity).square().sum(dim=1)
    depths = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean(dim=(1, 2))
        for a, b in zip(found.features, wanted.features, strict=True)
    ]
    return torch.stack([identity, *depths]).mean(dim=0)


def load_latent_reader(path: Path) -> LatentReader:
    """The reader that :func:`save_latent_reader` wrote to ``path``, frozen. Raises MissingFileError where there is
    none, CheckpointError for a damaged file or another one."""
    state = NETWORK_FILE.read(path)
    reader = LatentReader(state["first.weight"].shape[1])
    NETWORK_FILE.fill(reader, state, path)
    return reader


def save_latent_reader(reader: LatentReader, path: Path) -> None:
    """Write it in halves, beside its place first."""
    NETWORK_FILE.save(reader, path)
