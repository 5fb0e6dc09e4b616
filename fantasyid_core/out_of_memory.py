"""What a device says when its memory is full, and what can be done before trying a smaller step."""

from __future__ import annotations

import gc

import torch

#: What MPS and the CPU say, which have no exception of their own.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device's memory is full (CUDA, ROCm, MPS or main memory)."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def release_unused() -> None:
    """Give back what nobody holds any more. Call it outside the ``except`` block: the error holds its tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
