"""Presets for cards of 8, 12, 16, 24 and 80 GB: how a generation keeps to the memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .slices import ROWS_AT_ONCE

Offload = Literal["none", "parts", "blocks"]

LARGE_TILE, TILE, SMALLEST_TILE = 64, 32, 16  #: latent values per side of a decoding tile (8 pixels each)


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

    def __str__(self) -> str:
        where = {
            "none": "everything stays on the card",
            "parts": "text encoder, transformer and VAE take turns",
            "blocks": "transformer and text encoder are streamed block by block",
        }[self.offload]
        guidance = "both prompts at once" if self.negative == "batched" else "one prompt after the other"
        decoding = f"decoded in tiles of {8 * self.tile} pixels" if self.tile else "whole frames decoded"
        return f"{where}; {guidance}; {decoding}"


#: By the size of the card in GB, the largest first.
MEMORY_PRESETS = (
    MemoryPreset("80", "none", "batched", ROWS_AT_ONCE, 0),
    MemoryPreset("24", "parts", "batched", ROWS_AT_ONCE, 0),
    MemoryPreset("16", "parts", "sequential", ROWS_AT_ONCE, 0),
    MemoryPreset("12", "blocks", "batched", ROWS_AT_ONCE, LARGE_TILE),
    MemoryPreset("8", "blocks", "sequential", 1024, TILE),
)
