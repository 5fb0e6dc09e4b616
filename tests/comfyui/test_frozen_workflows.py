"""Workflows of earlier versions, as they were shipped: each still loads and runs on a real server.

The files in ``frozen/<version>`` are never edited. A release adds a folder with its own workflows.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from test_workflows import as_prompt

FROZEN = Path(__file__).resolve().parent / "frozen"
OLD = sorted(FROZEN.glob("*/*.json"))


@pytest.mark.parametrize("path", OLD, ids=[f"{path.parent.name}-{path.stem}" for path in OLD])
def test_an_old_workflow_still_runs(client, path):
    run = client.run(as_prompt(client, path), timeout=400)
    assert run.ended == "execution_success", run.error


def test_the_first_version_is_kept():
    assert len(list((FROZEN / "0.1.0").glob("*.json"))) == 15
