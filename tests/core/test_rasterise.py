"""The z-buffer shows, in every pixel, the triangle that is really in front there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fantasyid_core.errors import InputError
from fantasyid_core.geometry import rasterise as module
from fantasyid_core.geometry.rasterise import rasterise

SIZE = 24


def brute_force(points: np.ndarray, triangles: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangle index and depth by asking every triangle at every pixel; edge pixels are left out as NaN depth."""
    index = np.full((height, width), -1)
    depth = np.full((height, width), -np.inf)
    for row in range(height):
        for column in range(width):
            for number, (a, b, c) in enumerate(points[triangles].astype(np.float64)):
                system = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [1, 1, 1]])
                if abs(np.linalg.det(system)) < 1e-6:
                    continue
                weights = np.linalg.solve(system, [column, row, 1])
                if np.abs(weights).min() < 1e-5 and weights.min() > -1e-5:
                    depth[row, column] = np.nan
                z = weights @ [a[2], b[2], c[2]]
                if weights.min() > 0 and z > depth[row, column]:
                    index[row, column], depth[row, column] = number, z
    return index, depth


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_of_random_triangles_shows(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = (random.random((18, 3)) * [SIZE + 10, SIZE + 6, 20] - [5, 3, 10]).astype(np.float32)
    triangles = random.integers(0, 18, (12, 3)).astype(np.int32)
    raster = rasterise(points, triangles, SIZE - 3, SIZE)
    index, depth = brute_force(points, triangles, SIZE - 3, SIZE)
    sure = ~np.isnan(depth)
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(raster.triangle_index[sure], index[sure])
    shown = sure & (index >= 0)
    np.testing.assert_allclose(raster.depth[shown], depth[shown], atol=1e-4)
    placed = raster.interpolate(triangles, points)  # a pixel's own position comes back from its weights
    rows, columns = np.nonzero(shown)
    np.testing.assert_allclose(placed[shown], np.stack([columns, rows, depth[shown]], axis=1), atol=1e-3)
    assert np.all(raster.barycentric[raster.triangle_index < 0] == 0)
    assert np.all(np.isneginf(raster.depth[raster.triangle_index < 0]))


quarters = st.integers(-8, 4 * SIZE + 8).map(lambda value: value / 4)  # many centres lie exactly on edges


@settings(max_examples=150, deadline=None)
@given(arrays(np.float32, (2,), elements=quarters), arrays(np.float32, (5,), elements=st.integers(4, 60)))
def test_triangles_round_a_point_leave_no_gap_and_never_overlap(centre: np.ndarray, radii: np.ndarray) -> None:
    directions = np.array([[0, -1], [1, -0.5], [0.5, 1], [-0.5, 1], [-1, -0.25]], np.float32)
    ring = centre + directions * radii[:, None] / 4
    points = np.concatenate([np.concatenate([centre[None], ring]), np.zeros((6, 1))], axis=1).astype(np.float32)
    fan = np.array([[0, k, k % 5 + 1] for k in range(1, 6)], np.int32)
    counts = sum(rasterise(points, fan[k : k + 1], SIZE, SIZE).covered.astype(int) for k in range(5))
    together = rasterise(points, fan, SIZE, SIZE).covered
    assert counts.max() <= 1
    np.testing.assert_array_equal(counts == 1, together)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (7, 3), elements=st.floats(-40, 60, width=32)), st.permutations(range(6)))
def test_the_order_of_triangles_and_corners_changes_nothing(points: np.ndarray, order: list[int]) -> None:
    triangles = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 0, 3], [1, 5, 3], [2, 6, 5]], np.int32)
    straight = rasterise(points, triangles, SIZE, SIZE)
    mixed = rasterise(points, np.roll(triangles[order], 1, axis=1)[:, ::-1], SIZE, SIZE)
    np.testing.assert_array_equal(straight.covered, mixed.covered)
    covered = straight.covered
    np.testing.assert_allclose(straight.depth[covered], mixed.depth[covered], atol=1e-2)
    np.testing.assert_allclose(straight.barycentric[covered].sum(axis=-1), 1, atol=1e-6)
    assert straight.barycentric.min() >= 0


def test_a_square_covers_exactly_its_pixels() -> None:
    points = np.array([[2, 3, 0], [7, 3, 0], [2, 9, 0], [7, 9, 0]], np.float32)
    covered = rasterise(points, np.array([[0, 2, 1], [1, 2, 3]], np.int32), 12, 12).covered
    expected = np.zeros((12, 12), bool)
    expected[3:9, 2:7] = True  # left and top edges belong to it, right and bottom edges do not
    np.testing.assert_array_equal(covered, expected)


def test_a_picture_drawn_in_pieces_is_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(7)
    points = (random.random((40, 3)) * 60 - 5).astype(np.float32)
    triangles = random.integers(0, 40, (50, 3)).astype(np.int32)
    whole = rasterise(points, triangles, 48, 48)
    monkeypatch.setattr(module, "_FRAGMENTS_AT_ONCE", 97)
    pieces = rasterise(points, triangles, 48, 48)
    np.testing.assert_array_equal(whole.triangle_index, pieces.triangle_index)
    np.testing.assert_array_equal(whole.depth, pieces.depth)


def test_of_two_surfaces_at_one_depth_the_first_shows() -> None:
    points = np.array([[0, 0, 1], [9, 0, 1], [0, 9, 1]], np.float32)
    raster = rasterise(points, np.array([[0, 1, 2], [2, 1, 0]], np.int32), 8, 8)
    assert set(np.unique(raster.triangle_index)) == {-1, 0}


def test_a_mesh_beside_the_picture_or_without_area_shows_nothing() -> None:
    points = np.array([[-9, 0, 1], [-5, 0, 1], [-9, 9, 1], [1, 1, 1], [5, 5, 1], [3, 3, 1]], np.float32)
    raster = rasterise(points, np.array([[0, 1, 2], [3, 4, 5], [3, 3, 3]], np.int32), 8, 8)
    assert not raster.covered.any()
    assert not rasterise(points, np.zeros((0, 3), np.int32), 8, 8).covered.any()


@pytest.mark.parametrize(
    ("points", "triangles", "size", "word"),
    [
        (np.zeros((3, 3), np.float32), [[0, 1, 2]], 0, "1×1"),
        (np.zeros((3, 2), np.float32), [[0, 1, 2]], 8, r"\[V, 3\]"),
        (np.full((3, 3), np.nan, np.float32), [[0, 1, 2]], 8, "NaN"),
        (np.zeros((3, 3), np.float32), [[0, 1, 3]], 8, "do not exist"),
    ],
)
def test_an_impossible_mesh_is_refused_in_one_sentence(
    points: np.ndarray, triangles: list, size: int, word: str
) -> None:
    with pytest.raises(InputError, match=word):
        rasterise(points, np.array(triangles, np.int32), size, size)
