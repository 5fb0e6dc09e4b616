"""The paper's ablations in small: train every variant at one budget, make videos of people never seen, measure them.

python -m benchmarks.paper_table --latents LATENTS --text text/mini.safetensors --held-out CLIPS --held-out-latents
    LATENTS --out RUN [--steps 600] [--seeds 3] [--people 32] [--variants full no-vertices …] [--learning-rate 0.003 …]

LATENTS are folders of `fantasyid train latents`, CLIPS the held-out ones of `fantasyid train data` with another seed.
--text is what they fork from: its text-to-video half is kept, and what knows the identity starts anew. (A mini of a
whole training does too: its text-to-video half has learned to read reference pictures already, for all variants alike.)
Every part that is done is kept in RUN: the same command goes on, and writes RUN/paper-table.md at the end.
What has a measured.json there is not trained again, so those alone are enough for another seed's run to go on from.
Beside the table lie a plot and, of the first seed's videos that lie there, paper-table.jpg: all variants side by side.
Behind the variants come rows beyond the paper (EXTENSIONS), made by the whole method's model. Everything is measured
twice: as photographed faces are, and by the network for synthetic heads (docs/metrics.md), which reads every frame.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.numpy import save_file

from fantasyid_core.config import ModelConfig
from fantasyid_core.errors import CheckpointError
from fantasyid_core.generate import MINI_REFERENCE_GUIDANCE
from fantasyid_core.geometry.geometry import rotation_from_angles
from fantasyid_core.training.arrays import load_arrays
from fantasyid_core.training.latents import load_encoded
from fantasyid_core.training.loop import RunOptions, log_line, run
from fantasyid_core.training.motion import FACE_ACTIONS, HEAD_ACTIONS
from fantasyid_core.training.shards import dataset_shards
from fantasyid_core.training.sheets import write_rows
from fantasyid_core.training.train_video import Shown, VideoStage
from fantasyid_core.training.variants import VARIANTS, Variant, fork
from fantasyid_core.video.skip_layers import MINI_SCALE, SkipLayers
from fantasyid_core.weights.mini_file import load_mini
from fantasyid_core.weights.writing import beside

from .paper_measures import (
    COLUMNS,
    HEADS,
    OF_FACES,
    OF_HEADS,
    PROMPTS,
    VIDEOS,
    Videos,
    measured_both,
    references,
    wanted,
)
from .paper_plot import plot
from .paper_sheet import draw_variants

TURNED_REFERENCE = 2  #: the picture from elsewhere that looks least into the camera
#: row → how the person is shown; "posed" gets its heads' turn in :func:`shown_in`
EXTENSIONS = {
    "identity guidance 1": Shown(identity_guidance=1.0),
    "identity guidance 2": Shown(identity_guidance=2.0),
    "identity guidance 4": Shown(identity_guidance=4.0),
    "reference guidance 1": Shown(reference_guidance=1.0),
    "skip-layer guidance 0.7": Shown(skip_layers=SkipLayers(MINI_SCALE)),
    "both, reference guidance 0.5": Shown(reference_guidance=0.5, skip_layers=SkipLayers(MINI_SCALE)),
    "both, reference guidance 2": Shown(reference_guidance=2.0, skip_layers=SkipLayers(MINI_SCALE)),
    "both, prompt's guidance 4": Shown(guidance_scale=4.0, reference_guidance=1.0, skip_layers=SkipLayers(MINI_SCALE)),
    "as the mini is used": Shown(reference_guidance=MINI_REFERENCE_GUIDANCE, skip_layers=SkipLayers(MINI_SCALE)),
    "three pictures, mean": Shown(pictures=(0, 1, 2), combine="mean"),
    "three pictures, side by side": Shown(pictures=(0, 1, 2), combine="concat"),
    "turned reference, head at rest": Shown(pictures=(TURNED_REFERENCE,)),
    "turned reference, head posed": Shown(pictures=(TURNED_REFERENCE,)),
}
ON_SHEET = (0, 10, 17)  #: of the videos: three people with a prompt each
TITLES = {"real": "real clips of these people"}


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
    parser.add_argument("--extensions", nargs="*", choices=tuple(EXTENSIONS), default=tuple(EXTENSIONS))
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--noises", type=int, default=2)
    parser.add_argument("--pictures", type=float, default=0.3)
    parser.add_argument("--elsewhere", type=float, default=0.5)
    parser.add_argument("--reference-dropout", type=float, default=0.15)
    parser.add_argument("--by-picture", type=float, default=0.0)
    parser.add_argument("--surface", type=float, default=0.0)
    parser.add_argument("--perceptual", type=float, default=0.0)
    parser.add_argument("--reader", type=Path)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"real": [measured_once(options.out / "real", options, real_videos)]}
    for seed in range(options.seeds):  # so that an early stop leaves whole tables of fewer seeds
        for name in options.variants:
            folder = options.out / f"{name}-{seed}"
            rows.setdefault(name, []).append(
                measured_once(folder, options, lambda o, f=folder, n=name, s=seed: made_videos(f, VARIANTS[n], s, o))
            )
    for seed in range(options.seeds if "full" in options.variants else 0):
        for name in options.extensions:
            folder = options.out / f"full-{seed}" / name.replace(",", "").replace(" ", "-")
            rows.setdefault(name, []).append(
                measured_once(folder, options, lambda o, f=folder, n=name, s=seed: extended_videos(f, n, s, o))
            )
    text = as_markdown(rows, options)
    (options.out / "paper-table.md").write_text(text, encoding="utf-8")
    (options.out / "paper-table.svg").write_text(plot(rows), encoding="utf-8")
    write_sheet(options)
    print(text)


def train(folder: Path, variant: Variant, seed: int, options: argparse.Namespace) -> None:
    """Fork, and train the whole model at the one budget."""
    if (folder / "mini.safetensors").is_file():
        return
    model = fork(options.text, variant.config, seed)
    wanted = replace(
        variant.options,
        noises=options.noises,
        pictures=options.pictures,
        elsewhere=options.elsewhere,
        reference_dropout=options.reference_dropout,
        by_picture=options.by_picture,
        surface=options.surface,
        perceptual=options.perceptual,
        reader=options.reader,
    )
    stage = VideoStage(model, load_encoded(options.latents), wanted, options.batch, seed)
    run(
        stage,
        RunOptions(
            folder,
            options.steps,
            batch=options.batch,
            learning_rate=options.learning_rate,
            warmup=30,
            schedule="cosine",
            optimiser="muon",
            ema=0.99,
            seed=seed,
            sample_minutes=1e9,
            compile=options.compile,
        ),
        log_line,
    )


def made_videos(folder: Path, variant: Variant, seed: int, options: argparse.Namespace) -> Videos:
    """Every person with every prompt, by the trained variant; a sheet of some of them lies in its folder."""
    return _sampled(folder, folder, variant, Shown(), seed, options)


def extended_videos(folder: Path, name: str, seed: int, options: argparse.Namespace) -> Videos:
    """The same by the whole method's model in the folder above, its people shown in the way ``name`` of EXTENSIONS."""
    return _sampled(folder.parent, folder, VARIANTS["full"], shown_in(name, options), seed, options)


