"""Repeat runs on a real server: what did not change is not made again, and memory stays where it was."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from graphs import five_stages

STAGES = {"photo", "faces", "geometry", "views", "model", "identity", "positive", "negative", "sampler", "frames"}
RUNS, WARM_UP = 20, 5
QUICK = {"frames": 9, "steps": 1}


def remade(run):
    """Which of the stages ran, whatever ComfyUI took from its cache."""
    assert run.ended == "execution_success", run.error
    return {event["node"] for event in run.of_type("executing") if event["node"]} & STAGES


@pytest.fixture
def made_once(client):
    assert client.run(five_stages(**QUICK), timeout=120).ended == "execution_success"
    return client


def test_nothing_is_made_again_when_nothing_changed(made_once):
    assert remade(made_once.run(five_stages(**QUICK), timeout=120)) == set()


def test_another_seed_samples_and_decodes_again_and_no_more(made_once):
    assert remade(made_once.run(five_stages(**QUICK, seed=2), timeout=120)) == {"sampler", "frames"}


def test_another_prompt_leaves_the_face_as_it_is(made_once):
    graph = five_stages(**QUICK)
    graph["positive"]["inputs"]["text"] = "a person frowns"
    assert remade(made_once.run(graph, timeout=120)) == {"positive", "sampler", "frames"}


def test_other_views_leave_the_model_the_face_and_its_geometry_as_they_are(made_once):
    graph = five_stages(**QUICK)
    graph["views"]["inputs"]["yaw_angles"] = "-20, 20"
    assert remade(made_once.run(graph, timeout=120)) == {"views", "identity", "sampler", "frames"}


def test_the_same_file_name_with_another_picture_is_seen(client, picture):
    import numpy as np
    from PIL import Image

    kept = Path(__file__).resolve().parents[2] / "fantasyid_core" / "assets" / "astronaut.png"
    name = picture("changing.png", kept)
    graph = five_stages(**QUICK)
    graph["photo"]["inputs"]["image"] = name
    client.run(graph, timeout=120)
    picture(name, np.array(Image.open(kept).convert("RGB"))[:, ::-1])
    assert {"faces", "geometry", "views", "identity", "sampler"} <= remade(client.run(graph, timeout=120))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads a process's memory from /proc")
def test_twenty_runs_leave_memory_where_it_was(tmp_path):
    """Every stage anew in every run. One video kept per run (0.4 MB), or one model at all (60 MB), would show."""
    from comfyui_client import Client
    from comfyui_server import running_server

    with running_server(tmp_path) as server:
        client, seen = Client(server.address), []
        for number in range(RUNS):
            graph = five_stages(**QUICK, seed=number)
            graph["faces"]["inputs"]["padding"] = number / 100  # so that the face is found anew, and all behind it
            run = client.run(graph, timeout=120)
            assert remade(run) >= STAGES - {"photo", "model", "positive", "negative"} or number == 0
            seen.append(private_bytes(server.process.pid))
    # what is kept raises all runs; what the allocator holds or returns moves single ones by up to 20 MiB either way
    grown = (median(seen[-5:]) - median(seen[WARM_UP : WARM_UP + 5])) / 2**20
    print(f"private memory after each run, MiB: {[round(size / 2**20) for size in seen]}")
    assert grown < 3, f"grew by {grown:.1f} MiB in {RUNS - WARM_UP - 5} runs"


def private_bytes(process):
    """Memory that belongs to this process alone."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sizes["Private_Dirty:"] + sizes["Private_Clean:"]
