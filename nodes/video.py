"""Fifth room: text, the layer-adaptive sampler, and the way back to frames."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from comfy_api.latest import io

from ..fantasyid_core.errors import InputError, MissingFileError
from ..fantasyid_core.out_of_memory import Ladder
from ..fantasyid_core.video.memory_presets import MEMORY_PRESETS
from ..fantasyid_core.video.skip_layers import SkipLayers, parse_layers
from ..fantasyid_core.video.strength import LayerStrength
from ..fantasyid_core.video.text import fit_conditioning, fixed_length_tokens
from ..fantasyid_core.weights.catalog import entry
from . import sockets
from .compat import schema
from .core_video import latent_scale
from .inputs import size_inputs, who_inputs
from .memory import on_device, text_device, vae_device
from .pictures import image_from_pictures
from .progress import moving_progress, node_progress, show_text
from .sampling import (
    Conditioning,
    asked_size,
    conditions_of,
    decoding_memory,
    one_of,
    preview_of,
    require_vae,
)
from .speed import Speed

if TYPE_CHECKING:
    from ..fantasyid_core.identity.identity import Identity
    from ..fantasyid_core.model import FantasyIDModel
    from ..fantasyid_core.video.people import People

FRAME_RATE = 8.0  #: what the model was trained at
TILED = ("auto", "on", "off")


class TextEncode(io.ComfyNode):
    """FantasyIDTextEncode."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDTextEncode",
            display_name="Encode Prompt",
            description="Turn a prompt into what the video model reads. Describe the scene and what happens in it; "
            "who it is comes from the identity.",
            search_aliases=["prompt", "clip text encode", "t5"],
            inputs=[
                sockets.Model.Input(
                    "model",
                    tooltip="From Load FantasyID Model: its text encoder is used, and how long a prompt it reads.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="The prompt, best in English, one to five sentences. May be empty for the negative prompt.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="ComfyUI's own T5 (Load CLIP with t5xxl, type sd3) instead of the model's text encoder.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("conditioning", "conditioning", tooltip="The encoded prompt, for the sampler."),
            ],
        )

    @classmethod
    def execute(cls, model: FantasyIDModel, text: str, clip: Any = None) -> io.NodeOutput:
        """→ CONDITIONING with tokens [1, L, D]."""
        tokens = _encode(model, text) if clip is None else _encode_with_clip(clip, text, _text_length(model))
        return io.NodeOutput([[tokens.to(management.intermediate_device()), {}]])


