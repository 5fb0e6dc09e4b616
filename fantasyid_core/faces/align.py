"""Alignment: five keypoints → the 512×512 crop that the release's face encoder was trained on (release, part 5)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import InputError
from ..images import NEUTRAL_GREY, to_uint8
from .face import CROP_SIZE

#: Where the five keypoints of an upright face lie in the crop, in pixels, image-left first.
TEMPLATE: npt.NDArray[np.float64] = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
RELEASE_LONG_EDGE = 1024  #: the release reduces larger photographs to this before it looks for faces
MAX_PADDING = 1.0

Matrix = npt.NDArray[np.float64]  # [2, 3], photograph pixels → crop pixels


def resize_as_released(photograph: FloatArray) -> FloatArray:
    """The photograph [H, W, 3] as the release sees it: 8 bits, long edge at most 1024 by Lanczos, read-only.

    Only the "as released" path does this; the recommended one keeps every pixel of the photograph.
    """
    height, width = photograph.shape[:2]
    long_edge = max(height, width)
    pixels = to_uint8(photograph)
    if long_edge > RELEASE_LONG_EDGE:
        size = (int(width * RELEASE_LONG_EDGE / long_edge), int(height * RELEASE_LONG_EDGE / long_edge))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LANCZOS4), dtype=np.uint8)
    reduced = np.divide(pixels, np.float32(255.0), dtype=np.float32)
    reduced.flags.writeable = False
    return reduced


def alignment_matrix(keypoints: npt.ArrayLike, padding: float = 0.0) -> Matrix:
    """[2, 3] similarity (rotation, scale, shift) that carries ``keypoints`` [5, 2] onto the template, robustly (LMedS).

    padding: how much more to show around the face, as a fraction of the crop's side added on each side (0..1).
    Raises InputError when the keypoints do not span a face.
    """
    if not 0.0 <= padding <= MAX_PADDING:
        raise InputError(f"The padding around a face lies between 0 and {MAX_PADDING:g}, but it is {padding:g}.")
    points = np.asarray(keypoints, dtype=np.float64)
    matrix, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, method=cv2.LMEDS)
    if matrix is None or not np.isfinite(matrix).all() or np.hypot(matrix[0, 0], matrix[1, 0]) == 0.0:
        raise InputError("The five face keypoints fall on one point; choose another face or another detector.")
    return widen(np.asarray(matrix, dtype=np.float64), padding)


def widen(matrix: Matrix, padding: float) -> Matrix:
    """The same alignment with ``padding`` × the crop's side added on every side; the centre stays where it is."""
    shrink = 1.0 / (1.0 + 2.0 * padding)
    centre = (CROP_SIZE - 1) / 2.0
    wide = matrix * shrink
    wide[:, 2] += centre * (1.0 - shrink)
    return wide


def warp_crop(photograph: FloatArray, matrix: Matrix, smooth: bool = True) -> FloatArray:
    """The aligned crop [512, 512, 3] RGB 0..1 of ``photograph`` [H, W, 3] under ``matrix``; see warp_square."""
    return warp_square(photograph, matrix, CROP_SIZE, smooth)


def warp_square(photograph: FloatArray, matrix: Matrix, side: int, smooth: bool = True) -> FloatArray:
    """The square [side, side, 3] RGB 0..1 that ``matrix`` [2, 3] cuts out of ``photograph`` [H, W, 3].

    Bilinear, 8 bits deep. What lies beyond the picture is neutral grey. smooth: average before shrinking a large face
    (no aliasing); False is the release to the bit.
    """
    x0, y0, x1, y1 = _source_window(photograph, matrix, side)
    if x1 <= x0 or y1 <= y0:
        raise InputError("The chosen face lies outside the photograph; choose another face.")
    pixels = to_uint8(photograph[y0:y1, x0:x1])
    local = _shifted(matrix, float(x0), float(y0))
    factor = int(1.0 / np.hypot(matrix[0, 0], matrix[1, 0])) if smooth else 1
    if factor > 1:
        pixels, local = _reduced(pixels, local, factor)
    crop = cv2.warpAffine(pixels, local, (side, side), borderMode=cv2.BORDER_CONSTANT, borderValue=NEUTRAL_GREY)
    return np.divide(crop, np.float32(255.0), dtype=np.float32)


def to_photograph(points: npt.ArrayLike, matrix: npt.ArrayLike) -> FloatArray:
    """Crop pixels [..., 2] → photograph pixels, the inverse of ``matrix``."""
    forward = np.asarray(matrix, dtype=np.float64)
    moved = np.asarray(points, dtype=np.float64) - forward[:, 2]
    return np.linalg.solve(forward[:, :2], moved.reshape(-1, 2).T).T.reshape(moved.shape).astype(np.float32)


def _source_window(photograph: FloatArray, matrix: Matrix, side: int) -> tuple[int, int, int, int]:
    """The part of the photograph that the crop shows, xyxy, two pixels wider: huge photographs stay cheap."""
    corners = to_photograph([[0, 0], [side, 0], [0, side], [side, side]], matrix)
    height, width = photograph.shape[:2]
    low = np.floor(corners.min(axis=0)).astype(int) - 2
    high = np.ceil(corners.max(axis=0)).astype(int) + 3
    return max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)


def _shifted(matrix: Matrix, x0: float, y0: float) -> Matrix:
    """``matrix`` for a picture whose origin is moved to (x0, y0)."""
    local = matrix.copy()
    local[:, 2] += local[:, :2] @ np.array([x0, y0])
    return local


def _reduced(pixels: npt.NDArray[np.uint8], matrix: Matrix, factor: int) -> tuple[npt.NDArray[np.uint8], Matrix]:
    """``pixels`` averaged in factor × factor squares, and ``matrix`` for that smaller picture."""
    height, width = (size // factor * factor for size in pixels.shape[:2])
    size = (width // factor, height // factor)
    small = cv2.resize(pixels[:height, :width], size, interpolation=cv2.INTER_AREA)
    local = matrix * np.array([[factor, factor, 1.0]])
    local[:, 2] += matrix[:, :2] @ np.full(2, (factor - 1) / 2.0)  # a square's centre, in pixels of the large picture
    return np.asarray(small, dtype=np.uint8), local
