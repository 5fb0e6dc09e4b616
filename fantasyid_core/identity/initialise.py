"""Starting weights of the identity encoder: a function of the seed alone, for training and for the mini."""

from __future__ import annotations

from math import sqrt

import torch
from torch import nn

POSITION_STD = 0.02  #: of class row, position tensors: small beside the features, as usual for vision transformers
QUERY_STD = 0.5  #: of the vertex queries: they must tell vertices apart beside a depth code of rms 0.7


@torch.no_grad()
def initialise_(module: nn.Module, seed: int) -> nn.Module:
    """Fill ``module`` in place and return it: matrices normal with variance 1 / fan-in, norms 1, biases 0.

    Reads nothing but ``seed`` and the parameters' order, so neither the global random state nor other tensors matter.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {id(norm.weight) for norm in module.modules() if isinstance(norm, (nn.LayerNorm, nn.GroupNorm))}
    for name, parameter in module.named_parameters():
        if id(parameter) in norms:
            parameter.fill_(1.0)
        elif parameter.ndim < 2:
            parameter.zero_()
        else:
            values = torch.randn(parameter.shape, generator=generator) * _std(name, parameter)
            parameter.copy_(values)
    return module


def _std(name: str, parameter: torch.Tensor) -> float:
    last = name.rsplit(".", 1)[-1]
    if last in ("cls_token", "pos_embed", "pos_emb", "pos_emb_before"):
        return POSITION_STD
    if last in ("vtx_query", "queries"):
        return QUERY_STD
    if last == "proj_out":  # multiplied from the right: its rows are the inputs
        return 1.0 / sqrt(parameter.shape[0])
    return 1.0 / sqrt(parameter[0].numel())
