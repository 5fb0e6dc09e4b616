"""What a training loop iterates over: synthetic clips as torch tensors, made on the fly or read from shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..errors import InputError
from .clips import Clip, ClipOptions, make_clip, neutral_vertices
from .shards import dataset_shards, read_shard

Sample = dict[str, Any]
_SHUFFLE = 7  # stream of random numbers


def sample_of(clip: Clip) -> Sample:
    """A clip's arrays as tensors, "caption", and "vertices" [3202, 3] metres: the neutral head, the 3D branch's input.

    torch's default collation makes batches of it (captions become a list).
    """
    sample: Sample = {name: torch.as_tensor(np.asarray(value)) for name, value in _arrays(clip)}
    return sample | {"caption": clip.caption, "vertices": torch.from_numpy(neutral_vertices(clip.shape)[0])}


def _arrays(clip: Clip) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in clip.arrays().items() if name != "caption"]


class SyntheticClips(IterableDataset[Sample]):
    """Clips ``start``, ``start + 1``, … of ``options``, rendered as they are asked for; endless without a ``count``.

    Workers of a DataLoader and ranks of a distributed run (``rank`` of ``world``) take turns, so that no clip is seen
    twice and the set as a whole does not depend on how many there are. Resume: start where it stopped.
    """

    def __init__(
        self, options: ClipOptions, start: int = 0, count: int | None = None, rank: int = 0, world: int = 1
    ) -> None:
        if not 0 <= rank < world:
            raise InputError(f"Rank {rank} is not one of {world} processes.")
        self.options, self.start, self.count, self.rank, self.world = options, start, count, rank, world

    def __iter__(self) -> Iterator[Sample]:
        import cv2

        cv2.setNumThreads(1)
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        index = self.start + self.rank + self.world * worker
        while self.count is None or index < self.start + self.count:
            yield sample_of(make_clip(self.options, index))
            index += self.world * workers


class CachedClips(IterableDataset[Sample]):
    """The clips of a folder made by ``shards.make_dataset``, once, in an order that ``epoch`` decides.

    Whole shards are dealt out to ranks and workers. shuffle: the shards' order and the order within each.
    """

    def __init__(
        self, folder: Path, shuffle: bool = True, seed: int = 0, epoch: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.paths = dataset_shards(folder)
        self.shuffle, self.seed, self.epoch, self.rank, self.world = shuffle, seed, epoch, rank, world

    def __iter__(self) -> Iterator[Sample]:
        info = get_worker_info()
        workers, worker = (info.num_workers, info.id) if info else (1, 0)
        generator = np.random.default_rng([self.seed, _SHUFFLE, self.epoch])
        order = generator.permutation(len(self.paths)) if self.shuffle else np.arange(len(self.paths))
        for place in order[self.rank + self.world * worker :: self.world * workers]:
            clips = list(read_shard(self.paths[place]))
            inside = np.random.default_rng([self.seed, _SHUFFLE, self.epoch, int(place)])
            for number in inside.permutation(len(clips)) if self.shuffle else range(len(clips)):
                yield sample_of(clips[number])


def clip_loader(clips: IterableDataset[Sample], batch_size: int, workers: int = 0) -> DataLoader[Sample]:
    """Whole batches of ``clips``; the tensors get a first axis, "caption" becomes a list.

    workers: processes that prepare batches, one core each. They are started afresh: OpenCV's threads do not survive a
    fork, and a forked worker may wait for them for ever.
    """
    context = "spawn" if workers else None
    return DataLoader(
        clips,
        batch_size,
        num_workers=workers,
        drop_last=True,
        multiprocessing_context=context,
        persistent_workers=workers > 0,
    )
