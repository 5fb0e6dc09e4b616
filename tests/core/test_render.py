"""The pictures of a mesh that an artist looks at."""

from __future__ import annotations

import numpy as np
import pytest

from fantasyid_core.errors import InputError
from fantasyid_core.geometry.geometry import FaceGeometry, HeadPose, rotation_from_angles
from fantasyid_core.geometry.rasterise import rasterise
from fantasyid_core.geometry.render import overlay_mesh, render_mesh, vertex_normals


def ball(pose: HeadPose | None = None, columns: int = 32, rows: int = 17) -> FaceGeometry:
    """A sphere of 10 cm with a nose: a spike towards +z."""
    angle, tilt = np.meshgrid(np.linspace(0, 2 * np.pi, columns, endpoint=False), np.linspace(0, np.pi, rows))
    vertices = np.stack([np.cos(angle) * np.sin(tilt), np.cos(tilt), np.sin(angle) * np.sin(tilt)], axis=-1)
    vertices = vertices.reshape(-1, 3) * 0.1
    vertices[np.argmax(vertices[:, 2])] *= 1.5
    grid = np.arange(columns * rows).reshape(rows, columns)
    a, b, c, d = grid[:-1], np.roll(grid, -1, 1)[:-1], grid[1:], np.roll(grid, -1, 1)[1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (b, d, c))]).astype(np.int32)
    return FaceGeometry(vertices, triangles, "free", pose)


def test_normals_point_outwards_with_y_up() -> None:
    mesh = ball()
    points = mesh.vertices * np.array([100, -100, 100], np.float32)  # as a camera would: y runs down
    outwards = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    normals = vertex_normals(points, mesh.triangles)
    cosine = (normals * outwards).sum(axis=1)
    assert np.median(cosine) > 0.99
    assert cosine.min() > 0.5


def test_the_preview_shows_the_mesh_in_the_middle_of_a_light_background() -> None:
    picture = render_mesh(ball(), 96)
    assert picture.shape == (96, 96, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1
    brightness = picture.mean(axis=-1)
    assert brightness[:6].min() > 0.8  # the wall
    assert brightness[40:56, 40:56].mean() < brightness[:6].mean()
    assert brightness[25:45, 20:45].mean() > brightness[60:80, 55:75].mean() + 0.05  # lit from above left


@pytest.mark.parametrize(
    ("yaw", "pitch", "side"), [(60, 0, "right"), (-60, 0, "left"), (0, 60, "up"), (0, -60, "down")]
)
def test_the_nose_turns_to_where_it_is_asked(yaw: float, pitch: float, side: str) -> None:
    mesh = ball()
    red = np.full(mesh.vertices.shape, 0.9, np.float32)
    red[np.linalg.norm(mesh.vertices, axis=1) > 0.12] = [1, 0, 0]
    picture = render_mesh(mesh, 96, yaw, pitch, colours=red)
    rows, columns = np.nonzero(picture[..., 0] - picture[..., 1] > 0.25)
    moved = {"right": columns.mean() - 47.5, "left": 47.5 - columns.mean(), "up": 47.5 - rows.mean()}
    moved["down"] = rows.mean() - 47.5
    assert moved[side] > 15
    assert max(moved, key=lambda name: moved[name]) == side


def test_the_preview_does_not_depend_on_the_meshs_unit() -> None:
    mesh = ball()
    giant = FaceGeometry(mesh.vertices * 1000 + 7, mesh.triangles, "free")
    np.testing.assert_allclose(render_mesh(mesh, 64, 20), render_mesh(giant, 64, 20), atol=0.02)


def test_a_mesh_turned_inside_out_looks_dark() -> None:
    mesh = ball()
    inside = FaceGeometry(mesh.vertices, mesh.triangles[:, ::-1], "free")
    middle = slice(24, 40)
    assert render_mesh(inside, 64)[middle, middle].mean() < 0.75 * render_mesh(mesh, 64)[middle, middle].mean()


def test_the_overlay_lies_where_the_pose_says_and_leaves_the_rest_alone() -> None:
    pose = HeadPose(rotation_from_angles(10, 5, 0), 200.0, np.array([70.0, 50.0]))
    mesh = ball(pose)
    photograph = np.random.default_rng(0).random((100, 120, 3)).astype(np.float32)
    picture = overlay_mesh(photograph, mesh)
    changed = np.abs(picture - photograph).max(axis=-1) > 1e-6
    covered = rasterise(pose.project(mesh.vertices), mesh.triangles, 100, 120).covered
    assert (changed & covered).sum() > 0.99 * covered.sum()
    assert (changed & ~covered).sum() < 200  # the softened outline, no more
    assert not changed[:, :25].any()


def test_a_mesh_outside_the_photograph_leaves_it_as_it_is() -> None:
    pose = HeadPose(np.eye(3), 200.0, np.array([900.0, 900.0]))
    photograph = np.full((50, 60, 3), 0.3, np.float32)
    np.testing.assert_array_equal(overlay_mesh(photograph, ball(pose)), photograph)


def test_a_mesh_without_a_pose_cannot_be_laid_over_a_photograph() -> None:
    with pytest.raises(InputError, match="no pose"):
        overlay_mesh(np.zeros((50, 60, 3), np.float32), ball())


def test_wrong_colours_and_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="one per vertex"):
        render_mesh(ball(), 64, colours=np.zeros((3, 3), np.float32))
    with pytest.raises(InputError, match="1×1"):
        render_mesh(ball(), 0)
