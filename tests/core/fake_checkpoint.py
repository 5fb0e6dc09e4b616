"""A small checkpoint of the official layout, in every form a user may have it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fantasyid_core.config import RELEASE, ModelConfig
from fantasyid_core.weights.layout import official_layout

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from make_fake_checkpoint import NAME, fake_tensors, make_fake_checkpoint, official_config

__all__ = ["NAME", "SMALL", "fake_tensors", "official_config", "official_layout", "small_folder", "small_state"]

#: The release with every width small; what the keys cannot tell (head counts, grids) is as released.
SMALL: ModelConfig = replace(
    RELEASE,
    identity_width=64,
    eva=replace(RELEASE.eva, width=64),
    face_abstractor=replace(RELEASE.face_abstractor, width=64, hidden=16),
    vertex_net=replace(
        RELEASE.vertex_net,
        width=16,
        layers=1,
        mlp_hidden=24,
        reducer_widths=(16, 32, 48, 64),
        level_sizes=(5023, 1256, 20),
    ),
    injection=replace(RELEASE.injection, heads=1),
    transformer=replace(
        RELEASE.transformer,
        heads=2,
        head_dim=16,
        layers=4,
        latent_channels=4,
        time_embed_dim=8,
        text_embed_dim=24,
        text_length=6,
        sample_height=8,
        sample_width=12,
        sample_frames=9,
    ),
)


def small_folder(
    folder: Path, config: ModelConfig = SMALL, shards: int = 3, subfolder: str = "transformer", eva: bool = True
) -> Path:
    """The official folder with so many shards, an index, config.json and the vision tower."""
    size = sum(2 * torch.Size(spec.shape).numel() for spec in official_layout(config).values())
    make_fake_checkpoint(folder, config, torch.bfloat16, size // shards + 100_000, subfolder, eva)
    return folder


def small_state(config: ModelConfig = SMALL, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    """The same weights as a state dict."""
    shapes = {key: spec.shape for key, spec in official_layout(config).items()}
    return {key: tensor.clone() for key, tensor in fake_tensors(shapes, dtype)}


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], subfolder: str = "transformer") -> Path:
    """Replace the shards by one file whose state dict ``change`` has altered; config.json stays."""
    target = folder / subfolder
    state: dict[str, torch.Tensor] = {}
    for shard in sorted(target.glob("*.safetensors")):
        state |= load_file(shard)
        shard.unlink()
    for index in target.glob("*.index.json"):
        index.unlink()
    change(state)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, target / f"{NAME}.safetensors")
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(folder, to)
    return to


def write_config(folder: Path, **changes: object) -> None:
    """Change values of the transformer's config.json."""
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def shards(folder: Path) -> list[Path]:
    """The transformer's .safetensors files."""
    return sorted((folder / "transformer").glob("*.safetensors"))
