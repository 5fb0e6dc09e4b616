"""The folder of golden numbers, and what several of its files need together: inputs, meshes, earlier results."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..errors import CheckpointError, MissingFileError
from ..weights.streaming import read_header
from .check import Array

_FIRST = re.compile(r"(.*)_first(\d+)$")


def read_arrays(path: Path) -> dict[str, Array]:
    """Every array of a golden .npz or .safetensors file, by key (bfloat16 becomes float32)."""
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (ValueError, OSError) as error:
            raise CheckpointError(
                f"{path.name} is no readable .npz file ({error}); copy the golden files again."
            ) from error
    return dict(_safetensors(path))


def _safetensors(path: Path) -> Iterator[tuple[str, Array]]:
    from safetensors import safe_open

    read_header(path)  # says readably what is wrong with a damaged file
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (safe_open is no mapping)
            tensor = file.get_tensor(key)
            yield key, (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


@dataclass
class Golden:
    """One folder of golden numbers. directory: the folder that is being verified.

    mesh_hierarchy.npz and vertices.npz are inputs of other files; where the folder lacks them they are taken from the
    folder named by the environment variable FANTASYID_GOLDEN or from a folder beside this one.
    """

    directory: Path

    def support_files(self, name: str) -> list[Path]:
        """Every file ``name`` in the folder, in FANTASYID_GOLDEN and in the folders beside this one, in that order."""
        named = os.environ.get("FANTASYID_GOLDEN")
        beside = sorted(p for p in self.directory.resolve().parent.iterdir() if p.is_dir())
        places = [self.directory, *([Path(named)] if named else []), *beside]
        return [place / name for place in places if (place / name).is_file()]

    def support_file(self, name: str) -> Path:
        """The first of ``support_files``; MissingFileError when there is none."""
        found = self.support_files(name)
        if not found:
            raise MissingFileError(
                f"{name} is needed but lies neither in {self.directory} nor beside it; "
                "set FANTASYID_GOLDEN to the folder that has it."
            )
        return found[0]

    @cached_property
    def all_vertices(self) -> dict[str, torch.Tensor]:
        """name → [1, 5023, 3] float32: those of this folder's vertices.npz, and what the borrowed ones have besides."""
        known: dict[str, torch.Tensor] = {}
        for path in self.support_files("vertices.npz"):
            for name, array in read_arrays(path).items():
                known.setdefault(name, torch.from_numpy(array)[None])
        return known

    def vertices(self, name: str) -> torch.Tensor:
        """[1, 5023, 3]; MissingFileError when no vertices.npz holds that name."""
        if name not in self.all_vertices:
            raise MissingFileError(
                f"The vertices {name!r} are needed but no vertices.npz in or beside the folder has them."
            )
        return self.all_vertices[name]

    @cached_property
    def hierarchy_arrays(self) -> dict[str, Array]:
        """The arrays of mesh_hierarchy.npz."""
        return read_arrays(self.support_file("mesh_hierarchy.npz"))


def first_rows(key: str, computed: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """``key`` itself, or for ``…_firstN`` the first N of axis 1 of ``…``; None when neither is there."""
    if key in computed:
        return computed[key]
    match = _FIRST.match(key)
    if match and match.group(1) in computed:
        return computed[match.group(1)][:, : int(match.group(2))]
    return None
