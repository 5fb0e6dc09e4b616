"""What each speed lever saves, and what it costs in likeness, steadiness and movement.

python -m benchmarks.levers                          the mini, its own steps, the example photograph, one seed
python -m benchmarks.levers --drawn 8 --prompts 2    eight people of the kind the mini was trained on, two prompts each
python -m benchmarks.levers --only balanced fast --seeds 4 --reference a.jpg b.jpg
python -m benchmarks.levers --model DIR --steps 50   the public checkpoint

Every video is measured once and kept in --results; the same command goes on where it stopped. One row per lever, over
all people, prompts and seeds. Block evaluations are counted, not estimated. PSNR and SSIM compare with the video of
all steps of the same solver and seed; half the steps of a solver that draws noise between them (dpm) are another take
all the same, for which they say nothing about quality. RS, IFS and FM are measured on the faces (docs/metrics.md), and
divided by those of the exact video over the videos in which both show a face; "–" when none do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.difference import psnr, structure
from benchmarks.measure import default_device, interleaved, print_heading, print_table
from fantasyid_core.arrays import FloatArray
from fantasyid_core.evaluation.clips import Frame
from fantasyid_core.evaluation.evaluate import Case, evaluate
from fantasyid_core.evaluation.watch import Eyes, Person, see_person
from fantasyid_core.generate import (
    GenerateOptions,
    default_guidance,
    default_reference_guidance,
    default_skip_layers,
    default_steps,
    identify,
)
from fantasyid_core.identity.fingerprint import fingerprint
from fantasyid_core.images import load_photograph
from fantasyid_core.model import FantasyIDModel, load_model
from fantasyid_core.training.clips import ClipOptions, make_clip
from fantasyid_core.video.levers import EXACT, PRESETS, Levers
from fantasyid_core.video.sample import Conditions, SamplingOptions, Tally, sample
from fantasyid_core.video.vae import decode_latents, encode_reference

EXAMPLE = Path(__file__).resolve().parent.parent / "fantasyid_core" / "assets" / "astronaut.png"
PROMPTS = (
    "A person slowly turns the head to the left, in front of a blue wall, studio light",
    "A person opens the mouth, in a green garden, daylight",
    "A person turns the head to the right, in front of a grey wall, soft light",
)
DRAWN_SEED = 77  #: of people that the mini was not trained on
FPS = 8.0

#: One lever at a time, at two settings where it has any, then the presets.
CASES: dict[str, Levers] = {
    "exact": EXACT,
    "half the steps, dpm": Levers(step_share=0.5),
    "half the steps, ddim": Levers(step_share=0.5, solver="ddim"),
    "half the steps, dpm2m": Levers(step_share=0.5, solver="dpm2m"),
    "a third of the steps, dpm2m": Levers(step_share=1 / 3, solver="dpm2m"),
    "all steps, dpm2m": Levers(solver="dpm2m"),
    "first block, 0.05": Levers(cache="first block", cache_threshold=0.05),
    "first block, 0.15": Levers(cache="first block", cache_threshold=0.15),
    "first block, 0.15, Taylor 1": Levers(cache="first block", cache_threshold=0.15, cache_order=1),
    "magnitude, 0.05": Levers(cache="magnitude", cache_threshold=0.05),
    "magnitude, 0.15": Levers(cache="magnitude", cache_threshold=0.15),
    "interval, 1 skipped": Levers(cache="interval", cache_most=1),
    "interval, 1 skipped, Taylor 1": Levers(cache="interval", cache_most=1, cache_order=1),
    "interval, 1 skipped, Taylor 1, guidance every other step": Levers(
        cache="interval", cache_most=1, cache_order=1, guidance_every=2
    ),
    "interval, 2 skipped, Taylor 1": Levers(cache="interval", cache_most=2, cache_order=1),
    "interval, 2 skipped, Taylor 2": Levers(cache="interval", cache_most=2, cache_order=2),
    "guidance up to 80 %": Levers(guidance_end=0.8),
    "guidance from 10 % to 60 %": Levers(guidance_start=0.1, guidance_end=0.6),
    "guidance every 2nd step": Levers(guidance_every=2),
    "guidance every 3rd step": Levers(guidance_every=3),
    "half the steps, dpm, guidance every other step": Levers(step_share=0.5, guidance_every=2),
    "half the steps, dpm2m, as fast": Levers(step_share=0.5, solver="dpm2m", guidance_every=3, guidance_end=0.8),
    "one branch after the other": Levers(negative="sequential"),
    **{f"preset {name}": levers for name, levers in PRESETS.items() if name != "exact"},
}
EXACT_CASE = "exact"
COLUMNS = ["lever", "block evaluations", "less by", "time less by", "PSNR", "1 − SSIM", "RS", "IFS", "FM", "faces"]


@dataclass(frozen=True, eq=False)
class Take:
    """One way to make one video of one person. start: makes the generator as the VAE's posterior draw left it."""

    person: Person
    conditions: Conditions
    start: Callable[[], torch.Generator]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet, then print the table."""
    options = _parser().parse_args(arguments)
    cases = {name: CASES[name] for name in CASES if not options.only or name in (EXACT_CASE, *_named(options.only))}
    model = load_model(options.model, device=options.device)
    steps = options.steps or default_steps(model)
    kept, found = Results(options.results), list[dict[str, dict[str, Any]]]()
    frames = options.frames or model.config.transformer.sample_frames
    common = {"model": _weights(model), "steps": steps, "frames": frames, "guidance": default_guidance(model)}
    common |= {
        "skip_layers": asdict(default_skip_layers(model)),
        "reference_guidance": default_reference_guidance(model),
    }
    people = {path.name: partial(load_photograph, path) for path in options.reference or ()}
    people |= {f"drawn {number}": partial(_drawn, number) for number in range(options.drawn)}
    people = people or {EXAMPLE.name: partial(load_photograph, EXAMPLE)}
    asked = list(product(people, PROMPTS[: options.prompts], range(options.seeds)))
    for name, prompt, seed in asked:
        this = common | {"prompt": prompt, "reference": name, "seed": seed}
        keys = {case: this | {"levers": asdict(levers)} for case, levers in cases.items()}
        missing = {case: key for case, key in keys.items() if kept.find(key) is None}
        if missing:
            print(f"{name}, {prompt}, seed {seed}", flush=True)
            _measure_take(_take(model, name, people[name](), prompt, seed, frames), model, steps, missing, kept)
        found.append({case: kept.get(key) for case, key in keys.items()})
    print_heading(f"Speed levers: {model.model_id}, {steps} steps, {len(asked)} videos")
    print_table(COLUMNS, [_row(case, found) for case in cases])


class Results:
    """Measurements by what they were made with, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self._found = {entry["key"]: entry["result"] for entry in map(json.loads, lines)}

    def find(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """What was measured with exactly this, None if nothing was."""
        return self._found.get(_stable(key))

    def get(self, key: dict[str, Any]) -> dict[str, Any]:
        """The same of what is known to be there."""
        return self._found[_stable(key)]

    def add(self, key: dict[str, Any], result: dict[str, Any]) -> None:
        """Keep it, on disk at once."""
        self._found[_stable(key)] = result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": _stable(key), "result": result}) + "\n")


def _stable(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _weights(model: FantasyIDModel) -> str:
    """A name for the model that changes with the weights of either half."""
    return f"{model.model_id} {fingerprint(model.transformer.state_dict())}"


def _drawn(number: int) -> FloatArray:
    """A photograph [256, 256, 3] of a drawn person: of several, the one seen most from the front."""
    clip = make_clip(ClipOptions(seed=DRAWN_SEED, frames=1, references=6, crop=256), number)
    frontal = int(np.abs(clip.reference_angles[:, 0]).argmin())
    return clip.references[frontal].astype(np.float32) / 255.0


def _take(model: FantasyIDModel, name: str, photograph: FloatArray, prompt: str, seed: int, frames: int) -> Take:
    assert model.vae is not None and model.text is not None  # or generate would have said so
    dit = model.config.transformer
    identity = identify(photograph, model, GenerateOptions(prompt)).identity
    size = (frames, 8 * dit.sample_height, 8 * dit.sample_width)
    generator = torch.Generator("cpu").manual_seed(seed)
    reference = encode_reference(model.vae, identity.reference, *size, generator, fit=identity.reference_fit)
    context = model.transformer.prepare_identity(identity.tokens.to(reference))
    state = generator.get_state()

    def start() -> torch.Generator:
        again = torch.Generator("cpu")
        again.set_state(state)
        return again

    conditions = Conditions(model.text.encode(prompt), model.text.encode(""), reference, context)
    return Take(see_person(name, photograph, Eyes()), conditions, start)


def _measure_take(
    take: Take, model: FantasyIDModel, steps: int, keys: dict[str, dict[str, Any]], kept: Results
) -> None:
    """Make the videos of the cases in ``keys``, compare, and keep the numbers under their keys."""
    options = SamplingOptions(
        steps,
        default_guidance(model),
        reference_guidance=default_reference_guidance(model),
        skip_layers=default_skip_layers(model),
        noise_schedule=model.noise_schedule,
    )
    made = {EXACT: _video(take, model, options)}
    exact_time = made[EXACT][1]
    for name, key in keys.items():
        print(f"- {name}", flush=True)
        levers = CASES[name]
        for wanted in (Levers(solver=levers.solver), levers):
            if wanted not in made:
                made[wanted] = _video(take, model, replace(options, levers=wanted))
        frames, time, tally = made[levers]
        whole = made[Levers(solver=levers.solver)][0]  # all steps of this solver
        result = {
            "blocks": tally.blocks,
            "exact_blocks": tally.exact_blocks,
            "time": time,
            "exact_time": exact_time,
            "psnr": psnr(frames, whole),
            "ssim": structure(frames, whole),
            **_faces(frames, take.person),
        }
        kept.add(key, result)


def _video(take: Take, model: FantasyIDModel, options: SamplingOptions) -> tuple[FloatArray, float, Tally]:
    """Frames [F, H, W, 3], seconds of the sampling, what was counted."""
    assert model.vae is not None
    tally, made = Tally(), []
    device = model.transformer.device.type

    def work() -> None:
        made.append(sample(model.transformer, take.conditions, options, take.start(), tally=tally))

    seconds = interleaved({"": work}, 1, device, warm_up=False)[""].least
    return decode_latents(model.vae, made[0]), seconds, tally


def _faces(frames: FloatArray, person: Person) -> dict[str, float | None]:
    """RS, IFS and FM, None where no face is found; the share of frames with a face."""
    seen = [Frame(number / FPS, picture) for number, picture in enumerate(frames)]
    result = evaluate([Case("video", seen)], [person], Eyes())
    faces = sum(clip.faces for clip in result.clips) / len(frames)
    return {name: result.mean(name) for name in ("rs", "ifs", "fm")} | {"faces": faces}


def _row(name: str, found: Sequence[dict[str, dict[str, Any]]]) -> list[str]:
    """One case over all videos: means; ratios are of sums, those of faces over the videos that both show one in."""
    results = [take[name] for take in found]

    def total(column: str) -> float:
        return float(sum(result[column] for result in results))

    def mean(column: str, digits: int) -> str:
        values = [result[column] for result in results if result[column] is not None]
        return f"{np.mean(values):.{digits}f}" if values else "–"

    def against_exact(column: str) -> str:
        pairs = [(take[name][column], take[EXACT_CASE][column]) for take in found]
        both = np.array([pair for pair in pairs if None not in pair], float)
        return f"{mean(column, 3)} ({both[:, 0].sum() / both[:, 1].sum() - 1:+.1%})" if len(both) else "–"

    return [
        name,
        f"{total('blocks') / len(results):.0f}",
        f"{total('exact_blocks') / total('blocks'):.2f} ×",
        f"{total('exact_time') / total('time'):.2f} ×",
        "same" if all(result["psnr"] == float("inf") for result in results) else mean("psnr", 1),
        f"{1 - np.mean([result['ssim'] for result in results]):.3f}",
        *(against_exact(column) for column in ("rs", "ifs", "fm")),
        f"{np.mean([result['faces'] for result in results]):.0%}",
    ]


def _named(names: Sequence[str]) -> list[str]:
    """The cases of which a part of the name was given."""
    return [case for case in CASES if any(name in case for name in names)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini", help="'mini', or the FantasyID folder or converted file")
    parser.add_argument("--steps", type=int, default=None, help="of the exact sampling (default: the model's own)")
    parser.add_argument("--frames", type=int, default=None, help="frames per video (default: the model's own)")
    parser.add_argument("--reference", type=Path, nargs="+", help="photographs of faces (default: the example)")
    parser.add_argument("--drawn", type=int, default=0, help="people drawn as the mini's training data was")
    parser.add_argument("--prompts", type=int, default=1, choices=range(1, len(PROMPTS) + 1), help="default: 1")
    parser.add_argument("--seeds", type=int, default=1, help="videos per person and prompt (default: 1)")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORDS", help="levers with these words in their names")
    parser.add_argument("--device", default=default_device())
    parser.add_argument("--results", type=Path, default=Path("out/levers.jsonl"), help="where measurements are kept")
    return parser


if __name__ == "__main__":
    main()
