"""Many videos in one go: every photograph with every prompt and every seed, shared out among processes.

``accelerate launch --num_processes 4 -m fantasyid_core.cli batch …`` gives each process (each card) its part; a single
process does all. What is already there is left alone, so that the same command goes on after a stop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from .arrays import FloatArray
from .errors import FantasyIDError, InputError
from .generate import GenerateOptions, identify, make_video, video_size
from .images import load_photograph
from .model import FantasyIDModel
from .out_of_memory import Ladder

_UNSAFE = re.compile(r"[^\w-]+")
WORDS = 40  #: characters of the prompt in a file's name

Write = Callable[[Path, FloatArray], object]  #: a file whole or not at all


@dataclass(frozen=True)
class Job:
    """One video to make. out: its file, which says all of it."""

    reference: Path
    prompt: str
    seed: int
    out: Path


def plan(references: Sequence[Path], prompts: Sequence[str], seeds: Sequence[int], folder: Path) -> list[Job]:
    """Every combination, a photograph's jobs one after the other. Raises InputError when there is nothing to do."""
    wanted = [prompt.strip() for prompt in prompts if prompt.strip()]
    if not references or not wanted or not seeds:
        raise InputError("A batch needs at least one photograph, one prompt and one seed.")
    jobs = [
        Job(reference, prompt, seed, folder / f"{reference.stem}_{number:02d}_{_short(prompt)}_{seed}.mp4")
        for reference in references
        for number, prompt in enumerate(wanted, 1)
        for seed in seeds
    ]
    if len({job.out for job in jobs}) < len(jobs):
        raise InputError("Two photographs have the same name; rename one, or their videos overwrite each other.")
    return jobs


def part_of(jobs: Sequence[Job], rank: int, world: int) -> list[Job]:
    """The jobs of process ``rank`` of ``world``: a stretch, so that each photograph is looked at by few processes."""
    return list(jobs[rank * len(jobs) // world : (rank + 1) * len(jobs) // world])


def run_batch(
    jobs: Sequence[Job],
    model: FantasyIDModel,
    options: GenerateOptions,
    write: Write,
    report: Callable[[str], None] = lambda line: None,
    ladder: Ladder | None = None,
) -> list[str]:
    """Make what is not yet there; returns a sentence per video that could not be made. report: hears of each file.
    ladder: see :func:`generate`.
    """
    failures: list[str] = []
    missing = [job for job in jobs if not job.out.is_file()]
    for reference, group in groupby(missing, key=lambda job: job.reference):
        own = list(group)
        try:
            size = video_size(model, options)
            identity = identify(load_photograph(reference), model, options, ladder=ladder).identity
        except FantasyIDError as error:
            failures += [f"{reference.name}: {error}"]
            continue
        for job in own:
            try:
                chosen = replace(options, prompt=job.prompt, seed=job.seed)
                frames = make_video(model, identity, chosen, size, ladder=ladder)
                job.out.parent.mkdir(parents=True, exist_ok=True)
                write(job.out, frames)
                report(str(job.out))
            except FantasyIDError as error:
                failures.append(f"{job.out.name}: {error}")
    return failures


def _short(prompt: str) -> str:
    return _UNSAFE.sub("-", prompt.lower())[:WORDS].strip("-") or "prompt"
