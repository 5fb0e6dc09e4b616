"""The model's parts under ComfyUI's own memory manager: it decides what lies on the device, and when.

Nothing in this pack moves a module by hand. Each part is wrapped once per model, so that ComfyUI recognises it in the
next run and leaves it where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.model_management as management
import comfy.model_patcher
import torch

from .adopt import adopt_layers

if TYPE_CHECKING:
    from ..fantasyid_core.model import FantasyIDModel

#: Cores of 2026 page weights layer by layer and want this patcher; older ones have only the plain one.
Patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)

PATCHER = "_fantasyid_patcher"  #: a part keeps its one patcher under this name


class Managed(torch.nn.Module):
    """A plain shell around a module: ComfyUI sets ``device`` on what it manages, and diffusers' models forbid that."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.device: torch.device | None = None


@dataclass(frozen=True)
class Device:
    """Where a part runs and where it rests."""

    load: torch.device
    rest: torch.device


def video_device() -> Device:
    """For the transformer and the identity encoder."""
    return Device(management.get_torch_device(), management.unet_offload_device())


def text_device() -> Device:
    """For the text encoder."""
    return Device(management.text_encoder_device(), management.text_encoder_offload_device())


def vae_device() -> Device:
    """For the VAE."""
    return Device(management.vae_device(), management.vae_offload_device())


def on_device(
    module: torch.nn.Module, device: Device, memory: int = 0, shell: Callable[[], torch.nn.Module] | None = None
) -> torch.device:
    """Have ComfyUI bring ``module`` to its device, with ``memory`` bytes of room for its work beside it.

    Returns the device to put the inputs on. shell: see :func:`patcher_of`.
    """
    management.load_models_gpu([patcher_of(module, device, shell)], memory_required=memory)
    bring_buffers(module, device.load)
    return device.load


def patcher_of(
    module: torch.nn.Module, device: Device, shell: Callable[[], torch.nn.Module] | None = None
) -> comfy.model_patcher.ModelPatcher:
    """The one patcher of ``module``: whatever patches the weights does it through copies of this one, or ComfyUI would
    not know that the weights are the same. shell: makes what the patcher holds, None = a plain :class:`Managed`.
    """
    patcher = getattr(module, PATCHER, None)  # kept on the module itself, so that both are forgotten together
    if patcher is None:
        adopt_layers(module)
        held = _shell_of(module) if shell is None else shell()
        patcher = Patcher(held, load_device=device.load, offload_device=device.rest)
        setattr(module, PATCHER, patcher)
    return patcher


def memory_outlook(model: FantasyIDModel) -> str:
    """What a video of the model's own size will take of this device's memory, for the artist."""
    from ..fantasyid_core.video.memory_plan import outlook, own_video, plans_for

    device = management.get_torch_device()
    free = 0 if management.is_device_cpu(device) else int(management.get_free_memory(device))
    return outlook(plans_for(model), own_video(model.config), free)


def bring_buffers(module: torch.nn.Module, device: torch.device) -> None:
    """A partly loaded model's buffers (position tables, spirals) stay behind, because ComfyUI pages weights only."""
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.device != device:
                part._buffers[name] = buffer.to(device)


def _shell_of(module: torch.nn.Module) -> Managed:
    """``module`` in a shell with its own class's name, which ComfyUI prints when it loads it."""
    shell: type[Managed] = type(type(module).__name__, (Managed,), {})
    return shell(module)
