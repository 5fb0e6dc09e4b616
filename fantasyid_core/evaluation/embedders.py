"""What makes a face a vector of identity. A new embedder is one class with ``embed`` and one line in EMBEDDERS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import InputError
from ..faces.face import Face
from .arcface import ArcFaceEmbedder
from .chip import face_chip

#: Root mean square distance of two strangers' descriptors, measured on ten people's photographs; so strangers have
#: a similarity of about 0, and the network's own limit for "the same person", a distance of 0.6, one of 0.46.
STRANGERS_DISTANCE = 0.82


class Embedder(Protocol):
    """Anything that turns a face into a vector which tells people apart."""

    def embed(self, face: Face, landmarks: FloatArray) -> FloatArray:
        """[D] for ``face`` with ``landmarks`` [468, 3] (as detect_landmarks), scaled so that :func:`similarity` is
        meaningful: a vector of length 1 makes it the cosine."""
        ...


def similarity(a: npt.ArrayLike, b: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """1 - ‖a - b‖² / 2 of embeddings [..., D]: 1 for the same vector, about 0 for strangers; the cosine at length 1."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return np.asarray(1.0 - 0.5 * (difference**2).sum(axis=-1))


class FaceRecognitionEmbedder:
    """dlib's face recognition network, which ships with the pack, on its own kind of face chip."""

    def embed(self, face: Face, landmarks: FloatArray) -> FloatArray:
        """[128]; the network's descriptor × √2 / STRANGERS_DISTANCE. Raises MissingFileError without its numbers."""
        import torch

        from .face_recognition_network import load_face_recognition_network

        chip = torch.from_numpy(face_chip(face.photograph, landmarks)).permute(2, 0, 1)[None]  # (1, 3, 150, 150)
        with torch.inference_mode():
            descriptor = load_face_recognition_network()(chip)[0].numpy()
        return np.asarray(descriptor * np.float32(np.sqrt(2.0) / STRANGERS_DISTANCE))


@dataclass(frozen=True)
class Backend:
    """How to make an embedder, and what a user should know (its licence first of all) before choosing it.

    same_person: the similarity above which the network itself calls two pictures one person; None where it has no say.
    """

    make: Callable[..., Embedder]
    about: str
    same_person: float | None = None


EMBEDDERS: Mapping[str, Backend] = {
    "dlib": Backend(
        FaceRecognitionEmbedder,
        "dlib's recognition network, 128-d: ships with the pack, CC0 (8-bit form: MIT).",
        1.0 - (0.6 / STRANGERS_DISTANCE) ** 2,
    ),
    "arcface": Backend(
        ArcFaceEmbedder,
        "ArcFace, the paper's choice, from an insightface folder of your own; for non-commercial research only.",
    ),
}


def make_embedder(name: str = "dlib", **options: Any) -> Embedder:
    """The embedder called ``name``; ``options`` are its own (see the backend's class).

    Raises InputError for an unknown name, MissingFileError or MissingLibraryError when it cannot run here.
    """
    if name not in EMBEDDERS:
        raise InputError(f"There is no face embedder called '{name}'; choose one of {', '.join(EMBEDDERS)}.")
    return EMBEDDERS[name].make(**options)
