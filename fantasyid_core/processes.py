"""The processes that ``torchrun`` or ``accelerate launch`` started for one command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .errors import InputError

#: NCCL for what lies on cards, Gloo for sizes, whose exchange need not wait for a card.
CARDS = "cpu:gloo,cuda:nccl"


@dataclass(frozen=True)
class Processes:
    """rank: of this process, 0 .. count − 1. device: its own."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes and talks."""
        return self.rank == 0


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """All of them connected, one card each or all on the CPU; a single one when nothing started several.

    Raises InputError when they cannot find each other.
    """
    from accelerate import PartialState

    started, options = int(os.environ.get("WORLD_SIZE", "1")), dict[str, Any]()
    if started > 1:  # accelerate takes processes without a card for strangers unless it is told
        options = {"backend": CARDS} if torch.cuda.is_available() else {"cpu": True}
    state = PartialState(**options)
    if state.num_processes != started:
        raise InputError(
            f"{started} processes were started, but only {state.num_processes} found each other; "
            "start them with torchrun or accelerate launch, one per card."
        )
    try:
        yield Processes(state.process_index, state.num_processes, state.device)
    finally:
        if started > 1:
            state.destroy_process_group()
