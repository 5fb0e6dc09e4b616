"""Wrong input at the nodes themselves: one sentence that says what to do, and nothing left half-written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

ASTRONAUT = Path(__file__).resolve().parents[2] / "fantasyid_core" / "assets" / "astronaut.png"
DETECTION = (0, 20, 0.0, "stop with a message", "recommended")


def refused(call, *arguments, **named):
    """The message of a refused call; fails when the call works or raises something else than our own errors."""
    with pytest.raises(Exception) as caught:
        call(*arguments, **named)
    assert "FantasyIDError" in [kind.__name__ for kind in type(caught.value).__mro__], repr(caught.value)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]{20,500}\.", message), message
    return message


@pytest.fixture(scope="module")
def photo():
    import numpy as np
    from PIL import Image

    with Image.open(ASTRONAUT) as picture:
        return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]


@pytest.fixture(scope="module")
def face(pack_nodes, photo):
    return pack_nodes["FantasyIDDetectFaces"].execute(photo, "largest", *DETECTION).args[0]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("empty batch", torch.zeros(0, 64, 64, 3)),
        ("two pictures", torch.zeros(2, 64, 64, 3)),
        ("not a number", torch.full((1, 64, 64, 3), float("nan"))),
        ("one pixel", torch.zeros(1, 1, 1, 3)),
        ("five channels", torch.zeros(1, 64, 64, 5)),
    ],
)
def test_a_picture_that_is_none(pack_nodes, name, image):
    refused(pack_nodes["FantasyIDDetectFaces"].execute, image, "largest", *DETECTION)


def test_a_transparent_picture_is_fine(pack_nodes, photo):
    rgba = torch.cat([photo, torch.ones(*photo.shape[:3], 1)], dim=3)
    found = pack_nodes["FantasyIDDetectFaces"].execute(rgba, "largest", *DETECTION)
    assert found.args[4] == 1
    assert found.args[1].shape == (1, 512, 512, 3)
    assert found.args[2].shape == photo.shape[:3]


def test_another_pack_s_face_analysis_is_understood(pack_nodes, photo):
    class FaceAnalysis:
        def get(self, img):
            from types import SimpleNamespace

            import numpy as np

            assert img.dtype == np.uint8 and img[100, 500].tolist()[::-1] == (photo[0, 100, 500] * 255).int().tolist()
            points = np.array([[205.0, 108.0], [243.0, 108.0], [224.0, 128.0], [208.0, 146.0], [240.0, 146.0]])
            return [SimpleNamespace(bbox=np.array([180.0, 60.0, 270.0, 170.0]), kps=points, det_score=0.9)]

    settings = dict(zip(("index", "min_size", "padding", "on_no_face", "input_path"), DETECTION, strict=True))
    found = pack_nodes["FantasyIDDetectFaces"].execute(photo, "largest", **settings, detector=FaceAnalysis())
    assert found.args[4] == 1
    assert "detect" in refused(
        pack_nodes["FantasyIDDetectFaces"].execute, photo, "largest", **settings, detector=object()
    )


@pytest.mark.parametrize(("yaw", "pitch"), [("left", ""), ("90", ""), ("", "-80"), ("nan", "")])
def test_view_angles_that_are_none(pack_nodes, face, yaw, pitch):
    geometry = pack_nodes["FantasyIDExtractGeometry"].execute(face, "parametric head", "recommended").args[0]
    refused(
        pack_nodes["FantasyIDAugmentViews"].execute, face, yaw, pitch, False, 0.0, 0.5, 0.25, 1.0, 0, geometry=geometry
    )


def test_turned_views_without_a_mesh(pack_nodes, face):
    message = refused(pack_nodes["FantasyIDAugmentViews"].execute, face, "30", "", False, 0.0, 0.5, 0.25, 1.0, 0)
    assert "geometry" in message


def test_a_further_photograph_without_a_face_is_left_out(pack_nodes, face, photo):
    batch = torch.cat([torch.zeros_like(photo), photo])
    views = pack_nodes["FantasyIDAugmentViews"].PREPARE_CLASS_CLONE({})
    made = views.execute(face, "", "", False, 0.0, 0.5, 0.25, 1.0, 0, photographs=batch)
    assert made.args[3] == 2


@pytest.mark.parametrize("text", [b"", b"ply\nformat ascii 1.0\nelement vertex 3\n", b"\x00" * 400])
def test_a_broken_mesh_file(pack_nodes, base, text):
    (base / "input" / "broken.ply").write_bytes(text)
    refused(pack_nodes["FantasyIDLoadMesh"].execute, "broken.ply")


def test_a_mesh_of_no_known_topology_is_shown_but_not_fed_to_the_model(pack_nodes, base, face):
    import trimesh

    trimesh.creation.icosphere(3, 0.1).export(base / "input" / "ball.obj")
    geometry = pack_nodes["FantasyIDLoadMesh"].execute("ball.obj").args[0]
    views = pack_nodes["FantasyIDAugmentViews"].execute(face, "", "", False, 0.0, 0.5, 0.25, 1.0, 0).args[0]
    loader = pack_nodes["FantasyIDLoadModel"].PREPARE_CLASS_CLONE({})
    model = loader.execute("mini", "auto").args[0]
    fuse = pack_nodes["FantasyIDFuseFeatures"].execute
    assert "2D only" in refused(fuse, model, views, geometry, "reference", "2D + 3D", "recommended")
    identity = fuse(model, views, geometry, "reference", "2D only", "recommended").args[0]
    assert len(identity.tokens) == 16


@pytest.mark.parametrize("prefix", ["../outside/x", "taken/x"])
def test_a_place_that_cannot_be_written(pack_nodes, base, face, prefix):
    (base / "output" / "taken").write_text("a file where a folder is wanted")
    geometry = pack_nodes["FantasyIDExtractGeometry"].execute(face, "parametric head", "recommended").args[0]
    try:
        refused(pack_nodes["FantasyIDSaveMesh"].execute, geometry, prefix, "glb")
    finally:
        (base / "output" / "taken").unlink()
    assert not (base / "outside").exists()


@pytest.mark.parametrize("name", ["insightface", "flame-deca"])
def test_a_backend_whose_files_are_absent_says_where_they_belong(pack_nodes, face, name):
    if name == "insightface":
        message = refused(pack_nodes["FantasyIDLoadDetector"].execute, name, 0.5, "antelopev2", 640)
    else:
        message = refused(pack_nodes["FantasyIDExtractGeometry"].execute, face, name, "recommended")
    assert "models" in message and ("licence" in message or "non-commercial" in message)


def test_an_identity_of_another_model_is_refused(pack_nodes, rooms_identity, conditioning):
    model, identity = rooms_identity
    sampler = pack_nodes["FantasyIDSampler"].execute
    message = refused(sampler, model, conditioning, conditioning, 0, 1, 1.0, 1.0, 0.0, 1.0, 0, 0, 0, identity=identity)
    assert "another" in message or "release-0000" in message


@pytest.mark.parametrize(("start", "end"), [(0.8, 0.2)])
def test_an_impossible_range_of_steps_is_refused(pack_nodes, rooms_identity, conditioning, start, end):
    model, _ = rooms_identity
    refused(
        pack_nodes["FantasyIDSampler"].execute, model, conditioning, conditioning, 0, 1, 1.0, 1.0, start, end, 0, 0, 0
    )


def test_the_latent_of_an_image_is_refused(pack_nodes, rooms_identity):
    model, _ = rooms_identity
    refused(pack_nodes["FantasyIDDecode"].execute, model, {"samples": torch.zeros(1, 16, 16, 16)}, "auto")


@pytest.fixture(scope="module")
def rooms_identity(pack_nodes, face):
    """The mini, and an identity that claims to be of another model."""
    from dataclasses import replace

    loader = pack_nodes["FantasyIDLoadModel"].PREPARE_CLASS_CLONE({})
    model = loader.execute("mini", "auto").args[0]
    views = pack_nodes["FantasyIDAugmentViews"].execute(face, "", "", False, 0.0, 0.5, 0.25, 1.0, 0).args[0]
    geometry = pack_nodes["FantasyIDExtractGeometry"].execute(face, "parametric head", "recommended").args[0]
    fuse = pack_nodes["FantasyIDFuseFeatures"].execute
    identity = fuse(model, views, geometry, "reference", "2D + 3D", "recommended").args[0]
    return model, replace(identity, model="release-0000")


@pytest.fixture(scope="module")
def conditioning(pack_nodes, rooms_identity):
    return pack_nodes["FantasyIDTextEncode"].execute(rooms_identity[0], "someone smiles").args[0]
