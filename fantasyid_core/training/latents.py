"""Clips as the video model is trained on them: encoded once, kept in shards, held in memory.

A shard holds for N clips: ``latents`` [N, F, C, H, W] (deviation about 1), R references of the same person with their
latents, crops and kinds, the head's ``vertices`` at rest, of drawn clips what they show of it (``surface``, see
surface.py), and in the header the captions and how the clips are framed (:data:`FRAMINGS`). What a reference's kind
means is what the paper's multi-view collection is about: see :data:`KINDS`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError, MissingFileError
from ..progress import ProgressCallback, silent
from ..video.size import SPATIAL_COMPRESSION
from ..views.collect import collect_views
from ..weights.writing import beside
from .arrays import load_arrays
from .clips import ZOOMS, Clip, close_up, close_up_matrix, neutral_vertices, own_crops
from .shards import dataset_shards, read_shard
from .surface import LATENT_FRAME, surface_map

if TYPE_CHECKING:
    from ..video.vae import VideoAutoencoder

FIRST, COLLECTED, ELSEWHERE = 0, 1, 2
#: "first": the clip's first frame (no multi-view). "collected": the paper's multi-view collection, the clip's frames
#: that differ most in viewpoint. "elsewhere": another picture of the person, in other light and clothes.
KINDS = ("first", "collected", "elsewhere")
#: "as shot", or "close up": moved and zoomed until the first face lies as in the references (clips.close_up)
FRAMINGS = ("as shot", "close up")
NAMES = ("latents", "reference_latents", "reference_crops", "reference_kinds", "vertices")
SURFACE = "surface"  #: the array that drawn clips have on top
_AS_SHOT = np.eye(2, 3)

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """arrays: see the module; captions: one per clip."""

    arrays: Arrays
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True, eq=False)
class Sample:
    """One clip before it is encoded. frames: [T, S, S, 3] sRGB bytes. references: [R, S, S, 3] aligned crops of the
    same person, of ``kinds`` [R] (numbers into KINDS). vertices: [V, 3] metres, the head at rest. surface:
    [F, 10, h, w] what the frames show of it (surface.py), where that is known."""

    frames: npt.NDArray[np.uint8]
    references: npt.NDArray[np.uint8]
    kinds: npt.NDArray[np.uint8]
    vertices: npt.NDArray[np.float32]
    caption: str
    surface: npt.NDArray[np.float16] | None = None


def encode_dataset(
    data: Path,
    vae: VideoAutoencoder,
    out: Path,
    own: int = 3,
    elsewhere: int = 3,
    report: ProgressCallback = silent,
    closer: bool = False,
) -> list[Path]:
    """Encode every shard of ``data`` that is not yet in ``out``; returns what is there. Frames must be square.

    own: how many of the clip's own frames the multi-view collection keeps (paper: 6). elsewhere: how many other
    pictures. closer: clips are framed as their references are (clips.close_up), so that a model finds what it is shown
    at the same place. The same command goes on after an interrupt; a shard is written whole or not at all. Raises
    InputError when ``out`` holds clips that were framed otherwise, or the clips do not have 4k + 1 frames.
    """
    if own < 1:
        raise InputError(f"The multi-view collection keeps at least one view of each clip, not {own}.")
    paths = dataset_shards(data)
    made = [out / path.name.replace("clips-", "latents-") for path in paths]
    check_framing(out, closer)
    for done, (source, target) in enumerate(zip(paths, made, strict=True), 1):
        if not target.is_file():
            clips = list(read_shard(source))
            frames = len(clips[0].frames)
            if (frames - 1) % LATENT_FRAME:
                raise InputError(
                    f"{source.name} holds clips of {frames} frames, and the autoencoder takes 4k + 1 (17, 21 …); "
                    "make the clips anew with such --frames."
                )
            heads = neutral_vertices([clip.shape for clip in clips])
            samples = [
                Sample(
                    close_up(clip.frames, clip.keypoints) if closer else clip.frames,
                    *_references(clip, own, elsewhere),
                    head,
                    clip.caption,
                    _surface(clip, closer),
                )
                for clip, head in zip(clips, heads, strict=True)
            ]
            write_encoded(target, samples, vae, closer)
        report(done, len(made), None)
    return made


def load_encoded(folder: Path, shards: int | None = None) -> EncodedClips:
    """Everything in ``folder`` (or its first ``shards`` shards). Raises MissingFileError when there is nothing."""
    from safetensors import safe_open

    paths = sorted(folder.glob("latents-*.safetensors"))[:shards]
    if not paths:
        raise MissingFileError(f"{folder} holds no latents-*.safetensors; make them with `fantasyid train latents`.")
    captions, framings, names = list[str](), set[str](), [*NAMES, SURFACE]
    for path in paths:
        with safe_open(path, framework="np") as file:
            captions += json.loads(file.metadata()["captions"])
            framings.add(_framing(file.metadata()))
            if SURFACE in names and SURFACE not in file.keys():  # noqa: SIM118 (no mapping)
                names.remove(SURFACE)
    if len(framings) > 1:
        raise InputError(f"{folder} holds clips framed in two ways ({' and '.join(sorted(framings))}); part them.")
    return EncodedClips(load_arrays(paths, names), tuple(captions))


def check_framing(folder: Path, closer: bool) -> None:
    """Raises InputError when shards in ``folder`` are framed otherwise than ``closer`` says, or do not say how."""
    from safetensors import safe_open

    wanted = FRAMINGS[closer]
    for path in sorted(folder.glob("latents-*.safetensors")):
        with safe_open(path, framework="np") as file:
            found = _framing(file.metadata())
        if found != wanted:
            raise InputError(
                f"{path} holds clips framed '{found}', and '{wanted}' is asked for (--close-up); choose another folder."
            )


def _framing(header: dict[str, str]) -> str:
    return header.get("framing", "unknown")  # older files do not say


def write_encoded(path: Path, samples: Sequence[Sample], vae: VideoAutoencoder, closer: bool) -> None:
    """One shard of ``samples``, which all have the same sizes and kinds; whole or not at all. closer: see FRAMINGS."""
    from safetensors.numpy import save_file

    crops = np.stack([sample.references for sample in samples])  # [N, R, S, S, 3]
    pictures = encode_videos(vae, crops.reshape(-1, 1, *crops.shape[2:]))
    arrays = {
        "latents": encode_videos(vae, np.stack([sample.frames for sample in samples])),
        "reference_latents": pictures.reshape(*crops.shape[:2], *pictures.shape[2:]),
        "reference_crops": crops,
        "reference_kinds": np.stack([sample.kinds for sample in samples]),
        "vertices": np.stack([sample.vertices for sample in samples]).astype(np.float16),
    }
    surfaces = [sample.surface for sample in samples if sample.surface is not None]
    if len(surfaces) == len(samples):
        arrays[SURFACE] = np.stack(surfaces)
    rows = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # save_file writes memory as it lies
    path.parent.mkdir(parents=True, exist_ok=True)
    with beside(path) as part:
        captions = json.dumps([sample.caption for sample in samples])
        save_file(rows, part, {"captions": captions, "framing": FRAMINGS[closer]})


@torch.no_grad()
def encode_videos(vae: VideoAutoencoder, frames: npt.NDArray[np.uint8], at_once: int = 32) -> npt.NDArray[np.float16]:
    """[N, T, S, S, 3] sRGB bytes → [N, F, C, H, W] latents, the posteriors' means; ``at_once`` videos at a time."""
    made = []
    for part in np.split(frames, range(at_once, len(frames), at_once)):
        video = torch.from_numpy(np.ascontiguousarray(part)).to(vae.device).permute(0, 4, 1, 2, 3).to(vae.dtype)
        latents = vae.encode(video / 127.5 - 1).latent_dist.mean * float(vae.config["scaling_factor"])
        made.append(latents.transpose(1, 2).half().cpu().numpy())
    return np.concatenate(made)


def _surface(clip: Clip, closer: bool) -> npt.NDArray[np.float16]:
    side = clip.frames.shape[1]
    matrix = close_up_matrix(clip.keypoints[0], side, *ZOOMS) if closer else _AS_SHOT
    return surface_map(clip, matrix, side // SPATIAL_COMPRESSION)


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
