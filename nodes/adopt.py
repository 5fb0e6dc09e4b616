"""Let ComfyUI manage layers that diffusers built, and cast their weights.

ComfyUI can keep a layer's weights away from the device and cast them when the layer runs, but only for layers of its
own classes. Those compute the same as torch's, so the leaf layers of a finished module change their class and
nothing else: same weights, same names, difference 0.0.
"""

from __future__ import annotations

import comfy.ops
import torch
from torch import nn

EIGHT_BITS = torch.float8_e4m3fn

_ADOPTED: dict[type[nn.Module], type[nn.Module]] = {
    kind: getattr(comfy.ops.manual_cast, kind.__name__)
    for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)
    if hasattr(comfy.ops.manual_cast, kind.__name__)
}


def adopt_layers(module: torch.nn.Module) -> torch.nn.Module:
    """Change the class of every plain leaf layer of ``module``, in place; subclasses stay as they are."""
    for layer in module.modules():
        if type(layer) in _ADOPTED:
            layer.__class__ = _ADOPTED[type(layer)]
    return module


def keep_in_8_bits(blocks: torch.nn.Module) -> None:
    """Keep the weights of a transformer's linear layers as 8-bit floats (e4m3), in place; biases stay.

    The layers are those of ``video/placement.keep_in_8_bits``, which spares the norms' own. That one moves weights
    before and after each call, which ComfyUI's manager does not bear; here an adopted layer casts them when it runs.
    The video differs a little (docs/memory.md), and there is no way back.
    """
    for name, layer in blocks.named_modules():
        if isinstance(layer, nn.Linear) and "norm" not in name:
            layer.weight = nn.Parameter(layer.weight.to(EIGHT_BITS), requires_grad=False)
