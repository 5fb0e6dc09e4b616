"""The shipped workflows, unchanged: as the editor would queue them, on a real server."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from comfyui_env import OTHER_CORE

ROOT = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
NAMES = [path.stem for path in WORKFLOWS]


def as_prompt(client, path):
    """What the editor would send for this workflow."""
    from comfy_cli.workflow_to_api import convert_ui_to_api

    return convert_ui_to_api(json.loads(path.read_text(encoding="utf-8")), client.get("/object_info"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_runs_as_it_is_shipped(client, path):
    import av

    run = client.run(as_prompt(client, path), timeout=400)
    assert run.ended == "execution_success", run.error
    nodes = {str(node["id"]): node["type"] for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    files = {nodes[key]: output for key, output in run.outputs.items()}
    with av.open(io.BytesIO(client.view(files["SaveVideo"]["images"][0]))) as video:
        assert len(list(video.decode(video=0))) == 17
    if "Preview3D" in nodes.values():
        assert files["Preview3D"]["result"][0].endswith(".glb")


@pytest.mark.skipif(OTHER_CORE in os.environ, reason="core nodes of another core have other sockets")
@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_is_made_for_this_version_of_the_nodes(client, path):
    """Every widget has a value and every link fits, so that nothing shifts when the editor opens it."""
    import sys

    sys.path.insert(0, str(ROOT / "tools"))
    from build_workflows import build

    shipped = json.loads(path.read_text(encoding="utf-8"))
    assert shipped == build(path.stem, client.get("/object_info")), "run tools/build_workflows.py and look at it"


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_is_laid_out_for_reading(path):
    workflow = json.loads(path.read_text(encoding="utf-8"))
    boxes = [(*node["pos"], *node["size"]) for node in workflow["nodes"]]
    for i, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[:i]:
            overlap = x < x2 + w2 and x2 < x + w and y - 30 < y2 + h2 and y2 - 30 < y + h
            assert not overlap, f"two nodes of {path.name} lie on each other"
    assert all(group["title"] for group in workflow["groups"])
    assert any(node["type"] == "MarkdownNote" for node in workflow["nodes"])
    ours = [node for node in workflow["nodes"] if node["type"].startswith("FantasyID")]
    assert all(node["properties"]["cnr_id"] == "fantasyid" for node in ours)


@pytest.mark.parametrize("path", WORKFLOWS, ids=NAMES)
def test_a_workflow_has_a_picture_in_the_template_browser(path):
    from PIL import Image

    with Image.open(path.with_suffix(".jpg")) as picture:
        assert min(picture.size) >= 256


def test_every_node_appears_in_a_workflow_or_is_a_door(pack_nodes):
    used = {node["type"] for path in WORKFLOWS for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    assert set(pack_nodes) <= used | {"FantasyIDLoadDetector"}  # for insightface's packs, which nobody may ship
