"""The detectors by name. A new one is one file beside this and one line in DETECTORS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..arrays import FloatArray
from ..errors import InputError
from .face import Detection
from .insightface_detector import InsightFaceDetector
from .yunet import YuNetDetector


class Detector(Protocol):
    """Anything that finds faces. Its ``str()`` says what it is and how it looks, for the user who found no face."""

    def detect(self, photograph: FloatArray) -> list[Detection]:
        """Every face of ``photograph`` [H, W, 3] RGB 0..1, in any order; an empty list when there is none."""
        ...


@dataclass(frozen=True)
class Backend:
    """How to make a detector, and what a user should know (its licence first of all) before choosing it."""

    make: Callable[..., Detector]
    about: str


DETECTORS: Mapping[str, Backend] = {
    "yunet": Backend(YuNetDetector, "YuNet 2023mar: ships with the pack, MIT licence, fast on a CPU."),
    "insightface": Backend(
        InsightFaceDetector,
        "insightface (SCRFD) from a model folder of your own; its packs are for non-commercial research only.",
    ),
}


def make_detector(name: str = "yunet", **options: Any) -> Detector:
    """The detector called ``name``; ``options`` are its own (see the backend's class).

    Raises InputError for an unknown name, MissingFileError or MissingLibraryError when this backend cannot run here.
    """
    if name not in DETECTORS:
        raise InputError(f"There is no detector called '{name}'; choose one of {', '.join(DETECTORS)}.")
    return DETECTORS[name].make(**options)
