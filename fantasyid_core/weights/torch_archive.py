"""Reads torch's own files (.pt, .bin, .tar, .pth; the zip form and the one before torch 1.6) without torch.load.

``torch.load(weights_only=True)`` was broken twice (mended in torch 2.6 and 2.10), and a user's torch is what it is. So
the file is read here, with the same allow-listed machine as the old pickles: nothing that it names is ever called, on
every torch version. Tensors are memory-mapped views of the file.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .pickle_machine import Built, Global, PersistentId, PickleMachine
from .safe_pickle import BUILDERS, PERSISTENT, Builder, Resolver

_MAX_PICKLE = 256 << 20  #: the list of tensors; a checkpoint of 2400 has 0.3 MB
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass
class _Storages:
    """Where each storage of the file lies: key → (offset, bytes); and the map they are views of."""

    file: str
    bytes_: mmap.mmap
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    made: dict[tuple[str, torch.dtype], torch.Tensor] = field(default_factory=dict)

    def tensor(self, key: str, dtype: torch.dtype, count: int) -> torch.Tensor:
        """[count] values of storage ``key``, a view of the file."""
        offset, size = self.places[key]
        if count * dtype.itemsize != size:
            raise ValueError(f"storage {key} has {size:,} bytes, not {count:,} values")
        if (key, dtype) not in self.made:
            self.made[key, dtype] = self._view(offset, dtype, count)
        return self.made[key, dtype]

    def _view(self, offset: int, dtype: torch.dtype, count: int) -> torch.Tensor:
        if count == 0:
            return torch.empty(0, dtype=dtype)
        if offset % dtype.itemsize == 0:
            return torch.frombuffer(self.bytes_, dtype=dtype, count=count, offset=offset)
        size = count * dtype.itemsize  # the old form does not align; a copy does
        return torch.frombuffer(bytearray(self.bytes_[offset : offset + size]), dtype=dtype)


def read_torch_archive(path: Path) -> Any:
    """What ``torch.save`` put into ``path``: dictionaries, lists and plain values, with tensors on the CPU.

    Tensors share the memory-mapped file and writing into them never reaches it; parameters come back as plain tensors.
    Raises CheckpointError when the file is truncated, is something else, or refers to anything that is no tensor.
    """
    try:
        with path.open("rb") as file:
            bytes_ = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except ValueError as error:
        raise CheckpointError(f"{path.name} is empty; download it again.") from error
    storages = _Storages(path.name, bytes_)
    if bytes_[:4] == b"PK\x03\x04":
        machine = PickleMachine(_zip_members(path, storages), _TORCH.keys(), path.name, persistent=True)
        return _resolver(storages, len(machine.data)).resolve(machine.run())
    if bytes_[:1] == b"\x80":
        return _read_legacy(storages)
    raise CheckpointError(f"{path.name} is no torch file (.pt, .bin, .pth); download it again.")


def state_dict_of(value: Any, file: str) -> dict[str, torch.Tensor]:
    """The weights in ``value`` from ``read_torch_archive``: itself, or what lies under state_dict, module or model.

    Raises CheckpointError when there is no dictionary of tensors.
    """
    for name in ("state_dict", "module", "model"):
        if isinstance(value, Mapping) and isinstance(value.get(name), Mapping):
            value = value[name]
    if not isinstance(value, Mapping) or not value or not all(isinstance(t, torch.Tensor) for t in value.values()):
        raise CheckpointError(f"{file} holds no weights that could be loaded; check that it is the right file.")
    return dict(value)


def _zip_members(path: Path, storages: _Storages) -> bytes:
    """Note where the storages lie and return the pickle that describes the tensors."""
    data = storages.bytes_
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: _stored(data, member, path.name) for member in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error) as error:
        raise CheckpointError(f"{path.name} is truncated or damaged ({error}); download it again.") from error
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise CheckpointError(f"{path.name} is a zip archive that torch did not write; unpack it or get it again.")
    parts = {name.removeprefix(roots[0]): place for name, place in members.items() if name.startswith(roots[0])}
    storages.places = {name.removeprefix("data/"): place for name, place in parts.items() if name.startswith("data/")}
    if "byteorder" in parts and _piece(data, *parts["byteorder"]) != b"little":
        raise CheckpointError(f"{path.name} was written on a big-endian machine and cannot be read here.")
    if parts["data.pkl"][1] > _MAX_PICKLE:
        raise CheckpointError(f"{path.name} needs too many words to describe its tensors; get it again.")
    return _piece(data, *parts["data.pkl"])


def _stored(data: mmap.mmap, member: zipfile.ZipInfo, file: str) -> tuple[int, int]:
    """Offset and size of an uncompressed member."""
    header = _piece(data, member.header_offset, 30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04" or member.compress_type != zipfile.ZIP_STORED:
        raise CheckpointError(f"{file} is damaged, or its parts are compressed, which torch never does; get it again.")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    offset = member.header_offset + 30 + name_length + extra_length
    if offset + member.file_size > len(data):
        raise CheckpointError(f"{file} is truncated; download it again.")
    return offset, member.file_size


def _piece(data: mmap.mmap, offset: int, size: int) -> bytes:
    return data[offset : offset + size]


def _read_legacy(storages: _Storages) -> Any:
    """Magic, version, system, the object, the list of storage keys: five pickles; then every storage's data."""
    position, machines, values = 0, [], []
    data = memoryview(storages.bytes_)
    for index in range(5):
        machines.append(PickleMachine(data, _TORCH.keys(), storages.file, position, persistent=index == 3))
        values.append(machines[-1].run())
        position = machines[-1].position
        if values[0] != _LEGACY_MAGIC:
            raise CheckpointError(f"{storages.file} is a plain pickle, no torch file; get the file again.")
    resolver = _resolver(storages, position)
    try:
        _place_legacy(storages, values[4], position, dict(map(_key_and_dtype, machines[3].references)))
    except (ValueError, TypeError, KeyError, IndexError, struct.error) as error:
        raise CheckpointError(f"{storages.file} is truncated or damaged ({error}); download it again.") from error
    return resolver.resolve(values[3])


