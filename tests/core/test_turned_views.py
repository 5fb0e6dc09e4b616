"""A rendered view shows what the head really looks like from there, and owns up to what the photograph hid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from view_faces import draw, egg, keypoints, photographed

from fantasyid_core.errors import InputError
from fantasyid_core.faces.align import TEMPLATE, warp_crop, widen
from fantasyid_core.geometry.geometry import FaceGeometry, HeadPose, rotation_from_angles
from fantasyid_core.geometry.rasterise import rasterise
from fantasyid_core.views.fill import diffuse
from fantasyid_core.views.scene import Scene, make_scene, moved_pose
from fantasyid_core.views.turn import RenderedView, render_view


def errors(scene: Scene, view: RenderedView, symmetric: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Colour errors of the view's face pixels that the photograph shows well, and of those that it does not show."""
    vertices, triangles = egg()
    raster = rasterise(view.pose.project(vertices), triangles, 512, 512)
    shares = raster.interpolate(triangles, np.column_stack([scene.face_share, scene.seen]))
    error = np.abs(view.crop - draw(view.pose, 512, symmetric)).mean(axis=-1)
    face = shares[..., 0] > 0.95
    return error[face & (shares[..., 1] > 0.95)], error[face & (shares[..., 1] < 0.02)]


@pytest.mark.parametrize(("stands", "asked"), [((0, 0), (25, 0)), ((0, 0), (-40, 10)), ((10, -8), (0, 15))])
def test_what_the_photograph_shows_is_right_from_the_other_side(
    stands: tuple[float, float], asked: tuple[float, float]
) -> None:
    face, geometry = photographed(*stands, roll=5, symmetric=False)
    scene = make_scene(face, geometry)
    seen, _ = errors(scene, render_view(scene, *asked), symmetric=False)
    assert len(seen) > 20_000
    assert seen.mean() < 0.004
    assert np.quantile(seen, 0.99) < 0.03


def test_the_hidden_side_is_taken_from_the_mirror_image() -> None:
    face, geometry = photographed(yaw=30)
    scene = make_scene(face, geometry)
    _, hidden = errors(scene, render_view(scene, -30, 0))
    assert len(hidden) > 5_000
    assert hidden.mean() < 0.01


def test_the_hidden_side_of_an_uneven_face_is_matched_but_counts_as_unseen() -> None:
    face, geometry = photographed(yaw=30, symmetric=False)
    scene = make_scene(face, geometry)
    view = render_view(scene, -30, 0)
    seen, hidden = errors(scene, view, symmetric=False)
    assert seen.mean() < 0.01
    assert hidden.mean() > 0.02  # nobody can know it
    assert view.coverage < 0.75


def test_turning_away_from_the_photograph_lowers_the_coverage() -> None:
    face, geometry = photographed(yaw=20)
    scene = make_scene(face, geometry)
    coverages = [render_view(scene, yaw, 0).coverage for yaw in (20, -10, -40)]
    assert 1 >= coverages[0] > coverages[1] + 0.05 > coverages[2] + 0.1 > 0.1


def test_the_photographs_own_angles_give_the_photograph_back() -> None:
    face, geometry = photographed(yaw=8, pitch=-5, roll=6)
    scene = make_scene(face, geometry)
    yaw, pitch, _ = scene.pose.yaw_pitch_roll
    again = render_view(scene, yaw, pitch)
    middle = slice(110, 420)
    assert np.abs(again.crop - face.crop)[middle, middle].mean() < 0.004
    assert again.coverage > 0.9


@pytest.mark.parametrize("angles", [(-30, 0), (40, 10), (0, -20)])
def test_a_view_is_framed_like_every_face_crop(angles: tuple[float, float]) -> None:
    face, geometry = photographed(roll=-7)
    view = render_view(make_scene(face, geometry), *angles)
    yaw, pitch, roll = view.pose.yaw_pitch_roll
    assert abs(yaw - angles[0]) < 3
    assert abs(pitch - angles[1]) < 6  # levelling the eyes of a turned and raised head tilts it a little
    assert abs(roll) < 12
    placed = view.pose.project(keypoints())[:, :2]
    assert np.abs(placed - TEMPLATE).mean() < 25
    assert np.abs(placed[:, 1] - TEMPLATE[:, 1]).max() < 40


