"""What leaves the third room: the same face seen from several sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, checked_array
from ..errors import InputError
from ..faces.face import CROP_SIZE


@dataclass(frozen=True, eq=False)
class FaceViews:
    """Aligned crops of one person; view 0 is the reference.

    crops: [N, 512, 512, 3] RGB 0..1. weights: [N] ≥ 0, how much each view counts in the fusion; their sum is above 0.
    poses: [N, 3] yaw, pitch, roll in degrees (signs: HeadPose.yaw_pitch_roll). coverage: [N] 0..1, the share of the
    face in view that the photograph really shows (1 for photographs). sources: N phrases, e.g. "photograph",
    "rendered yaw +30", "mirrored".
    """

    crops: FloatArray
    weights: FloatArray
    poses: FloatArray
    coverage: FloatArray
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "crops", checked_array("The view crops", self.crops, (None, CROP_SIZE, CROP_SIZE, 3)))
        n = len(self.crops)
        set_(self, "weights", checked_array("The view weights", self.weights, (n,)))
        set_(self, "poses", checked_array("The view poses", self.poses, (n, 3)))
        set_(self, "coverage", checked_array("The view coverage", self.coverage, (n,)))
        set_(self, "sources", tuple(self.sources))
        if len(self.sources) != n:
            raise InputError(f"{n} views need {n} sources, but {len(self.sources)} were given.")
        if np.any(self.weights < 0) or self.weights.sum() <= 0:
            raise InputError("View weights must not be negative, and at least one must be above 0.")
