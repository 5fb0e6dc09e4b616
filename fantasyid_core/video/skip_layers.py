"""Skip-layer guidance: away from the video that the model makes when some of its blocks do not look around.

In a further model call per step the joint attention of a few blocks adds nothing: a weaker model, for nothing. What it
lacks is added so many times more. The paper and the release have no such thing. Source: after spatiotemporal skip
guidance (arXiv 2411.18664) and perturbed attention guidance (2403.17377), which leave out whole blocks or keep each
token's own value. What it does to the mini's videos is measured in docs/training.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ..errors import InputError

MINI_SCALE = 0.7  #: what the mini that ships looks best with (docs/training.md)


@dataclass(frozen=True)
class SkipLayers:
    """scale: how many times more of the difference, 0 = off. layers: whose attention is skipped, from 0; () = of the
    middle block. start: from which part of the steps on, 0..1; from 0 on, it took hair away from the mini's people and
    added contrast, to the eye. Raises InputError for a scale below 0 and for layers and parts that there cannot be."""

    scale: float = 0.0
    layers: tuple[int, ...] = ()
    start: float = 0.35

    def __post_init__(self) -> None:
        if not 0.0 <= self.scale < inf:
            raise InputError(f"Skip-layer guidance must be 0 (off) or above, not {self.scale:g}.")
        if any(layer < 0 for layer in self.layers):
            raise InputError(f"Layers are counted from 0, so {min(self.layers)} cannot be skipped.")
        if not 0.0 <= self.start <= 1.0:
            raise InputError(f"Skip-layer guidance may start at 0 to 1 of the steps, not {self.start:g}.")

    def acts(self, fraction: float) -> bool:
        """Whether it counts at ``fraction`` (step / steps, 0 ≤ fraction < 1)."""
        return self.scale > 0.0 and fraction >= self.start

    def within(self, blocks: int) -> frozenset[int]:
        """The layers as blocks of a model that has ``blocks`` of them. Raises InputError when it has fewer."""
        layers = frozenset(self.layers or (blocks // 2,))
        if max(layers) >= blocks:
            raise InputError(f"This model has the layers 0 to {blocks - 1}, so {max(layers)} cannot be skipped.")
        return layers


OFF = SkipLayers()


def parse_layers(text: str) -> tuple[int, ...]:
    """ "4" or "9, 10" → the layers; nothing → (), the middle one. Raises InputError for anything else."""
    try:
        return tuple(sorted({int(part) for part in text.replace(",", " ").split()}))
    except ValueError as error:
        raise InputError(f"Write the layers to skip as numbers, such as '9, 10', not '{text}'.") from error
