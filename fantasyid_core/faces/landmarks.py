"""Dense landmarks: 468 points in 3D on one face, by the face mesh network that ships with the pack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..errors import MissingFileError
from .align import Matrix, alignment_matrix, to_photograph, warp_square
from .face import Face

CANONICAL_FILE = Path(__file__).parent.parent / "assets" / "face_mesh_468_canonical.safetensors"
#: Landmark numbers of the five keypoints' places: outer eye corners, nose tip and mouth corners, image-left first.
EYE_CORNERS = (33, 263)
NOSE_TIP = 1
MOUTH_CORNERS = (61, 291)

_MARGIN = 1.5  # the network wants a square one and a half times as large as the face
_INPUT_SIDE = 192
#: First guess, in the aligned 512 crop: the middle and the long side of what the 468 points cover.
_FIRST_CENTRE = (256.0, 290.0)
_FIRST_SIDE = 330.0
_PASSES = 2  # the second square follows from the first one's landmarks, as MediaPipe does from frame to frame


@dataclass(frozen=True)
class CanonicalFace:
    """The average face of the 468 landmarks: vertices [468, 3] centimetres (x to the image's right, y up, z out of the
    face), uv [468, 2] texture coordinates (v down), triangles [898, 3] counter-clockwise seen from outside."""

    vertices: FloatArray
    uv: FloatArray
    triangles: IntArray


def detect_landmarks(face: Face) -> FloatArray:
    """[468, 3] landmarks of ``face``: x right, y down in photograph pixels; z in pixels **towards** the camera.

    z has its zero near the middle of the head; its scale is that of x and y (weak perspective, as HeadPose.project).
    The numbering is MediaPipe's. Raises MissingFileError when the network's numbers are absent.
    """
    return detect_landmarks_with_score(face)[0]


def detect_landmarks_with_score(face: Face) -> tuple[FloatArray, float]:
    """As ``detect_landmarks``, with the network's own score 0..1: below about 0.5 there is no face in the square."""
    matrix = _first_square(face.keypoints)
    for _ in range(_PASSES):
        in_square, score = _look(face.photograph, matrix)
        landmarks = _to_photograph(in_square, matrix)
        matrix = _square_around(landmarks)
    return landmarks, score


@lru_cache(maxsize=1)
def canonical_face() -> CanonicalFace:
    """The canonical face mesh. Raises MissingFileError when the asset is absent."""
    from safetensors.numpy import load_file

    if not CANONICAL_FILE.is_file():
        raise MissingFileError(f"{CANONICAL_FILE.name} (20 kB) is missing from {CANONICAL_FILE.parent}; install again.")
    arrays = load_file(CANONICAL_FILE)
    for array in arrays.values():
        array.flags.writeable = False
    return CanonicalFace(arrays["vertices"], arrays["uv"], arrays["triangles"])


def _look(photograph: FloatArray, matrix: Matrix) -> tuple[FloatArray, float]:
    """Landmarks [468, 3] in pixels of the network's square, z away from the camera, and the score."""
    import torch

    from .face_mesh_network import load_face_mesh_network

    square = warp_square(photograph, matrix, _INPUT_SIDE)  # (192, 192, 3)
    with torch.inference_mode():
        landmarks, score = load_face_mesh_network()(torch.from_numpy(square).permute(2, 0, 1)[None])
    return landmarks[0].numpy(), float(score[0])


def _to_photograph(in_square: FloatArray, matrix: Matrix) -> FloatArray:
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    depth = -in_square[:, 2:] / scale  # the network's z grows away from the camera
    return np.concatenate([to_photograph(in_square[:, :2], matrix), depth], axis=1).astype(np.float32)


def _first_square(keypoints: FloatArray) -> Matrix:
    """[2, 3] photograph → network square, from five keypoints."""
    aligned = alignment_matrix(keypoints)
    zoom = _INPUT_SIDE / (_FIRST_SIDE * _MARGIN)
    matrix = aligned * zoom
    matrix[:, 2] += _INPUT_SIDE / 2.0 - zoom * np.array(_FIRST_CENTRE)
    return matrix


def _square_around(landmarks: FloatArray) -> Matrix:
    """[2, 3] photograph → network square: eyes level, the landmarks' long side × 1.5."""
    points = landmarks[:, :2].astype(np.float64)
    right, down = points[EYE_CORNERS[1]] - points[EYE_CORNERS[0]]
    length = max(float(np.hypot(right, down)), 1e-6)
    level: npt.NDArray[np.float64] = np.array([[right, down], [-down, right]]) / length  # turns the eye line level
    turned = points @ level.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    zoom = _INPUT_SIDE / (max(float((high - low).max()), 1.0) * _MARGIN)
    return np.column_stack([level * zoom, _INPUT_SIDE / 2.0 - zoom * (low + high) / 2.0])
