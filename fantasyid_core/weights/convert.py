"""The official folder → one compact .safetensors: dead parameters dropped, one dtype, its own description inside.

The keys keep their official names (``transformer_blocks.…``, ``face_abstractor.…``, ``visual.…`` for the vision tower,
``vae.…`` for the VAE), so the converted file is read and checked by the same code as the official folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from math import prod
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..config import ModelConfig
from ..errors import InputError
from ..progress import ProgressCallback, silent
from .architecture import FORMAT, FORMAT_VERSION, config_to_text
from .catalog import entry, locate_below, readable_size
from .checkpoint import CheckpointIndex, check_keys, read_checkpoint
from .loading import (
    EVA_PREFIX,
    VAE_CONFIG,
    VAE_PREFIX,
    OpenedCheckpoint,
    find_eva,
    open_checkpoint,
    open_eva,
    open_vae,
    vae_shapes,
)
from .streaming import TensorEntry, TensorReader
from .writing import TensorWriter, beside

CONVERTED_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Conversion:
    """What was written. parts: of "transformer", "eva", "vae". nbytes: of all tensors. dropped: dead keys left out."""

    path: Path
    config: ModelConfig
    parts: tuple[str, ...]
    nbytes: int
    dropped: int


@dataclass(frozen=True)
class _Part:
    """One source of tensors. wanted: the key as it will be written → where it lies. dropped: how many keys are not."""

    name: str
    wanted: Mapping[str, TensorEntry]
    dropped: int = 0
    metadata: Mapping[str, str] | None = None


def convert_checkpoint(
    source: Path,
    out: Path,
    dtype: torch.dtype = torch.bfloat16,
    eva: Path | None = None,
    vae: Path | None = None,
    progress: ProgressCallback = silent,
) -> Conversion:
    """Write ``source`` (the official folder, or another converted file) as one file ``out``, tensor by tensor.

    dtype: of every tensor written. eva, vae: the vision tower's file and the VAE's folder where they do not lie in the
    official folder; without one, the file is written without that part. Strict like loading: CheckpointError for a
    checkpoint that does not fit. Nothing is left when it fails or is cancelled.
    """
    out = Path(out)
    if dtype not in CONVERTED_DTYPES.values():
        raise InputError(f"A checkpoint is converted to {', '.join(CONVERTED_DTYPES)}, not to {dtype}.")
    if out.suffix != ".safetensors":
        raise InputError(f"The converted file must end in .safetensors, not {out.name}.")
    opened = open_checkpoint(source)
    parts = [_transformer_part(opened), *_eva_part(opened, eva), *_vae_part(opened, vae)]
    nbytes = _write(parts, out, dtype, _metadata(opened, parts, dtype), progress)
    return Conversion(out, opened.config, tuple(p.name for p in parts), nbytes, sum(p.dropped for p in parts))


def run_convert(
    source: Path,
    out: Path,
    dtype: str = "bfloat16",
    eva: Path | None = None,
    vae: Path | None = None,
    progress: ProgressCallback = silent,
    write: Callable[[str], object] = print,
) -> int:
    """``fantasyid convert``: convert, and say what was written. Returns 0; what goes wrong is raised."""
    if dtype not in CONVERTED_DTYPES:
        raise InputError(f"A checkpoint is converted to {', '.join(CONVERTED_DTYPES)}, not to {dtype!r}.")
    done = convert_checkpoint(source, out, CONVERTED_DTYPES[dtype], eva, vae, progress)
    size, parts = readable_size(done.nbytes), " + ".join(done.parts)
    write(f"{done.path}: {size} in {dtype}, {parts}; {done.dropped} dead keys dropped")
    for part, hint in (("eva", "EVA02_CLIP_L_336_psz14_s6B.pt (--eva)"), ("vae", "the vae folder (--vae)")):
        if part not in done.parts:
            write(f"It holds no {part}: keep {hint} in the models folder, or convert again with it.")
    return 0


def _transformer_part(opened: OpenedCheckpoint) -> _Part:
    keys = [*opened.transformer, *opened.identity]
    main = [key for key in opened.index.entries if not key.startswith((EVA_PREFIX, VAE_PREFIX))]
    return _Part("transformer", {key: opened.index.entries[key] for key in keys}, len(main) - len(keys))


def _eva_part(opened: OpenedCheckpoint, path: Path | None) -> list[_Part]:
    """The vision tower: named, in the source itself, or in the official folder."""
    inside = any(key.startswith(EVA_PREFIX) for key in opened.index.entries)
    path = path or (None if inside else find_eva(opened))
    if path is None and not inside:
        return []
    tower = open_eva(opened, path)
    whole = opened.index if path is None else read_checkpoint(path)
    return [_Part("eva", tower.entries, len(whole.with_prefix(EVA_PREFIX).entries) - len(tower.entries))]


def _vae_part(opened: OpenedCheckpoint, path: Path | None) -> list[_Part]:
    source: OpenedCheckpoint | Path | None = path
    if path is None and VAE_CONFIG in opened.index.metadata:
        source = opened
    elif path is None and opened.index.path.is_dir():
        source = locate_below(entry("vae"), opened.official_folder)
    if source is None:
        return []
    index, prefix, config = open_vae(source)
    expected = {prefix + key: shape for key, shape in vae_shapes(config).items()}
    check_keys(index, expected, {})
    wanted = {VAE_PREFIX + key.removeprefix(prefix): index.entries[key] for key in expected}
    return [_Part("vae", wanted, 0, {VAE_CONFIG: json.dumps(dict(config))})]


def _metadata(opened: OpenedCheckpoint, parts: list[_Part], dtype: torch.dtype) -> dict[str, str]:
    """What the file says of itself: format, architecture, parts, and where it came from (names only, no paths)."""
    files = {entry_.file for part in parts for entry_ in part.wanted.values()}
    provenance = {
        "source": opened.index.path.name,
        "files": {file.name: file.stat().st_size for file in sorted(files)},
        "source_provenance": opened.index.metadata.get("provenance", ""),
        "tool": f"fantasyid {__version__}",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    own: dict[str, str] = {
        FORMAT: FORMAT_VERSION,
        "format": "pt",
        "config": config_to_text(opened.config),
        "parts": " ".join(part.name for part in parts),
        "dtype": str(dtype).removeprefix("torch."),
        "provenance": json.dumps(provenance),
    }
    for part in parts:
        own |= part.metadata or {}
    return own


def _write(
    parts: list[_Part], out: Path, dtype: torch.dtype, metadata: Mapping[str, str], progress: ProgressCallback
) -> int:
    """Stream every tensor into a file beside ``out`` that takes its name when it is whole. Progress is in megabytes."""
    entries = {key: entry_ for part in parts for key, entry_ in part.wanted.items()}
    order = sorted(entries, key=lambda key: (str(entries[key].file), entries[key].offset))
    shapes = {key: entries[key].shape for key in order}
    total = sum(prod(shape) for shape in shapes.values()) * dtype.itemsize
    done = 0
    with beside(out) as temporary, temporary.open("wb") as file, TensorReader() as reader:
        writer = TensorWriter(file, shapes, dict.fromkeys(order, dtype), metadata, out.parent)
        for key in order:
            writer.write(key, reader.read(key, entries[key], dtype))
            reader.forget(entries[key])
            done += prod(shapes[key]) * dtype.itemsize
            progress(done // _MEGABYTE, max(total // _MEGABYTE, 1), None)
        writer.finish()
    return total


def read_provenance(index: CheckpointIndex) -> dict[str, Any]:
    """The provenance of a converted file; empty for any other."""
    return dict(json.loads(index.metadata.get("provenance", "{}")))
