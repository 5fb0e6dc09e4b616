"""Clips as the video model is trained on them: encoded once, kept in shards, held in memory.

A shard holds for N clips: ``latents`` [N, F, C, H, W] (deviation about 1), R references of the same person with their
latents, crops and kinds, the head's ``vertices`` at rest, and the captions in the header. What a reference's kind
means is what the paper's multi-view collection is about: see :data:`KINDS`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError, MissingFileError
from ..progress import ProgressCallback, silent
from ..views.collect import collect_views
from ..weights.writing import beside
from .arrays import load_arrays
from .clips import Clip, neutral_vertices, own_crops
from .shards import dataset_shards, read_shard

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

FIRST, COLLECTED, ELSEWHERE = 0, 1, 2
#: "first": the clip's first frame (no multi-view). "collected": the paper's multi-view collection, the clip's frames
#: that differ most in viewpoint. "elsewhere": another picture of the person, in other light and clothes.
KINDS = ("first", "collected", "elsewhere")
NAMES = ("latents", "reference_latents", "reference_crops", "reference_kinds", "vertices")

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """arrays: see the module; captions: one per clip."""

    arrays: Arrays
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)


def encode_dataset(
    data: Path,
    vae: AutoencoderKLCogVideoX,
    out: Path,
    own: int = 3,
    elsewhere: int = 3,
    report: ProgressCallback = silent,
) -> list[Path]:
    """Encode every shard of ``data`` that is not yet in ``out``; returns what is there. Frames must be square.

    own: how many of the clip's own frames the multi-view collection keeps (paper: 6). elsewhere: how many other
    pictures. The same command goes on after an interrupt; a shard is written whole or not at all.
    """
    if own < 1:
        raise InputError(f"The multi-view collection keeps at least one view of each clip, not {own}.")
    paths = dataset_shards(data)
    made = [out / path.name.replace("clips-", "latents-") for path in paths]
    for done, (source, target) in enumerate(zip(paths, made, strict=True), 1):
        if not target.is_file():
            clips = list(read_shard(source))
            _write(target, [_encoded(clip, vae, own, elsewhere) for clip in clips], [clip.caption for clip in clips])
        report(done, len(made), None)
    return made


def load_encoded(folder: Path, shards: int | None = None) -> EncodedClips:
    """Everything in ``folder`` (or its first ``shards`` shards). Raises MissingFileError when there is nothing."""
    from safetensors import safe_open

    paths = sorted(folder.glob("latents-*.safetensors"))[:shards]
    if not paths:
        raise MissingFileError(f"{folder} holds no latents-*.safetensors; make them with `fantasyid train latents`.")
    captions: list[str] = []
    for path in paths:
        with safe_open(path, framework="np") as file:
            captions += json.loads(file.metadata()["captions"])
    return EncodedClips(load_arrays(paths, NAMES), tuple(captions))


def _encoded(clip: Clip, vae: AutoencoderKLCogVideoX, own: int, elsewhere: int) -> Arrays:
    crops, kinds = _references(clip, own, elsewhere)
    return {
        "latents": encode_video(vae, clip.frames),
        "reference_latents": np.concatenate([encode_video(vae, crop[None]) for crop in crops]),
        "reference_crops": crops,
        "reference_kinds": kinds,
        "vertices": neutral_vertices(clip.shape)[0].astype(np.float16),
    }


@torch.no_grad()
def encode_video(vae: AutoencoderKLCogVideoX, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    """[T, S, S, 3] sRGB bytes → [F, C, H, W] latents, the posterior's mean."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].to(vae.device, vae.dtype)
    latents = vae.encode(video / 127.5 - 1).latent_dist.mean * float(vae.config["scaling_factor"])
    return latents[0].transpose(0, 1).float().cpu().numpy().astype(np.float16)


def _references(clip: Clip, own: int, elsewhere: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The first frame's crop, the collected ones (a short clip's are repeated), and the most frontal ones elsewhere."""
    side = clip.frames.shape[1]
    crops = own_crops(clip.frames, clip.keypoints, side)
    chosen = collect_views([crop.astype(np.float32) / 255 for crop in crops], list(clip.angles), own)
    collected = crops[np.resize(chosen, own)]
    frontal = np.argsort(np.abs(clip.reference_angles[:, 0]))[:elsewhere]
    if len(frontal) < elsewhere:
        raise InputError(
            f"The clips have {len(clip.references)} references, too few for {elsewhere}; make them with --references."
        )
    stacked = np.concatenate([crops[:1], collected, clip.references[frontal]])
    kinds = np.repeat(np.array([FIRST, COLLECTED, ELSEWHERE], np.uint8), [1, own, elsewhere])
    return np.ascontiguousarray(stacked), kinds


def _write(path: Path, clips: list[Arrays], captions: list[str]) -> None:
    from safetensors.numpy import save_file

    stacked = {name: np.stack([clip[name] for clip in clips]) for name in NAMES}
    with beside(path) as part:
        save_file(stacked, part, {"captions": json.dumps(captions)})
