"""The paper's ablations in small: train every variant at one budget, make videos of people never seen, measure them.

python -m benchmarks.paper_table --latents LATENTS --text text/mini.safetensors --held-out CLIPS --held-out-latents
    LATENTS --out RUN [--steps 600] [--seeds 3] [--people 32] [--variants full no-vertices …]

LATENTS are folders of `fantasyid train latents`, CLIPS the held-out ones of `fantasyid train data` with another seed.
Every part that is done is kept in RUN: the same command goes on, and writes RUN/paper-table.md at the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fantasyid_core.arrays import FloatArray
from fantasyid_core.errors import FantasyIDError
from fantasyid_core.evaluation.clips import METRIC_FPS, array_frames
from fantasyid_core.evaluation.metrics import measure_clip
from fantasyid_core.evaluation.watch import Eyes, Person, SeenFace, see_person, watch
from fantasyid_core.training.arrays import load_arrays
from fantasyid_core.training.latents import load_encoded
from fantasyid_core.training.loop import RunOptions, run, say
from fantasyid_core.training.motion import FACE_ACTIONS, HEAD_ACTIONS
from fantasyid_core.training.shards import dataset_shards
from fantasyid_core.training.sheets import write_rows
from fantasyid_core.training.train_video import VideoStage
from fantasyid_core.training.variants import VARIANTS, Variant, fork
from fantasyid_core.weights.mini_file import fill_mini

#: action → prompt; words that the captions have too, and none on who the person is
PROMPTS = {
    "turn left": "A person slowly turns the head to the left, in front of a blue wall, studio light",
    "turn right": "A person turns the head to the right, in a green garden, daylight",
    "open mouth": "A person opens the mouth, in front of a grey wall, soft light",
}
TURNED = 8.0  #: degrees of yaw by which a head must have turned in the last third of a clip
OPENED = 0.2  #: of the mouth's width, by which the gap between the lips must have grown
COLUMNS = ("RS", "IFS", "FM", "flicker", "rank-1", "copy-paste", "faces", "turn obeyed", "mouth obeyed")


def main() -> None:
    """Train, sample, measure and write, each only where it is not yet done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--latents", "--text", "--held-out", "--held-out-latents", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"real": [measured_once(options.out / "real", options, real_videos)]}
    for seed in range(options.seeds):  # so that an early stop leaves whole tables of fewer seeds
        for name in options.variants:
            folder = options.out / f"{name}-{seed}"
            train(folder, VARIANTS[name], seed, options)
            rows.setdefault(name, []).append(
                measured_once(folder, options, lambda o, f=folder, n=name, s=seed: made_videos(f, VARIANTS[n], s, o))
            )
    text = as_markdown(rows, options)
    (options.out / "paper-table.md").write_text(text, encoding="utf-8")
    print(text)


def train(folder: Path, variant: Variant, seed: int, options: argparse.Namespace) -> None:
    """Fork, and train the whole model at the one budget."""
    if (folder / "mini.safetensors").is_file():
        return
    model = fork(options.text, variant.config, seed)
    stage = VideoStage(model, load_encoded(options.latents), variant.options, options.batch, seed)
    run(
        stage,
        RunOptions(
            folder,
            options.steps,
            batch=options.batch,
            learning_rate=1e-3,
            warmup=30,
            schedule="cosine",
            optimiser="muon",
            ema=0.99,
            seed=seed,
            sample_minutes=1e9,
            compile=options.compile,
        ),
        say,
    )


Videos = Iterable[tuple[int, str, FloatArray]]  #: whose, which action was asked for, frames [T, S, S, 3]


def made_videos(folder: Path, variant: Variant, seed: int, options: argparse.Namespace) -> Videos:
    """Every person with every prompt, by the trained variant; a sheet of some of them lies in its folder."""
    model = fill_mini(fork(options.text, variant.config, seed), folder / "mini.safetensors")
    stage = VideoStage(model, load_encoded(options.held_out_latents), variant.options, variant.options.noises, seed)
    asked = [(index, action) for index in range(options.people) for action in PROMPTS]
    rows = []
    with torch.no_grad():
        videos = stage.sampled(stage.module.eval(), [(index, PROMPTS[action]) for index, action in asked])
        for (index, action), video in zip(asked, videos, strict=True):
            if index < 6:
                rows.append(np.concatenate([stage.reference(index)[None], video[::4]]))
            yield index, action, video
    write_rows(folder / "videos.jpg", rows)


