"""Where the model files lie: what exists is in ``model_files.py``, this finds it under ComfyUI's folders.

Nothing here downloads. ``find`` looks where the user puts things, forgives one folder too many (a zip unpacked into a
folder of its own name is the most reported mistake), and otherwise says in one sentence what is missing and where to
get it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from ..errors import MissingFileError
from .model_files import CATALOG, ModelFile, readable_size

__all__ = ["ASSETS", "CATALOG", "ModelFile", "entry", "find", "locate", "locate_below", "readable_size"]

MAX_DEPTH = 5  #: how many folders deep ``locate`` looks below the folder a file belongs into
ASSETS = Path(__file__).resolve().parent.parent / "assets"

_BY_KEY = {file.key: file for file in CATALOG}


def entry(key: str) -> ModelFile:
    """The catalogue's row of that key; KeyError for a key that does not exist."""
    return _BY_KEY[key]


def locate(file: ModelFile, models_dirs: Sequence[Path]) -> Path | None:
    """Where ``file`` lies under ComfyUI's ``models`` folders, or None.

    The preferred pattern wins over the nearer folder; within a pattern the shallowest match wins. For a folder entry
    the path is the folder itself. A directory of ``models_dirs`` may also be the entry's own folder.
    """
    return _first_match(file, [path for root in _roots(file, models_dirs) for path in _files_below(root)])


def locate_below(file: ModelFile, root: Path) -> Path | None:
    """Where ``file`` lies anywhere below ``root``, e.g. in the official folder, or None."""
    return _first_match(file, _files_below(root))


def find(file: ModelFile, models_dirs: Sequence[Path]) -> Path:
    """``locate``, or MissingFileError with the name, size, licence, origin and folder."""
    path = locate(file, models_dirs)
    if path is None:
        raise MissingFileError(file.missing_message())
    return path


def _roots(file: ModelFile, models_dirs: Sequence[Path]) -> Iterator[Path]:
    if not file.folder:
        yield ASSETS
    for directory in map(Path, models_dirs):
        for folder in (file.folder, *file.also_in):
            top = PurePosixPath(folder).parts[:1]
            if top and (directory / top[0]).is_dir():
                yield directory / top[0]
            elif top and directory.name.lower() == top[0] and directory.is_dir():
                yield directory


def _first_match(file: ModelFile, paths: Sequence[Path]) -> Path | None:
    for mark in file.marks:
        for path in paths:
            if _matches(path, mark) and not (file.key == "converted" and _is_mini(path)):
                return path.parent if file.is_folder else path
    return None


def _files_below(root: Path) -> list[Path]:
    """Every file at most MAX_DEPTH folders below ``root``, the shallow ones first, in a stable order."""
    found: list[Path] = []
    for folder, subfolders, names in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        subfolders[:] = [] if depth >= MAX_DEPTH else sorted(s for s in subfolders if not s.startswith("."))
        found += [Path(folder) / name for name in names]
    return sorted(found, key=lambda path: (len(path.parts), str(path)))


def _is_mini(path: Path) -> bool:
    """A trained mini lies in the folder of the converted checkpoints, under any name."""
    from .mini_file import is_mini

    return is_mini(path)


def _matches(path: Path, mark: str) -> bool:
    return PurePosixPath(path.as_posix().lower()).match(mark.lower())
