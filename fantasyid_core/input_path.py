"""The two named ways from a photograph into the model: as the authors' release does it, and as we recommend.

| | as released | recommended |
|---|---|---|
| DECA sees | the whole picture squeezed to 224×224 | the face, with DECA's own margin |
| vertices | posed, with expression and jaw | neutral pose and expression |
| reference crop in the video's frame | stretched to its shape | whole, its shape kept (letterboxed) |

docs/input-paths.md says why, and what could not be measured.
"""

from __future__ import annotations

from typing import Literal, cast

from .errors import InputError

InputPath = Literal["recommended", "as released"]
INPUT_PATHS: tuple[InputPath, ...] = ("recommended", "as released")

#: How the square reference crop is placed in the video's frame (video/vae.py, FITS).
REFERENCE_FIT: dict[InputPath, str] = {"recommended": "letterbox", "as released": "stretch"}


def checked_input_path(name: str) -> InputPath:
    """``name`` if it is an input path. Raises InputError otherwise."""
    if name not in INPUT_PATHS:
        raise InputError(f"There is no input path called '{name}'; choose one of: {', '.join(INPUT_PATHS)}.")
    return cast(InputPath, name)
