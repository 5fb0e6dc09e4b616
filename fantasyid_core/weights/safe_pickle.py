"""Reads the old pickled model files (FLAME's generic_model.pkl, the release's transform.pkl) without trusting them.

Admitted, by allow-list: numpy arrays, data types and scalars; scipy's csc, csr and coo matrices; chumpy arrays, of
which only the data is kept (neither scipy nor chumpy is needed); ordered dictionaries, sets and plain values; pickles
of Python 2 and 3. Everything else is an error that names what was refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError
from .pickle_machine import Built, Global, OldString, PersistentId, PickleMachine

MAX_BYTES = 1 << 30  #: FLAME's file has 53 MB; nothing we read is near this
_MAX_DEPTH = 64
PERSISTENT = ("", "persistent")  #: the builder of references to data outside the pickle
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|\?|[bBhHiIlLqQefd])$")


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A scipy sparse matrix as plain arrays. kind: "csc", "csr" or "coo".

    data: [n] values. rows, columns: [n] where each stands; several entries of one place add up.
    """

    kind: str
    shape: tuple[int, int]
    data: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]

    def toarray(self) -> npt.NDArray[Any]:
        """[rows, columns] dense."""
        dense = np.zeros(self.shape, dtype=self.data.dtype)
        np.add.at(dense, (self.rows, self.columns), self.data)
        return dense


def read_pickle(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The plain contents of a pickled model file: dictionaries, lists, text, numbers, arrays and ``SparseMatrix``.

    Arrays are read-only views into the file's bytes. Raises CheckpointError when the file is larger than ``max_bytes``,
    damaged, or refers to anything off the allow-list; nothing that the file names is ever called.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise CheckpointError(f"{path.name} has {size:,} bytes, far more than a file of its kind; get it again.")
    return parse_pickle(path.read_bytes(), path.name)


def parse_pickle(data: bytes, file: str) -> Any:
    """``read_pickle`` on bytes; ``file`` is its name for messages."""
    machine = PickleMachine(data, BUILDERS.keys(), file)
    return Resolver(BUILDERS, file, budget=4 * len(data) + 4096).resolve(machine.run())


class Resolver:
    """Turns the machine's records into plain values with the builders of an allow-list.

    budget: bytes that may be copied in all, so that many arrays of one memoised text cannot fill the memory.
    """

    def __init__(self, builders: dict[tuple[str, str], Builder], file: str, budget: int) -> None:
        self.builders, self.file, self.budget = builders, file, budget
        self.done: dict[int, Any] = {}
        self.open: set[int] = set()
        self.kept: list[Any] = []

    def resolve(self, root: Any) -> Any:
        """The plain value of ``root``; CheckpointError when a record does not hold what its kind must hold."""
        try:
            return self.plain(root)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
            raise CheckpointError(f"{self.file} is damaged ({error}); download it again.") from error

    def plain(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, Global):
            raise ValueError(f"{value.module}.{value.name} stands where a value should")
        key = id(value)
        if key in self.done:
            return self.done[key]
        if key in self.open or len(self.open) > _MAX_DEPTH:
            raise ValueError("it is nested too deeply or holds itself")
        self.open.add(key)
        result = self._convert(value)
        self.open.remove(key)
        self.kept.append(value)  # its id must not be given to another object
        self.done[key] = result
        return result

    def _convert(self, value: Any) -> Any:
        if isinstance(value, (OldString, bytes)):
            self.spend(len(value))
            return bytes(value).decode("latin-1") if isinstance(value, OldString) else value
        if isinstance(value, (Built, PersistentId)):
            target = value.target if isinstance(value, Built) else PERSISTENT
            return self.builders[target](value, self)
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.plain(item) for item in value)
        raise ValueError(f"it holds a {type(value).__name__}")

    def spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise ValueError("it unfolds to far more than its size")


Builder = Callable[[Any, Resolver], Any]


