"""DECA's encoder and FLAME's skinning give the release's numbers, from files of the official layout."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from golden import assert_same_numbers, golden_arrays, golden_json, golden_tensors
from python2_pickle import Chumpy, dumps

from fantasyid_core.errors import CheckpointError
from fantasyid_core.faces.face import Face
from fantasyid_core.geometry import deca, flame
from fantasyid_core.weights.golden_rule import array_input, fill_module, generator


def flame_arrays() -> dict[str, np.ndarray]:
    """The FLAME-like model of golden/README.md h, under the official names."""

    def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
        return generator(f"input:flame.{name}").standard_normal(shape)

    weights = np.exp(noise("weights", (5023, 5)))
    regressor = np.abs(noise("J_regressor", (5, 5023)))
    return {
        "v_template": 0.1 * noise("v_template", (5023, 3)),
        "shapedirs": 0.001 * noise("shapedirs", (5023, 3, 400)),
        "posedirs": 0.001 * noise("posedirs", (5023, 3, 36)),
        "weights": weights / weights.sum(axis=1, keepdims=True),
        "J_regressor": regressor / regressor.sum(axis=1, keepdims=True),
        "f": golden_arrays("mesh_hierarchy.npz")["face_0"].astype(np.uint32),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], range(5)], dtype=np.uint32),
    }


@pytest.fixture(scope="module")
def flame_file(tmp_path_factory):
    """A ``generic_model.pkl`` as Python 2 wrote it, with chumpy arrays and a scipy matrix."""
    content = flame_arrays()
    for name in ("v_template", "shapedirs", "posedirs", "weights"):
        content[name] = Chumpy(content[name])
    content["J_regressor"] = scipy.sparse.csc_matrix(content["J_regressor"])
    content |= {"bs_style": "lbs", "bs_type": "lrotmin"}
    path = tmp_path_factory.mktemp("flame") / "generic_model.pkl"
    path.write_bytes(dumps(content))
    return path


@pytest.fixture(scope="module")
def model(flame_file):
    return flame.read_flame(flame_file)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """DECA's encoder out of a file of ``deca_model.tar``'s layout."""
    filled = deca.DecaEncoder()
    fill_module(filled, lambda name: f"E_flame.{name}")
    path = tmp_path_factory.mktemp("deca") / "deca_model.tar"
    torch.save({"E_flame": filled.state_dict(), "E_detail": {"x": torch.zeros(2)}}, path)
    return deca.read_deca(path)


def test_the_encoder_has_the_official_keys():
    keys = golden_json("deca_manifest.json")["encoder_keys"]
    ours = {f"E_flame.{name}": list(tensor.shape) for name, tensor in deca.DecaEncoder().state_dict().items()}
    assert ours == keys


@torch.no_grad()
def test_the_encoder_gives_the_released_coefficients(encoder):
    golden = golden_tensors("deca.safetensors")
    image = torch.from_numpy(generator("input:deca.image").random((1, 3, 224, 224)).astype(np.float32))
    assert_same_numbers("encoder_features", encoder.encoder(image), golden["encoder_features"], 1e-5)
    assert_same_numbers("encoder_params", encoder(image), golden["encoder_params"], 1e-5)


def test_skinning_gives_the_released_vertices(model):
    golden = golden_tensors("deca.safetensors")
    vertices = flame.flame_vertices(
        model,
        array_input("flame.shape", (2, 100)),
        array_input("flame.exp", (2, 50)),
        array_input("flame.pose", (2, 6), 0.3),
    )
    assert_same_numbers("verts", torch.from_numpy(vertices), golden["verts"], 1e-6)


def test_zero_pose_is_the_rest_pose(model):
    shape, expression = array_input("flame.shape", (2, 100)), array_input("flame.exp", (2, 50))
    zero = np.zeros((2, 6), dtype=np.float32)
    posed = flame.flame_vertices(model, shape, expression, zero)
    np.testing.assert_allclose(posed, flame.flame_vertices(model, shape, expression), atol=1e-6)


def test_flame_saved_as_safetensors_is_the_same(model, tmp_path):
    path = tmp_path / "flame.safetensors"
    flame.save_flame(model, path)
    shape = array_input("flame.shape", (1, 100))
    np.testing.assert_array_equal(
        flame.flame_vertices(flame.read_flame(path), shape), flame.flame_vertices(model, shape)
    )


def photograph_face() -> Face:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.random((30, 20, 3)), np.ones((10, 10, 1))).astype(np.float32)  # 300 high, 200 wide
    keypoints = np.array([[80, 100], [120, 100], [100, 120], [85, 140], [115, 140]], np.float32)
    return Face(picture, np.array([60, 70, 140, 170]), keypoints, 0.9, np.zeros((512, 512, 3)), np.eye(2, 3))


def test_as_released_squeezes_the_whole_picture_and_keeps_pose_and_expression(encoder, model):
    face = photograph_face()
    geometry = deca.DecaExtractor(encoder, model, "as released").extract(face)
    parts = deca.coefficients(encoder, deca.released_image(face))
    expected = flame.flame_vertices(model, parts["shape"], parts["expression"], parts["pose"])[0]
    np.testing.assert_array_equal(geometry.vertices, expected)
    np.testing.assert_array_equal(geometry.expression, parts["expression"][0])
    corners = np.array([[0, 0, 1], [200, 300, 1]], np.float32) @ deca.released_matrix(face).T
    np.testing.assert_allclose(corners, [[0, 0], [224, 224]], atol=1e-4)


def test_recommended_looks_at_the_face_and_leaves_the_persons_shape_alone(encoder, model):
    face = photograph_face()
    geometry = deca.DecaExtractor(encoder, model, "recommended").extract(face)
    parts = deca.coefficients(encoder, deca.cropped_image(face, deca.crop_matrix(face)))
    np.testing.assert_array_equal(geometry.vertices, flame.flame_vertices(model, parts["shape"])[0])
    assert not geometry.expression.any()
    box = np.append(face.box.reshape(2, 2), np.ones((2, 1)), axis=1) @ deca.crop_matrix(face).T
    side = (box[1] - box[0]).mean()
    assert side == pytest.approx(223 / 1.25, rel=1e-4)  # the box fills 1 / 1.25 of the crop
    assert (box[0] + box[1])[0] / 2 == pytest.approx(111.5, abs=1e-3)


def test_the_head_pose_puts_the_neutral_mesh_where_the_posed_one_is(model):
    """With one rotation for all joints that move, "as released" and "recommended" project to the same pixels."""
    parts = {"shape": array_input("s", (1, 100)), "expression": np.zeros((1, 50), np.float32)}
    parts["pose"] = np.array([[0.2, -0.4, 0.1, 0, 0, 0]], np.float32)
    parts["camera"] = np.array([[7.5, 0.02, -0.03]], np.float32)
    rigid = flame.Flame(
        model.template, model.triangles, model.shape_basis, model.expression_basis, model.pose_basis * 0,
        model.joint_regressor, np.eye(5, dtype=np.float32)[np.zeros(5023, int)],
    )  # fmt: skip
    matrix = np.array([[0.5, 0, -20], [0, 0.5, -40]], np.float32)
    neutral = deca.decode(rigid, parts, matrix, "recommended")
    posed = deca.decode(rigid, parts, matrix, "as released")
    pixels, expected = neutral.pose.project(neutral.vertices), posed.pose.project(posed.vertices)
    np.testing.assert_allclose(pixels[:, :2], expected[:, :2], atol=0.01)
    assert np.ptp(pixels[:, 2] - expected[:, 2]) < 0.01  # depth is known up to a constant
    yaw, _, _ = neutral.pose.yaw_pitch_roll
    assert yaw == pytest.approx(np.degrees(-0.4), abs=3)
    x, y = neutral.pose.project(neutral.vertices[:1])[0, :2]
    in_crop = 112 + 112 * 7.5 * (posed.vertices[0, :2] + [0.02, -0.03]) * [1, -1]
    np.testing.assert_allclose([x, y], (in_crop - [-20, -40]) / 0.5, atol=0.05)


def test_damaged_or_other_files_are_refused(flame_file, tmp_path):
    path = tmp_path / "generic_model.pkl"
    for content in ({"v_template": np.zeros((5023, 3))}, {"smpl": 1}, [1]):
        path.write_bytes(dumps(content))
        with pytest.raises(CheckpointError, match="not a FLAME model"):
            flame.read_flame(path)
    path.write_bytes(flame_file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError):
        flame.read_flame(path)
    tar = tmp_path / "deca_model.tar"
    weights = deca.DecaEncoder().state_dict()
    weights.pop("layers.2.bias")
    torch.save({"E_flame": weights}, tar)
    with pytest.raises(CheckpointError, match=r"layers\.2\.bias"):
        deca.read_deca(tar)
