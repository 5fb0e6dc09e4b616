"""Shape checks shared by the data classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


def checked_array(name: str, value: Any, shape: tuple[int | None, ...], dtype: Any = np.float32) -> npt.NDArray[Any]:
    """``value`` as a contiguous, finite, read-only array of ``shape`` (None = any size ≥ 1) and ``dtype``.

    Raises InputError, in one sentence, when the shape differs or a value is not finite.
    """
    array = np.array(value, dtype=dtype)  # a copy: the data classes are frozen all the way down
    fits = array.ndim == len(shape) and all(
        size > 0 if wanted is None else size == wanted for size, wanted in zip(array.shape, shape, strict=False)
    )
    if not fits:
        wanted_text = "×".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} must have the shape {wanted_text}, but it has {'×'.join(map(str, array.shape))}.")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise InputError(f"{name} holds values that are not numbers (NaN or infinity); mend the node that made it.")
    array.flags.writeable = False
    return array
