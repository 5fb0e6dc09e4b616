"""A face becomes a vector of identity: the right network, on the right crop, near for one person and far for two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid_core.errors import CheckpointError, InputError, MissingFileError
from fantasyid_core.evaluation import face_recognition_network as network_module
from fantasyid_core.evaluation.chip import TEMPLATE, face_chip
from fantasyid_core.evaluation.chip import similarity as similarity_matrix
from fantasyid_core.evaluation.embedders import EMBEDDERS, STRANGERS_DISTANCE, make_embedder, similarity
from fantasyid_core.evaluation.face_recognition_network import load_face_recognition_network
from fantasyid_core.faces.align import warp_square
from fantasyid_core.faces.detect import choose_face, detect_faces
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.face import Face
from fantasyid_core.faces.landmarks import detect_landmarks
from fantasyid_core.images import load_photograph

ASTRONAUT = Path(network_module.__file__).parent.parent / "assets" / "astronaut.png"
#: What dlib 20.0.1 itself cuts out of that photograph (its own detector and five landmarks), photograph → chip pixels,
DLIB_MATRIX = np.array([[1.2389, 0.0594, -211.5095], [-0.0594, 1.2389, -67.6583]])
#: and its descriptor of that chip, × 10,000.
DLIB_DESCRIPTOR = np.fromstring(
    "-663 209 176 -642 -1525 -192 -387 -1182 1051 -1089 1737 -512 -2694 -429 117 1557 -1505 -1679 -1454 -834 325 461 "
    "-77 530 -2693 -2736 -628 -995 173 -709 -403 865 -964 395 1120 1228 -45 -1140 1247 -650 -2490 -227 713 1813 2966 "
    "-508 -50 -875 1324 -2840 185 860 533 917 332 -1590 20 2393 -2848 -536 45 -1799 -436 -419 1367 1216 -1847 -1403 "
    "1848 -2430 9 710 -1130 -1775 -3130 -162 4356 1833 -1791 -224 -414 183 282 363 -495 -1103 -1265 503 2054 -594 "
    "400 2325 356 -130 369 1189 -1553 -592 -781 -227 -457 -550 575 1615 -1102 1955 -109 -396 -187 -565 87 -897 1297 "
    "-2501 583 1776 784 1821 -129 422 -406 -558 -1782 -290 313 -500 275 155",
    sep=" ",
)


def first_face(path: Path) -> tuple[Face, np.ndarray]:
    face = choose_face(detect_faces(load_photograph(path), make_detector()))
    return face, detect_landmarks(face)


@pytest.fixture(scope="module")
def astronaut() -> tuple[Face, np.ndarray]:
    return first_face(ASTRONAUT)


def describe(chip: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return load_face_recognition_network()(torch.from_numpy(chip).permute(2, 0, 1)[None])[0].numpy()


def test_the_network_gives_dlibs_own_descriptor_of_dlibs_own_chip(astronaut):
    chip = warp_square(astronaut[0].photograph, DLIB_MATRIX, 150)
    # 0.039 comes of the 8-bit numbers; red and blue exchanged in the mean alone make 0.051
    assert np.linalg.norm(describe(chip) - DLIB_DESCRIPTOR / 1e4) < 0.045
    assert np.linalg.norm(describe(np.ascontiguousarray(chip[::-1])) - DLIB_DESCRIPTOR / 1e4) > 0.4


def test_our_chip_from_dense_landmarks_is_as_good_as_dlibs(astronaut):
    face, landmarks = astronaut
    # dlib's own two alignments (5 and 68 points) are 0.16 apart on average
    assert np.linalg.norm(describe(face_chip(face.photograph, landmarks)) - DLIB_DESCRIPTOR / 1e4) < 0.16


def test_a_chip_is_upright_and_centred_however_the_face_lies(astronaut):
    angle = np.radians(35)
    turn = 2.5 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity_matrix(TEMPLATE @ turn.T + [40, -7], TEMPLATE)
    assert np.allclose(matrix[:, :2] @ turn, np.eye(2))
    mirrored = np.column_stack([149 - TEMPLATE[:, 0], TEMPLATE[:, 1]])[[3, 2, 1, 0, 4]]
    assert np.allclose(mirrored, TEMPLATE)


def test_one_person_is_nearer_to_herself_than_to_another(astronaut):
    data = pytest.importorskip("matplotlib.cbook", reason="matplotlib brings Hopper's portrait")
    embedder = make_embedder()
    face, landmarks = astronaut
    hopper = embedder.embed(*first_face(Path(str(data._get_data_path("sample_data/grace_hopper.jpg")))))
    own = embedder.embed(face, landmarks)
    darker = choose_face(detect_faces(face.photograph[:300, 80:400] * np.float32(0.6), make_detector()))
    again = embedder.embed(darker, detect_landmarks(darker))
    assert similarity(own, own) == 1.0
    assert similarity(own, again) > 0.9
    assert similarity(own, hopper) < 1 - 0.6**2 / STRANGERS_DISTANCE**2  # the network's own limit for one person


def test_similarity_is_the_cosine_of_vectors_of_length_one():
    a, b = np.random.default_rng(0).normal(size=(2, 9, 512))
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    assert np.allclose(similarity(a, b), (a * b).sum(axis=-1))


def test_missing_numbers_and_unknown_names_are_said_in_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(InputError, match="no face embedder called 'facenet'; choose one of dlib, arcface"):
        make_embedder("facenet")
    monkeypatch.setattr(network_module, "WEIGHTS_FILE", tmp_path / "face_recognition_128.safetensors")
    load_face_recognition_network.cache_clear()
    with pytest.raises(MissingFileError, match=r"face_recognition_128.safetensors \(5.9 MB.*install the pack again"):
        load_face_recognition_network()
    load_face_recognition_network.cache_clear()


def write_arcface_like(path: Path, side: int = 112) -> np.ndarray:
    """An ONNX file with ArcFace's input and output: a linear map of the input's 4×4 averages to 512 numbers."""
    onnx = pytest.importorskip("onnx", reason="onnx writes the test's network file")
    from onnx import TensorProto, helper, numpy_helper

    window = side // 4
    weight = np.random.default_rng(1).normal(size=(48, 512)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["p"], kernel_shape=[window, window], strides=[window, window]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["683"]),
    ]
    graph = helper.make_graph(
        nodes,
        "arcface",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("683", TensorProto.FLOAT, ["n", 512])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return weight


def test_arcface_reads_the_users_pack_and_sees_the_face_where_insightface_would_put_it(astronaut, tmp_path):
    align = pytest.importorskip("insightface.utils.face_align")
    (tmp_path / "buffalo_l").mkdir()
    weight = write_arcface_like(tmp_path / "buffalo_l" / "w600k_r50.onnx")
    face, landmarks = astronaut
    vector = make_embedder("arcface", models=tmp_path, pack="buffalo_l").embed(face, landmarks)
    pixels = np.rint(face.photograph * 255).astype(np.uint8)
    crop = align.norm_crop(pixels, face.keypoints, 112).astype(np.float64) / 127.5 - 1  # RGB, as it was given
    expected = crop.reshape(4, 28, 4, 28, 3).mean(axis=(1, 3)).transpose(2, 0, 1).ravel() @ weight
    assert vector.shape == (512,)
    assert np.isclose(np.linalg.norm(vector), 1.0, atol=1e-5)
    assert float(vector @ expected / np.linalg.norm(expected)) > 0.999


def test_arcface_names_a_missing_or_damaged_pack_and_its_licence(tmp_path):
    with pytest.raises(MissingFileError, match=r"'antelopev2' has no recognition network.*non-commercial research"):
        make_embedder("arcface", models=tmp_path)
    (tmp_path / "glintr100.onnx").write_bytes(b"not onnx")
    pytest.importorskip("onnxruntime")
    with pytest.raises(CheckpointError, match="unpack its pack again"):
        make_embedder("arcface", models=tmp_path, pack="")
    write_arcface_like(tmp_path / "glintr100.onnx", side=64)
    with pytest.raises(CheckpointError, match="not of 3×112×112"):
        make_embedder("arcface", models=tmp_path, pack="")


def test_every_embedder_names_its_licence():
    assert "CC0" in EMBEDDERS["dlib"].about
    assert "non-commercial" in EMBEDDERS["arcface"].about
