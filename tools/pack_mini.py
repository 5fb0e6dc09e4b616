"""Make the mini that ships out of a finished run: ``python tools/pack_mini.py run/identity/mini.safetensors NOTE``.

NOTE is a JSON file on how the weights came about; it goes into the file's header and, from there, into the model card
(``fantasyid_core/assets/MINI.md``, which is written by hand).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from fantasyid_core.model import MINI_FILE
from fantasyid_core.weights.mini_file import load_mini, save_mini


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the mini.safetensors of a finished run")
    parser.add_argument("note", type=Path, help="a JSON file: data, steps, hours, machine")
    parser.add_argument("--out", type=Path, default=MINI_FILE)
    options = parser.parse_args()
    note = json.loads(options.note.read_text(encoding="utf-8"))
    save_mini(load_mini(options.run), options.out, note, packed=True)
    data = options.out.read_bytes()
    sys.stdout.write(f"{options.out}: {len(data) / 1e6:.1f} MB, sha256 {hashlib.sha256(data).hexdigest()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
