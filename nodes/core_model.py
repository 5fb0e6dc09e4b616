"""The door to ComfyUI's own samplers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import comfy.model_management as management
import torch
from comfy_api.latest import io

from ..fantasyid_core.video.people import as_people
from ..fantasyid_core.video.size import latent_shape
from ..fantasyid_core.video.strength import LayerStrength
from . import sockets
from .compat import schema
from .core_video import OPTION, Shown, VideoModel, add_preview, own_copy
from .inputs import size_inputs, who_inputs
from .memory import on_device, patcher_of, vae_device, video_device
from .sampling import asked_size, one_of, reference_latents

if TYPE_CHECKING:
    from ..fantasyid_core.identity.identity import Identity
    from ..fantasyid_core.model import FantasyIDModel
    from ..fantasyid_core.video.people import People


class CoreModel(io.ComfyNode):
    """FantasyIDCoreModel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDCoreModel",
            display_name="Core Model (for KSampler)",
            description="Hand the video model with an identity in it to ComfyUI's own samplers, LoRA loaders and model "
            "patches. Take sampler euler or ddim with scheduler simple, and Encode Prompt for both prompts; behind the "
            "sampler comes Decode Video as ever.",
            search_aliases=["ksampler", "model", "lora", "custom sampler"],
            inputs=[
                sockets.Model.Input("model", tooltip="From Load FantasyID Model."),
                io.Float.Input(
                    "identity_strength",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How much of the identity each layer takes. 1 is as trained, 0 switches it off.",
                ),
                *size_inputs(),
                *who_inputs(),
            ],
            outputs=[
                io.Model.Output(
                    "core_model",
                    "core model",
                    tooltip="For KSampler, SamplerCustomAdvanced, LoraLoaderModelOnly and other core nodes.",
                ),
                io.Latent.Output(
                    "empty_latent",
                    "empty latent",
                    tooltip="The empty video of this size, for the sampler's latent_image.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: FantasyIDModel,
        identity_strength: float,
        frames: int,
        width: int,
        height: int,
        identity: Identity | None = None,
        people: People | None = None,
        strength: LayerStrength | None = None,
    ) -> io.NodeOutput:
        """→ MODEL, LATENT [1, C, F, H, W]."""
        size = asked_size(model, frames, height, width)
        who = one_of(identity, people)
        reference = reference_latents(model, who, size, torch.Generator("cpu").manual_seed(0))
        patcher = patcher_of(model.transformer, video_device(), partial(VideoModel, model))
        if model.vae is not None:
            on_device(model.vae, vae_device())
            add_preview(patcher.model, model)
        acting = (strength or LayerStrength()).scaled(identity_strength)
        shown = Shown(reference, None if who is None else as_people(who), acting)
        core = patcher.clone()
        core.cached_patcher_init = (own_copy, (model,))
        core.model_options.setdefault("transformer_options", {})[OPTION] = shown
        empty = torch.zeros(latent_shape(model.config, *size)).movedim(2, 1)
        return io.NodeOutput(core, {"samples": empty.to(management.intermediate_device())})


NODES: list[type[io.ComfyNode]] = [CoreModel]
