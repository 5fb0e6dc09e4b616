"""FantasyID as one of ComfyUI's own models: what any core sampler, LoRA loader or model patch takes as MODEL.

The core's own CogVideoX class does not stand below it: it leaves rotary positions away where learned ones are there,
and this checkpoint was trained with both.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management as management
import comfy.model_patcher
import comfy.supported_models_base
import torch
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers

from ..fantasyid_core.config import ModelConfig
from ..fantasyid_core.errors import InputError
from ..fantasyid_core.video.identity_context import IdentityContext
from ..fantasyid_core.video.memory_plan import denoising_work, sampler_work
from ..fantasyid_core.video.people import prepare_people
from ..fantasyid_core.video.schedule import DpmSampler
from ..fantasyid_core.video.size import SPATIAL_COMPRESSION, check_video_size, rotary_table
from ..fantasyid_core.video.strength import LayerStrength
from ..fantasyid_core.video.text import fit_conditioning
from .memory import PATCHER, Patcher, bring_buffers, video_device
from .preview import preview_weights

if TYPE_CHECKING:
    from ..fantasyid_core.model import FantasyIDModel
    from ..fantasyid_core.video.people import People
    from ..fantasyid_core.video.people_context import PeopleContext
    from ..fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel

OPTION = "fantasyid_shown"  #: where a MODEL's transformer_options keep who is in the video
_HEADROOM = 1.25  # for an allocator's gaps and libraries' workspaces; an assumption: no card was there to measure it
_COGVIDEOX_SCALE = 0.7  # of the VAE that belongs to the public checkpoint
_LEAST_SIGNAL = 4.8973451890853435e-08  # what the core has at pure noise, where the signal is 0 and sigma infinite

#: The core looks for LoRA names as diffusers writes them ("transformer.transformer_blocks.…") in some of its classes
#: only. This is one of them; nothing else of it is used.
_DiffusersNames: Any = getattr(comfy.model_base, "HiDream", comfy.model_base.BaseModel)


@dataclass(frozen=True, eq=False)
class Shown:
    """Who is in the video, as a MODEL carries it from the node to every model call.

    reference: [1, F, C, H, W] latents of the reference picture at frame 0, zeros behind. people: None = nobody.
    strength: per layer and part of the steps.
    """

    reference: torch.Tensor
    people: People | None
    strength: LayerStrength

    def __deepcopy__(self, memo: object) -> Shown:
        return self  # nothing in it changes, and the core copies a model's options with every patch

    def reference_of(self, latents: torch.Tensor) -> torch.Tensor:
        """The reference for ``latents`` [B, F, C, H, W], or a window of fewer frames. InputError for another size."""
        _, frames, _, height, width = latents.shape
        _, most, _, own_height, own_width = self.reference.shape
        if (height, width) != (own_height, own_width) or frames > most:
            raise InputError(
                f"This latent is a video of {width * SPATIAL_COMPRESSION}×{height * SPATIAL_COMPRESSION} pixels and "
                f"{frames} latent frames, but the model was prepared for {own_width * SPATIAL_COMPRESSION}×"
                f"{own_height * SPATIAL_COMPRESSION} and {most}; connect the empty latent of the same Core Model node."
            )
        return self.reference[:, :frames].to(latents).expand(len(latents), -1, -1, -1, -1)

    def acting(
        self, model: LayerAdaptiveTransformer3DModel, latents: torch.Tensor, fraction: float
    ) -> IdentityContext | PeopleContext | None:
        """Keys and values for ``latents`` [B, F, C, H, W] at ``fraction`` of the steps.

        Made anew in every call, a five-thousandth of its work, so that a LoRA on these layers counts.
        """
        if self.people is None:
            return None
        _, frames, _, height, width = latents.shape
        here = _WhereTheCallRuns(model)
        context = prepare_people(here, self.people, (frames, height, width), latents.device, latents.dtype)
        return context.at(self.strength, fraction)


class _WhereTheCallRuns:
    """Keys and values on the tokens' device: ComfyUI's layers follow their input, wherever it keeps their weights.

    The transformer's own way goes to the weights instead, which on a core that pages them is the CPU, in every call.
    """

    def __init__(self, transformer: LayerAdaptiveTransformer3DModel) -> None:
        self.model_config: ModelConfig = transformer.model_config
        self._layers = transformer.layer_attentions()

    def prepare_identity(self, tokens: torch.Tensor) -> IdentityContext:
        return IdentityContext(tuple(layer.keys_values(tokens[None]) for layer in self._layers))


class VideoLatents(comfy.latent_formats.LatentFormat):  # type: ignore[misc]
    """LATENTs as everywhere in ComfyUI: the VAE's own latents, which the model wants scaled; 8×8×4 pixels per value."""

    latent_dimensions = 3
    spacial_downscale_ratio = SPATIAL_COMPRESSION  # the core's spelling
    temporal_downscale_ratio = 4


