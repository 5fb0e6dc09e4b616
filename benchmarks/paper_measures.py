"""The paper's measures on videos of people never seen, and whether a prompt is obeyed (docs/metrics.md).

Everything is measured twice: as photographed faces are, and by the network for synthetic heads, which reads every
frame. Whether a clip is set where its prompt says is told by colours alone; how well, on drawn clips whose captions
name such places and on reference pictures, on which no prompt has a say; and how often which of the three places came
in the videos of the table's runs:

python -m benchmarks.paper_measures --clips CLIPS --held-out-latents LATENTS [--shards 12] [--people 32] [--runs RUN …]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fantasyid_core.arrays import FloatArray
from fantasyid_core.errors import FantasyIDError
from fantasyid_core.evaluation.clips import METRIC_FPS, array_frames
from fantasyid_core.evaluation.head_eyes import HeadEyes
from fantasyid_core.evaluation.metrics import measure_clip
from fantasyid_core.evaluation.watch import Eyes, Looker, Person, SeenFace, see_person, watch
from fantasyid_core.training.arrays import load_arrays
from fantasyid_core.training.captions import PLACE
from fantasyid_core.training.latents import ELSEWHERE, load_encoded
from fantasyid_core.training.shards import dataset_shards, read_shard

from .measure import print_table

#: action → prompt; words that the captions have too, and none on who the person is
PROMPTS = {
    "turn left": "A person slowly turns the head to the left, in front of a blue wall, studio light",
    "turn right": "A person turns the head to the right, in a green garden, daylight",
    "open mouth": "A person opens the mouth, in front of a grey wall, soft light",
}
PLACES = {"turn left": "blue", "turn right": "green", "open mouth": "grey"}  #: colour of the PROMPTS' surroundings
#: action → what a caption says of a place like its prompt's
NAMED = {
    "turn left": "blue (wall|back)",
    "turn right": "|".join(PLACE["park"]),
    "open mouth": "gr[ae]y (wall|back)",
}
CORNER = 6  #: of a frame's side: the upper corners, where the surroundings show
TINGED = 0.05  #: of 0..1: blue and green stand out by more; the channels of grey differ by less than twice this
MIDDLING = 0.3, 0.75  #: how bright grey is, neither black nor white
TURNED = 8.0  #: degrees of yaw by which a head must have turned in the last third of a clip
OPENED = 0.2  #: of the mouth's width, by which the gap between the lips must have grown
JAW_OPENED = 0.2  #: the same in jawOpen, for eyes that read that (`python -m benchmarks.embedder` says how well)
OF_FACES = (
    "RS", "IFS", "FM", "flicker", "rank-1", "copy-paste", "faces", "turn obeyed", "mouth obeyed", "place obeyed"
)  # fmt: skip
OF_HEADS = ("RS", "IFS", "rank-1", "rank-1 by shape", "turn obeyed", "mouth obeyed")
VIDEOS = "videos.safetensors"  #: in the folder of a run of the table
HEADS = "heads: "  #: before the columns that the network for synthetic heads measured
COLUMNS = (*OF_FACES, *(HEADS + name for name in OF_HEADS))

Videos = Iterable[tuple[int, str, FloatArray]]  #: whose, which action was asked for, frames [T, S, S, 3]


def wanted(people: int) -> list[tuple[int, str]]:
    """Whose videos, and what they do, in the order in which they are made."""
    return [(index, action) for index in range(people) for action in PROMPTS]


def measured_both(videos: Sequence[tuple[int, str, FloatArray]], options: argparse.Namespace) -> dict[str, Any]:
    """All COLUMNS."""
    faces, heads = Eyes(), HeadEyes()
    known = by_their_heads(known_people(options, heads), heads, options)
    of_heads = measure(videos, known, heads, JAW_OPENED)
    made = measure(videos, known_people(options, faces), faces)
    return {name: made[name] for name in OF_FACES} | {HEADS + name: of_heads[name] for name in OF_HEADS}


def known_people(options: argparse.Namespace, eyes: Looker) -> list[Person]:
    """Every held-out person by the reference that the videos are made from, and two other pictures."""
    return [_person(str(index), pictures, eyes) for index, pictures in enumerate(references(options))]


def references(options: argparse.Namespace) -> FloatArray:
    """[people, n, S, S, 3] RGB 0..1: every person's pictures from elsewhere, the first what their videos are made
    from."""
    arrays = load_encoded(options.held_out_latents).arrays
    places = np.flatnonzero(arrays["reference_kinds"][0] == ELSEWHERE)
    return np.asarray(arrays["reference_crops"][: options.people, places] / 255, np.float32)


def by_their_heads(people: Sequence[Person], eyes: HeadEyes, options: argparse.Namespace) -> list[Person]:
    """The same people, their true heads in place of those that are read from the reference: glasses and hair make the
    same mistakes in two pictures, and would pass for geometry."""
    shapes = torch.from_numpy(load_arrays(dataset_shards(options.held_out), ("shape",))["shape"][: len(people)])
    heads = eyes.network.geometry_of(shapes).numpy()
    return [
        replace(person, reference=replace(person.reference, geometry=head))
        for person, head in zip(people, heads, strict=True)
    ]


def _person(name: str, pictures: FloatArray, eyes: Looker) -> Person:
    """With as many other pictures as a face is found in."""
    try:
        return see_person(name, pictures[0], eyes, list(pictures[1:]))
    except FantasyIDError:
        return see_person(name, pictures[0], eyes)


def measure(videos: Videos, people: Sequence[Person], eyes: Looker, opened: float = OPENED) -> dict[str, Any]:
    """Means over clips; a clip without a face counts as one that was not obeyed. opened: see :func:`obeys`."""
    clips, faces = [], []
    obeyed: dict[str, list[bool]] = {"turn": [], "mouth": [], "place": []}
    for index, action, frames in videos:
        seen = watch(array_frames(frames, METRIC_FPS), eyes)
        faces.append(np.mean([face is not None for face in seen]))
        if action in PROMPTS:
            obeyed["mouth" if action == "open mouth" else "turn"].append(obeys(seen, action, opened))
            obeyed["place"].append(in_place(frames, action))
        if any(face is not None for face in seen):
            clips.append(measure_clip(str(index), seen, people, index))
    names = {
        "RS": "rs", "IFS": "ifs", "FM": "fm", "flicker": "flicker", "rank-1": "rank1", "copy-paste": "copy_paste",
        "rank-1 by shape": "rank1_geometry",
    }  # fmt: skip
    numbers = {
        title: [getattr(clip, name) for clip in clips if getattr(clip, name) is not None]
        for title, name in names.items()
    }
    numbers |= {"faces": faces} | {f"{what} obeyed": times for what, times in obeyed.items()}
    return {title: float(np.mean(values)) if values else None for title, values in numbers.items()}


def obeys(seen: Sequence[SeenFace | None], action: str, opened: float = OPENED) -> bool:
    """Whether a clip shows what its prompt asked for. opened: by how much a mouth must have opened."""
    late = [face.yaw_pitch_roll[0] for face in seen[-(len(seen) // 3) :] if face is not None]
    gaps = [face.mouth for face in seen if face is not None]
    if action == "open mouth":
        return bool(gaps) and max(gaps) - min(gaps) >= opened
    side = -1 if action == "turn left" else 1  # a head that turns to the picture's left has a yaw below 0
    return bool(late) and side * float(np.mean(late)) >= TURNED


def in_place(frames: FloatArray, action: str) -> bool:
    """Whether a clip [T, S, S, 3] is set where its prompt says, by the mean colour of its upper corners."""
    side = frames.shape[1] // CORNER
    colour = np.concatenate([frames[:, :side, :side], frames[:, :side, -side:]], axis=2).mean(axis=(0, 1, 2))
    low, middle, high = np.sort(colour)
    if PLACES[action] == "grey":
        return bool(high - low < 2 * TINGED and MIDDLING[0] < middle < MIDDLING[1])
    return bool(high - middle > TINGED and ("red", "green", "blue")[int(colour.argmax())] == PLACES[action])


def main() -> None:
    """How often drawn clips that name a place, and references that know of none, are taken to be there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--held-out-latents", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=12, help="of the clips: so many of the first")
    parser.add_argument("--people", type=int, default=32, help="whose references are looked at")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="folders with a videos.safetensors of theirs")
    options = parser.parse_args()
    clips = [clip for shard in dataset_shards(options.clips)[: options.shards] for clip in read_shard(shard)]
    pictures, asked = references(options)[:, :1], wanted(options.people)
    videos = [load_arrays([run / VIDEOS], ("frames",))["frames"] for run in options.runs]
    rows = []
    for action, place in PLACES.items():
        named = [clip.frames for clip in clips if re.search(NAMED[action], clip.caption)]
        there = [in_place(np.asarray(frames / 255, np.float32), action) for frames in named]
        others = [in_place(picture, action) for picture in pictures]
        made = [
            [in_place(frames.astype(np.float32) / 255, action) for frames, (_, name) in zip(some, asked, strict=True)
             if name == action]
            for some in videos
        ]  # fmt: skip
        rows.append((place, *(f"{sum(some)} of {len(some)}" for some in (there, others, *made))))
    print_table(("place", "drawn clips that name it", "reference pictures", *map(str, options.runs)), rows)


if __name__ == "__main__":
    main()
