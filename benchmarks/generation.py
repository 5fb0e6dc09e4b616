"""The whole mini job, stage by stage: one photograph to a video, first run and second run in one process.

python -m benchmarks.generation
python -m benchmarks.generation --runs 20        a soak: does memory come back to where it was?
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.measure import MEBIBYTE, print_heading, print_table

EXAMPLE = Path(__file__).resolve().parent.parent / "fantasyid_core" / "assets" / "astronaut.png"
PROMPT = "A woman smiles and turns her head."


class Stopwatch:
    """Seconds of processor time per thread, by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.wall: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside under ``name``."""
        wall, work = time.perf_counter(), time.process_time()
        yield
        self.stages[name] = (time.process_time() - work) / torch.get_num_threads()
        self.wall[name] = time.perf_counter() - wall


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=None, help="denoising steps (default: the mini's own)")
    options = parser.parse_args()
    print_heading("The whole mini job, one photograph to 17 frames of 128×128")
    watch, runs, memory = Stopwatch(), [], []
    with watch.stage("imports"):
        _import()
    with watch.stage("load the model"):
        model = _load()
    for _ in range(options.runs):
        run = Stopwatch()
        _run(model, run, options.steps)
        runs.append(run)
        gc.collect()
        memory.append(resident())
    _print_stages(watch, runs)
    print("\nMemory of the process after each run, MiB: " + ", ".join(f"{held / MEBIBYTE:.0f}" for held in memory))


def _import() -> None:
    import fantasyid_core.generate
    import fantasyid_core.model
    import fantasyid_core.video.transformer  # noqa: F401


def _load():  # type: ignore[no-untyped-def] # noqa: ANN202 (the class is only imported when timed)
    from fantasyid_core.model import load_model

    return load_model("mini")


def _run(model, run: Stopwatch, steps: int | None) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 (see _load)
    """The steps of fantasyid_core.generate, one by one."""
    from fantasyid_core.faces.detect import chosen_index, detect_faces, with_mask
    from fantasyid_core.faces.detectors import make_detector
    from fantasyid_core.generate import GenerateOptions, default_steps
    from fantasyid_core.geometry.adapt import for_model
    from fantasyid_core.geometry.extractors import make_extractor
    from fantasyid_core.identity.fuse import fuse_features
    from fantasyid_core.images import load_photograph
    from fantasyid_core.video.sample import Conditions, SamplingOptions, sample
    from fantasyid_core.video.vae import decode_latents, encode_reference
    from fantasyid_core.views.augment import augment_views

    defaults = GenerateOptions(PROMPT)
    dit = model.config.transformer
    size = (dit.sample_frames, 8 * dit.sample_height, 8 * dit.sample_width)
    with run.stage("read the photograph"):
        photograph = load_photograph(EXAMPLE)
    with run.stage("faces"):
        faces = detect_faces(photograph, make_detector(defaults.detector))
        face = with_mask(faces[chosen_index(faces, defaults.choose)])
    with run.stage("geometry"):
        geometry = make_extractor(defaults.extractor).extract(face)
    with run.stage("views"):
        views = augment_views(face, geometry)
    with run.stage("identity"):
        fitting = for_model(geometry, model.config.vertex_net.topology, defaults.input_path, model.folders)
        identity = fuse_features(views, fitting, model.identity_encoder, combine=defaults.combine)
    with run.stage("text and reference"):
        generator = torch.Generator().manual_seed(0)
        reference = encode_reference(model.vae, identity.reference, *size, generator, fit=identity.reference_fit)
        context = model.transformer.prepare_identity(identity.tokens.to(reference))
        conditions = Conditions(model.text.encode(PROMPT), model.text.encode(""), reference, context)
    with run.stage("sampling"):
        latents = sample(model.transformer, conditions, SamplingOptions(steps=steps or default_steps(model)), generator)
    with run.stage("decoding"):
        decode_latents(model.vae, latents)


def _print_stages(watch: Stopwatch, runs: list[Stopwatch]) -> None:
    shown = [runs[0], *runs[1:][:1]] if len(runs) <= 2 else [runs[0], runs[1], runs[-1]]
    names = ["first run", "second run", f"run {len(runs)}"][: len(shown)]
    rows = [[name, f"{seconds:.2f}", *[""] * (len(shown) - 1)] for name, seconds in watch.stages.items()]
    rows += [[name, *(f"{run.stages[name]:.2f}" for run in shown)] for name in shown[0].stages]
    totals = [sum(run.stages.values()) for run in shown]
    rows.append(["the job without imports and loading", *(f"{total:.2f}" for total in totals)])
    first = totals[0] + sum(watch.stages.values())
    rows.append(["the job with them", f"{first:.2f}", *(f"{total:.2f}" for total in totals[1:])])
    walls = [sum(run.wall.values()) for run in shown]
    walls[0] += sum(watch.wall.values())
    rows.append(["the same by the wall clock", *(f"{wall:.2f}" for wall in walls)])
    print_table(["stage, s", *names], rows)


def resident() -> int:
    """Bytes of this process that lie in memory now; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    lines = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
    return 1024 * int(lines[0].split()[1])


if __name__ == "__main__":
    main()
