"""This room's golden numbers: what the release computes, under the names its golden files give (see verify).

Weights and inputs are pure functions of their names (weights/golden_rule.py), so nothing is read but the identity
tokens, which the fourth room computes. Every function yields (key, tensor) of one golden file; a key that the caller
does not want costs nothing but the time of its group.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..arrays import FloatArray
from ..config import RELEASE, ModelConfig
from ..weights.golden_rule import fill_module, tensor_input
from .identity_context import IdentityContext
from .layer_attention import LayerAttention
from .sample import Conditions, SamplingOptions, sample
from .schedule import DpmSampler
from .size import rotary_table
from .transformer import LayerAdaptiveTransformer3DModel, official_key
from .vae import decode_latents, encode_reference, reference_pixels

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

#: The fourth room's tokens of the golden face, [1, 115, 2048], as computed in the given dtype.
TokensOf = Callable[[torch.dtype], torch.Tensor]
Numbers = Iterator[tuple[str, torch.Tensor]]

TINY_VAE: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "latent_channels": 16,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_height": 64,
    "sample_width": 96,
    "scaling_factor": 0.7,
}


def golden_config(layers: int = 2, interval: int = 1, learned: bool = False) -> ModelConfig:
    """The release at its real width with few layers; with learned positions at 8×12 latents and 9 frames."""
    dit = replace(RELEASE.transformer, layers=layers, learned_positions=learned)
    if learned:
        dit = replace(dit, sample_height=8, sample_width=12, sample_frames=9)
    return replace(RELEASE, transformer=dit, injection=replace(RELEASE.injection, interval=interval))


def golden_transformer(config: ModelConfig) -> LayerAdaptiveTransformer3DModel:
    """A transformer whose weights are made of their names."""
    with torch.device("meta"):
        model = LayerAdaptiveTransformer3DModel(config)
    model.to_empty(device="cpu")
    fill_module(model, lambda name: official_key(name, config.injection.interval))
    return model.requires_grad_(False)


def golden_vae() -> AutoencoderKLCogVideoX:
    """The tiny VAE of the pipeline's golden numbers."""
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX(**TINY_VAE)
    fill_module(vae, lambda name: "vae." + name)
    return vae.requires_grad_(False)


def golden_layer_attention() -> LayerAttention:
    """The identity layer of the first block at the release's size."""
    attention = LayerAttention(RELEASE)
    fill_module(attention, lambda name: "layer_attention.0." + name)
    return attention.requires_grad_(False)


@torch.no_grad()
def layer_attention_numbers() -> Numbers:
    """layer_attention.safetensors (golden README, d)."""
    attention = golden_layer_attention()
    identity = tensor_input("layer_attention.x", (1, 115, 2048))
    latents = tensor_input("layer_attention.latents", (1, 96, 3072))
    yield "output", attention(latents, *attention.keys_values(identity))
    pair = tensor_input("layer_attention.latents.b2", (2, 96, 3072))
    yield "output_batch2", attention(pair, *attention.keys_values(identity))
    attention.bfloat16()
    low = latents.bfloat16()
    yield "output_bfloat16", attention(low, *attention.keys_values(identity.bfloat16())).float()


def rotary_numbers() -> Numbers:
    """rope_full.safetensors: every 351st row of the full-size table."""
    cos, sin = rotary_table(RELEASE, 13, 60, 90)
    rows = torch.arange(0, len(cos), 351)
    yield from {"rope_full_index": rows, "rope_full_cos": cos[rows], "rope_full_sin": sin[rows]}.items()


@torch.no_grad()
def transformer_numbers(tokens_of: TokensOf, wanted: Collection[str] | None = None) -> Numbers:
    """transformer.safetensors (golden README, e); ``wanted`` None = every key, else only the groups that hold one."""
    groups: dict[str, Callable[[TokensOf], Numbers]] = {
        "base": _base_numbers,
        "batch2": _batch2_numbers,
        "learned": _learned_numbers,
        "interval2": _interval2_numbers,
        "rope": _small_rotary_numbers,
    }
    for group, numbers in groups.items():
        if wanted is None or any(key.startswith(group) for key in wanted):
            yield from numbers(tokens_of)


