"""Mesh levels and spirals: what they promise on any mesh, and what a damaged file says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fantasyid_core.errors import CheckpointError, InputError
from fantasyid_core.geometry.decimate import build_hierarchy, decimate
from fantasyid_core.geometry.head import HEAD_TOPOLOGY, load_head
from fantasyid_core.geometry.head_hierarchy import load_head_hierarchy
from fantasyid_core.geometry.hierarchy import MeshHierarchy, load_hierarchy, save_hierarchy
from fantasyid_core.geometry.spirals import OneRings, build_spirals


def grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] and triangles [F, 3] of a sheet that faces +z, counter-clockwise."""
    y, x = np.mgrid[:rows, :columns]
    vertices = np.stack([x.ravel(), -y.ravel(), 0 * x.ravel()], axis=1).astype(np.float32)
    at = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (at[:-1, :-1], at[1:, :-1], at[1:, 1:], at[:-1, 1:]))
    return vertices, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)


@given(st.integers(3, 7), st.integers(3, 7), st.randoms(use_true_random=False))
def test_rings_are_the_neighbours_clockwise_in_whatever_order_faces_come(rows, columns, random):
    vertices, triangles = grid(rows, columns)
    order = list(range(len(triangles)))
    random.shuffle(order)
    rings = OneRings(triangles[order], len(vertices))
    assert rings.rejected == []
    for vertex in range(len(vertices)):
        ring = rings.of(vertex)
        touching = triangles[(triangles == vertex).any(axis=1)]
        assert sorted(ring) == sorted(set(touching.ravel().tolist()) - {vertex})
        arms = (vertices[ring] - vertices[vertex])[:, :2]
        turns = np.diff(np.unwrap(np.arctan2(arms[:, 1], arms[:, 0])))
        assert (turns < 0).all()  # clockwise, and at the border no jump over the gap
        assert turns.sum() > -2 * np.pi


def test_a_face_that_would_make_an_edge_of_three_faces_is_left_out():
    rings = OneRings(np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]]), 5)
    assert rings.rejected == [2]
    assert rings.of(4) == [] and sorted(rings.of(0)) == [1, 2, 3]


def test_a_spiral_is_the_vertex_its_ring_and_the_ring_behind():
    vertices, triangles = grid(7, 7)
    spirals = build_spirals(triangles, len(vertices))
    rings = OneRings(triangles, len(vertices))
    assert spirals.shape == (49, 9) and (spirals[:, 0] == np.arange(49)).all()
    assert all(len(set(row)) == 9 for row in spirals.tolist())
    middle = spirals[24].tolist()
    assert middle[1:7] == rings.of(24)
    assert all(any(v in rings.of(inner) for inner in middle[1:7]) for v in middle[7:])


def test_an_island_smaller_than_a_spiral_takes_the_nearest_vertices():
    vertices, triangles = grid(5, 5)
    far = np.array([[100, 0, 0], [101, 0, 0], [100, 1, 0]], np.float32)
    vertices = np.concatenate([vertices, far])
    triangles = np.concatenate([triangles, [[25, 26, 27]]])
    with pytest.raises(InputError, match="positions"):
        build_spirals(triangles, 28)
    spiral = build_spirals(triangles, 28, vertices=vertices)[25]
    assert spiral[0] == 25 and set(spiral[1:3]) == {26, 27} and len(set(spiral.tolist())) == 9


@pytest.fixture
def hierarchy():
    vertices, triangles = grid(4, 4)
    spirals = build_spirals(triangles, 16)
    down = np.array([0, 3, 5, 10, 12, 15], np.int32)
    index = np.tile(np.array([0, 1, 2], np.int32), (16, 1))
    weight = np.tile(np.array([0.5, 0.7, -0.2], np.float32), (16, 1))
    return MeshHierarchy("sheet", (spirals,), (down,), (index,), (weight,), vertices, triangles)


def test_levels_come_back_from_their_file(hierarchy, tmp_path):
    path = tmp_path / "mesh_hierarchy.safetensors"
    save_hierarchy(hierarchy, path)
    read = load_hierarchy(path)
    assert read.topology == "sheet" and read.level_sizes == (16, 6)
    for name in ("spirals", "down", "up_index", "up_weight"):
        np.testing.assert_array_equal(getattr(read, name)[0], getattr(hierarchy, name)[0])
    np.testing.assert_array_equal(read.template, hierarchy.template)
    np.testing.assert_array_equal(read.coarse_vertices, hierarchy.down[0])


def test_a_frozen_hierarchy_cannot_be_written_into(hierarchy):
    with pytest.raises(ValueError, match="read-only"):
        hierarchy.down[0][0] = 7


