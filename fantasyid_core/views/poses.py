"""How the head stands in a crop: from the fitted geometry where there is one, else from the five keypoints."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..faces.face import Face
from ..faces.pose import keypoint_yaw
from ..geometry.geometry import FaceGeometry
from .scene import moved_pose

Angles = tuple[float, float, float]  #: yaw, pitch, roll in degrees (signs: HeadPose.yaw_pitch_roll)

# The average face: nose tip and mouth corners, centimetres below and before the middle of the eyes (canonical mesh).
_NOSE_DOWN, _NOSE_OUT = 3.75, 4.01
_MOUTH_DOWN, _MOUTH_OUT = 6.97, 0.82


def crop_pose(face: Face, geometry: FaceGeometry | None) -> Angles:
    """Yaw, pitch and roll of the head in ``face``'s crop; estimates (keypoint_pose) when no posed geometry is known."""
    if geometry is not None and geometry.pose is not None:
        return moved_pose(geometry.pose, face.matrix).yaw_pitch_roll
    return keypoint_pose(face.keypoints @ face.matrix[:, :2].T + face.matrix[:, 2])


def keypoint_pose(keypoints: npt.ArrayLike) -> Angles:
    """Yaw, pitch and roll told from five keypoints [5, 2] alone, by the average face's proportions.

    Good to some 10°: a short nose reads as a raised one.
    """
    points = np.asarray(keypoints, dtype=np.float64)
    right, down = points[1] - points[0]
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    axis = mouth - eyes
    share = float((points[2] - eyes) @ axis / max(float(axis @ axis), 1e-9))  # how far down to the mouth the nose is
    tangent = (_NOSE_DOWN - share * _MOUTH_DOWN) / max(_NOSE_OUT - share * _MOUTH_OUT, 1e-3)
    return keypoint_yaw(points), float(np.degrees(np.arctan(tangent))), float(np.degrees(np.arctan2(down, right)))
