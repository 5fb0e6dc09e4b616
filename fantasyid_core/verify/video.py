"""The fifth room's golden numbers: layer attention, rotary table, the whole transformer in every way the README names.

Any key that the release's own names could make is computed for every run, so that a file with more keys than the
published one is checked as well: ``<run>.blockN.hidden``, ``.layer_attentionN``, ``.output`` …
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from ..config import RELEASE
from ..video.identity_context import IdentityContext
from ..video.size import rotary_table
from ..video.transformer import LayerAdaptiveTransformer3DModel
from ..weights.golden_rule import tensor_input
from .identity import IdentityNets
from .models import golden_config, golden_layer_attention, golden_transformer

Numbers = Iterator[tuple[str, torch.Tensor]]
_FACE = RELEASE.face_abstractor.tokens


@torch.no_grad()
def transformer_numbers(nets: IdentityNets, wanted: Collection[str]) -> Numbers:
    """transformer.safetensors (golden README, e); only the runs that a wanted key belongs to."""
    runs = {key.partition(".")[0] for key in wanted}
    yield from zip(("rope_cos", "rope_sin"), rotary_table(RELEASE, 3, 8, 12), strict=True)
    if runs & {"base", "batch2"}:
        yield from _two_layers(nets, wanted, runs)
    if "learned" in runs:
        yield from _learned(nets, wanted)
    if "interval2" in runs:
        model = golden_transformer(golden_config(layers=4, interval=2))
        yield from traced("interval2", model, nets.tokens(torch.float32))


def _two_layers(nets: IdentityNets, wanted: Collection[str], runs: Collection[str]) -> Numbers:
    """base and batch2, then base once more in bfloat16 (last: the same model is narrowed)."""
    model = golden_transformer(golden_config())
    tokens = nets.tokens(torch.float32)
    if "base" in runs:
        yield from traced("base", model, tokens)
        yield "base.output_without_identity", velocity(model, None)
    if "batch2" in runs:
        yield from traced("batch2", model, tokens, suffix=".b2", batch=2, timestep=749)
    if any("bfloat16" in key for key in wanted):
        model.bfloat16()
        low = nets.tokens(torch.bfloat16)
        for key, tensor in traced("base", model, low, dtype=torch.bfloat16):
            yield f"{key}_bfloat16", tensor


def _learned(nets: IdentityNets, wanted: Collection[str]) -> Numbers:
    """Learned positions: at their own size, and at two frames, where the sinusoidal table takes over."""
    model = golden_transformer(golden_config(learned=True))
    tokens = nets.tokens(torch.float32)
    yield from traced("learned", model, tokens)
    if "learned.output_without_identity" in wanted:
        yield "learned.output_without_identity", velocity(model, None)
    for key, tensor in traced("learned", model, tokens, suffix=".f2", frames=2):
        yield f"{key}_2frames", tensor
    table = model.patch_embed._get_positional_embeddings(8, 12, 5)  # 5 frames = 2 latent frames
    rows = model.model_config.transformer.text_length
    yield from {"learned.sincos_2frames": table, "learned.sincos_2frames_image_rows": table[:, rows:]}.items()


def traced(run: str, model: LayerAdaptiveTransformer3DModel, tokens: torch.Tensor, **call: Any) -> Numbers:
    """One call with identity ``tokens`` [1, 115, 2048], and what the golden files name of its inside."""
    with records(model) as found:
        found["output"] = velocity(model, model.prepare_identity(tokens), **call)
    found |= {"face_tokens": tokens[:, :_FACE], "vertex_tokens": tokens[:, _FACE:]}
    yield from ((f"{run}.{name}", tensor) for name, tensor in found.items())


def velocity(
    model: LayerAdaptiveTransformer3DModel,
    identity: IdentityContext | None,
    suffix: str = "",
    batch: int = 1,
    frames: int = 3,
    timestep: int = 499,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:  # [batch, frames, 16, 8, 12]
    """The golden call: inputs named by ``suffix``; the two-frame latents come with the usual text."""
    text = suffix if batch > 1 else ""
    return model(
        hidden_states=tensor_input("model.latents" + suffix, (batch, frames, 32, 8, 12)).to(dtype),
        encoder_hidden_states=tensor_input("model.text" + text, (batch, 226, 4096), 0.2).to(dtype),
        timestep=torch.full((batch,), timestep),
        image_rotary_emb=rotary_table(RELEASE, frames, 8, 12),
        return_dict=False,
        identity=identity,
    )[0]


@contextmanager
def records(model: LayerAdaptiveTransformer3DModel) -> Iterator[dict[str, torch.Tensor]]:
    """A dictionary that fills while the model runs: patch rows, time embedding, every block, every identity layer.

    blockN.hidden is the image rows out of block N *before* the identity is added. layer_attentionN is what is added,
    counted by module and, where that is another number, by block.
    """
    found: dict[str, torch.Tensor] = {}
    text = model.model_config.transformer.text_length

    def patch_embed(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        found.update(patch_embed_text=output[:, :text], patch_embed_image_rows=output[:, text:])

    def block(index: int, _: nn.Module, __: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        found[f"block{index}.text"], found[f"block{index}.after"] = output[1], output[0]
        found.setdefault(f"block{index}.hidden", output[0])

    def identity_layer(index: int, module: int, _: nn.Module, args: Any, output: torch.Tensor) -> None:
        found[f"block{index}.hidden"], found[f"layer_attention{module}"] = args[0], output
        found.setdefault(f"layer_attention{index}", output)

    def keep(name: str, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        found[name] = output

    hooks = [
        model.patch_embed.register_forward_hook(patch_embed),
        model.time_embedding.register_forward_hook(partial(keep, "time_embedding")),
        model.norm_final.register_forward_hook(partial(keep, "norm_final_image_rows")),
    ]
    interval = model.model_config.injection.interval
    for index, layer in enumerate(model.transformer_blocks):
        hooks.append(layer.register_forward_hook(partial(block, index)))
    for module, attention in enumerate(model.layer_attentions()):
        hooks.append(attention.register_forward_hook(partial(identity_layer, module * interval, module)))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


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