def test_a_padded_crop_gives_equally_padded_views() -> None:
    face, geometry = photographed()
    wide = widen(face.matrix.astype(np.float64), 0.3)
    padded = replace(face, matrix=wide.astype(np.float32), crop=warp_crop(face.photograph, wide))
    plain_view, wide_view = (render_view(make_scene(one, geometry), 20, 0) for one in (face, padded))
    assert wide_view.pose.scale == pytest.approx(plain_view.pose.scale / 1.6, rel=0.01)
    assert wide_view.coverage == pytest.approx(plain_view.coverage, abs=0.02)


def test_the_surroundings_stay_in_the_picture() -> None:
    face, geometry = photographed()
    crop = render_view(make_scene(face, geometry), 30, 0).crop
    assert np.isfinite(crop).all()
    corners = np.stack([crop[5, 5], crop[5, -6], crop[-6, 5], crop[-6, -6]])
    np.testing.assert_allclose(corners, np.broadcast_to([0.55, 0.6, 0.7], (4, 3)), atol=0.02)


def test_a_mesh_saved_inside_out_renders_the_same() -> None:
    face, geometry = photographed()
    turned_out = replace(geometry, triangles=geometry.triangles[:, ::-1])
    one, other = (render_view(make_scene(face, mesh), 30, 0) for mesh in (geometry, turned_out))
    np.testing.assert_allclose(one.crop, other.crop, atol=0.02)
    assert other.coverage == pytest.approx(one.coverage, abs=1e-3)


def test_a_pose_follows_the_pixels() -> None:
    pose = HeadPose(rotation_from_angles(20, -10, 5), 900.0, np.array([150.0, 80.0]))
    turn = np.radians(25)
    matrix = 1.7 * np.array([[np.cos(turn), -np.sin(turn), 4.0], [np.sin(turn), np.cos(turn), -9.0]])
    points = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32) * 0.1
    before, after = pose.project(points), moved_pose(pose, matrix).project(points)
    np.testing.assert_allclose(after[:, :2], before[:, :2] @ matrix[:, :2].T + matrix[:, 2], atol=1e-2)
    np.testing.assert_allclose(after[:, 2], before[:, 2] * 1.7, atol=1e-2)


def test_unknown_parts_are_filled_smoothly_between_known_ones() -> None:
    across = np.linspace(0, 1, 64, dtype=np.float32)
    image = np.broadcast_to(across[None, :, None], (48, 64, 3)).copy()
    weight = np.ones((48, 64), np.float32)
    weight[:, 20:44] = 0
    image[weight == 0] = 9.0  # whatever stood there must not matter
    filled = diffuse(image, weight)
    np.testing.assert_array_equal(filled[weight == 1], image[weight == 1])
    assert np.abs(filled[:, 20:44] - across[20:44, None]).max() < 0.12
    assert not diffuse(image, np.zeros_like(weight)).any()


def test_impossible_requests_are_refused_in_one_sentence() -> None:
    face, geometry = photographed()
    with pytest.raises(InputError, match="75°"):
        render_view(make_scene(face, geometry), 90, 0)
    with pytest.raises(InputError, match="no pose"):
        make_scene(face, replace(geometry, pose=None))
    elsewhere = HeadPose(np.eye(3), 1500.0, np.array([5000.0, 0.0]))
    with pytest.raises(InputError, match="this very face"):
        make_scene(face, replace(geometry, pose=elsewhere))
    beside = HeadPose(np.eye(3), 300.0, np.array([20.0, 20.0]))
    with pytest.raises(InputError, match="different places"):
        make_scene(face, FaceGeometry(geometry.vertices, geometry.triangles, "free", beside))
