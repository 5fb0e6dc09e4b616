"""The one hook for long steps: progress, preview and cancel."""

from __future__ import annotations

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
