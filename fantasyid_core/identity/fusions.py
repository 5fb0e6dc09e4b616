"""How the 2D tokens of several views become those of one person: the registry of the room's swappable part.

To add one: write a class with the method of ``Fusion``, and add a line to FUSIONS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from ..arrays import FloatArray
from ..errors import InputError
from .mix import norm_average

#: ``encode(i)`` → [T2, C], the 2D tokens of view i. Views that a fusion does not ask for are never encoded.
EncodeView = Callable[[int], torch.Tensor]


class Fusion(Protocol):
    """Views → 2D tokens."""

    def fuse(
        self,
        encode: EncodeView,
        weights: FloatArray,  # [N] ≥ 0, their sum above 0
    ) -> torch.Tensor:  # [k · T2, C]
        """The 2D tokens; the **first T2 rows** are also what the 3D branch reads. View 0 is the reference."""


class ReferenceFusion:
    """The reference view alone, as the release does; weights and further views are ignored."""

    def fuse(self, encode: EncodeView, weights: FloatArray) -> torch.Tensor:  # → [T2, C]
        return encode(0)


class MeanFusion:
    """The weighted mean, token by token: aligned crops put the same part of the face into the same token."""

    def fuse(self, encode: EncodeView, weights: FloatArray) -> torch.Tensor:  # → [T2, C]
        total = float(weights.sum())
        shares = [(int(view), float(weights[view]) / total) for view in np.flatnonzero(weights)]
        return torch.stack([encode(view).float() * share for view, share in shares]).sum(0)


class NormAverageFusion:
    """The weighted mean of directions, token by token: a view with longer tokens does not outweigh the others."""

    def fuse(self, encode: EncodeView, weights: FloatArray) -> torch.Tensor:  # → [T2, C]
        views = [int(view) for view in np.flatnonzero(weights)]
        shares = torch.tensor([float(weights[view]) for view in views])
        return norm_average(torch.stack([encode(view).float() for view in views]), shares / shares.sum())


class ConcatFusion:
    """All views with a weight above 0 side by side: the video's attention chooses among them.

    How far above 0 a weight is has no meaning here. The 3D branch reads the first of these views.
    """

    def fuse(self, encode: EncodeView, weights: FloatArray) -> torch.Tensor:  # → [k · T2, C]
        return torch.cat([encode(int(view)) for view in np.flatnonzero(weights)])


FUSIONS: dict[str, Fusion] = {
    "reference": ReferenceFusion(),
    "mean": MeanFusion(),
    "concat": ConcatFusion(),
    "norm average": NormAverageFusion(),
}


def fusion(name: str) -> Fusion:
    """The fusion called ``name``. Raises InputError for an unknown one."""
    if name not in FUSIONS:
        raise InputError(f"There is no fusion called '{name}'; choose one of: {', '.join(FUSIONS)}.")
    return FUSIONS[name]
