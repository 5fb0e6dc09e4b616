"""Are real people within what the generator makes? Photographs and synthetic pictures through the same eyes.

    python -m fantasyid_core.training.diversity photo.jpg …

Detector, landmarks and head fit are those of the rooms of faces and geometry. Each feature of a photograph is placed
in the generator's distribution: the share of synthetic pictures that have less of it. 0 or 1 is out of range.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import InputError, NoFaceError
from ..faces.detect import choose_face, detect_faces
from ..faces.face import Face
from ..faces.landmarks import detect_landmarks
from ..faces.yunet import YuNetDetector
from ..geometry.fit import fit_head
from ..images import load_photograph
from .clips import ClipOptions, make_clip

SIDE, CROP, COMPONENTS = 256, 48, 32  # pixels of synthetic pictures and of crops, principal components of crops
_CHEEKS, _LIPS, _BROWS = (50, 280, 205, 425), (0, 17, 37, 267, 84, 314), (105, 334, 66, 296)
_FOREHEAD, _CHIN = 10, 152
FEATURES = (
    "yaw", "pitch", "roll", "shape length", "largest shape coefficient", *(f"shape {n}" for n in range(8)),
    "skin L", "skin a", "skin b", "lips a - skin a", "brows L - skin L", "hair L", "hair a", "hair b",
    "crop mean", "crop contrast",
)  # fmt: skip


def describe(photograph: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``FEATURES`` and the aligned crop [48, 48, 3] of the largest face of ``photograph`` [H, W, 3] RGB 0..1."""
    face = choose_face(detect_faces(photograph, YuNetDetector()))
    marks = detect_landmarks(face)
    fitted = fit_head(marks)
    assert fitted.pose is not None and fitted.shape is not None  # fit_head's always are
    shape = fitted.shape
    crop = np.asarray(cv2.resize(face.crop, (CROP, CROP), interpolation=cv2.INTER_AREA), np.float32)
    crop = np.where(_inside_face(), crop, 0.5).astype(np.float32)  # backgrounds are another question
    values = [*fitted.pose.yaw_pitch_roll, np.sqrt(np.mean(shape**2)), np.abs(shape).max(), *shape[:8]]
    values += _colours(face, marks)
    grey = crop.mean(axis=-1)[_inside_face()[..., 0]]
    return np.array([*values, grey.mean(), grey.std()], np.float32), crop


def _inside_face() -> npt.NDArray[np.bool_]:
    """[48, 48, 1] an ellipse from the brows to the chin of the aligned crop."""
    row, column = np.mgrid[:CROP, :CROP] / (CROP - 1) - 0.5
    return (np.hypot(column / 0.27, (row - 0.07) / 0.36) < 1)[..., None]


def _colours(face: Face, marks: FloatArray) -> list[float]:
    """L, a and b of skin and hair, and how lips and brows stand out."""
    lab = np.asarray(cv2.cvtColor(np.ascontiguousarray(face.photograph), cv2.COLOR_RGB2LAB), np.float32)
    up = marks[_FOREHEAD, :2] - marks[_CHIN, :2]
    radius = float(np.linalg.norm(up)) * 0.02
    skin, lips, brows = (_median(lab, marks[list(points), :2], radius) for points in (_CHEEKS, _LIPS, _BROWS))
    hair = _median(lab, marks[_FOREHEAD, :2] + up * np.array([[0.16], [0.20], [0.24]]), radius)
    return [*skin, lips[1] - skin[1], brows[0] - skin[0], *hair]


def _median(lab: FloatArray, points: FloatArray, radius: float) -> FloatArray:
    height, width = lab.shape[:2]
    reach = max(round(radius), 1)
    patches = []
    for x, y in np.rint(points).astype(int):
        column, row = np.clip(x, reach, width - reach - 1), np.clip(y, reach, height - reach - 1)
        patches.append(lab[row - reach : row + reach + 1, column - reach : column + reach + 1].reshape(-1, 3))
    return np.asarray(np.median(np.concatenate(patches), axis=0), np.float32)


def describe_synthetic(count: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """[N, features] and [N, 48, 48, 3] of the synthetic pictures in which a face is found."""
    options = ClipOptions(seed=seed, size=SIDE, frames=9, references=0)
    found = []
    for index in range(count):
        picture = make_clip(options, index).frames[4].astype(np.float32) / 255
        try:
            found.append(describe(picture))
        except NoFaceError:
            continue
    if len(found) < 2:
        raise InputError(f"Faces were found in {len(found)} of {count} synthetic pictures; make more.")
    return np.stack([values for values, _ in found]), np.stack([crop for _, crop in found])


def place(
    values: FloatArray, crop: FloatArray, all_values: FloatArray, all_crops: FloatArray
) -> list[tuple[str, float, float]]:
    """(feature, its value, share of synthetic pictures with less) of one photograph.

    The last two rows take the crop as a whole: its distance in the space of the synthetic crops' principal components
    (Mahalanobis), and what these cannot explain, both against synthetic crops left out of the components.
    """
    rows = [
        (name, float(v), float((column < v).mean()))
        for name, v, column in zip(FEATURES, values, all_values.T, strict=True)
    ]
    half = len(all_crops) // 2
    flat = all_crops.reshape(len(all_crops), -1)
    mean = flat[:half].mean(axis=0)
    _, size, axes = np.linalg.svd(flat[:half] - mean, full_matrices=False)
    axes, size = axes[:COMPONENTS], size[:COMPONENTS] / np.sqrt(half)

    def distances(pictures: FloatArray) -> tuple[FloatArray, FloatArray]:
        along = (pictures - mean) @ axes.T
        rest = pictures - mean - along @ axes
        return np.sqrt(((along / size) ** 2).mean(axis=1)), np.sqrt((rest**2).mean(axis=1))

    for name, own, others in zip(
        ("crop distance", "crop unexplained"), distances(crop.reshape(1, -1)), distances(flat[half:]), strict=True
    ):
        rows.append((name, float(own[0]), float((others < own[0]).mean())))
    return rows


def main(paths: Sequence[str]) -> None:
    """Print a table of all photographs."""
    all_values, all_crops = describe_synthetic(300)
    tables = [place(*describe(load_photograph(Path(path))), all_values, all_crops) for path in paths]
    sys.stdout.write(f"{len(all_values)} synthetic pictures; {', '.join(Path(path).stem for path in paths)}\n")
    for rows in zip(*tables, strict=True):
        cells = "  ".join(f"{value:8.2f} ({share:4.2f})" for _, value, share in rows)
        sys.stdout.write(f"{rows[0][0]:28s}{cells}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
