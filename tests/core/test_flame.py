"""Blend skinning behaves as a head does: shapes add up, the jaw turns alone, the whole head turns rigidly."""

import numpy as np
import pytest

from fantasyid_core.errors import InputError
from fantasyid_core.geometry.flame import Flame, flame_vertices, root_joint, rotation_matrices

RNG = np.random.default_rng(0)
COUNT = 40


def model(pose_scale: float = 0.0) -> Flame:
    """Forty vertices: the first ten hang on the jaw, the next ten on the neck, the rest on the root."""
    skinning = np.zeros((COUNT, 5))
    skinning[:10, 2] = skinning[10:20, 1] = skinning[20:, 0] = 1
    regressor = RNG.random((5, COUNT))
    return Flame(
        RNG.normal(size=(COUNT, 3)) * 0.1,
        np.array([[0, 1, 2]]),
        RNG.normal(size=(COUNT, 3, 100)) * 1e-3,
        RNG.normal(size=(COUNT, 3, 50)) * 1e-3,
        RNG.normal(size=(COUNT, 3, 36)) * pose_scale,
        regressor / regressor.sum(axis=1, keepdims=True),
        skinning,
    )


def test_without_coefficients_the_mesh_is_the_template():
    flame = model()
    np.testing.assert_array_equal(flame_vertices(flame, np.zeros((1, 100)))[0], flame.template)


def test_shape_and_expression_add_up():
    flame = model()
    shape, expression = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 2))
    expected = (
        flame.template
        + np.einsum("bk,vck->bvc", shape, flame.shape_basis[..., :3])
        + np.einsum("bk,vck->bvc", expression, flame.expression_basis[..., :2])
    )
    np.testing.assert_allclose(flame_vertices(flame, shape, expression), expected, atol=1e-6)


def test_the_head_turns_rigidly_about_its_root():
    flame, turn = model(), np.array([[0.3, -0.5, 0.2, 0, 0, 0]])
    rotation = rotation_matrices(turn[:, :3])[0]
    root = root_joint(flame, np.zeros((1, 1)))[0]
    posed = flame_vertices(flame, np.zeros((1, 1)), pose=turn)[0]
    np.testing.assert_allclose(posed, (flame.template - root) @ rotation.T + root, atol=1e-6)


def test_the_jaw_moves_what_hangs_on_it_and_nothing_else():
    flame, open_ = model(), np.array([[0, 0, 0, 0.3, 0, 0]])
    moved = np.abs(flame_vertices(flame, np.zeros((1, 1)), pose=open_)[0] - flame.template).max(axis=1)
    assert (moved[:10] > 1e-3).all() and moved[10:].max() < 1e-6


def test_rotations_are_rotations_also_at_no_angle():
    angles = np.array([[0, 0, 0], [0, 0, np.pi / 2], [1e-9, 0, 0], [2, -1, 3]])
    matrices = rotation_matrices(angles)
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (4, 3, 3)), atol=1e-6)
    np.testing.assert_allclose(matrices[0], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(matrices[1] @ [1, 0, 0], [0, 1, 0], atol=1e-6)


@pytest.mark.parametrize("shape", [np.zeros((1, 101)), np.zeros(100), np.full((1, 3), np.nan)])
def test_coefficients_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match="shape"):
        flame_vertices(model(), shape)
