"""One denoising call of the DiT: plain CogVideoX, identity the release's way, identity our way.

    python -m benchmarks.step                       2 layers at real width, a small latent, minutes on two cores
    python -m benchmarks.step --size 13x60x90 --layers 1 --dtype bfloat16 --calls acd --time-only --repeats 1
                                                    the full size, one layer of 42
    python -m benchmarks.step --parts               also where identity's time goes, and what other ways would bring

On a GPU the defaults are the full size: 42 layers, 13x60x90, the guidance pair, bfloat16.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.flops import RELEASE_NETWORKS_FLOPS, StepFlops, keys_values_flops, step_flops
from benchmarks.measure import (
    MEBIBYTE,
    Timing,
    Work,
    default_device,
    interleaved,
    matmul_peak,
    peak_extra,
    print_heading,
    print_table,
    ratio,
)
from benchmarks.models import Contestants, benchmark_config, make_contestants
from benchmarks.step_parts import print_parts
from fantasyid_core.config import RELEASE

FULL_SIZE = (13, 60, 90)
STEPS = 50
NAMES = {
    "a": "(a) plain CogVideoX, diffusers",
    "b": "(b) + identity, release's way",
    "c": "(c) + identity, ours",
    "d": "(d) ours, identity off",
}


def main() -> None:
    """Measure and print."""
    options = _options()
    size = tuple(int(side) for side in options.size.split("x"))
    if len(size) != 3 or size[1] % 2 or size[2] % 2:
        raise SystemExit("--size is latent frames x height x width with even height and width, for instance 3x30x46.")
    frames, height, width = size
    dtype = getattr(torch, options.dtype)
    models = make_contestants(
        benchmark_config(options.layers), (frames, height, width), options.batch, dtype, options.device
    )
    print_heading(
        f"One model call, latents [{options.batch}, {frames}, 32, {height}, {width}], {options.layers} of 42 layers, "
        f"width 3072, {options.dtype}, random weights, {options.repeats} interleaved rounds",
        options.device,
    )
    flops = step_flops(models.config, frames, height, width, options.batch)
    peak = matmul_peak(min(_rows(models), 4096), dtype, options.device)
    timings = _print_calls(models, options, flops, peak)
    if options.parts:
        print_parts(models, options.repeats, options.device, timings["a"].least)
    _print_full_size()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    device = default_device()
    big = device == "cuda"
    parser.add_argument("--device", default=device, choices=["cpu", "cuda"])
    parser.add_argument("--size", default="13x60x90" if big else "3x30x46", help="latent frames x height x width")
    parser.add_argument("--layers", type=int, default=42 if big else 2)
    parser.add_argument("--batch", type=int, default=2 if big else 1)
    parser.add_argument("--dtype", default="bfloat16" if big else "float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--calls", default="abcd", help="which of a, b, c and d to run")
    parser.add_argument("--time-only", action="store_true", help="no warm-up and no memory, for very long calls")
    parser.add_argument("--parts", action="store_true")
    return parser.parse_args()


def _rows(models: Contestants) -> int:
    return models.call["image_rotary_emb"][0].shape[0] + models.call["encoder_hidden_states"].shape[1]


@torch.no_grad()
def _print_calls(models: Contestants, options: argparse.Namespace, flops: StepFlops, peak: float) -> dict[str, Timing]:
    identity = models.prepare()
    every: dict[str, Work] = {
        "a": models.run_plain,
        "b": models.run_release,
        "c": lambda: models.run_ours(identity),
        "d": lambda: models.run_ours(None),
    }
    cases = {name: every[name] for name in options.calls}
    timings = interleaved(cases, options.repeats, options.device, warm_up=not options.time_only)
    memory = {} if options.time_only else {name: peak_extra(case, options.device) for name, case in cases.items()}
    again = keys_values_flops(models.config) + RELEASE_NETWORKS_FLOPS
    counted = {"a": flops.plain, "b": flops.total + again, "c": flops.total, "d": flops.plain}
    _print_times(timings, memory, counted, peak)
    _print_ratios(timings, memory, counted)
    once = interleaved({"once": models.prepare}, 2, options.device)["once"]
    print(f"\nOnce per generation, ours: identity networks, keys and values {once.least:.3f} s.")
    if not options.time_only:
        difference = (models.run_ours(identity).float() - models.run_release().float()).abs().max()
        print(f"Largest difference between (b) and (c) in the velocity: {difference:.1e}.")
    return timings


def _print_times(timings: dict[str, Timing], memory: dict[str, int], counted: dict[str, float], peak: float) -> None:
    rows = []
    for name, timing in timings.items():
        floor = counted[name] / peak
        rows.append(
            [
                NAMES[name],
                f"{timing.least:.3f}",
                f"{timing.middle:.3f}",
                f"{min(timing.wall):.3f}",
                f"{memory[name] / MEBIBYTE:.0f}" if memory else "",
                f"{counted[name] / 1e9:.0f}",
                f"{floor:.3f}",
                f"{timing.least / floor:.2f}",
            ]
        )
    print_table(["", "min s", "median s", "wall min s", "peak extra MiB", "GFLOP", "floor s", "min / floor"], rows)
    print(f"\nFloor: FLOPs at this machine's own matmul rate, {peak / 1e9:.0f} GFLOP/s.\n")


def _print_ratios(timings: dict[str, Timing], memory: dict[str, int], counted: dict[str, float]) -> None:
    rows = []
    for over, under, meaning in (
        ("c", "b", "ours against the release's way"),
        ("c", "a", "ours against the bare base"),
        ("b", "a", "the release's way against the bare base"),
        ("c", "d", "what identity itself adds to our stack"),
    ):
        if over not in timings or under not in timings:
            continue
        least, middle = ratio(timings[over], timings[under])
        held = f"{memory[over] / memory[under]:.3f}" if memory else ""
        work = f"{counted[over] / counted[under]:.3f}"
        rows.append([f"{over} / {under}", meaning, f"{least:.3f}", f"{middle:.3f}", work, held])
    print_table(["ratio", "", "time, min", "time, median", "FLOPs", "peak extra memory"], rows)


def _print_full_size() -> None:
    """What a guided step of the released model needs, by formula: no machine is measured."""
    flops = step_flops(RELEASE, *FULL_SIZE, batch=2)
    once = keys_values_flops(RELEASE) + RELEASE_NETWORKS_FLOPS
    tera = 1e12
    print("\nFull size by arithmetic: 42 layers, 49 frames of 720×480, guidance pair, one step")
    print_table(
        ["part", "TFLOP", "share of the plain step"],
        [
            ["linear layers", f"{flops.linear / tera:.1f}", f"{flops.linear / flops.plain:.2%}"],
            ["attention", f"{flops.attention / tera:.1f}", f"{flops.attention / flops.plain:.2%}"],
            ["embeddings", f"{flops.embedding / tera:.3f}", f"{flops.embedding / flops.plain:.3%}"],
            [
                "identity, at every step in any case",
                f"{flops.identity / tera:.1f}",
                f"{flops.identity / flops.plain:.2%}",
            ],
            ["identity, again at every step in the release only", f"{once / tera:.3f}", f"{once / flops.plain:.4%}"],
        ],
    )
    print(
        f"\nOver {STEPS} steps: {STEPS * flops.total / tera:,.0f} TFLOP ours, of which identity "
        f"{(STEPS * flops.identity + once) / tera:,.0f}; the release {STEPS * (flops.total + once) / tera:,.0f}."
    )


if __name__ == "__main__":
    main()
