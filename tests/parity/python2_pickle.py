"""Writes pickles as Python 2's cPickle wrote them (protocol 2, texts as byte strings), for files that we cannot have.

Admits what FLAME's generic_model.pkl and the release's transform.pkl hold: dictionaries, lists, texts, whole numbers,
None, arrays, scipy's csc matrices under their old name, and chumpy arrays.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import scipy.sparse


class Chumpy:
    """Stands for ``chumpy.ch.Ch`` around an array."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x


def dumps(value: Any) -> bytes:
    return b"\x80\x02" + _value(value) + b"."


def _value(value: Any) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, str):
        return _string(value.encode("latin-1"))
    if isinstance(value, list):
        return b"](" + b"".join(map(_value, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_value, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(_value(key) + _value(item) for key, item in value.items()) + b"u"
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Chumpy):
        state = {"x": value.x, "_dirty_vars": [], "_itr": None}
        return b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR" + _value(state) + b"b"
    if isinstance(value, scipy.sparse.csc_matrix):
        state = {"format": "csc", "_shape": value.shape, "indptr": value.indptr, "indices": value.indices}
        state |= {"data": value.data, "maxprint": 50}
        return (
            b"ccopy_reg\n_reconstructor\n(cscipy.sparse.csc\ncsc_matrix\nc__builtin__\nobject\nNtR"
            + _value(state)
            + b"b"
        )
    raise TypeError(type(value))


def _string(data: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(data)) + data


def _array(array: np.ndarray) -> bytes:
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    data = array.tobytes(order="F" if fortran else "C")
    dtype = b"cnumpy\ndtype\n" + _value((array.dtype.str[1:], 0, 1)) + b"R"
    dtype += _value((3, "<", None, None, None, -1, -1, 0)) + b"b"
    state = b"(" + _value(1) + _value(array.shape) + dtype + (b"\x88" if fortran else b"\x89") + _string(data) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _value((0,)) + _value("b") + b"tR" + state + b"b"
    )
