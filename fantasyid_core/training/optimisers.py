"""Which optimiser takes which weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import InputError

OPTIMISERS = ("adamw", "muon")
_STARTED = "straight"  #: in the name of weights that start as a good answer (video/patch_vae.py)
GENTLE = 0.1  #: and so take steps that much smaller
_NOT_MUON = (
    _STARTED,
    "embed", "proj_out", "norm", "shared", "quer", "pos_emb", "cls_token", "time_embedding", "conv_in", "conv_out"
)  # fmt: skip


def make_optimisers(
    module: nn.Module, name: str, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for hidden matrices and kernels and AdamW for the rest.

    Biases and norms do not decay. Muon's steps are scaled to AdamW's root mean square, so that one learning rate serves
    both. Raises InputError for another name, or a torch that has no Muon.
    """
    if name not in OPTIMISERS:
        raise InputError(f"There is no optimiser '{name}'; choose one of: {', '.join(OPTIMISERS)}.")
    trained = [(key, p) for key, p in module.named_parameters() if p.requires_grad]
    matrices = [p for key, p in trained if name == "muon" and _is_hidden_matrix(key, p)]
    started = [p for key, p in trained if _STARTED in key]
    taken = {id(p) for p in matrices + started}
    rest = [p for _, p in trained if id(p) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        {"params": started, "weight_decay": 0.0, "lr": GENTLE * learning_rate},
    ]
    made: list[torch.optim.Optimizer] = []
    if rest or started:
        made.append(torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, 0.99)))
    if matrices:
        if not hasattr(torch.optim, "Muon"):
            raise InputError("This torch has no Muon (it came with 2.9); install a newer one or choose adamw.")
        made.append(_muon_for_kernels()(matrices, learning_rate, weight_decay))
    return made


def _is_hidden_matrix(key: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and not any(part in key for part in _NOT_MUON)


def _muon_for_kernels() -> Callable[[list[nn.Parameter], float, float], torch.optim.Optimizer]:
    """torch's Muon, which takes matrices, for convolution kernels too: each is the matrix [out, in · positions].

    A class made when it is wanted, because an older torch has no Muon to derive from.
    """

    class KernelMuon(torch.optim.Muon):
        def __init__(self, parameters: list[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
            self.originals = parameters
            super().__init__(
                [nn.Parameter(p.detach().flatten(1)) for p in parameters],
                lr=learning_rate,
                weight_decay=weight_decay,
                momentum=0.95,
                adjust_lr_fn="match_rms_adamw",
            )

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            """The matrices are views of the weights: where those lie may have changed since, so they are taken anew."""
            for matrix, original in zip(self.param_groups[0]["params"], self.originals, strict=True):
                matrix.data = original.data.view(len(original), -1)
                matrix.grad = None if original.grad is None else original.grad.reshape(len(original), -1)
            return super().step(closure)

        def zero_grad(self, set_to_none: bool = True) -> None:
            for original in self.originals:
                original.grad = None
            super().zero_grad(set_to_none)

    return KernelMuon
