"""Where a mesh from a file stands in a photograph: its pose, told by landmarks on both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..faces.face import Face
from ..faces.landmarks import detect_landmarks_with_score
from .extractors import MIN_LANDMARK_SCORE
from .geometry import FaceGeometry, HeadPose
from .registration import find_landmarks, fit_similarity


def place_mesh(geometry: FaceGeometry, face: Face) -> FaceGeometry:
    """``geometry`` with the pose in which it covers ``face`` best; whatever pose it had is forgotten.

    The same 468 landmarks are found in the photograph and in three clay pictures of the mesh, and the weak-perspective
    camera that brings them together is the pose (Umeyama 1991). Any head mesh will do, in metres, upright, facing +z.
    Raises InputError when no face is recognised on the mesh or the photograph's landmarks are no face's.
    """
    wanted, score = detect_landmarks_with_score(face)
    if score < MIN_LANDMARK_SCORE:
        raise InputError(
            f"The face's landmarks could not be found (score {score:.2f}), so the mesh cannot be placed; choose "
            "another face, or do not connect the face to the mesh."
        )
    found = find_landmarks(geometry.vertices, geometry.triangles)
    on_mesh = found.positions(geometry.vertices, geometry.triangles)  # [views · 468, 3] metres
    target = np.tile(wanted.astype(np.float64) * [1, -1, 1], (len(on_mesh) // len(wanted), 1))  # pixels, y up
    fit = fit_similarity(on_mesh, target, found.weight)
    translation = np.array([fit.shift[0], -fit.shift[1]], np.float32)
    return replace(geometry, pose=HeadPose(fit.rotation.astype(np.float32), fit.scale, translation))