def shown_in(name: str, options: argparse.Namespace) -> Shown:
    """The way ``name``; for "posed" the heads are turned as they are in their reference pictures."""
    shown = EXTENSIONS[name]
    if not name.endswith("posed"):
        return shown
    heads = load_encoded(options.held_out_latents).arrays["vertices"]
    angles = load_arrays(dataset_shards(options.held_out), ("reference_angles",))["reference_angles"]
    turned = []
    for head, poses in zip(heads, angles, strict=True):
        pose = poses[np.argsort(np.abs(poses[:, 0]))[TURNED_REFERENCE]]  # in the order of the encoded pictures
        turned.append(head.astype(np.float32) @ rotation_from_angles(*pose).T)
    return replace(shown, vertices=np.stack(turned))


def _sampled(run: Path, folder: Path, variant: Variant, shown: Shown, seed: int, options: argparse.Namespace) -> Videos:
    """The videos kept in ``folder``; they are made first where they are not there yet."""
    asked = wanted(options.people)
    place = folder / VIDEOS
    frames = load_arrays([place], ("frames",))["frames"] if place.is_file() else np.zeros(0, np.uint8)
    if len(frames) != len(asked):
        frames = _made(run, folder, asked, variant, shown, seed, options)
        with beside(place) as part:
            save_file({"frames": frames}, part)
    for (index, action), video in zip(asked, frames, strict=True):
        yield index, action, video.astype(np.float32) / 255


