"""What the latent reader of the perceptual loss sees in clips of people it was not trained on.

python -m benchmarks.latent_reader --latents HELD_OUT_CLOSE_UPS --reader READER.safetensors

HELD_OUT_CLOSE_UPS are of `fantasyid train latents` of clips with a seed that the reader was not trained with. Latent
frames of the clips are compared with one picture of each person from elsewhere; "explained" is the share of the squares
of where the head's spots are, what the shape and what the face adds to them (training/surface.py), where a head is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from fantasyid_core.training.latent_reader import LatentReader, load_latent_reader, perceptual_distance
from fantasyid_core.training.latents import ELSEWHERE, SURFACE, EncodedClips, load_encoded
from fantasyid_core.training.surface import COVER
from fantasyid_core.training.surface_head import PARTS

NOISES = (0.0, 0.3, 0.6)
FRAME = 2  #: the latent frame in a clip's middle


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=Path, required=True)
    parser.add_argument("--reader", type=Path, required=True)
    options = parser.parse_args()
    print("\n".join(table(load_latent_reader(options.reader), load_encoded(options.latents))))


@torch.no_grad()
def table(reader: LatentReader, clips: EncodedClips) -> list[str]:
    """One line for each size of noise, as Markdown."""
    place = int(np.flatnonzero(clips.arrays["reference_kinds"][0] == ELSEWHERE)[0])
    clean, elsewhere, true = (
        torch.from_numpy(some.astype(np.float32))
        for some in (
            clips.arrays["latents"][:, FRAME],
            clips.arrays["reference_latents"][:, place],
            clips.arrays[SURFACE][:, FRAME],
        )
    )
    own, others = torch.arange(len(clean)), reader(elsewhere).identity
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    names = [name for name, _ in PARTS]
    lines = [
        f"| noise, deviations | rank-1 of {len(clean)} | {' | '.join(f'{n}: explained' for n in names)} | distance |",
        "|---" * (3 + len(names)) + "|",
    ]
    for size in NOISES:
        found = reader(clean + size * noise)
        rank_1 = ((found.identity @ others.T).argmax(dim=1) == own).float().mean()
        explained = []
        for _, part in PARTS:
            squares = [(some[:, part].square() * true[:, COVER]).sum() for some in (found.surface - true, true)]
            explained.append(f"{1 - float(squares[0] / squares[1]):.0%}")
        distance = float(perceptual_distance(reader, clean + size * noise, clean).mean())
        lines.append(f"| {size:g} | {float(rank_1):.0%} | {' | '.join(explained)} | {distance:.3f} |")
    away = float(perceptual_distance(reader, clean.roll(1, 0), clean).mean())
    return [*lines, "", f"Distance between two people's clips: {away:.2f}."]


if __name__ == "__main__":
    main()
