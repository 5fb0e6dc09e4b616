"""468 landmarks lie on the face, in the photograph's own pixels, and the network is the original one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fantasyid_core.errors import MissingFileError
from fantasyid_core.faces import face_mesh_network
from fantasyid_core.faces.detect import detect_faces, face_from_crop, whole_picture_face
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.draw import draw_landmarks
from fantasyid_core.faces.face import Detection, Face
from fantasyid_core.faces.face_mesh_network import load_face_mesh_network
from fantasyid_core.faces.landmarks import (
    EYE_CORNERS,
    MOUTH_CORNERS,
    NOSE_TIP,
    canonical_face,
    detect_landmarks,
    detect_landmarks_with_score,
)
from fantasyid_core.images import load_photograph, to_uint8

ASTRONAUT = Path(__file__).parents[2] / "fantasyid_core" / "assets" / "astronaut.png"

# What the original graph gives, run by TensorFlow.js 4 (CPU backend) on the two pictures below: eight landmarks,
# and the sum of all absolute values. On the same pictures the original .tflite, run by LiteRT, differs by 9.2e-5.
ROWS = [0, 1, 33, 61, 152, 263, 291, 467]
NOISE_LANDMARKS = [
    [93.998184, 119.89155, -11.49999],
    [94.597565, 105.03709, -25.407433],
    [50.678085, 74.74332, 5.5277257],
    [67.36785, 125.458664, 4.8996468],
    [95.227234, 160.20605, 7.7974524],
    [134.37703, 73.954216, 6.074903],
    [119.459496, 125.86562, 5.713021],
    [136.06926, 69.67896, 4.1297317],
]
ASTRONAUT_LANDMARKS = [
    [95.80953, 120.058945, -9.305892],
    [96.24673, 110.72834, -23.490665],
    [65.70811, 80.1109, 3.1231565],
    [73.19492, 120.34615, 8.0688095],
    [93.73733, 160.41766, 11.420537],
    [130.6224, 82.920975, 3.8037767],
    [118.82208, 122.20109, 8.249079],
    [131.82529, 80.845345, 2.040572],
]
ABSOLUTE_SUMS = [94193.83164085075, 97929.25271203555]
SCORES = [3.709139855345711e-05, 1.0]


@pytest.fixture(scope="module")
def face() -> Face:
    return detect_faces(load_photograph(ASTRONAUT), make_detector())[0]


def test_network_gives_the_original_graph_s_numbers():
    noise = np.random.default_rng(468).random((192, 192, 3), dtype=np.float32)
    pictures = np.stack([noise, load_photograph(ASTRONAUT)[20:212, 128:320]])  # (2, 192, 192, 3)
    with torch.inference_mode():
        landmarks, scores = load_face_mesh_network()(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    reference = np.array([NOISE_LANDMARKS, ASTRONAUT_LANDMARKS])
    assert np.abs(landmarks[:, ROWS].numpy() - reference).max() < 5e-4  # input pixels
    assert np.abs(landmarks.double().abs().sum((1, 2)).numpy() - ABSOLUTE_SUMS).max() < 0.05
    assert np.allclose(scores.numpy(), SCORES, rtol=1e-3)


def test_landmarks_lie_on_eyes_nose_and_mouth(face):
    landmarks, score = detect_landmarks_with_score(face)
    assert landmarks.shape == (468, 3) and score > 0.99
    seen = landmarks[[*EYE_CORNERS, NOSE_TIP, *MOUTH_CORNERS], :2]
    assert np.abs(seen - [[194, 102], [256, 104], [223, 130], [200, 139], [247, 141]]).max() < 4  # of a face 90 px wide


def test_the_nose_is_nearer_to_the_camera_than_the_ears(face):
    depth = detect_landmarks(face)[:, 2]
    nose, temples, width = depth[NOSE_TIP], depth[[127, 356]], np.ptp(detect_landmarks(face)[:, 0])
    assert nose > depth[list(EYE_CORNERS)].max() and depth[list(EYE_CORNERS)].min() > temples.max()
    assert 0.3 < (nose - temples.mean()) / width < 1.0  # the depth has the scale of the picture


@pytest.mark.parametrize("degrees", [-90, 35, 180])
def test_landmarks_turn_with_the_face(face, degrees):
    turn = cv2.getRotationMatrix2D((220, 120), degrees, 1.5)
    turned = cv2.warpAffine(face.photograph, turn, (512, 512), borderValue=(0.5, 0.5, 0.5))
    (detected,) = detect_faces(turned, KnowsTheTurn(turn, face))
    landmarks = detect_landmarks(detected)
    expected = detect_landmarks(face)
    moved = expected[:, :2] @ turn[:, :2].T + turn[:, 2]
    assert np.abs(landmarks[:, :2] - moved).mean() < 0.02 * 90 * 1.5
    assert np.abs(landmarks[:, 2] - expected[:, 2] * 1.5).mean() < 0.04 * 90 * 1.5


class KnowsTheTurn:
    """A detector that knows where the turned face is."""

    def __init__(self, turn: np.ndarray, face: Face) -> None:
        self.turn, self.face = turn, face

    def detect(self, photograph: np.ndarray) -> list[Detection]:
        keypoints = self.face.keypoints @ self.turn[:, :2].T + self.turn[:, 2]
        low, high = keypoints.min(axis=0) - 40, keypoints.max(axis=0) + 40
        return [Detection(np.array([*low, *high]), keypoints, 1.0)]


def test_a_crop_without_keypoints_gets_the_same_landmarks(face):
    crop = face_from_crop(face.crop)
    landmarks, score = detect_landmarks_with_score(crop)
    original = detect_landmarks(face)
    in_crop = original[:, :2] @ face.matrix[:, :2].T + face.matrix[:, 2]
    assert score > 0.99
    assert np.abs(landmarks[:, :2] - in_crop).mean() < 6  # crop pixels, of a face 270 px wide


def test_score_tells_that_there_is_no_face():
    sky = np.tile(np.linspace(0.4, 0.9, 300, dtype=np.float32)[:, None, None], (1, 300, 3))
    landmarks, score = detect_landmarks_with_score(whole_picture_face(sky))
    assert score < 0.5 and np.isfinite(landmarks).all()


def test_landmarks_of_an_8000_pixel_photograph_are_in_its_pixels(face):
    huge = cv2.resize(face.photograph, (8000, 8000))
    (large,) = detect_faces(huge, make_detector())
    difference = detect_landmarks(large)[:, :2] / 15.625 - detect_landmarks(face)[:, :2]
    assert np.abs(difference.mean(axis=0)).max() < 1.5 and np.abs(difference).mean() < 1.5


def test_canonical_face_looks_at_the_camera():
    canonical = canonical_face()
    vertices, triangles = canonical.vertices, canonical.triangles
    assert (vertices.shape, canonical.uv.shape, triangles.shape) == ((468, 3), (468, 2), (898, 3))
    assert vertices[NOSE_TIP, 2] > vertices[EYE_CORNERS[0], 2] and vertices[10, 1] > vertices[152, 1]
    assert vertices[EYE_CORNERS[0], 0] < 0 < vertices[EYE_CORNERS[1], 0]
    assert canonical.uv.min() >= 0 and canonical.uv.max() <= 1
    corners = vertices[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] > 0).mean() > 0.97  # counter-clockwise from outside
    assert sorted(set(triangles.ravel())) == list(range(468))


def test_landmarks_are_drawn_on_the_face_only(face):
    drawn = to_uint8(draw_landmarks(face.photograph, detect_landmarks(face), canonical_face().triangles))
    changed = (drawn != to_uint8(face.photograph)).any(axis=-1)
    x0, y0, x1, y1 = face.box.astype(int)
    assert changed[y0:y1, x0:x1].mean() > 0.3
    changed[y0 - 25 : y1 + 25, x0 - 25 : x1 + 25] = False
    assert not changed.any()


def test_a_missing_network_file_is_named(monkeypatch, tmp_path, face):
    load_face_mesh_network.cache_clear()
    monkeypatch.setattr(face_mesh_network, "WEIGHTS_FILE", tmp_path / "face_mesh_468.safetensors")
    with pytest.raises(MissingFileError, match=r"face_mesh_468\.safetensors .*install the pack again\.$"):
        detect_landmarks(face)
