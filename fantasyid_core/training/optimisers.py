"""Which optimiser takes which weights."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError

OPTIMISERS = ("adamw", "muon")
_NOT_MUON = ("embed", "proj_out", "norm", "shared", "vtx_query", "pos_emb", "cls_token", "time_embedding")


def make_optimisers(
    module: nn.Module, name: str, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the hidden matrices and AdamW for the rest; biases and norms do not decay.

    Muon's steps are scaled to AdamW's root mean square, so that one learning rate serves both. Raises InputError for
    another name, or a torch that has no Muon.
    """
    if name not in OPTIMISERS:
        raise InputError(f"There is no optimiser '{name}'; choose one of: {', '.join(OPTIMISERS)}.")
    trained = [(key, p) for key, p in module.named_parameters() if p.requires_grad]
    matrices = [p for key, p in trained if name == "muon" and _is_hidden_matrix(key, p)]
    taken = {id(p) for p in matrices}
    rest = [p for _, p in trained if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=(0.9, 0.99))
    ]
    if matrices:
        if not hasattr(torch.optim, "Muon"):
            raise InputError("This torch has no Muon (it came with 2.9); install a newer one or choose adamw.")
        muon = torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        made.append(muon)
    return made


def _is_hidden_matrix(key: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and not any(part in key for part in _NOT_MUON)
