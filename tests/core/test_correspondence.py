"""Our head is carried over to another topology: the mean becomes the mean, a person's difference arrives."""

import dataclasses

import numpy as np
import pytest

from fantasyid_core.errors import CheckpointError, InputError
from fantasyid_core.geometry import correspondence as module
from fantasyid_core.geometry.correspondence import correspondence_with, register, to_flame_topology
from fantasyid_core.geometry.decimate import decimate
from fantasyid_core.geometry.geometry import FaceGeometry, HeadPose, rotation_from_angles
from fantasyid_core.geometry.head import load_head
from fantasyid_core.geometry.hierarchy import MeshHierarchy

HEAD = load_head()
NEUTRAL = HEAD.geometry(source="our head")
SCALE, TURN, SHIFT = 1.08, rotation_from_angles(3, -4, 2), np.array([0.01, -0.02, 0.03], np.float32)


def other_head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head of another topology whose true correspondence is known.

    Our mesh with a third of its vertices left out, bent smoothly by some millimetres, then turned, scaled and moved.
    Returns vertices [V, 3], triangles [F, 3], and which of our vertices they are, [V].
    """
    picks, triangles = decimate(HEAD.base, HEAD.triangles, 2000)
    points = HEAD.base[picks]
    bent = points + 0.004 * np.sin(points[:, [1, 2, 0]] * 25 + [0.5, 1.0, 2.0])
    return (bent @ TURN.T / SCALE + SHIFT).astype(np.float32), triangles, picks


@pytest.fixture(scope="module")
def laid():
    vertices, triangles, _ = other_head()
    return register(NEUTRAL, vertices, triangles, "other")


def test_every_vertex_finds_its_place_on_our_head(laid):
    _, _, picks = other_head()
    error = np.linalg.norm(laid.rest - HEAD.base[picks], axis=1) * 1e3
    face = HEAD.base[picks][:, 2] > -0.03
    print(f"true correspondence: median {np.median(error):.2f} mm, on the face {np.median(error[face]):.2f} mm")
    assert np.median(error) < 4 and np.median(error[face]) < 3
    assert laid.distance < 1e-3 and laid.matched.mean() > 0.8


def test_our_mean_head_becomes_the_other_mean_head(laid):
    carried = to_flame_topology(NEUTRAL, laid)
    np.testing.assert_allclose(carried.vertices, laid.template, atol=1e-6)
    assert carried.topology == "other" and "carried over" in carried.source


def test_size_and_place_in_space_do_not_matter(laid):
    moved = FaceGeometry(
        NEUTRAL.vertices @ rotation_from_angles(8, 0, 3).T * 1.2 + 0.05, NEUTRAL.triangles, NEUTRAL.topology
    )
    np.testing.assert_allclose(to_flame_topology(moved, laid).vertices, laid.template, atol=1e-6)


def test_a_persons_difference_arrives_with_its_depth(laid):
    """Against what the true correspondence would have carried over; z is what the release's network reads."""
    _, _, picks = other_head()
    errors, sizes = [], []
    for seed in range(5):
        person = HEAD.geometry(HEAD.random_shape(np.random.default_rng(seed)))
        true = dataclasses.replace(laid, **exact_places(picks))
        expected, carried = (to_flame_topology(person, c).vertices for c in (true, laid))
        on_head = laid.matched > 0
        errors.append((carried - expected)[on_head, 2])
        sizes.append((expected - laid.template)[on_head, 2])
    error, size = (float(np.sqrt(np.mean(np.square(part)))) * 1e3 for part in (errors, sizes))
    print(f"z of a person's difference: {size:.2f} mm rms, error {error:.2f} mm rms")
    assert error < 0.4 * size


def exact_places(picks: np.ndarray) -> dict:
    """The fields of a correspondence that puts each vertex where it truly belongs."""
    flat = HEAD.triangles.ravel()
    first = {int(vertex): at for at, vertex in reversed(list(enumerate(flat)))}
    at = np.array([first[int(vertex)] for vertex in picks])
    return {"triangle": at // 3, "barycentric": np.eye(3, dtype=np.float32)[at % 3], "rest": HEAD.base[picks]}


def test_an_eyeball_moves_as_a_whole(laid):
    person = HEAD.geometry(HEAD.random_shape(np.random.default_rng(1)))
    moved = to_flame_topology(person, laid).vertices - laid.template
    assert laid.part.max() == 2
    for number in (1, 2):
        assert np.ptp(moved[laid.part == number], axis=0).max() < 1e-6


def test_the_carried_mesh_lies_where_the_fitted_one_lies_in_the_photograph(laid):
    pose = HeadPose(rotation_from_angles(20, -10, 5), 1500.0, np.array([400.0, 300.0]))
    person = HEAD.geometry(HEAD.random_shape(np.random.default_rng(2)), pose=pose)
    carried = to_flame_topology(person, laid)
    corners = person.vertices[person.triangles[laid.triangle]]
    ours = pose.project(np.einsum("vc,vcd->vd", laid.barycentric, corners))[:, :2]
    theirs = carried.pose.project(carried.vertices)[:, :2]
    away = np.linalg.norm(ours - theirs, axis=1)[laid.matched > 0]
    assert np.median(away) < 12  # pixels, of a head 400 high: the heads differ by a few millimetres
    assert carried.pose.yaw_pitch_roll != pose.yaw_pitch_roll


def test_the_registration_is_kept_and_not_repeated(laid, tmp_path, monkeypatch):
    vertices, triangles, _ = other_head()
    index = np.zeros((len(vertices), 3), np.int32)
    spirals = np.zeros((len(vertices), 9), np.int32)
    hierarchy = MeshHierarchy(
        "other", (spirals,), (np.array([0, 1]),), (index,), (index.astype(np.float32),), vertices, triangles
    )
    calls = []
    monkeypatch.setattr(module, "register", lambda *arguments: calls.append(arguments) or laid)
    cache = tmp_path / module.CACHE_NAME
    for _ in range(2):
        made = correspondence_with(hierarchy, NEUTRAL, cache)
        np.testing.assert_array_equal(made.barycentric, laid.barycentric)
        assert made.scale == laid.scale and made.target == "other"
    assert len(calls) == 1
    other = FaceGeometry(NEUTRAL.vertices * 1.01, NEUTRAL.triangles, NEUTRAL.topology)
    correspondence_with(hierarchy, other, cache)
    assert len(calls) == 2
    cache.write_bytes(b"damaged")
    correspondence_with(hierarchy, NEUTRAL, cache)
    assert len(calls) == 3
    with pytest.raises(CheckpointError, match="mean mesh"):
        correspondence_with(dataclasses.replace(hierarchy, template=None), NEUTRAL, cache)


def test_another_mesh_is_refused(laid):
    with pytest.raises(InputError, match="topology free"):
        to_flame_topology(FaceGeometry(NEUTRAL.vertices, NEUTRAL.triangles, "free"), laid)


def test_a_mean_mesh_in_other_units_or_without_a_face_is_refused():
    vertices, triangles, _ = other_head()
    with pytest.raises(InputError, match="no head in metres"):
        register(NEUTRAL, vertices * 1000, triangles, "other")
    with pytest.raises(InputError, match="No face was recognised"):
        register(NEUTRAL, vertices * [1, 1, -1], triangles[:, ::-1], "other")
