"""Find every face of a photograph, choose one, and what to do when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ..arrays import FloatArray, checked_array
from ..errors import InputError, NoFaceError
from ..images import as_photograph
from .align import TEMPLATE, Matrix, alignment_matrix, resize_as_released, to_photograph, warp_crop
from .face import Detection, Face
from .mask import crop_of_mask_box, crop_of_whole_picture, ellipse_mask

if TYPE_CHECKING:
    from .detectors import Detector

Rule = Literal["largest", "most central", "most confident", "index"]
RULES: tuple[Rule, ...] = get_args(Rule)


def detect_faces(
    photograph: FloatArray,
    detector: Detector,
    *,
    min_size: float = 20,
    padding: float = 0.0,
    as_released: bool = False,
) -> tuple[Face, ...]:
    """All faces of ``photograph`` [H, W, 3] RGB 0..1, aligned, from left to right: face 0 is the leftmost.

    min_size: pixels of the box's shorter side, below which a face is passed over. padding: see alignment_matrix.
    as_released: the release's own pixels: the photograph is first reduced to 1024 (the faces then lie in that smaller
    picture) and the crop is not smoothed.
    The faces carry no mask yet (it is as large as the photograph): ``with_mask`` and ``choose_face`` add it.
    Raises NoFaceError, saying what was tried.
    """
    photograph = _frozen(resize_as_released(photograph) if as_released else photograph)
    found = detector.detect(photograph)
    kept = sorted((face for face in found if face.size >= min_size), key=lambda face: face.box[0] + face.box[2])
    if not kept:
        raise NoFaceError(_why_none(photograph, detector, found, min_size))
    return tuple(align_detection(photograph, face, padding, smooth=not as_released) for face in kept)


def align_detection(photograph: FloatArray, detection: Detection, padding: float = 0.0, smooth: bool = True) -> Face:
    """The Face of one ``detection`` in ``photograph`` [H, W, 3], without a mask (see alignment_matrix, warp_crop)."""
    matrix = alignment_matrix(detection.keypoints, padding)
    crop = warp_crop(photograph, matrix, smooth)
    return Face(photograph, detection.box, detection.keypoints, detection.score, crop, _float32(matrix))


def choose_face(faces: Sequence[Face], rule: Rule | str = "largest", index: int = 0) -> Face:
    """One of ``faces``, with its mask.

    rule: "largest" box, "most central" (nearest the picture's centre, as the release chooses), "most confident"
    (the detector's score) or "index", which takes face number ``index`` counted from 0, left to right.
    Raises InputError for an unknown rule or a number that no face has.
    """
    return with_mask(faces[chosen_index(faces, rule, index)])


def chosen_index(faces: Sequence[Face], rule: Rule | str = "largest", index: int = 0) -> int:
    """The number of the face that ``choose_face`` takes."""
    if not faces:
        raise InputError("There is no face to choose from; connect a face detector's output.")
    if rule == "index":
        if not 0 <= index < len(faces):
            raise InputError(f"There is no face {index}: this photograph has {len(faces)}, numbered from 0.")
        return index
    ranks = {"largest": _area, "most central": _centrality, "most confident": _confidence}
    if rule not in ranks:
        raise InputError(f"'{rule}' is no way to choose a face; use one of {', '.join(RULES)}.")
    return max(range(len(faces)), key=lambda number: ranks[rule](faces[number]))


def with_mask(face: Face) -> Face:
    """The same face with a soft elliptic mask [H, W], unless it has a mask already."""
    if face.mask is not None:
        return face
    mask = ellipse_mask(face.photograph.shape, face.keypoints)
    mask.flags.writeable = False
    return replace(face, mask=mask)


def whole_picture_face(photograph: FloatArray) -> Face:
    """The whole picture [H, W, 3] as if it were the face, for a graph that must go on: score 0, mask 1 everywhere.

    The crop holds the picture uncut, on neutral grey; the keypoints are where an upright face would have them.
    """
    photograph = _frozen(photograph)
    height, width = photograph.shape[:2]
    return _placed_face(photograph, crop_of_whole_picture(height, width), np.ones((height, width), np.float32), 0.0)


def face_from_crop(image: Any, mask: Any = None) -> Face:
    """The door for other packs: a crop that already shows one upright face becomes a Face, score 1.

    image: as ``as_photograph`` takes it. mask: [H, W] or [1, H, W] 0..1 on the face; then the face is placed as the
    mask says, else the whole image fills the crop. Raises InputError for an empty mask or one of another size.
    """
    photograph = as_photograph(image)
    height, width = photograph.shape[:2]
    if mask is None:
        return _placed_face(photograph, crop_of_whole_picture(height, width), None, 1.0)
    levels = np.array(as_photograph(mask)[..., 0])
    if levels.shape != (height, width):
        raise InputError(
            f"The mask is {levels.shape[1]}×{levels.shape[0]} but its image {width}×{height}; use a mask of that image."
        )
    rows, columns = np.nonzero(levels > 0.5)
    if len(rows) == 0:
        raise InputError("The face mask is empty; paint the face in it, or leave the mask away.")
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
    return _placed_face(photograph, crop_of_mask_box(box), levels, 1.0, box)


def _placed_face(
    photograph: FloatArray, matrix: Matrix, mask: FloatArray | None, score: float, box: Any = None
) -> Face:
    height, width = photograph.shape[:2]
    crop = warp_crop(photograph, matrix)
    box = np.array([0, 0, width, height]) if box is None else box
    return Face(photograph, box, to_photograph(TEMPLATE, matrix), score, crop, _float32(matrix), mask)


def _why_none(photograph: FloatArray, detector: Detector, found: Sequence[Detection], min_size: float) -> str:
    height, width = photograph.shape[:2]
    if found:
        return (
            f"The largest of the {len(found)} faces in this {width}×{height} picture is only "
            f"{max(face.size for face in found):.0f} px, and faces below {min_size:g} px were passed over; "
            "lower the minimum size or use a closer photograph."
        )
    return (
        f"No face was found in this {width}×{height} picture by {detector}; use a photograph that shows the "
        "face larger and from the front, try another detector, or let the graph go on with the whole picture."
    )


def _area(face: Face) -> float:
    return float((face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))


def _centrality(face: Face) -> float:
    height, width = face.photograph.shape[:2]
    middle = (face.box[:2] + face.box[2:]) / 2.0
    return -float(np.hypot(*(middle - [width / 2.0, height / 2.0])))


def _confidence(face: Face) -> float:
    return face.score


def _frozen(photograph: FloatArray) -> FloatArray:
    return checked_array("The photograph", photograph, (None, None, 3))


def _float32(matrix: Matrix) -> FloatArray:
    return matrix.astype(np.float32)