class Net(torch.nn.Module):
    """The transformer in the core's terms. Its weights have diffusers' names, and are the transformer's own."""

    def __init__(self, model: FantasyIDModel) -> None:
        super().__init__()
        transformer = model.transformer
        for name, part in transformer.named_children():
            self.add_module(name, part)
        timesteps = int(model.noise_schedule["num_train_timesteps"])
        self.run = partial(_run, transformer, timesteps)  # not a submodule, or every weight would be there twice
        self.dtype = transformer.dtype

    def forward(
        self,
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **conditions: Any,
    ) -> torch.Tensor:
        """Noisy latents [B, C, F, H, W], timestep [B] 0..999, text [B, L, D] → velocity [B, C, F, H, W].

        Through the core's wrappers, by which EasyCache and others stand in for a call.
        """
        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self._velocity, self, wrappers)
        velocity: torch.Tensor = executor.execute(x, timestep, context, options)
        return velocity

    def _velocity(
        self, x: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor, transformer_options: dict[str, Any]
    ) -> torch.Tensor:
        velocity: torch.Tensor = self.run(x.movedim(2, 1), timestep, context, transformer_options)
        return velocity.movedim(1, 2)


class VideoModel(_DiffusersNames):  # type: ignore[misc]
    """The core's shell around it: noise schedule, latent format, memory."""

    def __init__(self, model: FantasyIDModel) -> None:
        config = comfy.supported_models_base.BASE({"disable_unet_model_creation": True})
        config.sampling_settings = {"zsnr": True}
        config.latent_format = VideoLatents()
        config.latent_format.latent_channels = model.config.transformer.latent_channels
        config.latent_format.scale_factor = latent_scale(model)
        dtype = model.transformer.dtype
        config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, video_device().load))
        velocity = model.noise_schedule["prediction_type"] == "v_prediction"
        kind = comfy.model_base.ModelType.V_PREDICTION if velocity else comfy.model_base.ModelType.EPS
        comfy.model_base.BaseModel.__init__(self, config, kind)
        self.diffusion_model = Net(model).eval()
        if hasattr(management, "archive_model_dtypes"):  # cores of 2026, for modules that BaseModel did not build
            management.archive_model_dtypes(self.diffusion_model)
        kept = DpmSampler(1, model.noise_schedule).alphas_cumprod.clamp(min=_LEAST_SIGNAL)
        self.model_sampling.set_sigmas(((1 - kept) / kept) ** 0.5)
        self.config = model.config

    def encode_adm(self, **_: Any) -> None:
        """There is no pooled text."""

    def extra_conds(self, **named: Any) -> dict[str, Any]:
        """The text alone, at the one length that the model reads: the core would repeat a shorter one to fit a longer.

        Reference and identity travel with the MODEL. InputError for a video size that cannot be.
        """
        dit = self.config.transformer
        frames, height, width = named["noise"].shape[-3:]
        pixels = (height * SPATIAL_COMPRESSION, width * SPATIAL_COMPRESSION)
        check_video_size((frames - 1) * dit.temporal_compression + 1, *pixels, self.config)
        conditions: dict[str, Any] = comfy.model_base.BaseModel.extra_conds(self, **named)
        text = named.get("cross_attn")
        if text is not None:
            if text.shape[-1] != dit.text_embed_dim:
                raise InputError(
                    f"This conditioning is {text.shape[-1]} numbers wide, but the video model reads "
                    f"{dit.text_embed_dim}; encode the prompt with Encode Prompt."
                )
            conditions["c_crossattn"] = comfy.conds.CONDRegular(fit_conditioning(text, dit.text_length))
        return conditions

    def memory_required(self, input_shape: list[int], cond_shapes: object = None) -> int:
        """Bytes that a call on latents [B, C, F, H, W] needs beside the weights."""
        batch, _, *grid = input_shape
        return call_memory(self.config, batch, grid, self.manual_cast_dtype or self.get_dtype())


