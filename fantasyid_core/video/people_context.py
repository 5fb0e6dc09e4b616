"""Several people as the sampler carries them: each with keys and values, a region and a strength of their own."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from .identity_context import IdentityContext
from .layer_attention import LayerIdentity
from .strength import LayerStrength


@dataclass(frozen=True, eq=False)
class PeopleContext:
    """Everybody in one video; used where one person's :class:`IdentityContext` is used.

    contexts: one per person, each with its region. strengths: one per person, by layer and part of the steps; the
    sampler's own strength multiplies them.
    """

    contexts: tuple[IdentityContext, ...]
    strengths: tuple[LayerStrength, ...]

    def at(self, strength: LayerStrength, fraction: float) -> PeopleContext | None:
        """Everybody who acts ``fraction`` of the way through the denoising; None when nobody does."""
        acting = [
            (self._now(person, strength, fraction), self.strengths[person]) for person in range(len(self.contexts))
        ]
        acting = [(context, own) for context, own in acting if not context.is_silent]
        return PeopleContext(*map(tuple, zip(*acting, strict=True))) if acting else None

    @property
    def stamp(self) -> Hashable:
        """Equal in two steps exactly when everybody acts alike in both."""
        return tuple((id(context.keys_values), context.stamp) for context in self.contexts)

    def in_frames(self, span: slice, frames: int) -> PeopleContext:
        """The same people for the latent frames ``span`` of ``frames``: their regions are cut to them."""
        return replace(self, contexts=tuple(context.in_frames(span, frames) for context in self.contexts))

    def layer(self, index: int, grid: tuple[int, int, int]) -> tuple[LayerIdentity, ...]:
        """What identity layer ``index`` needs of each person who acts in it; see :meth:`IdentityContext.layer`."""
        return tuple(entry for context in self.contexts for entry in context.layer(index, grid))

    def _now(self, person: int, strength: LayerStrength, fraction: float) -> IdentityContext:
        layers = len(self.contexts[person].keys_values)
        everybody, own = (each.for_layers(layers, fraction) for each in (strength, self.strengths[person]))
        return self.contexts[person].with_strength(tuple(a * b for a, b in zip(everybody, own, strict=True)))
