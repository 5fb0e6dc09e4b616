"""The rule that makes pseudo-random weights and inputs out of their names, for checking an installation.

Numbers computed with such weights are a pure function of the code and the hardware, so two implementations can be
compared without anybody's checkpoint. ``fantasyid verify`` and the parity tests use it. Source: the golden numbers'
own description of the rule; every tensor depends on its full checkpoint key alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from math import prod, sqrt

import numpy as np
import numpy.typing as npt
import torch
from torch import nn


def generator(name: str) -> np.random.Generator:
    """The random stream of ``name``: PCG64 seeded with the first eight bytes of its SHA-256, little-endian."""
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))


def weight(key: str, shape: Sequence[int]) -> npt.NDArray[np.generic]:
    """The tensor of the checkpoint key ``key``: float32 (int64 for a ``num_batches_tracked``) of ``shape``.

    Matrices and convolutions get variance 1 / fan-in; norm weights lie around 1, biases around 0, variances above 1.
    """
    shape = tuple(shape)
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    z = generator(key).standard_normal(shape)
    if last == "running_var":
        value = 1.0 + 0.1 * np.abs(z)
    elif len(shape) >= 2:
        value = z * (1.0 / sqrt(prod(shape[1:])))
    elif len(shape) == 1 and key.endswith("weight"):
        value = 1.0 + 0.1 * z
    else:
        value = 0.02 * z
    return np.asarray(value, dtype=np.float64).astype(np.float32)


def array_input(label: str, shape: Sequence[int], scale: float = 1.0) -> npt.NDArray[np.float32]:
    """The test input ``label``: float32 of ``shape``, normal with standard deviation ``scale``."""
    return np.asarray(scale * generator("input:" + label).standard_normal(tuple(shape))).astype(np.float32)


def tensor_input(label: str, shape: Sequence[int], scale: float = 1.0) -> torch.Tensor:
    """:func:`array_input` as a torch tensor."""
    return torch.from_numpy(array_input(label, shape, scale))


@torch.no_grad()
def fill_module(module: nn.Module, key_of: Callable[[str], str]) -> None:
    """Give every parameter and persistent buffer of ``module`` the tensor of its checkpoint key, in place.

    ``key_of`` maps the module's own state-dict name to the full checkpoint key, e.g. ``lambda n: "visual." + n``.
    Non-persistent buffers (rotary tables, mesh indices) are left alone. The module keeps its dtype and device.
    """
    for name, tensor in module.state_dict().items():
        tensor.copy_(torch.from_numpy(weight(key_of(name), tensor.shape)))