def raw_bytes(value: Any, resolver: Resolver) -> bytes:
    """An array's data: a Python-2 string, bytes, or ``_codecs.encode(text, "latin1")`` as Python 3 writes it."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, Built) and value.target in (("_codecs", "encode"), *_EMPTY_BYTES):
        result = resolver.plain(value)
        if isinstance(result, bytes):
            return result
    raise ValueError("an array of Python objects, or one without data, is not admitted")


def _encode(built: Built, resolver: Resolver) -> bytes:
    text, codec = built.arguments
    if not isinstance(text, str) or resolver.plain(codec) not in ("latin1", "latin-1"):
        raise ValueError("a text has an unknown encoding")
    resolver.spend(len(text))
    return text.encode("latin-1")


def _empty(built: Built, resolver: Resolver) -> bytes:
    """``bytes()``, as Python 3 writes empty bytes for Python 2."""
    if built.arguments:
        raise ValueError("bytes() has arguments")
    return b""


def _dtype(built: Built, resolver: Resolver) -> np.dtype[Any]:
    code = resolver.plain(built.arguments[0])
    state: tuple[Any, ...] = resolver.plain(built.state) if built.state is not None else ()
    if not isinstance(code, str) or not _DTYPE.match(code) or any(state[3:5]):
        raise ValueError(f"arrays of type {code!r} are not admitted")
    order: Any = state[1] if len(state) > 1 else "="
    return np.dtype(code).newbyteorder(order)


def _array(built: Built, resolver: Resolver) -> npt.NDArray[Any]:
    """``_reconstruct(ndarray, (0,), b"b")`` with the state (version, shape, dtype, Fortran order, data)."""
    if built.arguments[0] not in _ARRAY_CLASSES or built.state is None:
        raise ValueError("an array has no data")
    shape, dtype, fortran, data = built.state[-4:]
    return _view(shape, dtype, "F" if resolver.plain(fortran) else "C", data, resolver)


def _array_from_buffer(built: Built, resolver: Resolver) -> npt.NDArray[Any]:
    """numpy 2, protocol 5: ``_frombuffer(data, dtype, shape, order)``."""
    data, dtype, shape, order = built.arguments
    return _view(shape, dtype, "F" if resolver.plain(order) == "F" else "C", data, resolver)


def _view(shape: Any, dtype: Any, order: Any, data: Any, resolver: Resolver) -> npt.NDArray[Any]:
    kind, sizes = resolver.plain(dtype), resolver.plain(shape)
    raw = raw_bytes(data, resolver)
    if not isinstance(kind, np.dtype) or not _are_sizes(sizes) or math.prod(sizes) * kind.itemsize != len(raw):
        raise ValueError(f"an array of {len(raw):,} bytes does not have the shape {sizes}")
    return np.frombuffer(raw, dtype=kind).reshape(sizes, order=order)


def _are_sizes(sizes: Any) -> bool:
    return isinstance(sizes, tuple) and len(sizes) <= 8 and all(type(n) is int and n >= 0 for n in sizes)


def _scalar(built: Built, resolver: Resolver) -> int | float | bool:
    dtype, data = built.arguments
    value: int | float | bool = _view((), dtype, "C", data, resolver).item()
    return value


def _reconstructed(built: Built, resolver: Resolver) -> Any:
    """Python 2's ``copy_reg._reconstructor(cls, object, None)``: as ``cls()`` with the same state."""
    cls = built.arguments[0]
    if cls not in _OBJECTS or built.arguments[1:] not in ((_OBJECT2, None), (_OBJECT3, None)):
        raise ValueError("an object of an unknown class is not admitted")
    return _OBJECTS[cls](built, resolver)


def _chumpy(built: Built, resolver: Resolver) -> npt.NDArray[Any]:
    """A chumpy leaf: the array in its ``x``. What it depended on is not kept."""
    value = resolver.plain(built.state["x"])
    if not isinstance(value, np.ndarray):
        raise ValueError("a chumpy array holds no data")
    return value


def _chumpy_select(built: Built, resolver: Resolver) -> npt.NDArray[Any]:
    """chumpy's Select: numbered entries of another array in a shape of their own."""
    source, index = (np.asarray(resolver.plain(built.state[name])) for name in ("a", "idxs"))
    shape = resolver.plain(built.state.get("preferred_shape")) or index.shape
    resolver.spend(index.size * source.itemsize)
    return source.ravel()[index.ravel()].reshape(shape)


