"""What 8-bit weights (`--weights fp8`) change in the mini's videos, and what they save of the public checkpoint.

    python -m benchmarks.eight_bits

Everything against float32. The same video from another seed stands beside it, because noise changes it most.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from benchmarks.difference import psnr
from benchmarks.measure import machine, print_table
from benchmarks.memory_plan import empty_transformer
from fantasyid_core.arrays import FloatArray
from fantasyid_core.cli import EXAMPLE
from fantasyid_core.config import RELEASE
from fantasyid_core.generate import GenerateOptions, identify, make_video, video_size
from fantasyid_core.images import load_photograph
from fantasyid_core.model import MINI, load_model
from fantasyid_core.video import memory_plan as plan
from fantasyid_core.video.placement import keep_in_8_bits

PROMPT = "A woman in an orange space suit smiles"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="videos of each kind (default: 2)")
    parser.add_argument("--steps", type=int, default=None, help="default: the mini's own")
    options = parser.parse_args()
    print(f"\n8-bit weights against float32, the mini, {options.seeds} seeds\n{machine()}\n")
    print_table(["weights", "mean difference (of 1)", "most", "PSNR, dB"], differences(options.seeds, options.steps))
    print("\nThe public checkpoint in bfloat16, and with 8-bit weights: peak, GB\n")
    print_table(["memory preset", "bfloat16", "8 bits"], peaks())


def differences(seeds: int, steps: int | None) -> list[list[str]]:
    """A row per kind: mean over the seeds, the most of all, PSNR of all."""
    identity = identify(load_photograph(EXAMPLE), load_model(MINI), GenerateOptions("")).identity

    def videos(precision: str, eight_bits: bool, first: int = 0) -> FloatArray:
        model = load_model(MINI, precision=precision)
        if eight_bits:
            keep_in_8_bits(model.transformer)
        asked = [GenerateOptions(PROMPT, seed=first + seed, steps=steps) for seed in range(seeds)]
        return np.stack([make_video(model, identity, each, video_size(model, each)) for each in asked])

    exact = videos("float32", False)
    kinds = {
        "bfloat16": videos("bfloat16", False),
        "8 bits, computed in bfloat16": videos("bfloat16", True),
        "8 bits, computed in float32": videos("float32", True),
        "another seed, float32": videos("float32", False, first=seeds),
    }
    return [[name, *_against(exact, video)] for name, video in kinds.items()]


def peaks() -> list[list[str]]:
    """A row per memory preset, foretold by video/memory_plan.py for 49 frames of 480×720."""
    transformer = empty_transformer(RELEASE, torch.bfloat16)
    keep_in_8_bits(transformer)
    block = plan.bytes_of(transformer.transformer_blocks[0])
    sizes = replace(plan.RELEASE_SIZES, transformer=plan.bytes_of(transformer), block=block)
    eight = plan.memory_plans(RELEASE, sizes, plan.DecoderShape(), plan.Video(49, 480, 720))
    return [
        [before.preset.name, f"{before.peak / 1e9:.1f}", f"{after.peak / 1e9:.1f}"]
        for before, after in zip(plan.release_plans(RELEASE), eight, strict=True)
    ]


def _against(exact: FloatArray, video: FloatArray) -> list[str]:
    difference = np.abs(video - exact)
    return [f"{difference.mean():.4f}", f"{difference.max():.3f}", f"{psnr(exact, video):.1f}"]


if __name__ == "__main__":
    main()
