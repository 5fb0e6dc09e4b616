"""Make the mini that ships out of a finished run: ``python tools/pack_mini.py run/identity/mini.safetensors NOTE``.

--mean-with FILE: the mean of the run's weights and those of another mini, the one it began with (docs/training.md).

NOTE is a JSON file on how the weights came about; it goes into the file's header and, from there, into the model card
(``fantasyid_core/assets/MINI.md``, which is written by hand).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch

from fantasyid_core.errors import InputError
from fantasyid_core.model import MINI_FILE, FantasyIDModel
from fantasyid_core.weights.mini_file import load_mini, modules_of, save_mini


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the mini.safetensors of a finished run")
    parser.add_argument("note", type=Path, help="a JSON file: data, steps, hours, machine")
    parser.add_argument("--out", type=Path, default=MINI_FILE)
    parser.add_argument("--mean-with", type=Path, help="another mini.safetensors of the same configuration")
    options = parser.parse_args()
    note = json.loads(options.note.read_text(encoding="utf-8"))
    model = load_mini(options.run)
    if options.mean_with is not None:
        average(model, load_mini(options.mean_with))
    save_mini(model, options.out, note, packed=True)
    data = options.out.read_bytes()
    sys.stdout.write(f"{options.out}: {len(data) / 1e6:.1f} MB, sha256 {hashlib.sha256(data).hexdigest()}\n")
    return 0


def average(model: FantasyIDModel, other: FantasyIDModel) -> None:
    """Every weight of ``model`` becomes the mean of its own and ``other``'s."""
    if model.config != other.config:
        raise InputError("The two minis have different configurations, so their weights have no mean.")
    for own, theirs in zip(modules_of(model).values(), modules_of(other).values(), strict=True):
        with torch.no_grad():
            for mine, another in zip(own.parameters(), theirs.parameters(), strict=True):
                mine.copy_(torch.lerp(mine.float(), another.float(), 0.5))


if __name__ == "__main__":
    sys.exit(main())