def _sparse(built: Built, resolver: Resolver) -> SparseMatrix:
    cls = built.target if built.target in _OBJECTS else built.arguments[0]
    kind = cls.name[:3]
    state = {name: resolver.plain(value) for name, value in built.state.items() if name in _SPARSE_STATE}
    rows, columns = (int(n) for n in state.get("_shape", state.get("shape", ())))
    data = np.asarray(state["data"])
    if kind == "coo":
        row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
    else:
        major = _unpacked(np.asarray(state["indptr"]), columns if kind == "csc" else rows, len(data), resolver)
        row, column = (state["indices"], major) if kind == "csc" else (major, state["indices"])
    places = [np.asarray(index, dtype=np.int64) for index in (row, column)]
    for index, size in zip(places, (rows, columns), strict=True):
        if index.shape != data.shape or data.ndim != 1 or (len(index) and not 0 <= index.min() <= index.max() < size):
            raise ValueError("a sparse matrix contradicts itself")
    return SparseMatrix(kind, (rows, columns), data, places[0], places[1])


def _unpacked(indptr: npt.NDArray[Any], lines: int, count: int, resolver: Resolver) -> npt.NDArray[np.int64]:
    """The line (row of csr, column of csc) of each stored entry."""
    bounds: npt.NDArray[np.int64] = indptr.astype(np.int64)
    steps = bounds[1:] - bounds[:-1]
    if indptr.shape != (lines + 1,) or indptr[0] != 0 or (steps < 0).any() or indptr[-1] != count:
        raise ValueError("a sparse matrix contradicts itself")
    resolver.spend(8 * lines)
    return np.repeat(np.arange(lines, dtype=np.int64), steps)


def ordered_dictionary(built: Built, resolver: Resolver) -> dict[Any, Any]:
    """An ordered dictionary, from pairs (Python 2) or items (Python 3); attributes of its own are not kept."""
    pairs = built.arguments[0] if built.arguments else []
    result = {resolver.plain(key): resolver.plain(value) for key, value in pairs}
    result.update({key: resolver.plain(value) for key, value in built.items.items()})
    return result


def _set(built: Built, resolver: Resolver) -> list[Any]:
    """A set, as a list: its members need not be hashed."""
    return [resolver.plain(item) for item in (built.arguments[0] if built.arguments else ())]


def _name(built: Built, resolver: Resolver) -> Any:
    raise ValueError(f"{built.target.module}.{built.target.name} stands where a value should")


_ARRAY_CLASSES = (Global("numpy", "ndarray"),)
_EMPTY_BYTES = (("__builtin__", "bytes"), ("builtins", "bytes"))
_OBJECT2, _OBJECT3 = Global("__builtin__", "object"), Global("builtins", "object")
_SPARSE_STATE = ("_shape", "shape", "data", "indices", "indptr", "row", "col", "coords")

_OBJECTS: dict[tuple[str, str], Builder] = {
    ("chumpy.ch", "Ch"): _chumpy,
    ("chumpy", "Ch"): _chumpy,
    ("chumpy.reordering", "Select"): _chumpy_select,
}
for _kind in ("csc", "csr", "coo"):
    for _module in (f"scipy.sparse.{_kind}", f"scipy.sparse._{_kind}"):
        _OBJECTS |= {(_module, f"{_kind}_matrix"): _sparse, (_module, f"{_kind}_array"): _sparse}

#: what a file may refer to, and how each is read
BUILDERS: dict[tuple[str, str], Builder] = {
    **_OBJECTS,
    ("numpy", "ndarray"): _name,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): ordered_dictionary,
    **dict.fromkeys(_EMPTY_BYTES, _empty),
    _OBJECT2: _name,
    _OBJECT3: _name,
    ("__builtin__", "set"): _set,
    ("builtins", "set"): _set,
    ("copy_reg", "_reconstructor"): _reconstructed,
    ("copyreg", "_reconstructor"): _reconstructed,
}
for _core in ("numpy.core", "numpy._core"):
    BUILDERS |= {
        (f"{_core}.multiarray", "_reconstruct"): _array,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _array_from_buffer,
    }
