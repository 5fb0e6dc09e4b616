"""Tensors straight out of a file: the safetensors header, memory-mapped views, and reading in another dtype.

Reading never holds a second copy: a tensor that is wanted in the file's own dtype is a memory-mapped view (its pages
come from the disk when they are first touched), one that is wanted in another dtype is converted through a small
staging buffer. Every tensor is checked for NaN and infinity on its way, which costs a fraction of reading it.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch

from ..errors import CheckpointError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_OTHER_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2}
_OTHER_SIZES |= {"I32": 4, "U32": 4, "I64": 8, "U64": 8}
_STAGING = 32 << 20  #: bytes read at a time when a tensor changes its dtype
_AHEAD = 256 << 20  #: bytes the operating system is asked to read ahead of us
_HEADER_LIMIT = 100 << 20
_MADV_PAGEOUT = 21  #: Linux's number; unlike MADV_DONTNEED it never loses what was written


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: ``nbytes`` little-endian bytes in C order from ``offset`` of ``file`` on.

    dtype: the name safetensors gives it ("BF16", "F32", …). held: the memory-mapped tensor itself where the file is a
    torch archive; ``offset`` then only orders the tensors.
    """

    shape: tuple[int, ...]
    dtype: str
    file: Path
    offset: int
    nbytes: int
    held: torch.Tensor | None = field(default=None, repr=False, compare=False)


def read_header(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors and the metadata of one .safetensors file, without reading a single weight.

    Raises CheckpointError when the file is truncated, is something else under this name, or contradicts itself.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        _check_start(path, size, start + file.read(64), length)
        file.seek(8)
        text = file.read(length)
    try:
        header: dict[str, Any] = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        entries = {key: _entry(path, 8 + length, row) for key, row in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path.name} has a wrong safetensors header ({error}); download or convert the file again."
        ) from error
    _check_end(path, size, entries)
    return entries, metadata


def _check_start(path: Path, size: int, start: bytes, length: int) -> None:
    kinds = {
        b"PK\x03\x04": "a torch archive or zip under a wrong name: rename it to .pt or .bin",
        b"\x80": "a pickle under a wrong name",
        b"version https://": "a Git LFS pointer, not the file itself: download the file",
        b"<": "a web page, not the file: download it again",
        b"GGUF": "a GGUF file, which this loader does not read",
    }
    for prefix, meaning in kinds.items():
        if start.startswith(prefix) and length > _HEADER_LIMIT:
            raise CheckpointError(f"{path.name} is {meaning}.")
    if size < 8 or length > min(size - 8, _HEADER_LIMIT):
        raise CheckpointError(
            f"{path.name} ({size:,} bytes) is truncated or has a wrong safetensors header; download it again."
        )


def _entry(path: Path, data_start: int, row: dict[str, Any]) -> TensorEntry:
    shape = tuple(int(n) for n in row["shape"])
    begin, end = (int(n) for n in row["data_offsets"])
    dtype = str(row["dtype"])
    itemsize = DTYPES[dtype].itemsize if dtype in DTYPES else _OTHER_SIZES.get(dtype)
    if min(shape, default=0) < 0 or begin < 0 or (itemsize and end - begin != prod(shape) * itemsize):
        raise ValueError(f"{prod(shape)} values of {dtype} do not fill bytes {begin} to {end}")
    return TensorEntry(shape, dtype, path, data_start + begin, end - begin)


def _check_end(path: Path, size: int, entries: Mapping[str, TensorEntry]) -> None:
    needed = max((entry.offset + entry.nbytes for entry in entries.values()), default=0)
    if size < needed:
        raise CheckpointError(
            f"{path.name} is truncated: it holds {size:,} of {needed:,} bytes "
            f"({100 * size / needed:.0f} %), a half-downloaded shard; download it again."
        )