def _base_numbers(tokens_of: TokensOf) -> Numbers:
    model = golden_transformer(golden_config())
    with _records(model) as records:
        tokens = tokens_of(torch.float32)
        yield "base.output", _velocity(model, model.prepare_identity(tokens))
        yield from records.items()
    yield "base.vertex_tokens", tokens[:, RELEASE.face_abstractor.tokens :]
    yield "base.output_without_identity", _velocity(model, None)
    model.bfloat16()
    identity = model.prepare_identity(tokens_of(torch.bfloat16))
    yield "base.output_bfloat16", _velocity(model, identity, dtype=torch.bfloat16).float()


def _batch2_numbers(tokens_of: TokensOf) -> Numbers:
    model = golden_transformer(golden_config())
    identity = model.prepare_identity(tokens_of(torch.float32))
    yield "batch2.output", _velocity(model, identity, suffix=".b2", batch=2, timestep=749)


def _learned_numbers(tokens_of: TokensOf) -> Numbers:
    model = golden_transformer(golden_config(learned=True))
    identity = model.prepare_identity(tokens_of(torch.float32))
    yield "learned.output", _velocity(model, identity)
    yield "learned.output_2frames", _velocity(model, identity, suffix=".f2", frames=2)
    text_length = model.model_config.transformer.text_length
    positions = model.patch_embed._get_positional_embeddings(8, 12, 5)  # 5 frames = 2 latent frames
    yield "learned.sincos_2frames_image_rows", positions[:, text_length:]


def _interval2_numbers(tokens_of: TokensOf) -> Numbers:
    model = golden_transformer(golden_config(layers=4, interval=2))
    yield "interval2.output", _velocity(model, model.prepare_identity(tokens_of(torch.float32)))


def _small_rotary_numbers(tokens_of: TokensOf) -> Numbers:
    yield from zip(("rope_cos", "rope_sin"), rotary_table(RELEASE, 3, 8, 12), strict=True)


