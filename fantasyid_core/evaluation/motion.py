"""Face motion (FM): dense optical flow between face crops that are held still, and what flow leaves unexplained."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..faces.align import Matrix, warp_square
from ..faces.mask import landmark_mask
from ..geometry.geometry import HeadPose

SIDE = 256  #: pixels of the crop
PIXELS_PER_METRE = 1280.0  #: the crop shows 20 cm of an average adult's face; the eyes' centres are about 80 px apart
ORIGIN = (127.5, 93.0)  #: where the point between the eyeballs lies in it
#: OpenCV's own example values, with a window that suits this crop.
_FARNEBACK = {"pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 5, "poly_sigma": 1.2, "flags": 0}

Grey = npt.NDArray[np.uint8]  # [256, 256]
Complex = npt.NDArray[np.complex128]  # [256, 256], x + iy


@dataclass(frozen=True, eq=False)
class StillFace:
    """grey: [256, 256] bytes, the face held still. mask: [256, 256] 0..1, forehead to chin."""

    grey: Grey
    mask: FloatArray


def held_still(photograph: FloatArray, landmarks: FloatArray, pose: HeadPose) -> StillFace:
    """The face with ``landmarks`` [468, 3] and ``pose`` in ``photograph`` [H, W, 3], freed from where it is in the
    picture, how near, and its roll: only turning, nodding and expression are left to move."""
    matrix = still_matrix(pose)
    crop = warp_square(photograph, matrix, SIDE)
    grey = cv2.cvtColor(np.rint(crop * 255.0).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    return StillFace(np.asarray(grey, np.uint8), landmark_mask((SIDE, SIDE), _moved(landmarks, matrix)))


def still_matrix(pose: HeadPose) -> Matrix:
    """[2, 3] photograph pixels → crop pixels: the point between the eyeballs, the head's scale and its roll fixed."""
    scale = PIXELS_PER_METRE / pose.scale
    roll = np.radians(pose.yaw_pitch_roll[2])
    linear = scale * np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return np.column_stack([linear, np.array(ORIGIN) - linear @ pose.translation.astype(np.float64)])


def face_motion(before: StillFace, after: StillFace) -> tuple[float, float]:
    """(motion, flicker) from one face to the next.

    motion: mean length of the flow on the face, crop pixels, less the flow of the face as a whole (the shift, roll and
    zoom that fit it best): so the small errors with which a face is held still do not count either. flicker: mean grey
    difference 0..1 that remains when ``after`` is moved back along the flow; movement leaves little, pixels that come
    out of nothing leave much.
    """
    flow = cv2.calcOpticalFlowFarneback(before.grey, after.grey, None, **_FARNEBACK)  # type: ignore[call-overload]
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    back = cv2.remap(after.grey, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)
    difference = np.abs(back.astype(np.float32) - before.grey) / 255.0
    weight = before.mask / max(float(before.mask.sum()), 1e-6)  # (256, 256), sums to 1
    own = (flow[..., 0] + 1j * flow[..., 1]).astype(np.complex128)
    own -= _whole_flow(own, columns + 1j * rows, weight)
    return float((np.abs(own) * weight).sum()), float((difference * weight).sum())


def _whole_flow(flow: Complex, places: Complex, weight: FloatArray) -> Complex:
    """[256, 256] the similarity (shift, rotation and zoom, small) nearest to ``flow``; x + iy makes it one factor."""
    centred = places - (places * weight).sum()
    shift = (flow * weight).sum()
    factor = (centred.conj() * flow * weight).sum() / max(float((np.abs(centred) ** 2 * weight).sum()), 1e-9)
    return np.asarray(shift + factor * centred)


def _moved(landmarks: FloatArray, matrix: Matrix) -> FloatArray:
    return (landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
