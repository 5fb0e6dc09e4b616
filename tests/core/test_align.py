"""Every face lies in its crop as the model was trained to see it, however it lay in the photograph."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fantasyid_core.errors import InputError
from fantasyid_core.faces.align import (
    TEMPLATE,
    alignment_matrix,
    resize_as_released,
    to_photograph,
    warp_crop,
)
from fantasyid_core.faces.mask import ellipse_mask, landmark_mask
from fantasyid_core.faces.pose import keypoint_yaw
from fantasyid_core.images import NEUTRAL_GREY


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turn, [x, y]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 8), st.floats(-180, 180), st.floats(-3000, 3000), st.floats(-3000, 3000))
def test_turned_scaled_and_shifted_faces_land_on_the_template(scale, degrees, x, y):
    keypoints = apply(similarity(scale, degrees, x, y), TEMPLATE)
    assert np.abs(apply(alignment_matrix(keypoints), keypoints) - TEMPLATE).max() < 1e-2


def test_one_badly_found_keypoint_does_not_move_the_face():
    keypoints = apply(similarity(0.5, 10, 40, 60), TEMPLATE)
    keypoints[2] += [60, -40]
    others = [0, 1, 3, 4]
    assert np.abs(apply(alignment_matrix(keypoints), keypoints)[others] - TEMPLATE[others]).max() < 1.0


@pytest.mark.parametrize("padding", [0.0, 0.25, 1.0])
def test_padding_shows_more_around_the_same_centre(padding):
    keypoints = apply(similarity(0.7, 0, 10, 20), TEMPLATE)
    placed = apply(alignment_matrix(keypoints, padding), keypoints)
    assert np.allclose(placed - 255.5, (TEMPLATE - 255.5) / (1 + 2 * padding), atol=1e-3)


@pytest.mark.parametrize("padding", [-0.1, 1.5, float("nan")])
def test_impossible_padding_is_refused(padding):
    with pytest.raises(InputError, match="padding"):
        alignment_matrix(TEMPLATE, padding)


def test_keypoints_that_span_no_face_are_refused():
    with pytest.raises(InputError, match="one point"):
        alignment_matrix(np.full((5, 2), 30.0))


def test_crop_to_photograph_undoes_the_alignment():
    matrix = alignment_matrix(apply(similarity(0.3, 40, 100, 50), TEMPLATE))
    points = np.random.default_rng(0).uniform(0, 512, (7, 2))
    assert np.allclose(apply(matrix, to_photograph(points, matrix).astype(np.float64)), points, atol=1e-2)


def test_what_lies_beyond_the_photograph_is_neutral_grey():
    crop = warp_crop(np.zeros((100, 100, 3), np.float32), similarity(1, 0, 206, 206))
    assert np.allclose(crop[:200], np.array(NEUTRAL_GREY) / 255) and not crop[210:300, 210:300].any()


def test_a_face_outside_the_photograph_is_refused():
    with pytest.raises(InputError, match="outside"):
        warp_crop(np.zeros((100, 100, 3), np.float32), similarity(1, 0, 2000, 0))


def test_huge_photographs_give_the_crop_that_a_cut_out_of_them_gives():
    rng = np.random.default_rng(3)
    photograph = rng.random((900, 1200, 3), dtype=np.float32)
    matrix = similarity(1.25, 7, -600.0, -450.0)
    cut = matrix.copy()
    cut[:, 2] += matrix[:, :2] @ [350, 250]
    ours, theirs = warp_crop(photograph, matrix), warp_crop(np.ascontiguousarray(photograph[250:, 350:]), cut)
    assert np.abs(ours - theirs)[5:-5, 5:-5].max() < 0.05


def test_large_faces_are_shrunk_without_aliasing():
    stripes = np.zeros((4096, 4096, 3), np.float32)
    stripes[:, ::2] = 1.0  # one pixel wide: nothing of them may be seen in a crop eight times smaller
    matrix = similarity(1 / 8, 0, 0, 0)
    smooth, raw = warp_crop(stripes, matrix)[8:-8, 8:-8], warp_crop(stripes, matrix, smooth=False)[8:-8, 8:-8]
    assert np.ptp(smooth) < 0.01 and abs(smooth.mean() - 0.5) < 0.01
    assert abs(raw.mean() - 0.5) > 0.2


@pytest.mark.parametrize("scale", [1 / 2.4, 1 / 5.0])
def test_smoothing_does_not_shift_the_face(scale):
    ramp = np.linspace(0, 1, 3000, dtype=np.float32)
    photograph = np.stack([*np.meshgrid(ramp, ramp), np.zeros((3000, 3000), np.float32)], axis=-1)
    matrix = similarity(scale, 20, 30, -100)
    inside = np.s_[250:300, 250:300]
    difference = warp_crop(photograph, matrix)[inside] - warp_crop(photograph, matrix, smooth=False)[inside]
    assert np.abs(difference.mean(axis=(0, 1))).max() < 0.5 / 3000 / scale


@pytest.mark.parametrize(
    ("size", "expected"), [((300, 240), (300, 240)), ((1024, 10), (1024, 10)), ((2000, 1501), (1024, 768))]
)
def test_release_reduces_the_long_edge_to_1024(size, expected):
    reduced = resize_as_released(np.full((*size, 3), 0.25, np.float32))
    assert reduced.shape[:2] == expected
    assert np.allclose(reduced, 64 / 255)


@pytest.mark.parametrize(("scale", "degrees"), [(0.5, 0), (0.05, -30), (2.0, 90)])
def test_mask_covers_the_face_and_nothing_else(scale, degrees):
    to_picture = similarity(scale, degrees, 1000, 900)
    mask = ellipse_mask((2000, 2000, 3), apply(to_picture, TEMPLATE))
    ys, xs = np.nonzero(mask > 0.5)
    in_crop = to_photograph(np.stack([xs, ys], axis=1), to_picture)  # template pixels
    low, high = in_crop.min(axis=0), in_crop.max(axis=0)
    slack = 3 / scale * 0.5 + 2
    assert np.abs(low - [114, 96]).max() < slack and np.abs(high - [398, 468]).max() < slack
    assert mask.min() == 0.0 and mask.max() == 1.0


def test_mask_of_a_face_at_the_edge_stays_inside_the_photograph():
    keypoints = apply(similarity(0.5, 0, -120, -100), TEMPLATE)
    assert ellipse_mask((80, 60), keypoints).shape == (80, 60)
    assert ellipse_mask((80, 60), keypoints + 5000).max() == 0.0
    assert landmark_mask((80, 60), np.array([[50.0, 70], [90, 70], [70, 200]], np.float32)).shape == (80, 60)


def test_landmark_mask_is_the_hull_of_the_landmarks():
    square = np.array([[20, 30], [60, 30], [60, 90], [20, 90], [40, 60]], np.float32)
    mask = landmark_mask((120, 100, 3), square)
    assert mask[60, 40] > 0.99 and mask[34, 24] > 0.5 and mask[25, 15] < 0.05 and mask[110, 90] == 0.0


@pytest.mark.parametrize("yaw", [-70, -40, 0, 25, 60])
def test_yaw_follows_from_five_keypoints(yaw):
    eye, nose, mouth = [32.0, 0.0, 0.0], [0.0, 40.0, 35.0], [25.0, 68.0, 5.0]  # millimetres, y down, z to the camera
    head = np.array([[-eye[0], *eye[1:]], eye, nose, [-mouth[0], *mouth[1:]], mouth])
    angle = np.radians(yaw)
    seen = np.stack([head[:, 0] * np.cos(angle) + head[:, 2] * np.sin(angle), head[:, 1]], axis=1)
    for degrees in (0, 30, -120):
        assert keypoint_yaw(apply(similarity(3.0, degrees, 50, 70), seen)) == pytest.approx(yaw, abs=6)
