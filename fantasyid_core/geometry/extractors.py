"""The ways from a face to its 3D geometry; adding one is a new file and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from ..faces.face import Face
from ..faces.landmarks import detect_landmarks_with_score
from ..input_path import InputPath
from .fit import fit_head
from .geometry import FaceGeometry


class GeometryExtractor(Protocol):
    """Anything that makes a mesh of a face."""

    def extract(self, face: Face) -> FaceGeometry:
        """The 3D geometry of ``face``, with the pose in its photograph where the extractor knows it."""
        ...


class ParametricHeadExtractor:
    """The licence-free head, fitted to 468 landmarks of the face."""

    def extract(self, face: Face) -> FaceGeometry:
        """Our head with pose, shape and expression; InputError when the landmarks are no face's."""
        landmarks, score = detect_landmarks_with_score(face)
        if score < MIN_LANDMARK_SCORE:
            raise InputError(
                f"The face's landmarks could not be found (score {score:.2f}); choose another face or a clearer "
                "photograph, or load a mesh from a file."
            )
        return fit_head(landmarks)


MIN_LANDMARK_SCORE = 0.2  #: below it the network itself says that there is no face; real ones score above 0.8


def _parametric_head(models_dirs: Sequence[Path], input_path: InputPath) -> GeometryExtractor:
    return ParametricHeadExtractor()


def _flame_deca(models_dirs: Sequence[Path], input_path: InputPath) -> GeometryExtractor:
    from .deca import find_deca

    return find_deca(models_dirs, input_path)


@dataclass(frozen=True)
class Backend:
    """How to make an extractor, and what a user should know (its licence first of all) before choosing it."""

    make: Callable[[Sequence[Path], InputPath], GeometryExtractor]
    about: str


EXTRACTORS: Mapping[str, Backend] = {
    "parametric head": Backend(
        _parametric_head, "the licence-free head (CC0), fitted to 468 landmarks; ships with the pack."
    ),
    "flame-deca": Backend(
        _flame_deca, "DECA with FLAME, from files of your own; Max Planck licences, non-commercial research only."
    ),
}


def make_extractor(
    name: str = "parametric head", models_dirs: Sequence[Path] = (), input_path: InputPath = "recommended"
) -> GeometryExtractor:
    """The extractor called ``name``.

    models_dirs: where the user's model files are looked for. input_path: see input_path.py; only DECA has two.
    Raises InputError for an unknown name, MissingFileError when the backend's files are absent.
    """
    if name not in EXTRACTORS:
        raise InputError(f"There is no way to extract geometry called '{name}'; choose one of {', '.join(EXTRACTORS)}.")
    return EXTRACTORS[name].make(models_dirs, input_path)
