"""Torch's own files (.bin, .pt, .pth) as entries of a checkpoint, read by allow-list and memory-mapped."""

from __future__ import annotations

from pathlib import Path

import torch

from .streaming import DTYPES, TensorEntry
from .torch_archive import read_torch_archive, state_dict_of

TORCH_SUFFIXES = (".bin", ".pt", ".pth")
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_torch_header(path: Path) -> dict[str, TensorEntry]:
    """Every tensor of a torch file, none of them read yet.

    Raises CheckpointError when the file is truncated, holds no weights, or refers to anything that is no tensor.
    """
    tensors = state_dict_of(read_torch_archive(path), path.name)
    return {key: _entry(path, tensor.detach()) for key, tensor in tensors.items()}


def _entry(path: Path, tensor: torch.Tensor) -> TensorEntry:
    name = _NAMES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch.").upper())
    return TensorEntry(tuple(tensor.shape), name, path, tensor.data_ptr(), tensor.nbytes, tensor)
