"""An identity as one .safetensors file, to make once and use in many generations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import CheckpointError, InputError, MissingFileError
from ..weights.writing import beside
from .identity import Identity

FORMAT = "fantasyid-identity"
VERSION = 1  #: raised when an older reader would misread a newer file
SUFFIX = ".safetensors"


def save_identity(identity: Identity, path: Path | str) -> Path:
    """Write ``identity`` to ``path`` and return it; an existing file is replaced whole or not at all.

    Raises InputError when the name does not end in .safetensors or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InputError(f"An identity file's name must end in {SUFFIX}, but '{path.name}' does not.")
    tensors = {"tokens": identity.tokens, "reference": torch.tensor(identity.reference)}
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "model": identity.model,
        "reference_fit": identity.reference_fit,
        "provenance": json.dumps(dict(identity.provenance), ensure_ascii=False),
    }
    try:
        with beside(path) as unfinished:
            save_file(tensors, unfinished, metadata)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"The identity could not be saved as {path} ({_first_line(error)}); make room or choose another folder."
        ) from error
    return path


def load_identity(path: Path | str) -> Identity:
    """Read an identity file. Raises MissingFileError when there is none, CheckpointError when it is something else."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no identity file {path}; save one first, or correct the name.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            _check_metadata(path, metadata)
            tensors = {name: file.get_tensor(name) for name in ("tokens", "reference")}
        notes, fit = _read_provenance(metadata), metadata["reference_fit"]
        return Identity(tensors["tokens"], tensors["reference"].numpy(), metadata["model"], fit, notes)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} is damaged or not finished ({_first_line(error)}); save the identity again."
        ) from error


def require_model(identity: Identity, model_id: str) -> None:
    """Raises InputError unless the encoder ``model_id`` made ``identity``: another encoder's tokens mean nothing."""
    if identity.model != model_id:
        raise InputError(
            f"This identity was made by the model {identity.model}, but the model here is {model_id}; make the "
            "identity again with this model's fuse-features node, or load the model that made it."
        )


def _check_metadata(path: Path, metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path.name} is not a FantasyID identity; choose a file that 'save identity' wrote.")
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(
            f"{path.name} is an identity of format {metadata.get('version')}, but this version reads format {VERSION}; "
            "update FantasyID, or save the identity again."
        )


def _read_provenance(metadata: dict[str, str]) -> dict[str, str]:
    notes: Any = json.loads(metadata.get("provenance", "{}"))
    if not isinstance(notes, dict):
        raise TypeError("its notes are no table")
    return {str(key): str(value) for key, value in notes.items()}


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