@pytest.mark.parametrize(
    "change",
    [
        {"topology": ""},
        {"spirals": ()},
        {"down": (np.array([0, 16]),)},
        {"down": (np.array([0.0, 1.0]),)},
        {"up_index": (np.full((16, 3), 6),)},
        {"up_weight": (np.full((16, 3), np.nan),)},
        {"up_weight": (np.ones((15, 3)),)},
        {"spirals": (np.full((16, 9), 16),)},
        {"template": np.zeros((15, 3))},
        {"triangles": np.array([[0, 1, 16]])},
    ],
)
def test_levels_that_do_not_fit_are_refused(hierarchy, change):
    fields = {name: getattr(hierarchy, name) for name in hierarchy.__dataclass_fields__}
    with pytest.raises(InputError):
        MeshHierarchy(**{**fields, **change})


def test_other_and_damaged_files_are_refused(hierarchy, tmp_path):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\x80\x02}.")
    with pytest.raises(CheckpointError, match="mesh hierarchy"):
        load_hierarchy(path)
    save_file({"w": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a FantasyID mesh hierarchy"):
        load_hierarchy(path)
    save_hierarchy(hierarchy, path)
    tensors = load_file(path)
    del tensors["down.0"]
    save_file(tensors, path, metadata={"format": "fantasyid-mesh-hierarchy-1", "topology": "sheet"})
    with pytest.raises(CheckpointError, match="damaged"):
        load_hierarchy(path)


def up_again(hierarchy: MeshHierarchy, vertices: np.ndarray) -> np.ndarray:
    """Down to the coarsest level and back."""
    for picks in hierarchy.down:
        vertices = vertices[picks]
    for index, weight in zip(hierarchy.up_index[::-1], hierarchy.up_weight[::-1], strict=True):
        vertices = (vertices[index] * weight[..., None]).sum(axis=1)
    return vertices


def edge_counts(triangles: np.ndarray) -> np.ndarray:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)[1]


def test_a_flat_sheet_shrinks_without_loss_and_keeps_its_corners():
    vertices, triangles = grid(9, 9)
    hierarchy = build_hierarchy(vertices, triangles, (40, 20), "sheet")
    assert hierarchy.level_sizes == (81, 40, 20) and len(hierarchy.spirals) == 2
    assert {0, 8, 72, 80} <= set(hierarchy.coarse_vertices.tolist())
    np.testing.assert_allclose(up_again(hierarchy, vertices), vertices, atol=1e-5)


def test_a_closed_mesh_stays_closed_and_keeps_its_parts():
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(3)
    vertices = np.concatenate([ball.vertices, ball.vertices * 0.2 + [2, 0, 0]])
    triangles = np.concatenate([ball.faces, ball.faces + len(ball.vertices)]).astype(np.int32)
    picks, coarse = decimate(vertices, triangles, 120)
    assert len(picks) == 120 and (edge_counts(coarse) == 2).all()
    assert 4 <= (picks >= len(ball.vertices)).sum() < 60  # the small ball costs less, but does not vanish
    far = trimesh.Trimesh(vertices[picks], coarse, process=False)
    assert far.is_winding_consistent and far.volume > 0.8 * ball.volume


def test_what_is_important_keeps_more_vertices():
    rng = np.random.default_rng(0)
    vertices, triangles = grid(15, 15)
    vertices = vertices + rng.normal(size=vertices.shape).astype(np.float32) * 0.1
    left = vertices[:, 0] < 7
    plain, _ = decimate(vertices, triangles, 60)
    dear, _ = decimate(vertices, triangles, 60, np.where(left, 100.0, 1.0))
    assert left[dear].sum() > left[plain].sum() + 8


def test_a_mesh_that_cannot_shrink_so_far_says_so():
    vertices, triangles = grid(3, 3)
    with pytest.raises(InputError, match="cannot be reduced"):
        decimate(vertices, triangles, 1)


def test_our_own_head_has_three_levels_of_its_own_vertices():
    head, hierarchy = load_head(), load_head_hierarchy()
    assert hierarchy.topology == head.topology == HEAD_TOPOLOGY
    assert hierarchy.level_sizes == (len(head.base), round(len(head.base) / 4), round(len(head.base) / 16))
    assert all((spirals[:, 0] == np.arange(len(spirals))).all() for spirals in hierarchy.spirals)
    np.testing.assert_array_equal(
        hierarchy.spirals[0], build_spirals(head.triangles, len(head.base), vertices=head.base)
    )
    assert np.abs(up_again(hierarchy, head.base) - head.base).max() < 0.02  # metres, of a head 0.26 high
    landmarks = head.landmarks(head.base)
    picks = head.base[hierarchy.coarse_vertices]
    near = np.linalg.norm(picks[:, None] - landmarks, axis=2).min(axis=1) < 0.01
    assert near.mean() > 0.45  # half of the coarse vertices are on the face
