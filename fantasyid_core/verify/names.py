"""The golden files that hold no outputs: key lists, digests of weights and inputs, the pipeline's settings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch

from ..config import RELEASE, ModelConfig
from ..weights.golden_rule import array_input, weight
from ..weights.layout import KeySpec, official_eva_layout, official_layout
from .check import Check, exact

Layout = Mapping[str, KeySpec]
_IDENTITY_PARTS = ("face_abstractor", "vertex_spiral_net", "vertex_reducer", "layer_attention")


def manifest_checks(file: str, golden: Mapping[str, Any]) -> Iterator[Check]:
    """manifest.json: every key of the official checkpoint, in order, with its shape; and the counts."""
    layout = official_layout(RELEASE)
    if "keys" in golden:
        yield _keys_check(file, layout, golden["keys"])
    counts = {
        "total_numel": sum(prod(spec.shape) for spec in layout.values()),
        "tensors": len(layout),
        "parameter_counts": _by_part(layout, ("dit", *_IDENTITY_PARTS)),
        "parameter_counts_by_top_level": _by_part(layout, tuple(dict.fromkeys(k.partition(".")[0] for k in layout))),
        "if_cross_attn_interval_2": _interval_counts(2),
        "buffers": ["patch_embed.pos_embedding"],
    }
    for name, value in counts.items():
        if name in golden:
            yield exact(file, name, value == golden[name], "counted from our table of the checkpoint")
    if "config" in golden:
        yield exact(file, "config", not _config_differences(golden["config"]), _config_differences(golden["config"]))


def eva_manifest_checks(file: str, golden: Mapping[str, Any]) -> Iterator[Check]:
    """eva_visual_manifest.json: the 562 keys of the vision tower."""
    yield _keys_check(file, official_eva_layout(RELEASE.eva), golden["keys"])


def deca_manifest_checks(file: str, golden: Mapping[str, Any]) -> Iterator[Check]:
    """deca_manifest.json: the keys of DECA's encoder."""
    from ..geometry.deca import DecaEncoder

    with torch.device("meta"):
        state = DecaEncoder().state_dict()
    ours = {f"E_flame.{name}": KeySpec(tuple(tensor.shape)) for name, tensor in state.items()}
    yield _keys_check(file, ours, golden["encoder_keys"], "encoder_keys")


def digest_checks(file: str, golden: Mapping[str, Any]) -> Iterator[Check]:
    """digests.json: the rule gives these weights and inputs to the bit."""
    for key, row in golden.get("weights", {}).items():
        yield _digest_check(file, f"weights/{key}", weight(key, row["shape"]), row)
    for label, row in golden.get("inputs", {}).items():
        yield _digest_check(file, f"inputs/{label}", array_input(label, row["shape"], row.get("scale", 1.0)), row)


def pipeline_settings_checks(file: str, golden: Mapping[str, Any]) -> Iterator[Check]:
    """pipeline.json: our schedule, guidance quirk and VAE keys are the release's."""
    from ..video.sample import SamplingOptions, guidance_at
    from ..video.schedule import NOISE_SCHEDULE, DpmSampler
    from .models import golden_vae

    report = golden.get("report", {})
    for name, steps in (("timesteps", 3), ("timesteps_50", 50)):
        if name in report:
            ours = [int(t) for t in DpmSampler(steps).timesteps]
            yield exact(file, f"report/{name}", ours == report[name], f"{steps} steps")
    if "dynamic_cfg.scales" in report and "timesteps" in report:
        options = SamplingOptions(steps=3, guidance_scale=6.0, dynamic_guidance=True)
        scales = [guidance_at(int(t), options) for t in report["timesteps"]]
        same = np.allclose(scales, report["dynamic_cfg.scales"], atol=1e-7)
        yield exact(file, "report/dynamic_cfg.scales", same, ", ".join(f"{s:.8f}" for s in scales))
    if "scheduler_config" in golden:
        other = [k for k, v in NOISE_SCHEDULE.items() if golden["scheduler_config"].get(k, v) != v]
        yield exact(file, "scheduler_config", not other, f"differs in {', '.join(other)}" if other else "same")
    if "vae_keys" in golden:
        ours_vae = {"vae." + k: KeySpec(tuple(t.shape)) for k, t in golden_vae().state_dict().items()}
        yield _keys_check(file, ours_vae, golden["vae_keys"], "vae_keys")


def _keys_check(file: str, ours: Layout, golden: Mapping[str, Any], name: str = "keys") -> Check:
    other = [key for key in {**ours, **golden} if key not in ours or list(ours[key].shape) != golden.get(key)]
    ordered = list(ours) == list(golden)
    note = f"{len(golden)} keys and shapes" + ("" if ordered else ", in another order")
    return exact(file, name, not other, f"{len(other)} differ, first {other[0]}" if other else note)


def _by_part(layout: Layout, parts: tuple[str, ...]) -> dict[str, dict[str, int]]:
    counts = {part: {"numel": 0, "tensors": 0} for part in parts}
    for key, spec in layout.items():
        top = key.partition(".")[0]
        count = counts[top if top in counts else "dit"]
        count["numel"] += prod(spec.shape)
        count["tensors"] += 1
    return counts


def _interval_counts(interval: int) -> dict[str, Any]:
    config: ModelConfig = replace(RELEASE, injection=replace(RELEASE.injection, interval=interval))
    layout = official_layout(config)
    total = sum(prod(spec.shape) for spec in layout.values())
    return {"layer_attention": _by_part(layout, ("dit", *_IDENTITY_PARTS))["layer_attention"], "total_numel": total}


def _config_differences(config: Mapping[str, Any]) -> str:
    dit = RELEASE.transformer
    ours = {
        "num_attention_heads": dit.heads,
        "attention_head_dim": dit.head_dim,
        "in_channels": 2 * dit.latent_channels,
        "out_channels": dit.latent_channels,
        "time_embed_dim": dit.time_embed_dim,
        "text_embed_dim": dit.text_embed_dim,
        "num_layers": dit.layers,
        "sample_width": dit.sample_width,
        "sample_height": dit.sample_height,
        "sample_frames": dit.sample_frames,
        "patch_size": dit.patch_size,
        "temporal_compression_ratio": dit.temporal_compression,
        "max_text_seq_length": dit.text_length,
        "use_learned_positional_embeddings": dit.learned_positions,
        "cross_attn_interval": RELEASE.injection.interval,
    }
    return ", ".join(f"{name}: ours {value}" for name, value in ours.items() if config.get(name, value) != value)


def _digest_check(file: str, key: str, ours: Any, row: Mapping[str, Any]) -> Check:
    digest = hashlib.sha256(np.ascontiguousarray(ours).tobytes()).hexdigest()
    return exact(file, key, digest == row["sha256"], f"{list(ours.shape)}")
