"""The peak-memory model against what is really held: at full size by counting, at small sizes by allocations.

    python -m benchmarks.memory_plan                 both tables, and what the presets need
    python -m benchmarks.memory_plan --counted-only  the second table takes minutes and 3 GB

At full size the code runs on torch's meta device: every tensor is followed from the operator that makes it until nobody
holds it, but nothing is computed. At small sizes the networks have their real widths and random weights, and torch's
allocator is recorded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.measure import held, machine, peak_extra, print_table
from benchmarks.models import made_up_hierarchy
from fantasyid_core.config import PAPER, RELEASE, ModelConfig
from fantasyid_core.identity.encoder import IdentityEncoder
from fantasyid_core.video import memory_plan as plan
from fantasyid_core.video.lean_vae import lean
from fantasyid_core.video.memory_presets import TILE
from fantasyid_core.video.size import rotary_table
from fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel
from fantasyid_core.video.vae import _chunks, _stream, decode_latents

FULL = (13, 60, 90)  #: 49 frames of 480×720
Row = tuple[str, int, int]  #: what, foretold bytes, bytes really held


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a transformer. given: the tensors that are there before."""

    run: Callable[[], Any]
    given: tuple[torch.Tensor, ...]


def main() -> None:
    """Count, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counted-only", action="store_true")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    print(f"\nPeak memory beside the weights: the model of memory_plan.py against the code\n{machine()}\n")
    _print("counted at full size", counted())
    if not options.counted_only:
        _print("allocated at real width, small size", measured())
    print("\nWhat the presets need for 49 frames of 480×720, GB, as foretold\n")
    plans = plan.release_plans(RELEASE)
    phases = [phase.name for phase in plans[0].phases]
    rows = [
        [each.preset.name, *(f"{phase.total / 1e9:.1f}" for phase in each.phases), f"{each.peak / 1e9:.1f}"]
        for each in plans
    ]
    print_table(["preset", *phases, "peak"], rows)


def counted() -> list[Row]:
    """Every phase at full size, on the meta device."""
    rows: list[Row] = []
    bf16 = torch.bfloat16
    for config in (RELEASE, PAPER):
        few = replace(config, transformer=replace(config.transformer, layers=2))
        for branches in (2, 1):
            transformer, call = call_of(few, FULL, branches, bf16)
            most = held(call.run, transformer, *call.given)
            name = f"denoising, {config.family}, {'both prompts at once' if branches == 2 else 'one prompt'}"
            rows.append((name, plan.denoising_work(few, FULL, branches, 2), most))
    vae, shape = empty_vae(bf16), plan.DecoderShape()
    for name, tile in (("decoding, whole frames", 0), ("decoding, in tiles of 256 pixels", TILE)):
        z = torch.empty(1, 16, FULL[0], *(min(side, tile or side) for side in FULL[1:]), dtype=bf16, device="meta")
        most = held(lambda z=z: [*_stream(vae, z, _chunks(FULL[0]))], vae, z)  # type: ignore[misc]
        rows.append((name, plan.decoding_work(shape, *FULL, 2, tile, copies=False), most))
    picture = torch.empty(1, 3, 1, 480, 720, dtype=bf16, device="meta")
    most = held(lambda: vae.encode(picture).latent_dist.mode(), vae, picture)
    rows.append(("encoding the reference", plan.encoding_work(shape, *FULL[1:], 2, copies=False), most))
    text, tokens = empty_t5(layers=2), torch.empty(1, 226, dtype=torch.long, device="meta")
    rows.append(("text", plan.text_work(RELEASE, 2), held(lambda: text(tokens)[0], text, tokens)))
    return rows


def measured() -> list[Row]:
    """Real width, random weights, few layers, small videos: what torch's allocator hands out."""
    rows: list[Row] = []
    one = replace(RELEASE, transformer=replace(RELEASE.transformer, layers=1, learned_positions=False))
    for size, branches, dtype in (((3, 30, 46), 2, torch.bfloat16), ((3, 30, 46), 1, torch.float32)):
        _, call = call_of(one, size, branches, dtype, device="cpu")
        frames, height, width = size
        name = f"denoising, 1 layer, {frames}×{height}×{width}, {branches} at once, {dtype_name(dtype)}"
        rows.append((name, plan.denoising_work(one, size, branches, dtype.itemsize), peak_extra(call.run)))
    vae = _real_vae()
    for frames in (3, 5):
        latents = torch.randn(1, frames, 16, 10, 14)
        most = peak_extra(lambda latents=latents: decode_latents(vae, latents))  # type: ignore[misc]
        foretold = plan.decoding_work(plan.DecoderShape(), frames, 10, 14, 4)
        rows.append((f"decoding, {frames}×10×14, float32", foretold, most))
    picture = torch.randn(1, 3, 1, 192, 256)
    most = peak_extra(lambda: vae.encode(picture).latent_dist.mode())
    rows.append(("encoding 24×32, float32", plan.encoding_work(plan.DecoderShape(), 24, 32, 4), most))
    text = _filled(empty_t5(layers=2))
    tokens = torch.zeros(1, 226, dtype=torch.long)
    rows.append(("text, 2 layers, bfloat16", plan.text_work(RELEASE, 2), peak_extra(lambda: text(tokens)[0])))
    encoder = IdentityEncoder(RELEASE, made_up_hierarchy(RELEASE)).eval().to(torch.bfloat16)
    crops, vertices = torch.rand(1, 3, 512, 512).to(torch.bfloat16), 0.1 * torch.randn(1, 5023, 3)
    rows.append(("identity, one view", plan.identity_work(RELEASE), peak_extra(lambda: encoder(crops, vertices))))
    return rows


