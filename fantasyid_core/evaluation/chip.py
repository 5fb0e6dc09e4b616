"""The face chip: the 150×150 picture of an upright face that the recognition network was trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..faces.align import Matrix, warp_square
from .face_recognition_network import CHIP_SIDE

#: Landmarks that place the chip: outer and inner eye corners and the base of the nose, image-left first. dlib's own
#: five-point alignment uses the same places.
PLACES = (33, 133, 362, 263, 2)
#: Where they lie in dlib's chips, in pixels: the medians over 13 photographed faces, made symmetric.
TEMPLATE: npt.NDArray[np.float64] = np.array([[35.5, 45.8], [59.7, 46.8], [89.3, 46.8], [113.5, 45.8], [74.5, 85.9]])


def face_chip(photograph: FloatArray, landmarks: FloatArray) -> FloatArray:
    """The chip [150, 150, 3] RGB 0..1 of the face with ``landmarks`` [468, 3] in ``photograph`` [H, W, 3]."""
    return warp_square(photograph, similarity(landmarks[list(PLACES), :2], TEMPLATE), CHIP_SIDE)


def similarity(points: npt.ArrayLike, template: npt.ArrayLike) -> Matrix:
    """[2, 3] rotation, scale and shift that carry ``points`` [N, 2] nearest to ``template`` [N, 2] (least squares)."""
    source, target = np.asarray(points, np.float64), np.asarray(template, np.float64)
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    size = max(float((a * a).sum()), 1e-12)
    cosine = float((a * b).sum()) / size
    sine = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / size
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target.mean(axis=0) - linear @ source.mean(axis=0)])
