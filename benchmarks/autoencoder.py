"""How much of people it has not seen the mini's autoencoder keeps: peak signal to noise of frames and of clips.

python -m benchmarks.autoencoder --vae RUN --data CLIPS

RUN is the folder of `fantasyid train vae`, CLIPS one of `fantasyid train data` with another seed than the training's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.measure import print_table
from fantasyid_core.training.arrays import load_arrays, pixels
from fantasyid_core.training.shards import dataset_shards
from fantasyid_core.training.train_vae import load_vae_folder

if TYPE_CHECKING:
    from fantasyid_core.video.vae import VideoAutoencoder

AT_ONCE = 8  #: clips


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    vae = load_vae_folder(options.vae).eval()
    clips = load_arrays(dataset_shards(options.data), ("frames",))["frames"]
    middle = clips.shape[1] // 2
    rows = [
        ("the middle frame of each alone", f"{psnr(vae, clips[:, middle : middle + 1]):.1f} dB"),
        (f"all {clips.shape[1]} frames as a clip", f"{psnr(vae, clips):.1f} dB"),
    ]
    print(f"{len(clips)} clips, encoded to their means and decoded without noise:\n")
    print_table(("", "PSNR"), rows)


@torch.no_grad()
def psnr(vae: VideoAutoencoder, clips: Any) -> float:
    """Of ``clips`` [N, T, S, S, 3] uint8, T = 8k+1 or 1, over all their pixels: dB, larger is better."""
    errors = []
    for start in range(0, len(clips), AT_ONCE):
        clean = pixels(clips[start : start + AT_ONCE])
        decoded = vae.decode(vae.encode(clean).latent_dist.mean).sample[:, :, : clean.shape[2]]
        errors.append((decoded - clean).square().mean(dim=(1, 2, 3, 4)))
    return float(-10 * torch.log10(torch.cat(errors).mean() / 4))


if __name__ == "__main__":
    main()
