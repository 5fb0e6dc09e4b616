"""Which optimiser takes which weights."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import nn

from ..errors import InputError

OPTIMISERS = ("adamw", "muon")
_STARTED = "straight"  #: in the name of weights that start as a good answer (video/patch_vae.py)
GENTLE = 0.1  #: and so take steps that much smaller
_ENCODER = "identity_encoder."  #: in the name of the weights that turn a photograph into identity tokens
CAREFUL = 0.25  #: their steps: at the DiT's own they grow until everybody's tokens are the same (docs/training.md)
_NOT_MUON = (
    _STARTED,
    "embed", "proj_out", "norm", "shared", "quer", "pos_emb", "cls_token", "time_embedding", "conv_in", "conv_out"
)  # fmt: skip


def make_optimisers(
    module: nn.Module, name: str, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for hidden matrices and kernels and AdamW for the rest.

    Weights that start as a good answer and those of the identity encoder take smaller steps (GENTLE, CAREFUL).
    Biases and norms do not decay. Muon's steps are scaled to AdamW's root mean square, so that one learning rate serves
    both. Raises InputError for another name.
    """
    if name not in OPTIMISERS:
        raise InputError(f"There is no optimiser '{name}'; choose one of: {', '.join(OPTIMISERS)}.")
    trained = [(key, p) for key, p in module.named_parameters() if p.requires_grad]
    matrices: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for part, share in ((_STARTED, GENTLE), (_ENCODER, CAREFUL), ("", 1.0)):
        mine = [(key, p) for key, p in trained if part in key]
        trained = [pair for pair in trained if part not in pair[0]]
        muon = {key for key, p in mine if name == "muon" and _is_hidden_matrix(key, p)}
        rate, decay = share * learning_rate, 0.0 if part == _STARTED else weight_decay
        matrices += [{"params": [p for key, p in mine if key in muon], "lr": rate, "weight_decay": decay}]
        rest += [
            {"params": [p for key, p in mine if key not in muon and p.ndim > 1], "lr": rate, "weight_decay": decay},
            {"params": [p for key, p in mine if key not in muon and p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]
    matrices, rest = ([group for group in groups if group["params"]] for groups in (matrices, rest))
    made: list[torch.optim.Optimizer] = []
    if rest:
        made.append(torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.99)))
    if matrices:
        made.append(Muon(matrices, learning_rate, weight_decay))
    return made


def _is_hidden_matrix(key: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and not any(part in key for part in _NOT_MUON)


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal (Jordan et al. 2024): for matrices, and for kernels as matrices [out, in · positions].

    torch's own orthogonalises in bfloat16 everywhere, which a CPU without instructions for it multiplies a hundred
    times slower than float32 (measured), and takes no kernels. Steps have AdamW's root mean square (Liu et al. 2025).
    """

    def __init__(
        self,
        parameters: list[nn.Parameter] | list[dict[str, Any]],
        learning_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every weight that has a gradient."""
        for group in self.param_groups:
            rate, momentum = float(group["lr"]), group["momentum"]
            for weight in (p for p in group["params"] if p.grad is not None):
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                ahead = weight.grad.lerp(mean, momentum).flatten(1)  # Nesterov's
                weight.mul_(1 - rate * group["weight_decay"])
                step = orthogonal(ahead).view_as(weight)
                weight.add_(step, alpha=-0.2 * rate * sqrt(max(ahead.shape)))


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it (AVX512-bf16, AMX, …)."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest matrix to [M, N] whose singular values are about 1 (.7 to 1.2), by Newton-Schulz's iteration."""
    a, b, c = 3.4445, -4.775, 2.0315  # steepest at 0 (Jordan et al. 2024)
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide.to(torch.bfloat16 if matrix.is_cuda or cpu_multiplies_bfloat16() else torch.float32)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide is matrix else x.T).to(matrix.dtype)
