"""A mesh from a file is laid where the photograph shows the face."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fantasyid_core.errors import InputError
from fantasyid_core.faces.detect import choose_face, detect_faces
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.geometry.extractors import make_extractor
from fantasyid_core.geometry.geometry import FaceGeometry
from fantasyid_core.geometry.place import place_mesh
from fantasyid_core.images import load_photograph

ASTRONAUT = Path(__file__).parents[2] / "fantasyid_core" / "assets" / "astronaut.png"


@pytest.fixture(scope="module")
def face():
    return choose_face(detect_faces(load_photograph(ASTRONAUT), make_detector()))


@pytest.fixture(scope="module")
def fitted(face):
    return make_extractor().extract(face)


def test_a_fitted_mesh_read_back_lies_where_it_was_fitted(face, fitted):
    placed = place_mesh(replace(fitted, pose=None), face)
    eyes = np.linalg.norm(face.keypoints[1] - face.keypoints[0])
    front = fitted.vertices[:, 2] > 0.03
    moved = placed.pose.project(fitted.vertices)[front, :2] - fitted.pose.project(fitted.vertices)[front, :2]
    assert np.median(np.linalg.norm(moved, axis=1)) < 0.06 * eyes
    assert np.allclose(placed.pose.yaw_pitch_roll, fitted.pose.yaw_pitch_roll, atol=6)


def test_the_file_s_own_origin_does_not_matter(face, fitted):
    shift = np.array([0.02, 0.4, -0.1], np.float32)
    moved = FaceGeometry(fitted.vertices + shift, fitted.triangles, "free")
    here, there = place_mesh(replace(fitted, pose=None), face), place_mesh(moved, face)
    assert np.allclose(here.pose.project(fitted.vertices)[:, :2], there.pose.project(moved.vertices)[:, :2], atol=2.0)


def test_a_mesh_that_is_no_head_is_refused(face):
    ball = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    ball *= 0.1 / np.linalg.norm(ball, axis=1, keepdims=True)
    triangles = np.random.default_rng(1).integers(0, 200, (300, 3)).astype(np.int32)
    with pytest.raises(InputError, match="No face was recognised"):
        place_mesh(FaceGeometry(ball, triangles, "free"), face)
