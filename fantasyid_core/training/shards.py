"""Clips on disk: .safetensors shards that are written whole or not at all, and an order that survives interruption.

A folder holds ``dataset.json`` (what was asked for) and ``clips-00000.safetensors`` …, each with the arrays of up to
``CLIPS_PER_SHARD`` clips stacked along the first axis and their captions in the header. Making the same set again
into the same folder makes only the shards that are missing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError, InputError, MissingFileError
from ..progress import ProgressCallback, silent
from .clips import Clip, ClipOptions, make_clip

CLIPS_PER_SHARD = 64
MANIFEST = "dataset.json"
VERSION = 3  #: of the generator: the same seed makes other clips when this changes
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_HEADER = "captions"

Arrays = dict[str, npt.NDArray[Any]]


def make_dataset(
    folder: Path, options: ClipOptions, clips: int, processes: int = 1, report: ProgressCallback = silent
) -> list[Path]:
    """Write clips 0 .. ``clips`` − 1 to ``folder``, and return its shards in order. ``report`` counts shards.

    The files are the same for any number of processes. Raises InputError, in one sentence, when the folder cannot be
    written, the disk is full, or the folder holds a different set.
    """
    if clips < 1:
        raise InputError(f"At least one clip must be made, but {clips} were asked for.")
    if processes < 1:
        raise InputError(f"At least one process must work, but {processes} were asked for.")
    folder = Path(folder)
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _agree(folder, options)
        for left_over in folder.glob("*.part"):  # of an earlier, interrupted run
            left_over.unlink()
    spans = [(start, min(start + CLIPS_PER_SHARD, clips)) for start in range(0, clips, CLIPS_PER_SHARD)]
    paths = [shard_path(folder, number) for number in range(len(spans))]
    missing = [number for number in range(len(spans)) if _clips_in(paths[number]) < spans[number][1] - spans[number][0]]
    report(len(spans) - len(missing), len(spans), None)
    for done, _ in enumerate(_work(options, [(paths[n], *spans[n]) for n in missing], processes), 1):
        report(len(spans) - len(missing) + done, len(spans), None)
    return paths


def shard_path(folder: Path, number: int) -> Path:
    """Where shard ``number`` lies."""
    return folder / f"clips-{number:05d}.safetensors"


def dataset_shards(folder: Path) -> list[Path]:
    """The shards of a folder in order. Raises MissingFileError when there is none."""
    paths = sorted(Path(folder).glob("clips-*.safetensors"))
    if not paths:
        raise MissingFileError(f"{folder} holds no clips-*.safetensors; make them with `fantasyid train data`.")
    return paths


def read_shard(path: Path) -> Iterator[Clip]:
    """The clips of one shard. Raises CheckpointError when the file is damaged."""
    arrays, captions = _load(path)
    for number, caption in enumerate(captions):
        values: dict[str, Any] = {name: array[number] for name, array in arrays.items()}
        values["person"] = int(values["person"])
        yield Clip(caption=caption, **values)


def write_shard(path: Path, clips: Iterable[Clip]) -> None:
    """All ``clips`` in one file, which is there wholly or not at all."""
    from safetensors.numpy import save_file

    made = list(clips)
    names = [name for name in made[0].arrays() if name != "caption"]
    arrays = {
        name: np.ascontiguousarray(np.stack([np.asarray(clip.arrays()[name]) for clip in made])) for name in names
    }
    header = {_HEADER: json.dumps([clip.caption for clip in made])}
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(arrays, part, header)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _load(path: Path) -> tuple[Arrays, list[str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            captions = json.loads((file.metadata() or {})[_HEADER])
            return {name: file.get_tensor(name) for name in file.keys()}, captions  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path.name} is damaged ({error}); delete it and make the data again.") from error


def _clips_in(path: Path) -> int:
    """How many clips a finished shard holds, 0 when it is absent or damaged."""
    if not path.is_file():
        return 0
    try:
        return len(_load(path)[1])
    except CheckpointError:
        return 0


def _agree(folder: Path, options: ClipOptions) -> None:
    """Note what is made here, or see that it is what was begun."""
    wanted = {"version": VERSION, **asdict(options)}
    path = folder / MANIFEST
    if not path.exists():
        if any(folder.glob("clips-*.safetensors")):
            raise InputError(f"{folder} holds clips but no {MANIFEST}; choose an empty folder.")
        part = path.with_suffix(".part")
        part.write_text(json.dumps(wanted, indent=1))
        part.replace(path)
        return
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged; delete it and the clips beside it.") from error
    other = [name for name in wanted if found.get(name) != wanted[name]] if isinstance(found, dict) else ["version"]
    if other:
        raise InputError(
            f"{folder} holds clips of another {other[0]} ({found.get(other[0]) if isinstance(found, dict) else '?'} "
            f"instead of {wanted[other[0]]}); choose another folder or the same settings."
        )


class _StoppedError(Exception):
    """The run was interrupted; the shard in work is given up and leaves nothing."""


_stop: Event | None = None  # of a worker process: set when the run was interrupted


def _make_shard(options: ClipOptions, path: Path, start: int, end: int) -> None:
    with _explained(path.parent):
        write_shard(path, _clips(options, start, end))


def _clips(options: ClipOptions, start: int, end: int) -> Iterator[Clip]:
    for index in range(start, end):
        if _stop is not None and _stop.is_set():
            raise _StoppedError
        yield make_clip(options, index)


def _work(options: ClipOptions, jobs: list[tuple[Path, int, int]], processes: int) -> Iterator[None]:
    """Make the shards, one after the other or ``processes`` at a time; each process uses one core."""
    if min(processes, len(jobs)) <= 1:
        for job in jobs:
            _make_shard(options, *job)
            yield
        return
    context = get_context("spawn")
    stop = context.Event()
    with _one_thread_each(), ProcessPoolExecutor(processes, context, _quiet_worker, (stop,)) as pool:
        futures: list[Future[None]] = [pool.submit(_make_shard, options, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            stop.set()  # nothing is left to do when all went well
            pool.shutdown(wait=True, cancel_futures=True)


def _quiet_worker(stop: Event) -> None:
    """An interrupt is the parent's to handle; a worker is told to stop and does so after the clip in work."""
    import signal

    import cv2

    global _stop
    _stop = stop
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Child processes read these when they start; twice as many threads as cores would halve the speed."""
    before = {name: os.environ.get(name) for name in _THREAD_LIMITS}
    os.environ.update(dict.fromkeys(_THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say in one sentence why nothing can be written."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        raise InputError(
            f"Nothing more can be written to {folder} ({error.strerror or error}); {_advice(error)}."
        ) from error
    except SafetensorError as error:  # its writer wraps the operating system's errors
        raise InputError(
            f"Nothing more can be written to {folder} ({error}); free space there or choose another folder, "
            "and run the same command again to go on."
        ) from error


def _advice(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free space and run the same command again, which goes on where it stopped"
    return "choose a folder that can be written"
