"""Writes a folder laid out like the official checkpoint, with meaningless weights, to measure and test loading.

    python tools/make_fake_checkpoint.py /some/folder                 # 13.4 GB, bfloat16, all 42 blocks
    python tools/make_fake_checkpoint.py /some/folder --layers 4      # 3 GB

The weights are one block of random numbers read from changing places: finite, different in every tensor, and made as
fast as the disk takes them. The vision tower is written beside them (``--no-eva`` leaves it out).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from zlib import crc32

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fantasyid_core.config import RELEASE, ModelConfig
from fantasyid_core.weights.layout import KeySpec, official_eva_layout, official_layout
from fantasyid_core.weights.writing import TensorWriter

BLOCK = 1 << 20  #: random numbers in the block that all tensors are cut from
SHARD_BYTES = 5_000_000_000
NAME = "diffusion_pytorch_model"


def main() -> None:
    """Parse the command line and write the folder."""
    parser = argparse.ArgumentParser(description="Write a fake FantasyID checkpoint, to measure loading.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=RELEASE.transformer.layers)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--no-eva", action="store_true")
    options = parser.parse_args()
    config = replace(RELEASE, transformer=replace(RELEASE.transformer, layers=options.layers))
    size = make_fake_checkpoint(options.folder, config, getattr(torch, options.dtype), eva=not options.no_eva)
    sys.stdout.write(f"{options.folder}: {size / 1e9:.2f} GB of transformer\n")


def make_fake_checkpoint(
    folder: Path,
    config: ModelConfig,
    dtype: torch.dtype = torch.bfloat16,
    shard_bytes: int = SHARD_BYTES,
    subfolder: str = "transformer",
    eva: bool = True,
) -> int:
    """Write shards, index and config.json into ``folder/subfolder`` and the tower into ``folder/face_encoder``.

    Returns the bytes of the transformer's tensors.
    """
    layout = official_layout(config)
    target = folder / subfolder
    target.mkdir(parents=True, exist_ok=True)
    shards = list(_shards(layout, dtype, shard_bytes))
    names = [f"{NAME}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, keys in zip(names, shards, strict=True):
        write_fake_tensors(target / name, {key: layout[key] for key in keys}, dtype)
    size = sum(prod(spec.shape) for spec in layout.values()) * dtype.itemsize
    weight_map = {key: name for name, keys in zip(names, shards, strict=True) for key in keys}
    _write_json(target / f"{NAME}.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})
    _write_json(target / "config.json", official_config(config))
    if eva:
        write_fake_eva(folder / "face_encoder" / "EVA02_CLIP_L_336_psz14_s6B.pt", config)
    return size


def official_config(config: ModelConfig) -> dict[str, object]:
    """The config.json of an official checkpoint of this configuration, as far as it is known."""
    dit = config.transformer
    return {
        "_class_name": "IDTransformer3DModel",
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
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": dit.learned_positions,
        "is_train_face": True,
        "cross_attn_interval": config.injection.interval,
    }


def write_fake_tensors(path: Path, layout: Mapping[str, KeySpec], dtype: torch.dtype) -> None:
    """One .safetensors file with the keys of ``layout``."""
    shapes = {key: spec.shape for key, spec in layout.items()}
    with path.open("wb") as file:
        writer = TensorWriter(file, shapes, dict.fromkeys(shapes, dtype), {"format": "pt"}, path.parent)
        for key, tensor in fake_tensors(shapes, dtype):
            writer.write(key, tensor)
        writer.finish()


def write_fake_eva(path: Path, config: ModelConfig, dtype: torch.dtype = torch.float16) -> None:
    """The vision tower with a text key beside it, as torch saves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = {key: spec.shape for key, spec in official_eva_layout(config.eva).items()}
    state = {key: tensor.clone() for key, tensor in fake_tensors(shapes, dtype)}
    torch.save({**state, "text.positional_embedding": torch.zeros(77, 768), "logit_scale": torch.tensor(4.6)}, path)


def fake_tensors(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """key, tensor [its shape]: a stretch of the random block for matrices, about 1 for norms."""
    block = (0.02 * torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))).to(dtype)
    for key, shape in shapes.items():
        count, start = prod(shape), crc32(key.encode()) % BLOCK
        repeats = -(-(start + count) // BLOCK)
        tensor = block.repeat(repeats)[start : start + count].view(shape)
        yield key, tensor + 1 if len(shape) == 1 and key.endswith("weight") else tensor


def _shards(layout: Mapping[str, KeySpec], dtype: torch.dtype, limit: int) -> Iterator[list[str]]:
    keys: list[str] = []
    size = 0
    for key, spec in layout.items():
        if keys and size + prod(spec.shape) * dtype.itemsize > limit:
            yield keys
            keys, size = [], 0
        keys.append(key)
        size += prod(spec.shape) * dtype.itemsize
    yield keys


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