def own_copy(model: FantasyIDModel, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The MODEL with weights of its own, for what the core does not share them with: compiled blocks, further cards.

    Cores of 2026 call it (``cached_patcher_init``), when nothing is patched into the weights. disable_dynamic: by the
    manager that does not page them.
    """
    unowned: dict[int, Any] = {id(getattr(model.transformer, PATCHER, None)): None}  # what manages the original stays
    owned = replace(model, transformer=deepcopy(model.transformer, unowned))
    shell = VideoModel(owned)
    if model.vae is not None:
        add_preview(shell, model)
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else Patcher
    device = video_device()
    return kind(shell, load_device=device.load, offload_device=device.rest)


def call_memory(config: ModelConfig, batch: int, grid: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes that a call in ``dtype`` on ``batch`` videos of latents ``grid`` (F, H, W) needs beside the weights."""
    frames, height, width = grid
    latent = (frames, height, width)
    work = denoising_work(config, latent, batch, dtype.itemsize) + sampler_work(config, latent)
    return int(_HEADROOM * work)


def add_preview(shell: VideoModel, model: FantasyIDModel) -> None:
    """Give core samplers the colours of half-finished latents; the VAE must be on its device."""
    weights = preview_weights(model.vae)  # (C + 1, 3), to RGB 0..1; the core wants -1..1
    shell.latent_format.latent_rgb_factors = (2 * weights[:-1]).tolist()
    shell.latent_format.latent_rgb_factors_bias = (2 * weights[-1] - 1).tolist()


def latent_scale(model: FantasyIDModel) -> float:
    """What a LATENT is multiplied by to be the model's latents."""
    if model.vae is None:
        return _COGVIDEOX_SCALE
    from ..fantasyid_core.video.vae import latent_scale as scale_of

    return scale_of(model.vae)


def fraction_of(timestep: float, timesteps: int) -> float:
    """How far the denoising is, 0..1, at ``timestep`` (timesteps - 1: noise, 0: nearly clean).

    With scheduler "simple" this is step / steps. From the noise level and not from the step's number, so that a run
    that starts in the middle (denoise below 1, the second of two samplers) is as far as it is.
    """
    return (timesteps - 1 - timestep) / timesteps


def _run(
    transformer: LayerAdaptiveTransformer3DModel,
    timesteps: int,  # of the noise schedule
    latents: torch.Tensor,  # [B, F, C, H, W]
    timestep: torch.Tensor,
    text: torch.Tensor,
    options: dict[str, Any],
) -> torch.Tensor:
    shown: Shown | None = options.get(OPTION)
    reference = torch.zeros_like(latents) if shown is None else shown.reference_of(latents)
    _, frames, _, height, width = latents.shape
    bring_buffers(transformer, latents.device)
    config, fraction = transformer.model_config, fraction_of(float(timestep[0]), timesteps)
    velocity: torch.Tensor = transformer(
        hidden_states=torch.cat([latents, reference], dim=2),
        encoder_hidden_states=text,
        timestep=timestep,
        image_rotary_emb=rotary_table(config, frames, height, width, latents.device),
        identity=None if shown is None else shown.acting(transformer, latents, fraction),
        check=management.throw_exception_if_processing_interrupted,
        return_dict=False,
    )[0]
    return velocity
