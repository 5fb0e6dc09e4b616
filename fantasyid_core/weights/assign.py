"""Weights into modules that were built without any: no random initialisation, no second copy, no copying at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import CheckpointError
from .checkpoint import CheckpointIndex
from .streaming import TensorReader

KeyOf = Callable[[str], str]  #: our state-dict name → the official checkpoint's key


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules made inside have parameters of the right shape and no memory (torch's meta device)."""
    with torch.device("meta"):
        yield


def official_shapes(module: nn.Module, key_of: KeyOf) -> dict[str, tuple[int, ...]]:
    """official key → shape of everything that ``module`` keeps in its state dict."""
    return {key_of(name): tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def assign_weights(
    module: nn.Module,
    index: CheckpointIndex,
    key_of: KeyOf,
    dtype_of: Callable[[str], torch.dtype],
    reader: TensorReader,
    device: torch.device | str = "cpu",
) -> None:
    """Give ``module`` (built ``without_weights``) its tensors of the checkpoint, each in ``dtype_of(our name)``.

    On the CPU and in the file's own dtype the tensors are views of the mapped file. The module comes out frozen and in
    eval mode. The keys must have been checked before; a tensor that stays without weights is an error.
    """
    names = {key_of(name): name for name in module.state_dict()}
    dtypes = {key: dtype_of(name) for key, name in names.items()}
    tensors = reader.stream(index.entries, dtypes)
    state = {names[key]: tensor.to(device) for key, tensor in tensors}
    module.load_state_dict(state, strict=True, assign=True)
    empty = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if empty:
        raise CheckpointError(
            f"{index.path.name} gives no value to {empty[0]}; this is a fault of the loader, please report it."
        )
    module.requires_grad_(False).eval()


def uniform(dtype: torch.dtype) -> Callable[[str], torch.dtype]:
    """Every tensor in one dtype."""
    return lambda name: dtype


def tolerated_dead_keys(layout: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """key → shape of the keys that an official checkpoint may hold and nothing needs. layout: of ``layout.py``."""
    return {key: spec.shape for key, spec in layout.items() if not spec.live}  # type: ignore[attr-defined]
