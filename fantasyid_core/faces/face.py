"""What leaves the first room: one chosen, aligned face."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import FloatArray, checked_array
from ..errors import InputError

CROP_SIZE = 512  #: side of the aligned crop in pixels (release: facexlib's 512 template)


@dataclass(frozen=True, eq=False)
class Detection:
    """One detected face, before alignment.

    box: [4] x0, y0, x1, y1 in photograph pixels. keypoints: [5, 2] pixels, in the order right eye, left eye, nose,
    right mouth corner, left mouth corner **of the person** — that is, image-left first. score: 0..1.
    """

    box: FloatArray
    keypoints: FloatArray
    score: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", checked_array("The face box", self.box, (4,)))
        object.__setattr__(self, "keypoints", checked_array("The five face keypoints", self.keypoints, (5, 2)))
        if not 0.0 <= self.score <= 1.0:
            raise InputError(f"A face score lies between 0 and 1, but this one is {self.score:g}.")

    @property
    def size(self) -> float:
        """The shorter side of the box, in pixels."""
        return float(min(self.box[2] - self.box[0], self.box[3] - self.box[1]))


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photograph, aligned.

    photograph: [H, W, 3] RGB 0..1. box: [4] xyxy pixels. keypoints: [5, 2] pixels, image-left first (see Detection).
    score: 0..1. crop: [512, 512, 3] RGB 0..1, aligned. matrix: [2, 3], photograph pixels → crop pixels.
    mask: [H, W] 0..1, 1 on the face, or None when unknown.
    """

    photograph: FloatArray
    box: FloatArray
    keypoints: FloatArray
    score: float
    crop: FloatArray
    matrix: FloatArray
    mask: FloatArray | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "photograph", checked_array("The photograph", self.photograph, (None, None, 3)))
        set_(self, "box", checked_array("The face box", self.box, (4,)))
        set_(self, "keypoints", checked_array("The five face keypoints", self.keypoints, (5, 2)))
        set_(self, "crop", checked_array("The aligned face crop", self.crop, (CROP_SIZE, CROP_SIZE, 3)))
        set_(self, "matrix", checked_array("The alignment matrix", self.matrix, (2, 3)))
        if self.mask is not None:
            set_(self, "mask", checked_array("The face mask", self.mask, self.photograph.shape[:2]))