def _velocity(
    model: LayerAdaptiveTransformer3DModel,
    identity: IdentityContext | None,
    suffix: str = "",
    batch: int = 1,
    frames: int = 3,
    timestep: int = 499,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    text_suffix = suffix if batch > 1 else ""  # the two-frame latents come with the usual text
    return model(
        hidden_states=tensor_input("model.latents" + suffix, (batch, frames, 32, 8, 12)).to(dtype),
        encoder_hidden_states=tensor_input("model.text" + text_suffix, (batch, 226, 4096), 0.2).to(dtype),
        timestep=torch.full((batch,), timestep),
        image_rotary_emb=rotary_table(RELEASE, frames, 8, 12),
        return_dict=False,
        identity=identity,
    )[0]


@contextmanager
def _records(model: LayerAdaptiveTransformer3DModel) -> Iterator[dict[str, torch.Tensor]]:
    """What the golden file keeps of the inside of a call, by key, filled while the model runs."""
    found: dict[str, torch.Tensor] = {}
    text_length = model.model_config.transformer.text_length

    def patch_embed(output: torch.Tensor) -> None:
        found["base.patch_embed_text_first8"] = output[:, :8]
        found["base.patch_embed_image_rows"] = output[:, text_length:]

    def layer(index: int, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found[f"base.block{index}.hidden"] = args[0]
        found[f"base.layer_attention{index}"] = output

    def norm_final(output: torch.Tensor) -> None:
        found["base.norm_final_image_rows_first8"] = output[:, :8]

    attentions = model.layer_attentions()
    hooks = [
        model.time_embedding.register_forward_hook(lambda _m, _a, out: found.update({"base.time_embedding": out})),
        model.patch_embed.register_forward_hook(lambda _m, _a, out: patch_embed(out)),
        model.norm_final.register_forward_hook(lambda _m, _a, out: norm_final(out)),
    ]
    for index, block in enumerate(model.transformer_blocks):
        key = f"base.block{index}.text_first8"
        hooks.append(block.register_forward_hook(lambda _m, _a, out, key=key: found.update({key: out[1][:, :8]})))
        hooks.append(
            attentions[index].register_forward_hook(lambda _m, args, out, index=index: layer(index, args, out))
        )
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def pipeline_numbers(tokens_of: TokensOf, image: FloatArray, wanted: Collection[str] | None = None) -> Numbers:
    """pipeline.safetensors (golden README, i). image: the file's ``image_uint8`` as [64, 64, 3] RGB 0..1.

    wanted: without a key that starts with "dynamic_cfg." or "no_cfg." those runs are left out; None = all.
    """
    model, vae = golden_transformer(golden_config()), golden_vae()
    identity = model.prepare_identity(tokens_of(torch.float32))
    options = SamplingOptions(steps=3, guidance_scale=6.0)
    yield from _pipeline_inputs(vae, image)
    recorder = _PipelineRecorder(model, vae, image, identity)
    yield from recorder.run(options, "")
    variants = {
        "dynamic_cfg.": replace(options, dynamic_guidance=True),
        "no_cfg.": replace(options, guidance_scale=1.0),
    }
    for prefix, variant in variants.items():
        if wanted is None or any(key.startswith(prefix) for key in wanted):
            yield from recorder.run(variant, prefix)


def _pipeline_inputs(vae: AutoencoderKLCogVideoX, image: FloatArray) -> Numbers:
    """The noise schedule, the conditioning picture, its posterior, and the random draws in the release's order."""
    yield "alphas_cumprod", DpmSampler(3).alphas_cumprod.float()
    pixels = reference_pixels(image, 64, 96, "stretch")
    yield "preprocessed_image", pixels
    posterior = vae.encode(pixels[:, :, None]).latent_dist
    yield "vae_mean", posterior.mean
    yield "vae_std", posterior.std
    generator = torch.Generator().manual_seed(42)
    torch.randn(posterior.mean.shape, generator=generator)
    for draw, name in enumerate(["latents"] + ["scheduler"] * 4):
        yield f"draw{draw}.{name}", torch.randn((1, 3, 16, 8, 12), generator=generator)


class _PipelineRecorder:
    """Runs the three-step pipeline and keeps what the golden file names."""

    def __init__(
        self,
        model: LayerAdaptiveTransformer3DModel,
        vae: AutoencoderKLCogVideoX,
        image: FloatArray,
        identity: IdentityContext,
    ) -> None:
        self.model, self.vae, self.image, self.identity = model, vae, image, identity
        self.prompt = tensor_input("pipeline.prompt", (1, 226, 4096), 0.2)
        self.negative = tensor_input("pipeline.negative", (1, 226, 4096), 0.2)

    def run(self, options: SamplingOptions, prefix: str) -> Numbers:
        """One whole run, from the reference crop to the frames."""
        generator = torch.Generator().manual_seed(42)
        reference = encode_reference(self.vae, self.image, 9, 64, 96, generator, fit="stretch")
        calls: list[tuple[torch.Tensor, torch.Tensor]] = []
        handle = self.model.register_forward_hook(
            lambda _module, _args, kwargs, output: calls.append((kwargs["hidden_states"], output[0])), with_kwargs=True
        )
        conditions = Conditions(self.prompt, self.negative, reference, self.identity)
        final = sample(self.model, conditions, options, generator)
        handle.remove()
        for step, (model_input, output) in enumerate(calls):
            yield f"{prefix}step{step}.model_input", model_input
            yield f"{prefix}step{step}.model_output", output
            after = calls[step + 1][0][:1, :, :16] if step + 1 < len(calls) else final
            yield f"{prefix}step{step}.latents", after
        yield f"{prefix}latents_final", final
        frames = torch.from_numpy(np.ascontiguousarray(decode_latents(self.vae, final)))
        yield f"{prefix}frames_pt", frames.permute(0, 3, 1, 2)[None]  # (1, F, 3, H, W)
