"""A short name for a set of weights, so that an identity is only ever fed to the model that made it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch

VALUES_PER_TENSOR = 64
DIGITS = 12


def fingerprint(state: Mapping[str, torch.Tensor], salt: str = "") -> str:
    """Twelve hexadecimal digits from names, shapes and evenly spread values of ``state``.

    The values are rounded to bfloat16 first, so one checkpoint has one fingerprint whether it was loaded in float32 or
    bfloat16; reading 64 of each tensor takes milliseconds where hashing all of them would take seconds.
    """
    digest = hashlib.sha256(salt.encode("utf-8"))
    for name in sorted(state):
        tensor = state[name].detach().flatten()
        count = min(VALUES_PER_TENSOR, tensor.numel())
        positions = torch.arange(count, device=tensor.device) * (tensor.numel() - 1) // max(count - 1, 1)
        values = tensor[positions].to("cpu", torch.bfloat16)
        digest.update(f"{name}{list(state[name].shape)}".encode())
        digest.update(values.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:DIGITS]
