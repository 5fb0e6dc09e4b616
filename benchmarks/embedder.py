"""How well the network for synthetic heads tells people apart whom it has never seen, and reads how they move.

python -m benchmarks.embedder --held-out CLIPS [--vae MINI] [--network FILE] [--people 32]

CLIPS are of `fantasyid train data` with a seed that the network was not trained with. Every clip's frames are compared
with one picture of each person from elsewhere (other light, clothes, background), the most frontal of them, and by
geometry with everybody's true head too. People come in groups of ``--people``, so chance is 1 in that many.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from benchmarks.paper_measures import JAW_OPENED, TURNED
from fantasyid_core.evaluation.head_network import ANGLE, HeadNetwork, HeadReading, load_head_network
from fantasyid_core.evaluation.head_network import WEIGHTS_FILE as SHIPPED
from fantasyid_core.training.arrays import Arrays, load_arrays
from fantasyid_core.training.motion import FACE_ACTIONS, HEAD_ACTIONS
from fantasyid_core.training.shards import dataset_shards
from fantasyid_core.training.spoil import blurred, recoloured_grey, round_trip, smaller
from fantasyid_core.training.train_embedder import motion_targets
from fantasyid_core.training.train_vae import load_vae_folder
from fantasyid_core.video.patch_vae import PatchAutoencoder

Change = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--network", type=Path, default=SHIPPED)
    parser.add_argument("--vae", type=Path, default=SHIPPED.with_name("mini.safetensors"))
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--stride", type=int, default=4, help="every how many frames of a clip")
    options = parser.parse_args()
    names = ("frames", "labels", "references", "reference_angles", "angles", "expression", "shape")
    arrays = load_arrays(dataset_shards(options.held_out), names)
    network = load_head_network(options.network)
    print("\n".join(table(network, arrays, changes(load_vae_folder(options.vae)), options.people, options.stride)))
    print("\n".join(["", *obedience(network, arrays)]))


def changes(vae: PatchAutoencoder) -> dict[str, Change]:
    """What is done to the frames before they are read; the pictures to compare with stay as they are."""
    random = torch.Generator()

    def again() -> torch.Generator:
        return random.manual_seed(0)

    return {
        "as they are": lambda x: x,
        "through the mini's autoencoder": lambda x: round_trip(x, vae),
        "the same, latents with noise of 0.3": lambda x: round_trip(x, vae, 0.3, again()),
        "the same, latents with noise of 0.6": lambda x: round_trip(x, vae, 0.6, again()),
        "blurred, deviation 1 px": lambda x: blurred(x, 1.0),
        "blurred, deviation 2 px": lambda x: blurred(x, 2.0),
        "blurred, deviation 3 px": lambda x: blurred(x, 3.0),
        "from 32 px": lambda x: smaller(x, 32),
        "from 16 px": lambda x: smaller(x, 16),
        "noise of 0.1": lambda x: x + 0.1 * torch.randn(x.shape, generator=again()),
        "grey": lambda x: x.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1),
        "grey of other tones, other light": lambda x: recoloured_grey(x, again()).expand(-1, 3, -1, -1),
    }


def table(network: HeadNetwork, arrays: Arrays, ways: dict[str, Change], people: int, stride: int) -> list[str]:
    """Markdown: one row per way."""
    count = len(arrays["frames"]) // people * people
    frames = arrays["frames"][:count, ::stride]
    times = frames.shape[1]
    frontal = np.abs(arrays["reference_angles"][:count, :, 0]).argmin(axis=1)
    known = read(network, arrays["references"][np.arange(count), frontal], lambda x: x)
    shapes = torch.from_numpy(arrays["shape"][:count])
    heads = network.geometry_of(shapes)
    truth = torch.from_numpy(
        motion_targets(arrays["angles"][:count, ::stride], arrays["expression"][:count, ::stride])
    ).flatten(0, 1)
    lines = [
        f"{count} people never seen, in groups of {people} (chance {1 / people:.1%}); {times} frames of each clip. "
        "rank-1 of frames / of clips (mean embedding); errors are root mean squares.",
        "",
        "| frames | RS, own / others | identity | geometry, true heads | geometry, pictures | shape, R² | yaw "
        "| jawOpen | smile | blink |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, way in ways.items():
        made = read(network, frames.reshape(-1, *frames.shape[2:]), way)
        compared = ((made.identity, known.identity), (made.geometry, heads), (made.geometry, known.geometry))
        cells = [" / ".join(f"{score:.2f}" for score in likeness(made.identity, known.identity, times, people))]
        cells += [" / ".join(f"{share:.0%}" for share in ranked(*pair, times, people)) for pair in compared]
        shape = shapes[:, : made.shape.shape[1]].repeat_interleave(times, dim=0)
        explained = 1 - float((made.shape - shape).square().mean() / shape.var(dim=0).mean())
        motion = torch.cat([made.angles / ANGLE, made.expression], dim=1)
        error = (motion - truth).square().mean(dim=0).sqrt()
        cells += [f"{explained:.2f}", f"{float(error[0]) * ANGLE:.1f}°", *(f"{float(e):.2f}" for e in error[3:])]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def obedience(network: HeadNetwork, arrays: Arrays) -> list[str]:
    """Markdown: in how many clips of each action the table of the ablations would see a turn, or an opened mouth."""
    frames, labels = arrays["frames"], arrays["labels"]
    times = frames.shape[1]
    made = read(network, frames.reshape(-1, *frames.shape[2:]), lambda x: x)
    late = made.angles[:, 0].unflatten(0, (-1, times))[:, -(times // 3) :].mean(dim=1).numpy()
    jaw = made.expression[:, 0].unflatten(0, (-1, times))
    opened = (jaw.amax(dim=1) - jaw.amin(dim=1)).numpy() >= JAW_OPENED
    lines = ["| clips of | count | turned left | turned right | mouth opened |", "|---|---|---|---|---|"]
    for column, actions in enumerate((HEAD_ACTIONS, FACE_ACTIONS)):
        for number, action in enumerate(actions):
            own = labels[:, column] == number
            if own.any():
                seen = (late[own] <= -TURNED, late[own] >= TURNED, opened[own])
                lines.append(f"| {action} | {own.sum()} | {' | '.join(f'{some.mean():.0%}' for some in seen)} |")
    return lines


@torch.inference_mode()
def read(network: HeadNetwork, pictures: np.ndarray, way: Change) -> HeadReading:
    """Pictures [N, S, S, 3] bytes, changed, then read."""
    parts = [
        network(way(torch.from_numpy(np.ascontiguousarray(some)).permute(0, 3, 1, 2).float() / 255).clamp(0, 1))
        for some in np.split(pictures, range(64, len(pictures), 64))
    ]
    return HeadReading(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(HeadReading)))


def likeness(made: torch.Tensor, known: torch.Tensor, times: int, people: int) -> tuple[float, float]:
    """Mean similarity of the frames ``made`` [P · times, D] to their own ``known`` [P, D], and to the other people's of
    their group of ``people``."""
    grouped = made.unflatten(0, (-1, people, times))  # (G, people, times, D)
    scores = torch.einsum("gptd,gqd->gpqt", grouped, known.unflatten(0, (-1, people))).mean(dim=(0, 3))
    own = float(scores.diagonal().mean())
    return own, float((scores.sum() - scores.trace()) / (people * (people - 1)))


def ranked(made: torch.Tensor, known: torch.Tensor, times: int, people: int) -> tuple[float, float]:
    """Shares of the frames ``made`` [P · times, D], and of clips by their mean, nearest to their own ``known`` [P, D],
    within groups of ``people``."""
    shares = []
    for embeddings, each in ((made, times), (made.unflatten(0, (-1, times)).mean(dim=1), 1)):
        grouped = embeddings.unflatten(0, (-1, people * each))  # (G, people · each, D)
        nearest = (grouped @ known.unflatten(0, (-1, people)).transpose(1, 2)).argmax(dim=2)
        own = torch.arange(people).repeat_interleave(each)
        shares.append(float((nearest == own).float().mean()))
    return shares[0], shares[1]


if __name__ == "__main__":
    main()
