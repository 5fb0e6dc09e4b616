"""Named arrays of whole folders of shards, in memory: for sets small enough to be seen many times over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError

Arrays = dict[str, npt.NDArray[Any]]


def load_arrays(paths: Sequence[Path], names: Sequence[str]) -> Arrays:
    """The arrays ``names`` of safetensors shards, each stacked along the first axis."""
    from safetensors import safe_open

    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    for path in paths:
        with safe_open(path, framework="np") as file:
            for name in names:
                parts[name].append(file.get_tensor(name))
    return {name: np.concatenate(some) for name, some in parts.items()}


def draws(count: int, batch: int, step: int, seed: int, rank: int, world: int) -> Iterator[tuple[int, Any]]:
    """(step, generator with ``.indices`` [batch]) of ``step`` and all later ones: an endless walk through ``count``
    samples in which every process takes a part of its own, and every sample comes once per round."""
    if count < 1:
        raise InputError("There is nothing to train on: the data is empty.")
    while True:
        places = (step * world + rank) * batch + np.arange(batch)
        indices = np.array([_at(seed, int(place) // count, count)[int(place) % count] for place in places])
        yield step, _Draw(np.random.default_rng([seed, 11, step, rank]), indices)
        step += 1


class _Draw:
    def __init__(self, random: np.random.Generator, indices: npt.NDArray[np.int64]) -> None:
        self.random, self.indices = random, indices


_orders: dict[tuple[int, int, int], npt.NDArray[np.int64]] = {}


def _at(seed: int, round_: int, count: int) -> npt.NDArray[np.int64]:
    """The order of one round; the last few rounds' are kept."""
    key = (seed, round_, count)
    if key not in _orders:
        if len(_orders) > 4:
            _orders.clear()
        _orders[key] = np.random.default_rng([seed, 12, round_]).permutation(count)
    return _orders[key]


def pixels(frames: npt.NDArray[np.uint8]) -> torch.Tensor:
    """[N, T, H, W, 3] uint8 → [N, 3, T, H, W] float32 -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
