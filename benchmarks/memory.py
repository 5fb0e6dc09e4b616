"""Peak memory of a model call at the full number of tokens, without the full work.

    python -m benchmarks.memory

Beside the weights, everything a call holds grows with tokens × width, so a model of a sixteenth of the width (3 of 48
heads, 1 of 16 identity heads) holds a sixteenth: its figures times 16 are the real ones. What a graphics card's own
attention kernel keeps for itself is not in them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from benchmarks.measure import MEBIBYTE, machine, peak_extra, print_table
from benchmarks.models import benchmark_config, make_contestants
from benchmarks.step import FULL_SIZE, NAMES
from fantasyid_core.config import ModelConfig

NARROW = 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=2, help="2 = the guidance pair")
    parser.add_argument("--layers", type=int, default=2, help="more layers hold no more")
    options = parser.parse_args()
    frames, height, width = FULL_SIZE
    print(
        f"\nPeak memory of a model call beyond weights and inputs, latents [{options.batch}, {frames}, 32, {height}, "
    )
    print(f"{width}], from a model of a sixteenth of the width\n{machine()}\n")
    rows = []
    for dtype in ("bfloat16", "float32"):
        peaks = _peaks(options.layers, options.batch, getattr(torch, dtype))
        rows += [
            [dtype, NAMES[name], f"{NARROW * peak / MEBIBYTE:.0f}", f"{peak / peaks['a']:.3f}"]
            for name, peak in peaks.items()
        ]
    print_table(["precision", "", "peak MiB at real width", "against plain"], rows)


def narrow_config(layers: int) -> ModelConfig:
    """The release at a sixteenth of its width."""
    config = benchmark_config(layers)
    transformer = replace(config.transformer, heads=config.transformer.heads // NARROW)
    injection = replace(config.injection, heads=config.injection.heads // NARROW)
    return replace(config, transformer=transformer, injection=injection)


@torch.no_grad()
def _peaks(layers: int, batch: int, dtype: torch.dtype) -> dict[str, int]:
    models = make_contestants(narrow_config(layers), FULL_SIZE, batch, dtype)
    identity = models.prepare()
    tokens = models.release.identity_tokens(models.face_vector, models.hidden, models.vertices)
    models.release.identity_tokens = lambda *_: tokens  # type: ignore[method-assign] # its networks are not narrow
    calls = {"a": models.run_plain, "b": models.run_release, "c": lambda: models.run_ours(identity)}
    return {name: peak_extra(call) for name, call in calls.items()}


if __name__ == "__main__":
    main()
