"""Workflows of earlier versions, as they were shipped: each still loads and runs on a real server.

The files in ``frozen/<version>`` are never edited. A release adds a folder with its own workflows.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FROZEN = Path(__file__).resolve().parent / "frozen"
OLD = sorted(FROZEN.glob("*/*.json"))


@pytest.mark.parametrize("path", OLD, ids=[f"{path.parent.name}-{path.stem}" for path in OLD])
def test_an_old_workflow_still_runs(client, path):
    from comfy_cli.workflow_to_api import convert_ui_to_api

    prompt = convert_ui_to_api(json.loads(path.read_text(encoding="utf-8")), client.get("/object_info"))
    run = client.run(prompt, timeout=400)
    assert run.ended == "execution_success", run.error


def test_the_first_version_is_kept():
    assert len(list((FROZEN / "0.1.0").glob("*.json"))) == 6
