"""Writes a .safetensors file tensor by tensor, so that a model of any size passes through a small memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch

from ..errors import InputError
from .streaming import DTYPES

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 64  #: of the first tensor in the file, so that mapped views start on a cache line


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder; renamed to ``path`` when the block ends well, deleted when it does not.

    Raises InputError when the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise InputError(
            f"Nothing can be written into {path.parent} ({error.strerror}); choose another folder."
        ) from error
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class TensorWriter:
    """Writes tensors in the order in which they were announced.

    shapes: key → shape. dtypes: key → dtype. Raises InputError when the disk has too little room.
    """

    def __init__(
        self,
        file: BinaryIO,
        shapes: Mapping[str, tuple[int, ...]],
        dtypes: Mapping[str, torch.dtype],
        metadata: Mapping[str, str],
        folder: Path,
    ) -> None:
        self._file, self._pending = file, list(shapes)
        self._shapes, self._dtypes = shapes, dtypes
        header, self.nbytes = _header(shapes, dtypes, metadata)
        free = shutil.disk_usage(folder).free
        if free < self.nbytes + len(header):
            raise InputError(
                f"The file needs {self.nbytes / 1e9:.1f} GB but {folder} has {free / 1e9:.1f} GB left; make room first."
            )
        file.write(header)

    def write(self, key: str, tensor: torch.Tensor) -> None:  # [any shape]
        """The next tensor; its key, shape and dtype must be the announced ones."""
        if not self._pending or self._pending[0] != key:
            raise ValueError(f"{key} is not the tensor that comes next")
        if tuple(tensor.shape) != tuple(self._shapes[key]) or tensor.dtype != self._dtypes[key]:
            raise ValueError(f"{key} is not what was announced")
        self._pending.pop(0)
        if tensor.numel():
            self._file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def finish(self) -> None:
        """Everything announced was written."""
        if self._pending:
            raise ValueError(f"{len(self._pending)} tensors were announced but not written")


def _header(
    shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, torch.dtype], metadata: Mapping[str, str]
) -> tuple[bytes, int]:
    rows: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for key, shape in shapes.items():
        start, end = end, end + prod(shape) * dtypes[key].itemsize
        rows[key] = {"dtype": _NAMES[dtypes[key]], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(rows, separators=(",", ":")).encode("utf-8")
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, end