class Sampler(io.ComfyNode):
    """FantasyIDSampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDSampler",
            display_name="5 · Layer-Adaptive Sampler",
            description="Make the video: denoise it step by step while every layer of the model takes what it needs "
            "of the identity. Without an identity it is plain text-to-video. Shows progress and a preview; cancel "
            "takes effect within one step.",
            search_aliases=["ksampler", "video sampler", "text to video", "fantasyid 5"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                sockets.Model.Input("model", tooltip="From Load FantasyID Model."),
                io.Conditioning.Input("positive", tooltip="The encoded prompt: what the video shows."),
                io.Conditioning.Input(
                    "negative", tooltip="The encoded negative prompt: what it must not show; often empty."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The same seed and settings give the same video.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="Denoising steps: more is slower and finer. The public checkpoint was shown with 50.",
                ),
                io.Float.Input(
                    "guidance_scale",
                    default=6.0,
                    min=1.0,
                    max=30.0,
                    step=0.1,
                    round=0.01,
                    tooltip="How closely to follow the prompt. 1 ignores the negative prompt and takes half the time.",
                ),
                io.Float.Input(
                    "identity_strength",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How much of the identity each layer takes. 1 is as trained, 0 switches it off; above 1 "
                    "the likeness may grow and the face may get stiff.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="From which part of the steps on the identity counts. A later start leaves the prompt more "
                    "say in pose and layout.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Up to which part of the steps the identity counts. An earlier end leaves the prompt more "
                    "say in the details.",
                ),
                *size_inputs(),
                *who_inputs(),
                sockets.Speed.Input(
                    "speed",
                    optional=True,
                    tooltip="From Speed Options: what may be left out to be faster. Without it nothing is.",
                ),
                _guidance(
                    "identity_guidance",
                    "How many times more of what the identity changes. 0 is off, as the public checkpoint was "
                    "released; start low, at 0.5, where identity_strength is not enough. One more model call per step.",
                ),
                _guidance(
                    "reference_guidance",
                    "How many times more of what the whole person changes, the reference picture included. 0 is off, "
                    "as the public checkpoint was released; the mini wants 1. One more model call per step.",
                ),
                _guidance(
                    "skip_layer_guidance",
                    "For faces that hold together better in turns: away from what the model makes when one of its "
                    "layers does not look around. 0 is off, as the public checkpoint was released; the mini wants 0.7. "
                    "One more model call per step.",
                ),
                io.String.Input(
                    "skip_layers",
                    optional=True,
                    default="",
                    tooltip="Whose attention skip_layer_guidance leaves out, counted from 0, such as '9, 10'. Empty is "
                    "the middle layer: 4 of the mini's 8, 21 of the public checkpoint's 42.",
                ),
                io.Float.Input(
                    "skip_start_percent",
                    optional=True,
                    default=0.35,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="From which part of the steps on skip_layer_guidance counts. From 0 on, it changes hair "
                    "and colours too.",
                ),
            ],
            outputs=[
                io.Latent.Output("latent", "latent", tooltip="The video before decoding, for Decode Video."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: FantasyIDModel,
        positive: Conditioning,
        negative: Conditioning,
        seed: int,
        steps: int,
        guidance_scale: float,
        identity_strength: float,
        start_percent: float,
        end_percent: float,
        frames: int,
        width: int,
        height: int,
        identity: Identity | None = None,
        people: People | None = None,
        strength: LayerStrength | None = None,
        speed: Speed | None = None,
        identity_guidance: float = 0.0,
        reference_guidance: float = 0.0,
        skip_layer_guidance: float = 0.0,
        skip_layers: str = "",
        skip_start_percent: float = 0.35,
    ) -> io.NodeOutput:
        """→ LATENT [1, C, F, H, W]."""
        from ..fantasyid_core.video.sample import SamplingOptions, Tally, sample
        from ..fantasyid_core.video.strength_picture import describe_strength

        speed, tally = speed or Speed(), Tally()
        skipping = SkipLayers(skip_layer_guidance, parse_layers(skip_layers), skip_start_percent)
        size = asked_size(model, frames, height, width)
        who = one_of(identity, people)
        acting = (strength or LayerStrength()).scaled(identity_strength).between(start_percent, end_percent)
        about = "" if who is None else describe_strength(acting, len(model.transformer.layer_attentions()), steps)
        generator = torch.Generator("cpu").manual_seed(seed)  # the same noise on every device
        pictures = preview_of(model)  # before the transformer, which may push the VAE off the device
        conditions = conditions_of(model, positive, negative, who, size, generator)
        options = SamplingOptions(
            steps,
            guidance_scale,
            identity_guidance=identity_guidance,
            reference_guidance=reference_guidance,
            skip_layers=skipping,
            strength=acting,
            noise_schedule=model.noise_schedule,
            levers=speed.levers,
            window=speed.window(model.config, size.frames),
        )
        check = management.throw_exception_if_processing_interrupted
        with moving_progress(cls, steps, pictures, about) as report:
            latents = sample(model.transformer, conditions, options, generator, report, check, tally)
        show_text(cls, "\n".join(filter(None, (about, str(tally)))))
        samples = latents.movedim(2, 1).float() / latent_scale(model)
        return io.NodeOutput({"samples": samples.to(management.intermediate_device())})


def _guidance(name: str, tooltip: str) -> io.Input:
    """A guidance that is off until it is asked for."""
    return io.Float.Input(name, optional=True, default=0.0, min=0.0, max=10.0, step=0.1, round=0.01, tooltip=tooltip)


class Decode(io.ComfyNode):
    """FantasyIDDecode."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDDecode",
            display_name="6 · Decode Video",
            description="Turn the sampler's latent into frames. Connect Create Video and Save Video behind it to get "
            "an .mp4.",
            search_aliases=["vae decode", "latent to video"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                sockets.Model.Input("model", tooltip="From Load FantasyID Model: its VAE is used."),
                io.Latent.Input("latent", tooltip="From the Layer-Adaptive Sampler."),
                io.Combo.Input(
                    "tiled",
                    options=list(TILED),
                    default="auto",
                    tooltip="Decode in overlapping tiles: far less memory, a little slower, nearly the same picture. "
                    "'auto' does so when the device has too little memory left.",
                ),
            ],
            outputs=[
                io.Image.Output("images", "images", tooltip="The frames, one IMAGE batch."),
                io.Float.Output(
                    "fps", "fps", tooltip="Frames per second the model was trained at (8), for Create Video."
                ),
            ],
        )

    @classmethod
    def execute(cls, model: FantasyIDModel, latent: dict[str, torch.Tensor], tiled: str) -> io.NodeOutput:
        """latent: samples [B, C, F, H, W] → IMAGE [B·N, 8·H, 8·W, 3], one video after the other."""
        from ..fantasyid_core.video.vae import decode_latents

        samples = latent["samples"]  # (B, C, F, H, W)
        if samples.ndim != 5:
            raise InputError("This is the latent of an image, not of a video; connect the Layer-Adaptive Sampler's.")
        vae = require_vae(model)
        room = decoding_memory(samples)
        device = vae_device()
        in_tiles = tiled == "on" or (tiled == "auto" and management.get_free_memory(device.load) < room)
        on_device(vae, device, room // 4 if in_tiles else room)
        ladder = Ladder(MEMORY_PRESETS, partial(show_text, cls))
        videos = [
            image_from_pictures(decode_latents(vae, video, in_tiles, node_progress(1), ladder))
            for video in (samples * latent_scale(model)).movedim(1, 2).split(1)
        ]
        return io.NodeOutput(torch.cat(videos), FRAME_RATE)


def _encode(model: FantasyIDModel, text: str) -> torch.Tensor:
    """Tokens [1, L, D] by the model's own text encoder."""
    if model.text is None:
        raise MissingFileError(entry("text_encoder").missing_message())
    on_device(model.text.encoder, text_device())
    return model.text.encode(text)


def _encode_with_clip(clip: Any, text: str, length: int) -> torch.Tensor:
    """Tokens [1, length, D] by ComfyUI's T5, padded as the model was trained."""
    tokens = clip.tokenize(text)
    if "t5xxl" not in tokens:
        raise InputError("This CLIP has no T5; connect Load CLIP with a t5xxl file and type sd3.")
    tokens["t5xxl"] = fixed_length_tokens(tokens["t5xxl"], length)
    encoded, _ = clip.encode_from_tokens(tokens, return_pooled=True)
    return fit_conditioning(encoded, length)


def _text_length(model: FantasyIDModel) -> int:
    return model.config.transformer.text_length


NODES: list[type[io.ComfyNode]] = [TextEncode, Sampler, Decode]
