"""torch.compile of the repeated block, for one sampling."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from ..errors import InputError, MissingLibraryError
from .parallel import processes_sharing


def compiler_missing(device: torch.device | str) -> str:
    """What torch.compile lacks for ``device``, or "": Triton on a card, a C++ compiler on a CPU."""
    if torch.device(device).type != "cpu":
        return "" if find_spec("triton") is not None else "the package triton"
    return "" if any(shutil.which(name) for name in ("g++", "clang++", "cl")) else "a C++ compiler (g++)"


@contextmanager
def compiled_blocks(model: Any, wanted: bool, **options: Any) -> Iterator[None]:
    """Within it the repeated blocks of ``model`` are compiled (all of them by one compilation) if ``wanted``.

    What was compiled stays with torch, so a second sampling of the same size starts at once. ``options`` are
    torch.compile's. Raises MissingLibraryError when there is no compiler, and InputError for a model with F_l whose
    tokens several processes share, because it gathers them in the middle of a block.
    """
    if not wanted:
        yield
        return
    if processes_sharing(model) > 1 and model.model_config.injection.layer_block:
        raise InputError(
            "This model's blocks cannot be compiled for several processes; switch compile_blocks off, or start one."
        )
    lacking = compiler_missing(next(model.parameters()).device)
    if lacking:
        raise MissingLibraryError(f"Compiling blocks needs {lacking}; install it, or switch compile_blocks off.")
    blocks: list[nn.Module] = [m for m in model.modules() if type(m).__name__ in model._repeated_blocks]
    before = [block._compiled_call_impl for block in blocks]
    try:
        for block in blocks:
            block.compile(**options)
        yield
    finally:
        for block, was in zip(blocks, before, strict=True):
            block._compiled_call_impl = was
