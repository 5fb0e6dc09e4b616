"""The one hook for long steps (progress, preview and cancel), and what a command says on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Called as ``report(done, total, preview)`` after each unit of work. ``preview`` is the current estimate of the
#: clean latents [1, F, C, H, W] while sampling, else None. It cancels the work by raising: whatever it raises passes
#: through untouched.
ProgressCallback = Callable[[int, int, "torch.Tensor | None"], None]


def silent(done: int, total: int, preview: torch.Tensor | None = None) -> None:
    """Report nothing."""


def progress_bar(stage: str) -> ProgressCallback:
    """A bar of its own for one stage, on standard error."""
    from tqdm import tqdm

    bar = tqdm(desc=f"{stage:<10}", unit="", leave=True)

    def report(done: int, total: int, preview: object = None) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return report


def say(*lines: str) -> None:
    """Lines on standard output; empty ones are left out."""
    sys.stdout.write("".join(f"{line}\n" for line in lines if line))
