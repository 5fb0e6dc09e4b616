"""The pack on a real server: what an artist sees, hears and gets while a prompt runs."""

from __future__ import annotations

import io
import json
import re
from itertools import groupby

import numpy as np
import pytest
from graphs import FRAMES, STEPS, detection, five_stages, node, text_to_video


def one_sentence(message):
    """Whether an artist can act on it: one sentence, no traceback, no Python names."""
    return bool(re.fullmatch(r"[A-Z'][^\n]{20,400}\.", message)) and "Error" not in message


@pytest.fixture(scope="module")
def generation(server):
    """One five-stage run, looked at by several tests."""
    from comfyui_client import Client

    client = Client(server.address)
    run = client.run(five_stages(), timeout=300)
    assert run.ended == "execution_success", run.error
    return client, run


def video_frames(data):
    import av

    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_video_file_has_the_asked_frames(generation):
    client, run = generation
    (result,) = run.outputs["save"]["images"]
    frames = video_frames(client.view(result))
    assert len(frames) == FRAMES
    assert frames[0].shape == (64, 64, 3)


def test_the_bar_moves_with_every_step(generation):
    _, run = generation
    bar = [event["value"] for event in run.of_type("progress") if event["node"] == "sampler"]
    wanted = list(range(1, STEPS + 1))
    assert run.steps_of("sampler") == wanted
    assert [value for value, _ in groupby(bar)] == wanted  # the moving preview's next picture says its step again


def test_a_preview_picture_comes_with_every_step(generation):
    from PIL import Image

    _, run = generation
    assert len(run.previews) >= STEPS
    picture = Image.open(io.BytesIO(run.previews[-1][8:]))
    assert picture.format == "JPEG" and max(picture.size) <= 512 and np.asarray(picture).std() > 5


def test_each_stage_shows_its_picture(generation):
    from PIL import Image

    client, run = generation
    for name in ("crop", "drawn", "overlay"):
        (result,) = run.outputs[name]["images"]
        picture = np.asarray(Image.open(io.BytesIO(client.view(result))).convert("RGB"))
        assert picture.std() > 20, f"{name} is empty"


def test_mesh_and_identity_are_kept_as_files(generation, server):
    import trimesh
    from safetensors import safe_open

    mesh = trimesh.load(next((server.base / "output" / "test").glob("head_*.glb")), force="mesh")
    assert len(mesh.vertices) > 1000 and mesh.extents.max() < 1
    with safe_open(next((server.base / "output" / "test").glob("identity_*.safetensors")), "np") as file:
        assert file.metadata()["model"].startswith("mini-")


def test_the_same_seed_gives_the_same_video(client):
    first, second = (client.run(text_to_video(seed=7, steps=2), timeout=120) for _ in range(2))
    assert first.ended == second.ended == "execution_success"
    cached = {name for data in second.of_type("execution_cached") for name in data["nodes"]}
    assert "sampler" in cached


def test_text_to_video_works_without_an_identity(client):
    run = client.run(text_to_video(steps=1), timeout=120)
    assert run.ended == "execution_success", run.error
    assert "save" in run.outputs


def test_no_face_stops_with_one_sentence(client, picture):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    run = client.run(detection(picture("noise.png", noise)), timeout=60)
    assert run.ended == "execution_error"
    assert one_sentence(run.error), run.error
    assert "400×300" in run.error


def test_no_face_can_go_on_with_the_whole_picture(client, picture):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    run = client.run(detection(picture("noise.png", noise), on_no_face="use the whole picture"), timeout=60)
    assert run.ended == "execution_success", run.error


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("tiny.png", np.zeros((1, 1, 3), np.uint8)), ("grey.png", np.full((200, 200), 99, np.uint8))],
)
def test_a_picture_without_a_face_is_explained(client, picture, name, pixels):
    run = client.run(detection(picture(name, pixels)), timeout=60)
    assert run.ended == "execution_error"
    assert one_sentence(run.error), run.error


def test_a_face_number_that_is_not_there_is_explained(client):
    run = client.run(detection(choose="index", index=7), timeout=60)
    assert one_sentence(run.error) and "7" in run.error, run.error


@pytest.mark.parametrize("settings", [{"frames": 16}, {"width": 124}, {"width": 32, "height": 0, "frames": 0}])
def test_a_size_the_model_cannot_make_names_one_that_works(client, settings):
    run = client.run(text_to_video(**settings), timeout=60)
    if run.ended == "execution_success":
        assert settings["width"] == 32  # small, but possible
        return
    assert one_sentence(run.error), run.error
    assert "take" in run.error


def test_a_value_out_of_range_is_refused_before_anything_runs(client):
    from comfyui_client import RejectedPromptError

    with pytest.raises(RejectedPromptError) as refused:
        client.run(text_to_video(steps=0), timeout=60)
    assert any("steps" in detail for detail in refused.value.details())


def test_an_identity_file_that_is_gone_is_refused_before_anything_runs(client):
    from comfyui_client import RejectedPromptError

    prompt = {
        "identity": node("FantasyIDLoadIdentity", file="nobody.safetensors"),
        "show": node("PreviewImage", images=["identity", 1]),
    }
    with pytest.raises(RejectedPromptError) as refused:
        client.run(prompt, timeout=60)
    assert any("nobody.safetensors" in detail for detail in refused.value.details())


def test_a_saved_identity_can_be_loaded_and_used(generation, client):
    _, run = generation
    assert run.outputs["save"]
    definition = client.get("/object_info/FantasyIDLoadIdentity")["FantasyIDLoadIdentity"]
    assert definition["input"]["required"]["file"][0] == "COMBO"
    prompt = text_to_video(steps=1, identity=["identity", 0])
    prompt["identity"] = node("FantasyIDLoadIdentity", file="test/identity_00001_.safetensors [output]")
    again = client.run(prompt, timeout=120)
    assert again.ended == "execution_success", again.error


def test_cancel_takes_effect_within_a_step(client):
    """The button is pressed after the first of many steps; no more than one further step may finish."""
    seen = []

    def press(event):
        if event["type"] == "progress" and event["data"]["node"] == "sampler":
            seen.append(event["data"]["value"])
            if len(seen) == 1:
                client.interrupt()

    run = client.run(text_to_video(steps=200, seed=3), timeout=120, on_event=press)
    assert run.ended == "execution_interrupted"
    assert seen[-1] <= 3, f"{seen[-1]} steps ran before the cancel took effect"


def test_help_pages_and_templates_are_served(client, server):
    page = client.get_bytes("/extensions/fantasyid-comfyui/docs/FantasyIDSampler.md").decode()
    assert page.startswith("# ")
    templates = client.get("/workflow_templates")
    assert {"five_stages", "five_stages_mesh_file", "five_stages_more_photographs"} <= set(
        templates["fantasyid-comfyui"]
    )
    for name in templates["fantasyid-comfyui"]:
        served = client.get_bytes(f"/api/workflow_templates/fantasyid-comfyui/{name}.json")
        assert json.loads(served)["version"] == 0.4


def test_the_pack_starts_fast(server):
    """As ComfyUI prints it, on a machine that may be busy."""
    (seconds,) = re.findall(r"([\d.]+) seconds: .*fantasyid-comfyui", server.log_text())
    assert float(seconds) < 1.0
    assert "IMPORT FAILED" not in server.log_text()
