"""Leave out blocks in steps that would hardly differ from the step before.

From one denoising step to the next, what the blocks add to the video tokens changes slowly. So a step may take over
what they added last (or extrapolate it) instead of running them. One mechanism, three rules for when: after first-block
cache (ParaAttention), TaylorSeer, and MagCache. Unlike diffusers' hooks, a skipped block is not even called, one tensor
per branch is remembered instead of several per block, and each branch and context window has a memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from .levers import Levers

#: Runs block ``i`` on video [B, N, C] and text [B, L, C].
RunBlock = Callable[[int, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Mean = Callable[[torch.Tensor], torch.Tensor]


class ThroughBlocks(Protocol):
    """Takes video and text through the transformer's blocks in a way of its own."""

    def through(self, run: RunBlock, blocks: int, video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Video [B, N, C] behind all ``blocks``."""
        ...


@dataclass
class _Memory:
    """What one branch remembers. added: (step, what the skippable blocks added [1, N, C]), newest last."""

    added: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    first: torch.Tensor | None = None  # what the first block added at the last computed step
    stamp: Hashable = None
    rate: float | None = None  # growth of the size of what is added, per step
    grown: float = 1.0  # since the last computed step, as far as the rate tells
    error: float = 0.0  # summed over the skipped steps

    def drift(self) -> float:
        """MagCache's error, were one more step skipped."""
        assert self.rate is not None
        return self.error + abs(1.0 - self.grown * self.rate)


class StepCache:
    """The memory of one sampling; :meth:`call` gives what one model call needs of it.

    mean: of a tensor with a row per token; with context parallelism over all processes (parallel.mean_over_shares).
    """

    def __init__(self, levers: Levers, mean: Mean = torch.mean) -> None:
        self.levers, self.mean = levers, mean
        self._memories: dict[Hashable, _Memory] = {}

    def call(
        self, rows: Sequence[Hashable], step: int, fraction: float, stamp: Hashable = None, whole: bool = False
    ) -> CachedCall:
        """For a batch with these ``rows``: what each is called from step to step.

        stamp: what else decides what the blocks add, such as the identity's strength; when it changes, they are run.
        whole: run them in any case.
        """
        memories = [self._memories.setdefault(row, _Memory()) for row in rows]
        may_skip = self.levers.may_skip(fraction) and not whole
        return CachedCall(self.levers, memories, step, may_skip, stamp, self.mean)


@dataclass
class CachedCall:
    """One model call, whose blocks run or not."""

    levers: Levers
    memories: list[_Memory]
    step: int
    may_skip: bool
    stamp: Hashable
    mean: Mean = torch.mean

    def through(self, run: RunBlock, blocks: int, video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Video [B, N, C] behind all ``blocks``, or a guess at it without most of them."""
        first = None
        if self.levers.cache == "first block":
            before = video
            video, text = run(0, video, text)
            first = video - before
        if self.may_skip and self._is_known() and self._is_near(first):
            return video + self._guess()
        start = video
        for i in range(0 if first is None else 1, blocks):
            video, text = run(i, video, text)
        self._remember(video - start, first)
        return video

    def _is_known(self) -> bool:
        """Whether all rows have something to take over, of the same kind and of few steps ago."""
        return all(
            m.added and m.stamp == self.stamp and 1 <= self.step - m.added[-1][0] <= self.levers.cache_most
            for m in self.memories
        )

    def _is_near(self, first: torch.Tensor | None) -> bool:
        if first is not None:
            then = torch.cat([m.first for m in self.memories if m.first is not None])
            change = self.mean((first - then).abs()) / self.mean(then.abs())
            return bool(change <= self.levers.cache_threshold)
        if self.levers.cache == "magnitude":
            return all(m.rate is not None and m.drift() <= self.levers.cache_threshold for m in self.memories)
        return True

    def _guess(self) -> torch.Tensor:
        """What the blocks would add, [B, N, C]."""
        for m in self.memories:
            if m.rate is not None:
                m.error, m.grown = m.drift(), m.grown * m.rate
        return torch.cat([_extrapolated(m.added, self.step) for m in self.memories])

    def _remember(self, added: torch.Tensor, first: torch.Tensor | None) -> None:
        for row, m in enumerate(self.memories):
            now, alike = added[row : row + 1], m.stamp == self.stamp
            before = [entry for entry in m.added if alike and entry[0] < self.step]  # a call may be a repeated one
            if self.levers.cache == "magnitude":
                m.rate = self._rate(before, now)
            m.added = [*before, (self.step, now)][-1 - self.levers.cache_order :]
            m.first = None if first is None else first[row : row + 1]
            m.stamp, m.grown, m.error = self.stamp, 1.0, 0.0

    def _rate(self, before: list[tuple[int, torch.Tensor]], now: torch.Tensor) -> float | None:
        """Growth per step of the size of what is added, the mean over the tokens; None without a step before."""
        if not before:
            return None
        then, value = before[-1]
        growth = self.mean(now.float().norm(dim=-1) / value.float().norm(dim=-1).clamp(min=1e-12))
        return float(growth) ** (1.0 / (self.step - then))


def _extrapolated(added: list[tuple[int, torch.Tensor]], step: int) -> torch.Tensor:
    """The polynomial over the steps through all that is remembered, at ``step`` (one tensor: that one)."""
    if len(added) == 1:
        return added[0][1]
    total = torch.zeros_like(added[0][1])
    for i, (at, value) in enumerate(added):
        weight = 1.0
        for j, (other, _) in enumerate(added):
            if i != j:
                weight *= (step - other) / (at - other)
        total += weight * value
    return total
