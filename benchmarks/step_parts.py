"""Where identity's time goes inside a model call, and what other ways of doing it would bring."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.measure import MEBIBYTE, Work, interleaved, peak_extra, print_table
from benchmarks.models import Contestants
from benchmarks.release_way import release_layer_attention
from fantasyid_core.video.attention import fuse_projections, unfuse_projections


@torch.no_grad()
def print_parts(models: Contestants, repeats: int, device: str, plain_seconds: float) -> None:
    """Tables of the parts. plain_seconds: the plain call's time, to state shares of."""
    cases = {**_identity_parts(models), **_constant_parts(models)}
    timings = interleaved(cases, repeats, device)
    rows = [
        [
            name,
            f"{1000 * timing.least:.1f}",
            f"{1000 * timing.middle:.1f}",
            f"{timing.least / plain_seconds:.2%}",
            f"{peak_extra(cases[name], device) / MEBIBYTE:.1f}",
        ]
        for name, timing in timings.items()
    ]
    print("\nParts of a call (one layer where a layer is named)")
    print_table(["part", "min ms", "median ms", "of the plain call", "peak extra MiB"], rows)
    _print_fused(models, repeats, device)


def _video(models: Contestants) -> torch.Tensor:  # [B, N, C]
    hidden = models.call["hidden_states"]
    tokens = models.call["image_rotary_emb"][0].shape[0]
    width = models.config.transformer.width
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(hidden), tokens, width, generator=generator).to(hidden)


def _identity_parts(models: Contestants) -> dict[str, Work]:
    identity = models.prepare()
    layer = models.ours.layer_attentions()[0]
    key, value = identity.keys_values[0]
    tokens = models.release.identity_tokens(models.face_vector, models.hidden, models.vertices)
    video = _video(models)
    abstractor, vertex_branch = models.release.abstractor, models.release.vertex_branch
    face_tokens = abstractor(models.face_vector, models.hidden)
    return {
        "identity layer, ours": lambda: layer(video, key, value),
        "identity layer, release's way": lambda: release_layer_attention(layer, tokens, video),
        "of it keys and values": lambda: layer.keys_values(tokens),
        "of it query and output projections": lambda: layer.to_out(layer.to_q(video)),
        "of it the normalisation": lambda: layer.norm2(video),
        "face abstractor, whole (release)": lambda: abstractor(models.face_vector, models.hidden),
        "face abstractor, live part (ours)": lambda: abstractor.live[0](models.hidden[-1]),
        "vertex network and reducer (release)": lambda: vertex_branch(models.vertices, face_tokens),
        "vertex network and reducer (ours)": lambda: vertex_branch.reducer(
            vertex_branch.net(models.vertices, face_tokens)
        ),
    }


def _constant_parts(models: Contestants) -> dict[str, Work]:
    """Work on inputs that stay the same over all steps: what keeping its results could save at most."""
    embed, call = models.ours.patch_embed, models.call
    noisy = call["hidden_states"]
    reference = noisy[:, :, noisy.shape[2] // 2 :].flatten(0, 1)  # (B·F, C, H, W)
    weight = embed.proj.weight[:, noisy.shape[2] // 2 :]
    return {
        "text projection (constant over steps)": lambda: embed.text_proj(call["encoder_hidden_states"]),
        "reference half of the patches (constant)": lambda: torch.nn.functional.conv2d(
            reference, weight, stride=weight.shape[-1]
        ),
        "patch and text embedding, whole": lambda: embed(call["encoder_hidden_states"], noisy),
    }


def _print_fused(models: Contestants, repeats: int, device: str) -> None:
    identity = models.prepare()
    separate = models.run_ours(identity)

    video = _video(models)
    attn: Any = models.ours.transformer_blocks[0].attn1
    three = (attn.to_q, attn.to_k, attn.to_v)
    fuse_projections(models.ours)
    difference = (models.run_ours(identity).float() - separate.float()).abs().max()
    timings = interleaved(
        {
            "three": lambda: [layer(video) for layer in three],
            "one": lambda: attn.to_qkv(video),
        },
        repeats,
        device,
    )
    unfuse_projections(models.ours)
    print(
        f"\nQuery, key and value of one layer: three matmuls {1000 * timings['three'].least:.1f} ms, one fused matmul "
        f"{1000 * timings['one'].least:.1f} ms; largest difference of the model's output {difference:.1e}."
    )
