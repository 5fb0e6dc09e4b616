"""Nothing missing is fatal: every node is there without the libraries that only one choice needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_server import prepare_base
from test_nodes_contract import NODE_IDS

ABSENT = ("insightface", "onnxruntime", "mediapipe", "torchvision.ops", "timm")

SCRIPT = """
import asyncio, importlib, sys
from importlib.abc import MetaPathFinder

absent, base = sys.argv[1].split(","), sys.argv[2]

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == one or name.startswith(one + ".") for one in absent):
            raise ImportError(f"{name} is not installed (blocked for this test)")

from comfyui_env import core_directory
sys.path.insert(0, str(core_directory()))
from comfy.cli_args import args
args.cpu, args.base_directory = True, base
importlib.import_module("utils.extra_config")
import server, nodes
loop = asyncio.new_event_loop()
server.PromptServer(loop)
sys.meta_path.insert(0, Absent())  # from here on: the core has what it wants, the pack does not
assert loop.run_until_complete(nodes.load_custom_node(base + "/custom_nodes/fantasyid-comfyui"))
print("NODES", *sorted(name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("FantasyID")))
load = nodes.NODE_CLASS_MAPPINGS["FantasyIDLoadDetector"]
widget = next(one for one in load.GET_SCHEMA().inputs if one.id == "backend")
print("DETECTORS", *widget.options)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    base = prepare_base(tmp_path_factory.mktemp("base"))
    tools = Path(__file__).resolve().parents[2] / "tools"
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(tools)!r})\n{SCRIPT}",
        ",".join(ABSENT),
        base,
    ]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return {line.split()[0]: line.split()[1:] for line in ended.stdout.splitlines() if line.strip()}


def test_every_node_is_there(said):
    assert said["NODES"] == sorted(NODE_IDS)


def test_both_detectors_can_still_be_chosen(said):
    assert {"yunet", "insightface"} <= set(said["DETECTORS"])
