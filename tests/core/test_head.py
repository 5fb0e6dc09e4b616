"""The parametric head: a clean mesh, plausible people, expressions that do what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from fantasyid_core.errors import CheckpointError, InputError, MissingFileError
from fantasyid_core.geometry import head as head_module
from fantasyid_core.geometry.head import BUST_TOPOLOGY, HEAD_TOPOLOGY, load_head

HEAD = load_head()
EYE = 72  # vertices of one eyeball; the right one comes before the left one, both last


def expression(**weights):
    vector = np.zeros(len(HEAD.expression_names))
    for name, weight in weights.items():
        vector[HEAD.expression_names.index(name)] = weight
    return HEAD.vertices(expression=vector)


def directed_edges(triangles):
    return triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)


def test_the_mesh_has_the_size_its_topology_names():
    assert HEAD_TOPOLOGY.endswith(f"-{len(HEAD.base)}") and HEAD.topology == HEAD_TOPOLOGY
    assert HEAD.triangles.max() == len(HEAD.base) - 1 and len(np.unique(HEAD.triangles)) == len(HEAD.base)


def test_the_mesh_is_an_orientable_manifold_open_only_at_neck_and_eyelids():
    edges = directed_edges(HEAD.triangles)
    assert len(np.unique(edges, axis=0)) == len(edges)  # no edge is run twice the same way
    undirected, uses = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    assert uses.max() == 2
    border = HEAD.base[undirected[uses == 1]].mean(axis=1)  # [B, 3]
    near_eyes = np.linalg.norm(np.abs(border) - [0.03, 0.003, 0.013], axis=1) < 0.025
    assert (near_eyes | (border[:, 1] < -0.08)).all() and near_eyes.any() and not near_eyes.all()


def test_triangles_face_outwards():
    corners = HEAD.base[HEAD.triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    outwards = np.einsum("fd,fd->f", normals, corners.mean(axis=1) - [0, -0.02, -0.08]) > 0
    assert outwards.mean() > 0.9  # ears and nostrils fold inwards in places


def test_the_head_is_in_metres_looks_along_z_and_has_its_origin_between_the_eyes():
    height = np.ptp(HEAD.base[:, 1])
    assert 0.2 < height < 0.35 and 0.13 < np.ptp(HEAD.base[:, 0]) < 0.2
    nose = HEAD.base[HEAD.base[:, 2].argmax()]
    assert abs(nose[0]) < 0.002 and -0.06 < nose[1] < -0.02
    right, left = HEAD.base[-2 * EYE : -EYE].mean(axis=0), HEAD.base[-EYE:].mean(axis=0)
    assert np.allclose(right + left, 0, atol=1e-4) and 0.055 < left[0] - right[0] < 0.07


def test_left_and_right_are_mirror_images_in_the_mean_head():
    mirrored = HEAD.base * [-1, 1, 1]
    nearest = [np.linalg.norm(HEAD.base - point, axis=1).min() for point in mirrored[::17]]
    assert max(nearest) < 0.0005


def test_neighbours_in_the_vertex_list_are_neighbours_on_the_head():
    skin = HEAD.base[: -2 * EYE]
    step = np.linalg.norm(np.diff(skin, axis=0), axis=1)
    shuffled = np.linalg.norm(skin - np.random.default_rng(0).permutation(skin), axis=1)
    assert np.median(step) < 0.006 and np.median(step) < np.median(shuffled) / 15


def test_the_bust_begins_with_the_head_and_holds_what_a_portrait_needs():
    bust = load_head(whole=True)
    assert bust.topology == BUST_TOPOLOGY == f"makehuman-bust-{len(bust.base)}"
    assert np.array_equal(bust.base[: len(HEAD.base)], HEAD.base)
    assert np.array_equal(bust.triangles[: len(HEAD.triangles)], HEAD.triangles)
    present = {bust.region_names[number] for number in np.unique(bust.region)}
    assert present == set(bust.region_names) >= {"eyes", "upper teeth", "lower teeth", "tongue", "lashes", "hair"}


def test_the_jaw_takes_lower_teeth_and_tongue_along():
    bust = load_head(whole=True)
    opened = np.zeros(len(bust.expression_names))
    opened[bust.expression_names.index("jawOpen")] = 1
    drop = (bust.vertices() - bust.vertices(expression=opened))[:, 1]

    def of(region):
        return drop[np.unique(bust.triangles[bust.region == bust.region_names.index(region)])].mean()

    assert of("lower teeth") > 0.01 and of("tongue") > 0.005 and abs(of("upper teeth")) < 0.001


def test_there_are_the_52_arkit_expressions_and_they_move_the_right_side():
    assert len(HEAD.expression_names) == 52
    for side, sign in (("Left", 1), ("Right", -1)):
        moved = np.linalg.norm(expression(**{f"eyeBlink{side}": 1}) - HEAD.base, axis=1) > 0.002
        assert moved.any() and (HEAD.base[moved, 0] * sign > 0).all()


def test_a_smile_lifts_and_widens_the_mouth():
    lips = np.unique(HEAD.triangles[HEAD.region == HEAD.region_names.index("lips")])
    smile = expression(mouthSmileLeft=1, mouthSmileRight=1)
    corner = lips[HEAD.base[lips, 0].argmax()]
    assert smile[corner, 1] > HEAD.base[corner, 1] + 0.003
    assert np.ptp(smile[lips, 0]) > np.ptp(HEAD.base[lips, 0]) + 0.003


def test_random_people_differ_from_each_other_and_are_still_people():
    generator = np.random.default_rng(7)
    people = np.stack([HEAD.vertices(HEAD.random_shape(generator)) for _ in range(40)])  # [40, V, 3]
    spread = np.linalg.norm(people - people.mean(axis=0), axis=2).mean()
    assert 0.002 < spread < 0.008
    right, left = people[:, -2 * EYE : -EYE].mean(axis=1), people[:, -EYE:].mean(axis=1)
    assert np.abs(right + left).max() < 3e-4  # the frame stays between the eyes
    assert ((left - right)[:, 0] > 0.05).all() and ((left - right)[:, 0] < 0.075).all()
    assert (np.ptp(people[..., 1], axis=1) < 0.36).all()


def test_shape_coefficients_of_random_people_have_unit_deviation():
    generator = np.random.default_rng(3)
    shapes = np.stack([HEAD.random_shape(generator) for _ in range(1500)])
    assert np.allclose(shapes.std(axis=0), 1, atol=0.12) and np.abs(shapes.mean(axis=0)).max() < 0.15
    assert np.abs(HEAD.random_shape(generator, spread=0.0)).max() == 0


def test_targets_by_name_do_what_they_say():
    fat, lean = (HEAD.vertices(HEAD.shape_of_targets({f"head-fat-{way}": 1.0})) for way in ("incr", "decr"))
    cheeks = (np.abs(HEAD.base[:, 1] + 0.06) < 0.01) & (HEAD.base[:, 2] > -0.04)
    assert np.ptp(fat[cheeks, 0]) > np.ptp(lean[cheeks, 0]) + 0.008
    everyone = HEAD.shape_of_targets({name: 1 / len(HEAD.macro_names) for name in HEAD.macro_names})
    assert np.abs(everyone).max() < 1e-4  # the mean of all is the mean head
    with pytest.raises(InputError, match="no target 'ears-of-an-elf'"):
        HEAD.shape_of_targets({"ears-of-an-elf": 1.0})


def test_the_components_carry_almost_every_target():
    arrays, _ = head_module._read(head_module.HEAD_FILE)
    targets = head_module._dense(arrays, "shape", len(HEAD.base))  # [T, V, 3]
    found = np.tensordot(HEAD.projection[:, : len(targets)].T, HEAD.shape_basis, axes=1)
    alike = (targets * found).sum(axis=(1, 2)) / np.linalg.norm(targets, axis=(1, 2)) ** 2
    assert np.median(alike) > 0.85 and (alike > 0.5).mean() > 0.6  # what is small and far from the face is lost


def test_landmarks_lie_on_the_skin_where_their_numbers_say():
    points = HEAD.landmarks(HEAD.base)
    assert np.linalg.norm(HEAD.base[:, None] - points[None, ::9], axis=2).min(axis=0).max() < 0.008
    left, right = points[263], points[33]
    assert left[0] > 0.035 and np.allclose(left * [-1, 1, 1], right, atol=0.001)
    assert points[1, 2] > HEAD.base[:, 2].max() - 0.004  # nose tip
    assert points[152, 1] < points[17, 1] < points[0, 1] < points[1, 1] < points[10, 1]  # chin … forehead
    assert np.allclose(points[61] * [-1, 1, 1], points[291], atol=0.001)
    assert np.linalg.norm(HEAD.landmark_offset, axis=1).max() < 0.03


def test_a_coefficient_vector_of_another_length_is_refused():
    with pytest.raises(InputError, match="expression coefficients must have the shape 52"):
        HEAD.vertices(expression=np.zeros(51))


def test_a_missing_or_damaged_asset_is_named(tmp_path, monkeypatch):
    load = load_head.__wrapped__
    monkeypatch.setattr(head_module, "HEAD_FILE", tmp_path / "head.safetensors")
    with pytest.raises(MissingFileError, match=r"head\.safetensors .* is missing"):
        load()
    (tmp_path / "head.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"head\.safetensors is damaged"):
        load()


def test_the_shared_head_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        HEAD.base[0] = 0
