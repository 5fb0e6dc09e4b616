"""How far a face is turned away, told from its five keypoints alone: enough to warn before the work is done."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .face import Face

#: Degrees, as estimated here, from which on half of the face is unseen and identity suffers. Detectors draw the nose of
#: a profile inwards: rendered heads turned by 45, 60 and 75° are estimated at 29–36, 44–48 and 45–56°.
PROFILE_YAW = 40.0
_NOSE_TO_EYE = 1.1  # how far the nose tip stands out of the eyes' plane, in half eye distances (canonical face mesh)


def keypoint_yaw(keypoints: npt.ArrayLike) -> float:
    """Degrees by which the face is turned: > 0 when the nose points to the image's right (as HeadPose's yaw).

    keypoints: [5, 2], image-left first. Under weak perspective the half eye distance shrinks with cos(yaw) while the
    nose tip moves aside with sin(yaw), across the line from the eyes' middle to the mouth's.
    """
    right_eye, left_eye, nose, right_mouth, left_mouth = np.asarray(keypoints, dtype=np.float64)
    middle, mouth = (right_eye + left_eye) / 2.0, (right_mouth + left_mouth) / 2.0
    down = mouth - middle
    length = float(np.hypot(*down))
    if length == 0.0:
        return 0.0
    across = np.array([down[1], -down[0]]) / length  # to the image's right in an upright face
    half_eyes = float((left_eye - right_eye) @ across) / 2.0
    return float(np.degrees(np.arctan2((nose - middle) @ across / _NOSE_TO_EYE, max(half_eyes, 0.0))))


def is_profile(face: Face) -> bool:
    """Whether the face is turned so far that the caller should warn: likeness from a profile is poor."""
    return abs(keypoint_yaw(face.keypoints)) >= PROFILE_YAW
