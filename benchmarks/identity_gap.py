"""Does a mini use the identity, and at which noise? Its velocity error with the right person, and with wrong ones.

python -m benchmarks.identity_gap --latents HELD_OUT [--mini mini.safetensors] [--clips 128] [--own] [--run RUN]
                                  [--by-frame]

Above the table: by how much people differ in what every layer reads of the identity (deviation between people over the
root mean square, of the normalised tokens; 3D: of the head alone). What hardly differs cannot be looked at.

A model that looks at the identity errs more with somebody else's; where both errors are alike it does not look. Much
cheaper than making videos, and it says which of the three ways of the identity (crop, head, reference picture) carries.

--run: the last checkpoint of a run of `train video --surface`, which began with --mini. A second table says how far
its tokens are from the head's shape as they tell it (mean squared error, units of 4 mm), with the same changes.

--by-frame: instead, the error of each latent frame at two timesteps: how far into a video an identity reaches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_model

from fantasyid_core.model import MINI_FILE
from fantasyid_core.training.latents import EncodedClips, load_encoded
from fantasyid_core.training.loop import CHECKPOINT, Batch
from fantasyid_core.training.train_video import VideoStage, starting_model
from fantasyid_core.training.video_objective import VideoObjective, VideoOptions

from .measure import print_table

TIMESTEPS = (100, 300, 500, 700, 850, 950)
FRAMES_AT = (500, 700)  #: timesteps at which frames are told apart
BATCH = 16
Change = Callable[[dict[str, Any]], None]


def somebody_elses(*names: str) -> Change:
    """Every clip gets the next one's ``names``."""

    def change(batch: dict[str, Any]) -> None:
        batch.update({name: batch[name].roll(1, 0) for name in names})

    return change


def without(*names: str) -> Change:
    """The flags ``names`` are off."""

    def change(batch: dict[str, Any]) -> None:
        batch.update({name: torch.zeros_like(batch[name]) for name in names})

    return change


RIGHT = "the right person"
ROWS: Mapping[str, Change] = {
    RIGHT: somebody_elses(),
    "somebody else's crop": somebody_elses("crops"),
    "somebody else's head": somebody_elses("vertices"),
    "somebody else's reference picture": somebody_elses("reference"),
    "somebody else": somebody_elses("crops", "vertices", "reference"),
    "nobody": without("shows_identity", "shows_reference"),
    "another prompt": somebody_elses("text"),
}


def looking(mini: Path, clips: EncodedClips, own: bool = False, run: Path | None = None) -> VideoStage:
    """``mini``, or what a ``run`` that began with it has learned, before ``clips`` with nothing dropped.

    own: references are crops of the clip itself (the paper's collection), else other pictures of the person.
    """
    options = VideoOptions(
        noises=1,
        pictures=0.0,
        elsewhere=float(not own),
        text_dropout=0.0,
        identity_dropout=0.0,
        reference_dropout=0.0,
        surface=0.0 if run is None else 1.0,
    )
    stage = VideoStage(starting_model(mini, None, 0), clips, options, min(BATCH, len(clips)))
    if run is not None:
        load_model(stage.module, run / CHECKPOINT / "model.safetensors")
    stage.module.eval()
    return stage


@torch.no_grad()
def gaps(stage: VideoStage, count: int) -> dict[str, dict[str, list[float]]]:
    """Error → row → its mean at each of TIMESTEPS, over the same ``count`` clips and noises: "velocity" and, of a run
    with a surface head, "shape"."""
    names = {"velocity": "velocity", "shape": "shape"} if stage.options.surface else {"velocity": "loss"}
    batches = _batches(stage, count)

    def errors(change: Change, timestep: int) -> list[float]:
        totals = [0.0] * len(names)
        for batch in batches:
            losses = stage.module(_changed(batch, change, timestep))
            totals = [total + float(losses[name]) for total, name in zip(totals, names.values(), strict=True)]
        return [total / len(batches) for total in totals]

    found = {row: [errors(change, timestep) for timestep in TIMESTEPS] for row, change in ROWS.items()}
    return {
        name: {row: [at[number] for at in levels] for row, levels in found.items()} for number, name in enumerate(names)
    }


@torch.no_grad()
def gaps_by_frame(stage: VideoStage, count: int) -> dict[int, dict[str, list[float]]]:
    """Timestep of FRAMES_AT → row → the velocity's error in each latent frame, over the same ``count`` clips."""
    objective, batches = cast(VideoObjective, stage.module), _batches(stage, count)

    def errors(change: Change, timestep: int) -> list[float]:
        found = [objective.error_by_frame(_changed(batch, change, timestep)) for batch in batches]
        return cast(list[float], torch.stack(found).mean(dim=0).tolist())

    return {timestep: {row: errors(change, timestep) for row, change in ROWS.items()} for timestep in FRAMES_AT}


def _batches(stage: VideoStage, count: int) -> list[Batch]:
    drawn = stage.batches(0, 0, 1)
    return [next(drawn) for _ in range(max(count // stage.batch, 1))]


def _changed(batch: Batch, change: Change, timestep: int) -> Batch:
    changed = dict(batch) | {"timestep": torch.full_like(batch["timestep"], timestep)}
    change(changed)
    return changed


@torch.no_grad()
def shares_of_people(stage: VideoStage) -> dict[str, float]:
    """Branch → between-person deviation / rms of the normalised tokens of (at most) 64 people."""
    encoder, arrays = stage.model.identity_encoder, stage.clips.arrays
    crops = torch.from_numpy(arrays["reference_crops"][:64, -1]).permute(0, 3, 1, 2).float() / 255
    heads = torch.from_numpy(arrays["vertices"][:64]).float()
    branches = {"2D": encoder.face_tokens(crops), "3D": encoder.vertex_tokens(heads, None)}
    normal = {name: torch.nn.functional.layer_norm(tokens, tokens.shape[-1:]) for name, tokens in branches.items()}
    return {
        name: float((t - t.mean(0)).square().mean().sqrt() / t.square().mean().sqrt()) for name, t in normal.items()
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=Path, required=True)
    parser.add_argument("--mini", type=Path, default=MINI_FILE)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--own", action="store_true", help="references out of the clip itself, as the paper trains")
    parser.add_argument("--run", type=Path, help="a run of `train video --surface`: what its tokens tell of the shape")
    parser.add_argument("--by-frame", action="store_true", help="the error of each latent frame")
    options = parser.parse_args()
    stage = looking(options.mini, load_encoded(options.latents), options.own, options.run)
    shares = ", ".join(f"{100 * v:.1f} % ({k})" for k, v in shares_of_people(stage).items())
    print("people differ by", shares)
    if options.by_frame:
        for timestep, frames in gaps_by_frame(stage, options.clips).items():
            _print(f"timestep {timestep}, latent frame", range(len(frames[RIGHT])), frames)
        return
    for name, rows in gaps(stage, options.clips).items():
        _print(f"{name}, timestep", TIMESTEPS, rows)


def _print(title: str, columns: Iterable[int], rows: Mapping[str, Iterable[float]]) -> None:
    names = (title, *map(str, columns))
    print_table(names, [(row, *(f"{error:.4f}" for error in errors)) for row, errors in rows.items()])


if __name__ == "__main__":
    main()
