"""Fitting the head to landmarks: known heads are found again, real photographs are matched, nonsense is refused."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from fantasyid_core.errors import InputError
from fantasyid_core.faces.detect import choose_face, detect_faces
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.landmarks import detect_landmarks
from fantasyid_core.geometry.fit import fit_head, reprojection_error
from fantasyid_core.geometry.geometry import HeadPose, rotation_from_angles
from fantasyid_core.geometry.head import HEAD_TOPOLOGY, load_head
from fantasyid_core.images import load_photograph

ASTRONAUT = Path(__file__).parents[2] / "fantasyid_core" / "assets" / "astronaut.png"
HEAD = load_head()
MEASURED = (HEAD.base[:, 2] > -0.03) & (HEAD.base[:, 1] > -0.12) & (HEAD.base[:, 1] < 0.06)  # the face, metres
MEASURED[-144:] = False  # eyeballs


def photographed(seed, noise=0.001, yaw=None):
    """A random person with a random expression and pose: shape, expression, pose, landmarks with noise in metres."""
    generator = np.random.default_rng(seed)
    shape, expression = HEAD.random_shape(generator), np.zeros(52)
    for name in generator.choice(["jawOpen", "mouthSmileLeft", "mouthLeft", "eyeBlinkRight", "mouthPucker"], 2, False):
        expression[HEAD.expression_names.index(name)] = generator.uniform(0.3, 0.9)
    angles = (
        generator.uniform(-40, 40) if yaw is None else yaw,
        generator.uniform(-20, 20),
        generator.uniform(-25, 25),
    )
    pose = HeadPose(rotation_from_angles(*angles), generator.uniform(400, 4000), generator.uniform(200, 2000, 2))
    on_skin = HEAD.landmarks(HEAD.vertices(shape, expression))
    points = pose.project(on_skin + HEAD.landmark_offset)
    points += generator.standard_normal(points.shape) * noise * pose.scale * [1, 1, 2]
    points[:, 2] += generator.uniform(-500, 500)  # the zero of depth is the network's own
    return shape, expression, pose, points.astype(np.float32)


def millimetres(found, true):
    """Mean distance on the face, after the size and place that one photograph cannot show."""
    found, true = found[MEASURED] - found[MEASURED].mean(axis=0), true[MEASURED] - true[MEASURED].mean(axis=0)
    size = (found * true).sum() / (found**2).sum()
    return 1000 * np.linalg.norm(size * found - true, axis=1).mean()


def degrees_between(a, b):
    return np.degrees(np.arccos(np.clip((np.trace(a @ b.T) - 1) / 2, -1, 1)))


@pytest.fixture(scope="module")
def astronaut():
    return detect_landmarks(choose_face(detect_faces(load_photograph(ASTRONAUT), make_detector())))


def test_known_heads_are_found_again():
    shape_errors, mean_errors, pose_errors = [], [], []
    for seed in range(12):
        shape, _, pose, points = photographed(seed)
        fitted = fit_head(points)
        shape_errors.append(millimetres(HEAD.vertices(fitted.shape), HEAD.vertices(shape)))
        mean_errors.append(millimetres(HEAD.base, HEAD.vertices(shape)))
        pose_errors.append(degrees_between(fitted.pose.rotation, pose.rotation))
    assert np.mean(shape_errors) < 1.3 < 1.6 * np.mean(shape_errors) < np.mean(mean_errors)
    assert np.mean(pose_errors) < 1.8 and np.max(pose_errors) < 4.5


def test_the_pose_lays_the_head_over_the_face():
    _, _, pose, points = photographed(5)
    fitted = fit_head(points)
    assert reprojection_error(fitted, points) < 0.03
    middle = points[:, :2].mean(axis=0)
    away = np.linalg.norm(fitted.pose.project(fitted.vertices)[MEASURED, :2].mean(axis=0) - middle)
    assert away < 0.02 * pose.scale  # 2 cm on the head


def test_expressions_are_recognised_and_bounded():
    for seed in range(6):
        _, expression, _, points = photographed(seed, noise=0.0005)
        found = fit_head(points).expression
        assert found.min() >= 0 and found.max() <= 1
        assert np.corrcoef(found, expression)[0, 1] > 0.6


def test_the_neutral_option_drops_the_expression_from_the_vertices_only():
    _, _, _, points = photographed(2)
    posed, neutral = fit_head(points), fit_head(points, neutral_expression=True)
    assert np.array_equal(posed.expression, neutral.expression) and posed.expression.max() > 0.2
    assert np.array_equal(neutral.vertices, HEAD.vertices(posed.shape))
    assert np.array_equal(posed.vertices, HEAD.vertices(posed.shape, posed.expression))


def test_neither_size_place_nor_turn_of_the_picture_changes_the_face():
    _, _, _, points = photographed(9, noise=0)
    first = fit_head(points)
    turn = rotation_from_angles(0, 0, -35)[:2, :2]
    second = fit_head(np.column_stack([points[:, :2] @ turn.T * 0.4 + [300, -70], points[:, 2] * 0.4]))
    assert np.abs(first.vertices - second.vertices).max() < 5e-4
    assert second.pose.scale == pytest.approx(first.pose.scale * 0.4, rel=0.01)


def test_wild_landmarks_do_not_bend_the_face():
    shape, _, pose, points = photographed(4, noise=0.0005)
    wild = points.copy()
    wild[::15, :2] += np.random.default_rng(0).uniform(-0.15, 0.15, (len(points[::15]), 2)) * pose.scale
    clean = millimetres(HEAD.vertices(fit_head(points).shape), HEAD.vertices(shape))
    assert millimetres(HEAD.vertices(fit_head(wild).shape), HEAD.vertices(shape)) < clean + 0.6


def test_a_face_is_fitted_in_a_fraction_of_a_second(astronaut):
    times = []
    for _ in range(5):
        start = time.thread_time()
        fit_head(astronaut)
        times.append(time.thread_time() - start)
    assert min(times) < 1.5


def test_the_astronaut_is_matched_closely_smiling_and_facing_the_camera(astronaut):
    fitted = fit_head(astronaut)
    assert fitted.topology == HEAD_TOPOLOGY and reprojection_error(fitted, astronaut) < 0.018
    assert max(map(abs, fitted.pose.yaw_pitch_roll)) < 8
    smile = [fitted.expression[HEAD.expression_names.index(f"mouthSmile{side}")] for side in ("Left", "Right")]
    assert min(smile) > 0.3
    assert np.linalg.norm(fitted.shape) < 6  # within the prior, no caricature


def test_grace_hopper_is_matched_closely_and_is_another_person(astronaut):
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib's wheel holds the photograph")
    path = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    points = detect_landmarks(choose_face(detect_faces(load_photograph(path), make_detector())))
    fitted, other = fit_head(points), fit_head(astronaut)
    assert reprojection_error(fitted, points) < 0.018
    assert fitted.expression[HEAD.expression_names.index("mouthSmileLeft")] < 0.35
    assert millimetres(HEAD.vertices(fitted.shape), HEAD.vertices(other.shape)) > 1.0


def test_a_mirrored_photograph_gives_the_mirrored_head():
    photograph = load_photograph(ASTRONAUT)
    poses, faces = [], []
    for picture in (photograph, np.ascontiguousarray(photograph[:, ::-1])):
        fitted = fit_head(detect_landmarks(choose_face(detect_faces(picture, make_detector()))))
        poses.append(fitted.pose.yaw_pitch_roll)
        faces.append(HEAD.landmarks(HEAD.vertices(fitted.shape)))
    assert poses[0][0] == pytest.approx(-poses[1][0], abs=3) and poses[0][2] == pytest.approx(-poses[1][2], abs=3)
    width = [np.linalg.norm(points[454] - points[234]) for points in faces]
    assert width[0] == pytest.approx(width[1], rel=0.02)


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.zeros((478, 3)), "must have the shape 468×3"),
        (np.full((468, 3), np.nan), "not numbers"),
        (np.zeros((468, 3)), "lie on one spot"),
    ],
)
def test_what_is_no_face_is_refused_in_one_sentence(landmarks, message):
    with pytest.raises(InputError, match=message):
        fit_head(landmarks)


def test_only_a_fitted_head_has_a_reprojection_error(astronaut):
    with pytest.raises(InputError, match="Only a head that was fitted"):
        reprojection_error(HEAD.geometry(), astronaut)
