"""Where the face is in the photograph, as a soft mask."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from .align import alignment_matrix, to_photograph
from .face import CROP_SIZE

#: The face in the aligned crop: an upright ellipse from the hairline to below the chin and from ear to ear, pixels.
ELLIPSE_CENTRE = (256.0, 282.0)
ELLIPSE_RADII = (142.0, 186.0)
_SOFTNESS = 0.08  # of the radius: how far the edge fades in and out


def ellipse_mask(shape: tuple[int, ...], keypoints: npt.ArrayLike) -> FloatArray:
    """A soft ellipse [H, W] 0..1 on the face with these ``keypoints`` [5, 2], for a photograph of ``shape`` (H, W, …).

    Turned and scaled with the face; right for a face seen from the front, generous for a profile.
    """
    matrix = alignment_matrix(keypoints)
    height, width = shape[:2]
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]) * (1.0 + _SOFTNESS)
    window = to_photograph(corners * ELLIPSE_RADII + ELLIPSE_CENTRE, matrix)
    x0, y0 = np.clip(np.floor(window.min(axis=0)).astype(int), 0, [width, height])
    x1, y1 = np.clip(np.ceil(window.max(axis=0)).astype(int) + 1, 0, [width, height])
    mask = np.zeros((height, width), dtype=np.float32)
    x, y = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
    in_crop = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T  # (h, w, 2)
    radius = np.linalg.norm((in_crop - ELLIPSE_CENTRE) / ELLIPSE_RADII, axis=-1)
    mask[y0:y1, x0:x1] = _fade(radius)
    return mask


def landmark_mask(shape: tuple[int, ...], landmarks: FloatArray) -> FloatArray:
    """The soft convex hull [H, W] 0..1 of dense ``landmarks`` [N, 2 or 3]: forehead to chin, tight at any head pose."""
    height, width = shape[:2]
    hull = cv2.convexHull(landmarks[:, :2].astype(np.float32))[:, 0]
    low = np.floor(hull.min(axis=0)).astype(int)
    high = np.ceil(hull.max(axis=0)).astype(int)
    blur = max(1.0, float((high - low).max()) * 0.02)
    margin = int(3 * blur) + 1
    x0, y0 = np.clip(low - margin, 0, [width, height])
    x1, y1 = np.clip(high + margin + 1, 0, [width, height])
    mask = np.zeros((height, width), dtype=np.float32)
    if x1 > x0 and y1 > y0:
        part = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
        cv2.fillConvexPoly(part, np.rint(hull - [x0, y0]).astype(np.int32), 1.0)
        mask[y0:y1, x0:x1] = cv2.GaussianBlur(part, (0, 0), blur)
    return mask


def crop_of_mask_box(box: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """[2, 3] upright placing of a face of which only the extent ``box`` (xyxy pixels) is known."""
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    scale = 2.0 * min(ELLIPSE_RADII[0] / (x1 - x0), ELLIPSE_RADII[1] / (y1 - y0))
    middle = np.array([(x0 + x1 - 1) / 2.0, (y0 + y1 - 1) / 2.0])
    return np.column_stack([np.eye(2) * scale, np.array(ELLIPSE_CENTRE) - scale * middle])


def crop_of_whole_picture(height: int, width: int) -> npt.NDArray[np.float64]:
    """[2, 3] that fits a whole picture into the crop, aspect ratio kept, centred."""
    scale = CROP_SIZE / max(height, width)
    middle = np.array([(width - 1) / 2.0, (height - 1) / 2.0])
    return np.column_stack([np.eye(2) * scale, (CROP_SIZE - 1) / 2.0 - scale * middle])


def _fade(radius: npt.NDArray[np.float64]) -> FloatArray:
    """1 inside the unit radius, 0 outside, smooth in between."""
    t = np.clip((1.0 + _SOFTNESS - radius) / (2.0 * _SOFTNESS), 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)
