"""Where the golden numbers of the authors' release lie, and how the parity tests compare with them.

They are not part of this repository: the folder ``../shared/golden`` beside it, or the one named by the environment
variable FANTASYID_GOLDEN. A test that needs an absent file is skipped, and the reason says where it was looked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def golden_folder() -> Path:
    """The folder of the golden numbers, which may not exist."""
    named = os.environ.get("FANTASYID_GOLDEN")
    return Path(named) if named else ROOT.parent / "shared" / "golden"


def golden_path(name: str) -> Path:
    """The golden file ``name``; skips the running test when it is absent."""
    path = golden_folder() / name
    if not path.is_file():
        pytest.skip(f"the golden number file {name} is not in {path.parent} (set FANTASYID_GOLDEN to its folder)")
    return path


def golden_tensors(name: str) -> dict[str, torch.Tensor]:
    """Every tensor of a golden ``.safetensors`` file, by key."""
    from safetensors.torch import load_file

    return load_file(golden_path(name))


def golden_arrays(name: str) -> dict[str, np.ndarray]:
    """Every array of a golden ``.npz`` file, by key."""
    with np.load(golden_path(name), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def golden_json(name: str) -> Any:
    """The content of a golden ``.json`` file."""
    return json.loads(golden_path(name).read_text(encoding="utf-8"))


def assert_same_numbers(name: str, ours: torch.Tensor, golden: torch.Tensor, tolerance: float) -> float:
    """Fail unless every value lies within ``tolerance`` (absolute) of the release's; return the worst difference."""
    assert ours.shape == golden.shape, f"{name} has the shape {list(ours.shape)}, the release {list(golden.shape)}"
    difference = (ours.double() - golden.double()).abs().max().item()
    print(f"{name}: max difference {difference:.2e} (tolerance {tolerance:.0e}, std {golden.double().std():.3g})")
    assert difference <= tolerance, f"{name} differs from the release by {difference:.2e}, more than {tolerance:.0e}"
    return difference