def real_videos(options: argparse.Namespace) -> Videos:
    """The held-out people's own clips: what the best model could reach, and a test of the measures."""
    arrays = load_arrays(dataset_shards(options.held_out), ("frames", "labels"))
    for index in range(options.people):
        yield index, _action(arrays["labels"][index]), arrays["frames"][index].astype(np.float32) / 255


def _action(labels: Sequence[int]) -> str:
    head, face = HEAD_ACTIONS[labels[0]], FACE_ACTIONS[labels[1]]
    return head if head in PROMPTS else face


def measured_once(folder: Path, options: argparse.Namespace, videos: Any) -> dict[str, Any]:
    """The means over all ``videos``; kept in the folder."""
    place = folder / "measured.json"
    if place.is_file():
        return dict(json.loads(place.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    made = measure(videos(options), known_people(options))
    place.write_text(json.dumps(made, indent=1), encoding="utf-8")
    say(f"{folder.name}: {json.dumps(made)}")
    return made


def known_people(options: argparse.Namespace) -> list[Person]:
    """Every held-out person by the reference that the videos are made from, and two other pictures."""
    encoded = load_encoded(options.held_out_latents).arrays
    people = []
    for index in range(options.people):
        elsewhere = encoded["reference_crops"][index, encoded["reference_kinds"][index] == 2].astype(np.float32) / 255
        people.append(_person(str(index), elsewhere))
    return people


def _person(name: str, pictures: FloatArray) -> Person:
    """With as many other pictures as a face is found in."""
    eyes = Eyes()
    try:
        return see_person(name, pictures[0], eyes, list(pictures[1:]))
    except FantasyIDError:
        return see_person(name, pictures[0], eyes)


def measure(videos: Videos, people: Sequence[Person]) -> dict[str, Any]:
    """Means over clips; a clip without a face counts as one that was not obeyed."""
    eyes, clips, faces = Eyes(), [], []
    obeyed: dict[str, list[bool]] = {"turn": [], "mouth": []}
    for index, action, frames in videos:
        seen = watch(array_frames(frames, METRIC_FPS), eyes)
        faces.append(np.mean([face is not None for face in seen]))
        if action in PROMPTS:
            obeyed["mouth" if action == "open mouth" else "turn"].append(obeys(seen, action))
        if any(face is not None for face in seen):
            clips.append(measure_clip(str(index), seen, people, index))
    numbers = {
        title: [getattr(clip, name) for clip in clips if getattr(clip, name) is not None]
        for title, name in zip(COLUMNS, ("rs", "ifs", "fm", "flicker", "rank1", "copy_paste"), strict=False)
    }
    numbers |= {"faces": faces, "turn obeyed": obeyed["turn"], "mouth obeyed": obeyed["mouth"]}
    return {title: float(np.mean(values)) if values else None for title, values in numbers.items()}


def obeys(seen: Sequence[SeenFace | None], action: str) -> bool:
    """Whether a clip shows what its prompt asked for."""
    late = [face.yaw_pitch_roll[0] for face in seen[-(len(seen) // 3) :] if face is not None]
    gaps = [face.mouth for face in seen if face is not None]
    if action == "open mouth":
        return bool(gaps) and max(gaps) - min(gaps) >= OPENED
    side = -1 if action == "turn left" else 1  # a head that turns to the picture's left has a yaw below 0
    return bool(late) and side * float(np.mean(late)) >= TURNED


def as_markdown(rows: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> str:
    """Mean and spread over the seeds, beside what the paper has."""
    lines = [
        f"{options.people} held-out people × {len(PROMPTS)} prompts, {options.steps} steps of {options.batch} per "
        f"variant, {options.seeds} seeds: mean ± standard deviation over the seeds.",
        "",
        f"| | {' | '.join(COLUMNS)} | paper: RS, IFS, FM |",
        f"|---|{'---|' * (len(COLUMNS) + 1)}",
    ]
    for name, measured in rows.items():
        cells = [_cell([row[column] for row in measured if row[column] is not None]) for column in COLUMNS]
        paper = "" if name == "real" else ", ".join(f"{value:.2f}" for value in VARIANTS[name].paper[1:])
        title = "real clips of these people" if name == "real" else VARIANTS[name].title
        lines.append(f"| {title} | {' | '.join(cells)} | {paper} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {np.std(values):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
