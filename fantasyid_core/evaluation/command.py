"""``fantasyid evaluate``: files in, table out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..images import load_photograph
from ..progress import ProgressCallback
from .clips import METRIC_FPS, PICTURES, Frame, read_frames
from .embedders import EMBEDDERS, make_embedder
from .evaluate import Case, Evaluation, evaluate
from .head_eyes import SYNTHETIC_HEADS, HeadEyes
from .report import as_json, as_markdown, as_text
from .watch import Eyes, Looker, Person, see_person


@dataclass(frozen=True)
class EvaluateOptions:
    """videos: files or folders of frames. references: one photograph for all of them, or one for each. others: further
    photographs of the same person as the single reference. gallery: photographs of other people, or folders of them,
    for rank-1. real: photographs, videos or folders of real faces, for FID. json: where to write everything.
    markdown: the table as Markdown. embedder: a name in EMBEDDERS, or "synthetic-heads"; insightface: its folder, pack:
    its pack, for "arcface". folder_fps: of folders of frames."""

    videos: Sequence[Path]
    references: Sequence[Path]
    others: Sequence[Path] = ()
    gallery: Sequence[Path] = ()
    real: Sequence[Path] = ()
    json: Path | None = None
    markdown: bool = False
    embedder: str = "dlib"
    insightface: Path | None = None
    pack: str = "antelopev2"
    folder_fps: float = METRIC_FPS


def run_evaluate(options: EvaluateOptions, progress_of: Callable[[str], ProgressCallback]) -> int:
    """Print the table (and write the JSON). Returns 0, or 1 when a clip could not be measured.

    progress_of: makes the progress bar of a stage, once the stage begins.
    Raises InputError or another FantasyIDError, in one sentence, for wrong options, a missing file, or no face at all.
    """
    result = evaluate_files(options, progress_of)
    if options.json is not None:
        _write(options.json, as_json(result) + "\n")
    if not result.clips:
        raise InputError(" ".join(result.failures))
    sys.stdout.write((as_markdown if options.markdown else as_text)(result) + "\n")
    return 1 if result.failures else 0


def evaluate_files(options: EvaluateOptions, progress_of: Callable[[str], ProgressCallback]) -> Evaluation:
    """The evaluation that the ``options`` ask for."""
    _check(options)
    eyes = _eyes(options)
    people = _people(options, eyes)
    single = len(options.references) == 1
    cases = [
        Case(video.name, read_frames(video, options.folder_fps), 0 if single else number)
        for number, video in enumerate(options.videos)
    ]
    real = (frames for path in options.real for frames in _real_clips(path, options.folder_fps))
    return evaluate(cases, people, eyes, options.embedder, real, progress_of("clips"))


def _check(options: EvaluateOptions) -> None:
    references, videos = len(options.references), len(options.videos)
    if references != 1 and references != videos:
        raise InputError(f"{videos} videos need one reference for all or one for each, but {references} were given.")
    if options.others and references != 1:
        raise InputError("Other photographs of the person (--other) go with a single reference.")
    if not options.folder_fps > 0:
        raise InputError(f"The frame rate must be above 0 frames per second, not {options.folder_fps:g}.")
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise InputError(f"The folder {options.json.resolve().parent} does not exist; make it, or choose another.")


def _eyes(options: EvaluateOptions) -> Looker:
    if options.embedder != SYNTHETIC_HEADS:
        return Eyes(make_embedder(options.embedder, **_embedder_options(options)), features=bool(options.real))
    if options.real:
        raise InputError(f"FID needs the embedder 'dlib' or 'arcface', not '{SYNTHETIC_HEADS}'; leave out --real.")
    return HeadEyes()


def _embedder_options(options: EvaluateOptions) -> dict[str, Any]:
    if options.embedder != "arcface":
        return {}
    if options.insightface is None:
        raise InputError(f"Say where your insightface packs are (--insightface). {EMBEDDERS['arcface'].about}")
    return {"models": options.insightface, "pack": options.pack}


def _people(options: EvaluateOptions, eyes: Looker) -> list[Person]:
    others = [load_photograph(path) for path in options.others]
    own = [see_person(path.name, load_photograph(path), eyes, others) for path in options.references]
    strangers = (file for path in options.gallery for file in _photographs(path))
    return own + [see_person(file.name, load_photograph(file), eyes) for file in strangers]


def _photographs(path: Path) -> list[Path]:
    """The photograph itself, or those of a folder."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise InputError(f"The folder {path} holds no photographs; give one that does.")
    return files


def _real_clips(path: Path, folder_fps: float) -> Iterator[Iterator[Frame]]:
    """A video's frames; every photograph, alone or of a folder, as a clip of its own."""
    if path.is_dir():
        yield from (iter([Frame(0.0, load_photograph(file))]) for file in _photographs(path))
    else:
        yield read_frames(path, folder_fps)


def _write(path: Path, text: str) -> None:
    """Write ``text`` beside its place, then put it there: never half a file."""
    part = path.with_name(f".{path.name}-{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); choose another folder.") from error
    finally:
        part.unlink(missing_ok=True)