def _made(
    run: Path,
    folder: Path,
    asked: Sequence[tuple[int, str]],
    variant: Variant,
    shown: Shown,
    seed: int,
    options: argparse.Namespace,
) -> npt.NDArray[np.uint8]:
    """[N, T, S, S, 3], by the ``run``'s model, which is trained first where it is not there yet; a sheet of the first
    people's lies in ``folder``."""
    train(run, variant, seed, options)
    model = load_mini(run / "mini.safetensors")
    check_variant(model.config, variant, run)
    stage = VideoStage(model, load_encoded(options.held_out_latents), variant.options, variant.options.noises, seed)
    rows, made = [], []
    with torch.no_grad():
        prompts = [(index, PROMPTS[action]) for index, action in asked]
        videos = stage.sampled(stage.module.eval(), prompts, shown=shown)
        for (index, _), video in zip(asked, videos, strict=True):
            if index < 6:
                rows.append(np.concatenate([stage.reference(index)[None], video[::4]]))
            made.append((video * 255 + 0.5).clip(0, 255).astype(np.uint8))
    write_rows(folder / "videos.jpg", rows)
    return np.stack(made)


def check_variant(config: ModelConfig, variant: Variant, run: Path) -> None:
    """Raises CheckpointError when ``run`` trained another architecture than ``variant``'s. Depth scales, and where the
    reference lies, may differ: minis of older versions."""
    wanted = replace(
        variant.config,
        family=config.family,
        vertex_net=replace(variant.config.vertex_net, depth_scale=config.vertex_net.depth_scale),
        transformer=replace(variant.config.transformer, reference_everywhere=config.transformer.reference_everywhere),
    )
    if config != wanted:
        raise CheckpointError(f"{run / 'mini.safetensors'} is not a mini of '{variant.title}'; use another --out.")


def real_videos(options: argparse.Namespace) -> Videos:
    """The held-out people's own clips: what the best model could reach, and a test of the measures."""
    arrays = load_arrays(dataset_shards(options.held_out), ("frames", "labels"))
    for index in range(options.people):
        yield index, _action(arrays["labels"][index]), arrays["frames"][index].astype(np.float32) / 255


def _action(labels: Sequence[int]) -> str:
    head, face = HEAD_ACTIONS[labels[0]], FACE_ACTIONS[labels[1]]
    return head if head in PROMPTS else face


def measured_once(folder: Path, options: argparse.Namespace, videos: Any) -> dict[str, Any]:
    """The means over all ``videos``; kept in the folder, and measured again where a column is missing."""
    place = folder / "measured.json"
    known = dict(json.loads(place.read_text(encoding="utf-8"))) if place.is_file() else {}
    if all(name in known for name in COLUMNS):
        return known
    folder.mkdir(parents=True, exist_ok=True)
    made = measured_both(list(videos(options)), options)
    place.write_text(json.dumps(made, indent=1), encoding="utf-8")
    log_line(f"{folder.name}: {json.dumps(made)}")
    return made


def as_markdown(rows: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> str:
    """Mean and spread over the seeds: a table by the networks for photographs, beside what the paper has, and one by
    the network for synthetic heads."""
    lines = [
        f"{options.people} held-out people × {len(PROMPTS)} prompts, {options.steps} steps of {options.batch} per "
        f"variant, {'1 seed' if options.seeds == 1 else f'{options.seeds} seeds: mean ± standard deviation'}.",
        *_table(rows, "", OF_FACES, paper=True),
        *_table(rows, HEADS, OF_HEADS, paper=False),
    ]
    return "\n".join(lines) + "\n"


def _table(rows: dict[str, list[dict[str, Any]]], of: str, names: Sequence[str], paper: bool) -> list[str]:
    """The columns ``of`` + names. paper: and behind them what the paper has."""
    titles = [of.strip(), *names, *["paper: RS, IFS, FM"] * paper]
    lines = ["", f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row, measured in rows.items():
        cells = [_cell([one[of + name] for one in measured if one[of + name] is not None]) for name in names]
        variant = VARIANTS.get(row)
        theirs = ", ".join(f"{value:.2f}" for value in variant.paper[1:]) if variant else ""
        title = variant.title if variant else TITLES.get(row, row)
        lines.append(f"| {' | '.join([title, *cells, *[theirs] * paper])} |")
    return lines


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {np.std(values):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def write_sheet(options: argparse.Namespace) -> None:
    """The first seed's videos of all variants side by side, as far as they lie in RUN: RUN/paper-table.jpg."""
    asked = wanted(options.people)
    places = {name: options.out / f"{name}-0" / VIDEOS for name in options.variants}
    videos = {name: load_arrays([place], ("frames",))["frames"] for name, place in places.items() if place.is_file()}
    if not videos:
        return
    page = draw_variants(videos, references(options)[:, 0], asked, [i for i in ON_SHEET if i < len(asked)])
    with beside(options.out / "paper-table.jpg") as part:
        Image.fromarray((page * 255 + 0.5).astype(np.uint8)).save(part, format="JPEG", quality=90)


if __name__ == "__main__":
    main()
