"""insightface is used where the user has put its packs; missing or broken, only this backend is disabled."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fantasyid_core.errors import CheckpointError, MissingFileError, MissingLibraryError
from fantasyid_core.faces.detect import detect_faces
from fantasyid_core.faces.detectors import make_detector


def write_scrfd_like(path: Path, box: tuple[float, ...], points: np.ndarray) -> None:
    """An ONNX file laid out as SCRFD's (strides 8, 16, 32; two anchors; scores, boxes, keypoints) that finds white
    squares on black: its score is the brightness under each anchor, its box and keypoints are constants."""
    onnx = pytest.importorskip("onnx", reason="onnx writes the test's detector file")
    from onnx import TensorProto, helper, numpy_helper

    nodes, outputs, constants = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    for kind, row in (("score", [0.0]), ("bbox", box), ("kps", points.reshape(-1))):
        for stride in (8, 16, 32):
            name, square = f"{kind}_{stride}", [stride, stride]
            nodes += [
                helper.make_node("AveragePool", ["input.1"], [f"{name}_p"], kernel_shape=square, strides=square),
                helper.make_node("ReduceMean", [f"{name}_p", constant(f"{name}_axes", np.array([1]))], [f"{name}_m"]),
                helper.make_node("Reshape", [f"{name}_m", constant(f"{name}_s", np.array([-1, 1]))], [f"{name}_c"]),
                helper.make_node("Concat", [f"{name}_c", f"{name}_c"], [f"{name}_2"], axis=1),
                helper.make_node("Reshape", [f"{name}_2", f"{name}_s"], [f"{name}_a"]),
            ]
            if kind == "score":
                gain = constant(f"{name}_k", np.float32([10.0 if stride == 8 else 0.0]))
                shift = constant(f"{name}_b", np.float32([-5.0 if stride == 8 else -20.0]))
                nodes.append(helper.make_node("Mul", [f"{name}_a", gain], [f"{name}_g"]))
                nodes.append(helper.make_node("Add", [f"{name}_g", shift], [f"{name}_l"]))
                nodes.append(helper.make_node("Sigmoid", [f"{name}_l"], [name]))
            else:
                nothing = constant(f"{name}_0", np.float32([0.0]))
                nodes.append(helper.make_node("Mul", [f"{name}_a", nothing], [f"{name}_z"]))
                value = constant(f"{name}_v", np.float32([row]) / 8)
                nodes.append(helper.make_node("Add", [f"{name}_z", value], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", len(row)]))
    picture = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph(nodes, "scrfd", [picture], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(path))


def test_insightface_runs_a_local_pack_and_downloads_nothing(tmp_path):
    pytest.importorskip("insightface")
    pack = tmp_path / "models of mine" / "antelopev2"
    pack.mkdir(parents=True)
    offsets = np.array([[-20, -20], [20, -20], [0, 0], [-15, 20], [15, 20]], np.float64)
    write_scrfd_like(pack / "scrfd_10g_bnkps.onnx", (40, 50, 40, 50), offsets)
    photograph = np.zeros((600, 600, 3), np.float32)
    photograph[232:256, 312:336] = 1.0
    detector = make_detector("insightface", models=pack.parent, det_size=640)
    (face,) = detect_faces(photograph, detector)
    # In the 640 px square everything is enlarged by 640 / 600, and the anchors lie on multiples of 8.
    assert np.abs(face.keypoints - face.keypoints[2] - offsets * 600 / 640).max() < 0.1
    assert np.abs(face.keypoints[2] - [324, 244]).max() < 16
    assert np.allclose(face.box[2:] - face.box[:2], np.array([80, 100]) * 600 / 640, atol=0.1)
    assert "antelopev2 at 640 px" in str(detector)


def test_a_missing_insightface_pack_says_where_it_belongs_and_its_licence(tmp_path):
    with pytest.raises(MissingFileError, match=r"'buffalo_l' is missing.*buffalo_l.*non-commercial research only.*MB"):
        make_detector("insightface", models=tmp_path, pack="buffalo_l")


def test_a_broken_insightface_disables_only_itself(monkeypatch, tmp_path):
    (tmp_path / "antelopev2").mkdir()
    (tmp_path / "antelopev2" / "det.onnx").write_bytes(b"not onnx")
    monkeypatch.setitem(sys.modules, "insightface.app", None)
    with pytest.raises(MissingLibraryError, match="choose the detector 'yunet'"):
        make_detector("insightface", models=tmp_path)
    assert make_detector("yunet").detect(np.zeros((64, 64, 3), np.float32)) == []


def test_a_damaged_insightface_pack_is_named(tmp_path):
    pytest.importorskip("insightface")
    (tmp_path / "antelopev2").mkdir()
    (tmp_path / "antelopev2" / "det.onnx").write_bytes(b"not onnx")
    with pytest.raises(CheckpointError, match=r"antelopev2.*unpack the pack again\.$"):
        make_detector("insightface", models=tmp_path)
