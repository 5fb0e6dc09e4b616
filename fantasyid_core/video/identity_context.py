"""The identity as the sampler carries it: every layer's keys and values, computed once per generation."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch

from ..errors import InputError
from .layer_attention import LayerIdentity
from .strength import LayerStrength


@dataclass(frozen=True, eq=False)
class IdentityContext:
    """One identity, ready for every identity layer of one model.

    keys_values: per identity layer, keys and values [1 or B, heads, T, head_dim]; a batch of 1 serves every batch.
    strength: factor per identity layer, 1 = as trained, 0 = the layer is skipped; None = 1 everywhere.
    region: [1 or B, N] factor 0..1 per video token (frames, then rows, then columns of the patch grid), None = all.
    """

    keys_values: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    strength: tuple[float, ...] | None = None
    region: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and len(self.strength) != len(self.keys_values):
            raise InputError(
                f"The model has {len(self.keys_values)} identity layers, but {len(self.strength)} strengths were given."
            )

    def with_strength(self, strength: tuple[float, ...] | None) -> IdentityContext:
        """The same identity at another strength per identity layer."""
        return replace(self, strength=strength)

    def with_region(self, region: torch.Tensor | None) -> IdentityContext:
        """The same identity for the video tokens of ``region`` [1 or B, N] only."""
        return replace(self, region=region)

    def in_frames(self, span: slice, frames: int) -> IdentityContext:
        """The same identity for the latent frames ``span`` of ``frames``: its region is cut to them."""
        if self.region is None:
            return self
        by_frame = self.region.unflatten(1, (frames, -1))  # (1 or B, F, H·W)
        return self.with_region(by_frame[:, span].flatten(1))

    @property
    def stamp(self) -> Hashable:
        """Equal in two steps exactly when the identity acts alike in both."""
        return self.strength

    @property
    def is_silent(self) -> bool:
        """Whether every layer's strength is 0, which is the same as no identity at all."""
        return self.strength is not None and not any(self.strength)

    def at(self, strength: LayerStrength, fraction: float) -> IdentityContext | None:
        """The identity as it acts ``fraction`` of the way through the denoising; None when it does not act at all."""
        now = self.with_strength(strength.for_layers(len(self.keys_values), fraction))
        return None if now.is_silent else now

    def layer(self, index: int, grid: tuple[int, int, int]) -> tuple[LayerIdentity, ...]:
        """What identity layer ``index`` needs on a patch grid of (frames, rows, columns): nothing at strength 0.

        One entry, in a tuple because there may be several people (people_context.py). Raises InputError when the
        region is not of that grid.
        """
        factor = 1.0 if self.strength is None else self.strength[index]
        if factor == 0.0:
            return ()
        key, value = self.keys_values[index]
        # a tensor, not a number: a compiled block must not be compiled again for each layer's strength
        strength = None if factor == 1.0 else torch.full((), factor, device=key.device)
        return (LayerIdentity(key, value, strength, self._region_of(grid), grid),)

    def _region_of(self, grid: tuple[int, int, int]) -> torch.Tensor | None:
        if self.region is None:
            return None
        frames, rows, columns = grid
        if self.region.ndim != 2 or self.region.shape[1] != frames * rows * columns:
            raise InputError(
                f"The identity region must be [batch, {frames * rows * columns}] for this video size, "
                f"but it is {list(self.region.shape)}."
            )
        return self.region[..., None]  # (1 or B, N, 1)
