"""Presets for cards of 8, 12, 16, 24 and 80 GB: how a generation keeps to the memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import InputError
from .slices import ROWS_AT_ONCE

Offload = Literal["none", "parts", "blocks"]

LARGE_TILE, TILE = 64, 32  #: latent values per side of a decoding tile (8 pixels each)


@dataclass(frozen=True)
class MemoryPreset:
    """How a generation keeps to a card's memory. None of them changes the video but for rounding and blended tiles.

    offload: "none": all parts stay on the device. "parts": each lies there while it works. "blocks": transformer and
    text encoder are streamed to it block by block. negative: prompt and negative prompt in one batch, or one after the
    other. rows: of a feed-forward at once. tile: side of a decoding tile in latent values, 0 = whole frames.
    """

    name: str
    offload: Offload
    negative: Literal["batched", "sequential"]
    rows: int
    tile: int

    @property
    def placing(self) -> str:
        """Where the weights lie, in words."""
        return {
            "none": "everything stays on the card",
            "parts": "text encoder, transformer and VAE take turns",
            "blocks": "transformer and text encoder are streamed block by block",
        }[self.offload]

    @property
    def sampling(self) -> str:
        """How a step is made, in words."""
        guidance = "both prompts at once" if self.negative == "batched" else "one prompt after the other"
        return guidance + (f", {self.rows} rows at a time" if self.rows < ROWS_AT_ONCE else "")

    @property
    def decoding(self) -> str:
        """How frames are decoded, in words."""
        return f"decoded in tiles of {8 * self.tile} pixels" if self.tile else "whole frames decoded"

    def __str__(self) -> str:
        return f"{self.placing}; {self.sampling}; {self.decoding}"


#: By the size of the card in GB, the largest first.
MEMORY_PRESETS = (
    MemoryPreset("80", "none", "batched", ROWS_AT_ONCE, 0),
    MemoryPreset("24", "parts", "batched", ROWS_AT_ONCE, 0),
    MemoryPreset("16", "parts", "sequential", ROWS_AT_ONCE, 0),
    MemoryPreset("12", "blocks", "batched", ROWS_AT_ONCE, LARGE_TILE),
    MemoryPreset("8", "blocks", "sequential", 1024, TILE),
)

AUTO, OFF = "auto", "off"  #: instead of a preset: the one that fits; none, every part stays where it was loaded
MEMORY_CHOICES = (AUTO, OFF, *(preset.name for preset in MEMORY_PRESETS))


def presets_from(name: str) -> tuple[MemoryPreset, ...]:
    """The preset called ``name`` and all smaller ones. Raises InputError, naming them all, when there is none."""
    names = [preset.name for preset in MEMORY_PRESETS]
    if name not in names:
        raise InputError(f"There is no memory preset '{name}'; choose one of: {', '.join(names)}.")
    return MEMORY_PRESETS[names.index(name) :]