def call_of(
    config: ModelConfig, size: tuple[int, int, int], branches: int, dtype: torch.dtype, device: str = "meta"
) -> tuple[LayerAdaptiveTransformer3DModel, Call]:
    """A transformer with random or no weights, and a call of it with an identity. size: of the latents."""
    transformer = empty_transformer(config, dtype, device)
    frames, height, width = size
    dit = config.transformer
    with torch.device(device):
        noisy = torch.randn(branches, frames, 2 * dit.latent_channels, height, width).to(dtype)
        text = torch.randn(branches, dit.text_length, dit.text_embed_dim).to(dtype)
        identity = transformer.prepare_identity(torch.randn(config.identity_tokens, config.identity_width).to(dtype))
        time = torch.full((branches,), 500)
    rotary = tuple(table.to(device) for table in rotary_table(config, frames, height, width))
    given = (noisy, text, time)  # rotary and identity are made for each video, so they count

    def run() -> torch.Tensor:
        copies = tuple(table.clone() for table in rotary)
        own = replace(identity, keys_values=tuple((key.clone(), value.clone()) for key, value in identity.keys_values))
        return transformer(noisy, text, time, image_rotary_emb=copies, return_dict=False, identity=own)[0]

    return transformer, Call(
        torch.no_grad()(run), (*given, *rotary, *(t for pair in identity.keys_values for t in pair))
    )


def empty_transformer(config: ModelConfig, dtype: torch.dtype, device: str = "meta") -> LayerAdaptiveTransformer3DModel:
    """The video transformer on ``device``: without weights on meta."""
    with torch.device(device):
        made = LayerAdaptiveTransformer3DModel(config)
    torch.nn.Module.to(made, dtype)
    return made.eval().requires_grad_(False)


def empty_vae(dtype: torch.dtype) -> Any:
    """CogVideoX's VAE at its released size, as it is loaded, without weights."""
    with torch.device("meta"):
        made = _vae()
    return torch.nn.Module.to(made, dtype).eval().requires_grad_(False)


def empty_t5(layers: int) -> Any:
    """T5-XXL's encoder with ``layers`` of its 24 layers, bfloat16, without weights."""
    from transformers import T5Config, T5EncoderModel

    shape = T5Config(
        vocab_size=32128,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=layers,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        made = T5EncoderModel(shape)
    return made.eval().to(torch.bfloat16).requires_grad_(False)


def dtype_name(dtype: torch.dtype) -> str:
    """As people write it."""
    return str(dtype).removeprefix("torch.")


def _vae() -> Any:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    channels = plan.DecoderShape().channels
    return lean(AutoencoderKLCogVideoX(block_out_channels=channels, layers_per_block=3, scaling_factor=0.7))


def _real_vae() -> Any:
    return _vae().eval().requires_grad_(False)


def _filled(module: Any) -> Any:
    """``module`` in memory, its weights small random numbers."""
    module = module.to_empty(device="cpu")
    for parameter in module.parameters():
        parameter.normal_(0.0, 0.02)
    return module


def _print(title: str, rows: list[Row]) -> None:
    cells = [
        [name, f"{foretold / 1e6:.1f}", f"{real / 1e6:.1f}", f"{100 * (foretold - real) / real:+.1f} %"]
        for name, foretold, real in rows
    ]
    print_table([title, "foretold MB", "held MB", "error"], cells)
    print()


if __name__ == "__main__":
    main()
