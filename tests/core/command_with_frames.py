"""The command ``fantasyid``, which here also keeps the frames that it writes: coding makes more of their last digit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fantasyid_core import cli
from fantasyid_core.video import files

write_webp = files.write_webp


def keep_frames(path, frames, fps):
    np.save(Path(path).with_suffix(".npy"), frames)
    return write_webp(path, frames, fps)


if __name__ == "__main__":
    files.write_webp = keep_frames
    sys.exit(cli.main(sys.argv[1:]))
