"""What lies in a checkpoint, before a single weight is read: its files, keys, shapes, dtypes, configuration.

A checkpoint is a diffusers-style folder (``transformer_ema/`` or ``transformer/`` in it, sharded .safetensors with or
without an index, or torch .bin files), one single file, or a file that ``fantasyid convert`` wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, MissingFileError
from .families import guess_family
from .streaming import TensorEntry, read_header
from .torch_file import TORCH_SUFFIXES, read_torch_header

#: The subfolders of the official folder that hold the transformer, the preferred one first (release: EMA if present).
TRANSFORMER_FOLDERS = ("transformer_ema", "transformer")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.")
_HALF_DONE = ("*.incomplete", "*.part", "*.crdownload", "*.aria2", "*.tmp")
FIRST = 10  #: how many keys an error lists


@dataclass(frozen=True)
class CheckpointIndex:
    """The content of a checkpoint. path: what was opened. entries: key → where and what. config: the parsed
    config.json beside the weights, or None. metadata: of the single file (a converted file says what it is there).
    """

    path: Path
    entries: Mapping[str, TensorEntry]
    config: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """key → shape."""
        return {key: entry.shape for key, entry in self.entries.items()}

    @property
    def files(self) -> list[Path]:
        """Every file that holds a tensor, in reading order."""
        return sorted({entry.file for entry in self.entries.values()})

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.nbytes for entry in self.entries.values())

    def with_prefix(self, prefix: str) -> CheckpointIndex:
        """The part of the checkpoint whose keys start with ``prefix``, the keys unchanged."""
        entries = {key: entry for key, entry in self.entries.items() if key.startswith(prefix)}
        return CheckpointIndex(self.path, entries, self.config, self.metadata)


def read_checkpoint(path: Path) -> CheckpointIndex:
    """Open a folder or a file lazily: only headers are read.

    Raises MissingFileError when there is nothing there, CheckpointError when a shard is missing, truncated, not what
    its name says, or when two shards hold the same key.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise MissingFileError(f"There is no checkpoint at {path}; check the name, or run `fantasyid doctor`.")
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(
            f"{path.name} is not a checkpoint this loader reads; give a folder or one of: {', '.join(SUFFIXES)}."
        )
    entries, metadata = _read_file(path)
    beside = path.parent / "config.json"
    config = read_json(beside) if "fantasyid_format" not in metadata and beside.is_file() else None
    return CheckpointIndex(path, entries, config, metadata)


def _read_folder(folder: Path) -> CheckpointIndex:
    for name in TRANSFORMER_FOLDERS:
        if (folder / name).is_dir() and _weight_files(folder / name):
            return _read_folder(folder / name)
    files = _shards(folder)
    entries: dict[str, TensorEntry] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, metadata = _read_file(file)
        twice = sorted(set(found) & set(entries))
        if twice:
            raise CheckpointError(
                f"{file.name} and {entries[twice[0]].file.name} both hold {twice[0]}: "
                f"{folder.name}/ mixes two checkpoints; keep the files of one."
            )
        entries |= found
    config = folder / "config.json"
    parsed = read_json(config) if config.is_file() else None
    return CheckpointIndex(folder, entries, parsed, metadata if len(files) == 1 else {})


def _weight_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def _shards(folder: Path) -> list[Path]:
    """The files an index names, or else every .safetensors of the folder, or else every torch file."""
    indices = sorted(folder.glob("*.index.json"), key=lambda p: ("safetensors" not in p.name, p.name))
    if indices:
        return _indexed_shards(folder, indices[0])
    files = [p for p in _weight_files(folder) if p.suffix == ".safetensors"] or _weight_files(folder)
    if not files:
        hint = _half_done(folder) or "no .safetensors and no .bin file lies in it"
        raise MissingFileError(f"The folder {folder} holds no checkpoint: {hint}.")
    _check_numbering(folder, files)
    return files


def _indexed_shards(folder: Path, index: Path) -> list[Path]:
    weight_map = (read_json(index) or {}).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index.name} names no shards (no weight_map in it); download it again.")
    names = sorted(set(weight_map.values()))
    _check_names(index, names)
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        hint = _half_done(folder)
        raise CheckpointError(
            f"{index.name} names {len(names)} shards but {_listed(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not in {folder.name}/"
            f"{f' ({hint})' if hint else ''}; download what is missing."
        )
    return [folder / name for name in names]


def _check_names(index: Path, names: Iterable[str]) -> None:
    """An index may only name files of its own folder."""
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise CheckpointError(f"{index.name} points outside its own folder ({name}); it is not to be trusted.")


def _check_numbering(folder: Path, files: list[Path]) -> None:
    """Shards without an index still say in their names how many there are."""
    for match in filter(None, (_SHARD.search(file.name) for file in files)):
        total = int(match.group(2))
        stem = [file.name for file in files if f"-of-{match.group(2)}." in file.name]
        present = {int(m.group(1)) for m in filter(None, map(_SHARD.search, stem))}
        absent = sorted(set(range(1, total + 1)) - present)
        if absent:
            raise CheckpointError(
                f"Shard {_listed(map(str, absent))} of {total} is missing in {folder.name}/"
                f"{f' ({_half_done(folder)})' if _half_done(folder) else ''}; download what is missing."
            )


def _half_done(folder: Path) -> str:
    partial = sorted(p.name for pattern in _HALF_DONE for p in folder.rglob(pattern))
    return f"{partial[0]} looks like a download that did not finish" if partial else ""


def _read_file(path: Path) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    if path.suffix.lower() == ".safetensors":
        return read_header(path)
    return read_torch_header(path), {}


def read_json(path: Path) -> Any:
    """A parsed JSON file; CheckpointError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path.name} is not readable JSON ({error}); download it again.") from error


def check_keys(
    index: CheckpointIndex, expected: Mapping[str, tuple[int, ...]], tolerated: Mapping[str, tuple[int, ...]]
) -> None:
    """Strict: every expected key there, in its shape, and nothing else but ``tolerated`` keys (in theirs).

    Raises CheckpointError that counts and lists the first ten and says which family the checkpoint looks like.
    """
    missing = [key for key in expected if key not in index.entries]
    extra = [key for key in index.entries if key not in expected and key not in tolerated]
    known = {**tolerated, **expected}
    shaped = [
        f"{key} {list(shape)} instead of {list(known[key])}"
        for key, shape in index.shapes.items()
        if key in known and tuple(known[key]) != shape
    ]
    problems = [
        f"{len(names)} {word} ({_listed(names)})"
        for names, word in ((missing, "missing"), (extra, "unknown"), (shaped, "of another shape"))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{index.path.name} does not fit: of {len(expected)} needed keys, {'; '.join(problems)}. "
            f"It looks like {guess_family(index.shapes)}."
        )


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    more = f" and {len(all_names) - FIRST} more" if len(all_names) > FIRST else ""
    return ", ".join(all_names[:FIRST]) + more
