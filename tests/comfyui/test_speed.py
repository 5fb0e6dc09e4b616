"""Speed Options: which levers count, what the sampler does with them, long videos."""

from __future__ import annotations

import sys
from itertools import groupby

import pytest
from graphs import node, text_to_video


@pytest.fixture(scope="module")
def speed(pack_nodes):
    """The pack's nodes.speed, as ComfyUI loaded it."""
    return sys.modules[pack_nodes["FantasyIDSpeedOptions"].__module__]


@pytest.fixture(scope="module")
def widgets(speed):
    """Every lever's widget as it stands when the node is new."""
    schema = speed.SpeedOptions.GET_SCHEMA()
    levers = {field.name for field in speed.fields(speed.Levers)}
    values = {i.id: i.options[0] if i.default is None else i.default for i in schema.inputs if i.id in levers}
    assert set(values) == levers, "every lever needs a widget"
    return values


def test_a_new_nodes_widgets_are_exact(speed, widgets):
    assert speed.chosen_levers("custom", widgets) == speed.Levers()


def test_a_preset_overrules_what_changes_the_video_and_nothing_else(speed, widgets):
    turned = widgets | {"cache": "interval", "step_share": 0.1, "negative": "sequential", "compile_blocks": True}
    fast = speed.chosen_levers("fast", turned)
    assert (fast.cache, fast.step_share) == ("off", speed.PRESETS["fast"].step_share)
    assert (fast.negative, fast.compile_blocks) == ("sequential", True)
    custom = speed.chosen_levers("custom", turned)
    assert (custom.cache, custom.step_share) == ("interval", 0.1)


def test_windows_are_for_long_videos_only(speed):
    release = sys.modules[speed.ModelConfig.__module__].RELEASE
    assert speed.Speed().window(release, 49) is None
    assert speed.Speed().window(release, 97).overlap == 4
    assert speed.Speed(overlap=21).window(release, 97).overlap == 6
    assert speed.Speed(in_windows=False).window(release, 97) is None


def graph(frames=33, **settings):
    """Text to video with Speed Options; small pictures."""
    defaults = {
        "preset": "custom",
        "solver": "the sampler's own",
        "step_share": 1.0,
        "cache": "off",
        "cache_threshold": 0.1,
        "cache_most": 2,
        "cache_order": 0,
        "cache_start": 0.1,
        "cache_end": 0.95,
        "guidance_start": 0.0,
        "guidance_end": 1.0,
        "guidance_every": 1,
        "negative": "batched",
        "attention": "auto",
        "compile_blocks": False,
        "long_videos": "in windows",
        "window_overlap": 0,
    }
    prompt = text_to_video(steps=4, frames=frames, width=32, height=32, speed=["speed", 0])
    return prompt | {"speed": node("FantasyIDSpeedOptions", **(defaults | settings))}


def test_half_the_steps_of_a_long_video_in_windows_on_a_real_server(client):
    run = client.run(graph(step_share=0.5, guidance_every=2), timeout=200)
    assert run.ended == "execution_success", run.error
    bar = [event["value"] for event in run.of_type("progress") if event["node"] == "sampler"]
    assert run.steps_of("sampler") == [value for value, _ in groupby(bar)] == [1, 2]
    assert run.outputs["save"]


def test_an_attention_that_is_not_here_is_refused_before_anything_runs(client):
    from comfyui_client import RejectedPromptError

    with pytest.raises(RejectedPromptError) as refused:
        client.run(graph(attention="sage 2"), timeout=60)
    assert any("'sage 2' needs an NVIDIA card" in detail for detail in refused.value.details())


def test_levers_that_cannot_be_stop_with_one_sentence(client):
    run = client.run(graph(cache_start=0.9, cache_end=0.1), timeout=60)
    assert run.ended == "execution_error"
    assert "smaller to a larger fraction" in run.error