@dataclass
class TensorReader:
    """Reads tensors of any number of files; a context manager. ``check``: refuse NaN and infinity.

    The mapped views stay valid after the reader is closed; they keep their file mapped as long as they live.
    """

    check: bool = True
    _files: dict[Path, BinaryIO] = field(default_factory=dict)
    _maps: dict[Path, mmap.mmap] = field(default_factory=dict)
    _asked: dict[Path, int] = field(default_factory=dict)

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._maps.clear()

    def stream(
        self, entries: Mapping[str, TensorEntry], dtypes: Mapping[str, torch.dtype]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors named in ``dtypes``, each in the dtype given there, in the order of the files."""
        wanted = sorted(dtypes, key=lambda key: (str(entries[key].file), entries[key].offset))
        for key in wanted:
            yield key, self.read(key, entries[key], dtypes[key])

    def read(self, key: str, entry: TensorEntry, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One tensor in ``dtype`` (None: as stored). Raises CheckpointError for a dtype that is no float, or NaN."""
        stored = stored_dtype(key, entry)
        if entry.nbytes == 0:
            return torch.empty(entry.shape, dtype=dtype or stored)
        if entry.held is not None:
            tensor = _converted_view(entry.held, dtype or stored)
        elif dtype in (None, stored) and entry.offset % stored.itemsize == 0:
            tensor = self._mapped(entry, stored)
        else:
            tensor = self._converted(entry, stored, dtype or stored)
        if self.check:
            check_finite(key, tensor, entry.file)
        return tensor

    def forget(self, entry: TensorEntry) -> None:
        """Give back the memory pages of a tensor that was read as a view and is not needed any more."""
        if entry.held is not None:
            release_pages(entry.held)
        elif entry.file in self._maps and entry.nbytes:
            raw = torch.frombuffer(self._maps[entry.file], dtype=torch.uint8, count=entry.nbytes, offset=entry.offset)
            release_pages(raw)

    def _mapped(self, entry: TensorEntry, stored: torch.dtype) -> torch.Tensor:
        self._read_ahead(entry)
        if entry.file not in self._maps:
            self._maps[entry.file] = _private_map(self._open(entry.file))
        view = torch.frombuffer(self._maps[entry.file], dtype=stored, count=prod(entry.shape), offset=entry.offset)
        return view.view(entry.shape)

    def _converted(self, entry: TensorEntry, stored: torch.dtype, dtype: torch.dtype) -> torch.Tensor:
        """Read in pieces of ``_STAGING`` bytes, each converted as it arrives."""
        self._read_ahead(entry)
        file = self._open(entry.file)
        file.seek(entry.offset)
        out = torch.empty(prod(entry.shape), dtype=dtype)
        staging = self._staging.view(stored)
        for start in range(0, out.numel(), staging.numel()):
            part = staging[: out.numel() - start]
            _fill(file, part, entry.file)
            out[start : start + part.numel()].copy_(part)
        return out.view(entry.shape)

    @cached_property
    def _staging(self) -> torch.Tensor:
        """[_STAGING] bytes, used again for every tensor: fresh memory is slower than the copy itself."""
        return torch.empty(_STAGING, dtype=torch.uint8)

    def _open(self, path: Path) -> BinaryIO:
        if path not in self._files:
            self._files[path] = path.open("rb", buffering=0)  # type: ignore[assignment]
        return self._files[path]

    def _read_ahead(self, entry: TensorEntry) -> None:
        """Ask for the next stretch of the file whenever less than half of the last one is left."""
        end = entry.offset + entry.nbytes
        asked = self._asked.get(entry.file, entry.offset)
        if hasattr(os, "posix_fadvise") and end + _AHEAD // 2 > asked:
            length = end + _AHEAD - asked
            os.posix_fadvise(self._open(entry.file).fileno(), asked, length, os.POSIX_FADV_WILLNEED)
            self._asked[entry.file] = asked + length


def stored_dtype(key: str, entry: TensorEntry) -> torch.dtype:
    """The torch dtype of a stored tensor; CheckpointError for integers and 8-bit floats."""
    if entry.dtype not in DTYPES:
        raise CheckpointError(
            f"{entry.file.name} holds {key} as {entry.dtype}: quantised or integer weights cannot be loaded here; "
            "use the bf16, fp16 or fp32 file."
        )
    return DTYPES[entry.dtype]


def check_finite(key: str, tensor: torch.Tensor, file: Path) -> None:
    """Raise CheckpointError when ``tensor`` [any shape] holds NaN or infinity (they pass through min and max)."""
    if tensor.numel() == 0:
        return
    low, high = tensor.aminmax()
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise CheckpointError(
            f"{file.name}: the weights of {key} hold NaN or infinity as {tensor.dtype}, so the file is damaged or a "
            "training run diverged; download it again or use an earlier checkpoint."
        )


def _converted_view(view: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A memory-mapped tensor [any shape] in ``dtype``: itself, or a copy whose source pages are given back."""
    if view.dtype == dtype:
        return view
    copy = view.to(dtype)
    release_pages(view)
    return copy


def release_pages(view: torch.Tensor) -> None:
    """Tell the system that a mapped tensor [any shape] is not needed soon; its content stays (Linux; else nothing)."""
    page = mmap.PAGESIZE
    start = -(-view.data_ptr() // page) * page
    end = (view.data_ptr() + view.nbytes) // page * page
    if sys.platform.startswith("linux") and view.is_contiguous() and end > start:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_PAGEOUT)


def _private_map(file: BinaryIO) -> mmap.mmap:
    """A copy-on-write map: reading shares the system's file cache, writing into a weight never reaches the file."""
    if os.name == "nt":
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
    return mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _fill(file: BinaryIO, tensor: torch.Tensor, path: Path) -> None:
    """Read exactly ``tensor`` [n] from where ``file`` stands."""
    buffer = memoryview(tensor.view(torch.uint8).numpy().data)
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(f"{path.name} ended early while it was read; download it again.")
        done += count