def _place_legacy(storages: _Storages, keys: Any, position: int, dtypes: Mapping[str, torch.dtype]) -> None:
    """Note where the storages lie: in the order of ``keys``, each an int64 count and then the values."""
    for key in map(_plain_text, keys):
        (count,) = struct.unpack("<q", _piece(storages.bytes_, position, 8))
        size = count * dtypes[key].itemsize
        if count < 0 or position + 8 + size > len(storages.bytes_):
            raise ValueError("it ends early")
        storages.places[key] = (position + 8, size)
        position += 8 + size


def _key_and_dtype(reference: PersistentId) -> tuple[str, torch.dtype]:
    """``("storage", class, key, device, count)``, in the old form with a sixth entry that is always None."""
    kind, cls, key = reference.value[:3]
    if _plain_text(kind) != "storage" or any(extra is not None for extra in reference.value[5:]):
        raise ValueError("it refers to something that is no storage")
    if not isinstance(cls, Global) or cls.name not in _DTYPES:
        raise ValueError("a storage has an unknown type")
    return _plain_text(key), _DTYPES[cls.name]


def _plain_text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        raise ValueError("a text is missing")
    return value


def _resolver(storages: _Storages, size: int) -> Resolver:
    def storage(reference: PersistentId, resolver: Resolver) -> torch.Tensor:
        return storages.tensor(*_key_and_dtype(reference), _size(reference.value[4]))

    return Resolver({**_TORCH, PERSISTENT: storage}, storages.file, budget=4 * size + 4096)


def _tensor(built: Built, resolver: Resolver) -> torch.Tensor:
    """``_rebuild_tensor_v2(storage, offset, shape, strides, …)``, within the storage's bounds."""
    storage = resolver.plain(built.arguments[0])
    offset = _size(built.arguments[1])
    shape, strides = (tuple(map(_size, resolver.plain(sizes))) for sizes in built.arguments[2:4])
    if not isinstance(storage, torch.Tensor) or storage.ndim != 1 or len(shape) != len(strides) or len(shape) > 16:
        raise ValueError("a tensor contradicts itself")
    end = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + 1 if prod(shape) else 0
    if end > len(storage) or prod(shape) > len(storage):
        raise ValueError(f"a tensor of shape {shape} does not fit its {len(storage):,} values")
    return storage.as_strided(shape, strides, offset) if prod(shape) else storage.new_empty(shape)


def _parameter(built: Built, resolver: Resolver) -> torch.Tensor:
    value = resolver.plain(built.arguments[0])
    if not isinstance(value, torch.Tensor):
        raise ValueError("a parameter is no tensor")
    return value


def _shape(built: Built, resolver: Resolver) -> tuple[int, ...]:
    return tuple(map(_size, resolver.plain(built.arguments[0])))


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.40} is no size")
    return value


def _storage_class(built: Built, resolver: Resolver) -> Any:
    raise ValueError("a storage stands where a value should")


_TORCH: dict[tuple[str, str], Builder] = {
    **BUILDERS,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _shape,
    **{("torch", name): _storage_class for name in _DTYPES},
}
