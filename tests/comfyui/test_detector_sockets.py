"""Face-analysis objects of other packs: three names for one thing, and all fit our socket on a real server."""

from __future__ import annotations

import pytest

#: A pack as others write theirs: a loader whose output type is one of the three names. Its object has insightface's
#: ``get`` and finds what YuNet finds, turned to BGR bytes and back, so that a mistake in channels or shapes shows.
FOREIGN_PACK = """
import sys
from types import SimpleNamespace

import numpy as np


class Analysis:
    def get(self, img):
        assert img.dtype == np.uint8 and img.ndim == 3
        ours = "fantasyid_core.faces.detectors"
        detectors = next(module for name, module in sys.modules.items() if name.endswith(ours))
        photograph = np.ascontiguousarray(img[..., ::-1]).astype(np.float32) / np.float32(255)
        found = detectors.make_detector().detect(photograph)
        return [SimpleNamespace(bbox=face.box, kps=face.keypoints, det_score=face.score) for face in found]


class Loader:
    CATEGORY, FUNCTION, INPUT_TYPES = "foreign", "load", classmethod(lambda cls: {"required": {}})

    def load(self):
        return (Analysis(),)


NODE_CLASS_MAPPINGS = {
    f"Foreign_{name}": type(name, (Loader,), {"RETURN_TYPES": (name,)})
    for name in ("INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "SOMETHING_ELSE")
}
"""


@pytest.fixture(scope="module")
def foreign_client(tmp_path_factory):
    from comfyui_client import Client
    from comfyui_server import prepare_base, running_server

    base = prepare_base(tmp_path_factory.mktemp("foreign"))
    pack = base / "custom_nodes" / "foreign"
    pack.mkdir()
    (pack / "__init__.py").write_text(FOREIGN_PACK, encoding="utf-8")
    with running_server(base) as server:
        yield Client(server.address)


def prompt(kind):
    detect = {"image": ["photo", 0], "choose": "largest", "index": 0, "min_size": 20, "padding": 0.0}
    detect |= {"on_no_face": "stop with a message", "input_path": "recommended", "detector": ["loader", 0]}
    return {
        "photo": {"class_type": "LoadImage", "inputs": {"image": "fantasyid_astronaut.png"}},
        "loader": {"class_type": f"Foreign_{kind}", "inputs": {}},
        "faces": {"class_type": "FantasyIDDetectFaces", "inputs": detect},
        "views": {
            "class_type": "FantasyIDViewsFromImages",
            "inputs": {"images": ["photo", 0], "on_no_face": "leave it out", "weights": "", "detector": ["loader", 0]},
        },
        "crop": {"class_type": "PreviewImage", "inputs": {"images": ["faces", 1]}},
        "sheet": {"class_type": "PreviewImage", "inputs": {"images": ["views", 1]}},
    }


@pytest.mark.parametrize("kind", ["INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS"])
def test_an_object_of_another_pack_fits_under_each_of_its_names(foreign_client, kind):
    run = foreign_client.run(prompt(kind), timeout=200)
    assert run.ended == "execution_success", run.error
    assert len(run.outputs["crop"]["images"]) == 1
    assert len(run.outputs["sheet"]["images"]) == 1


def test_another_type_does_not(foreign_client):
    from comfyui_client import RejectedPromptError

    with pytest.raises(RejectedPromptError, match="SOMETHING_ELSE"):
        foreign_client.run(prompt("SOMETHING_ELSE"), timeout=200)
