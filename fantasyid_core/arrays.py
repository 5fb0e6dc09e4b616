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

    An array that is already so and owns its memory is shared (many faces, one photograph); everything else is copied.
    Raises InputError, in one sentence, when the shape differs or a value is not finite.
    """
    # a copy: the data classes are frozen all the way down
    array = value if _is_frozen(value, dtype) else np.array(value, dtype=dtype, order="C")
    fits = array.ndim == len(shape) and all(
        size > 0 if wanted is None else size == wanted for size, wanted in zip(array.shape, shape, strict=False)
    )
    if not fits:
        wanted_text = "×".join("any" if size is None else str(size) for size in shape)
        raise InputError(f"{name} must have the shape {wanted_text}, but it has {'×'.join(map(str, array.shape))}.")
    if np.issubdtype(array.dtype, np.floating) and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise InputError(f"{name} holds values that are not numbers (NaN or infinity); mend the node that made it.")
    array.flags.writeable = False
    return array


def _is_frozen(value: Any, dtype: Any) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype == dtype
        and value.flags.owndata
        and value.flags.c_contiguous
        and not value.flags.writeable
    )
