"""Layer strength at the nodes: what it says, what it draws, and that the sampler obeys it."""

from __future__ import annotations

import pytest
import torch
from test_bad_input import refused


@pytest.fixture(scope="module")
def layer_strength(pack_nodes):
    """``layer_strength(preset, ...)`` → strength, text."""

    def call(preset="balanced", custom="", multiply=1.0, start=0.0, end=1.0, **more):
        return pack_nodes["FantasyIDLayerStrength"].execute(preset, custom, multiply, start, end, **more).args

    return call


@pytest.fixture(scope="module")
def video(pack_nodes, mini_model, someone):
    """Two steps of a tiny video: [1, C, F, H, W]."""
    text, identity = [[torch.zeros(1, 1, mini_model.config.transformer.text_embed_dim), {}]], someone(1)

    def call(identity_strength=1.0, start=0.0, end=1.0, **more):
        widgets = (5, 2, 1.0, identity_strength, start, end, 9, 32, 32)
        sampled = pack_nodes["FantasyIDSampler"].execute(mini_model, text, text, *widgets, identity, **more)
        return sampled.args[0]["samples"]

    return call


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "1"),
        ({"preset": "motion first", "multiply": 0.5}, "0.2 @ 0-25%; 0.5 @ 25-100%"),
        ({"preset": "custom", "custom": "1 0.5 @ 0-50%", "start": 0.25}, "1 0.5 @ 25-50%"),
        ({"curve": [0.25, 1.0], "multiply": 2.0}, "0.5 2"),
    ],
)
def test_what_is_set_is_what_it_says(layer_strength, settings, text):
    assert layer_strength(**settings)[1] == text


def test_a_text_that_is_no_strength_is_explained(layer_strength):
    assert "as in" in refused(layer_strength, "custom", "strong")
    assert "curve" in refused(layer_strength, curve="strong")


def test_the_sampler_obeys_it(layer_strength, video):
    half, first_step = layer_strength(multiply=0.5)[0], layer_strength("custom", "1 @ 0-50%")[0]
    assert torch.equal(video(strength=half), video(0.5))
    assert torch.equal(video(strength=first_step), video(end=0.5))
    assert not torch.equal(video(strength=layer_strength("early layers")[0]), video())


def test_off_is_off(layer_strength, video):
    off = video(strength=layer_strength("custom", "0")[0])
    assert torch.equal(off, video(0.0)) and not torch.equal(off, video())


def test_identity_guidance_is_off_until_it_is_asked_for(video):
    assert torch.equal(video(identity_guidance=0.0), video())
    assert not torch.equal(video(identity_guidance=2.0), video())
    assert torch.equal(video(0.0, identity_guidance=2.0), video(0.0)), "without an identity there is nothing to guide"


def test_reference_guidance_is_off_until_it_is_asked_for(video):
    assert torch.equal(video(reference_guidance=0.0), video())
    assert not torch.equal(video(reference_guidance=1.0), video())
    assert not torch.equal(video(reference_guidance=1.0), video(identity_guidance=1.0))


def test_skip_layer_guidance_is_off_until_it_is_asked_for(video):
    middle = video(skip_layer_guidance=1.0)
    assert torch.equal(video(skip_layer_guidance=0.0, skip_layers="1"), video())
    assert not torch.equal(middle, video())
    assert torch.equal(video(skip_layer_guidance=1.0, skip_layers="4"), middle), "the middle one of the mini's eight"
    assert not torch.equal(video(skip_layer_guidance=1.0, skip_layers="1, 2"), middle)


@pytest.mark.parametrize(("layers", "says"), [("middle", "as numbers"), ("8", "the layers 0 to 7")])
def test_layers_that_cannot_be_skipped_are_explained(video, layers, says):
    with pytest.raises(Exception, match=says):
        video(skip_layer_guidance=1.0, skip_layers=layers)


def test_a_person_may_have_a_strength_of_their_own(layer_strength, pack_nodes, someone):
    late = layer_strength("late layers")[0]
    people = pack_nodes["FantasyIDAddPerson"].execute(someone(1), "auto", 0.5, 0.0, 1.0, strength=late).args[0]
    assert str(people.persons[0].strength) == "0 0.5"


def test_the_plot_has_as_many_layers_as_the_model(layer_strength, pack_nodes, mini_model):
    plot, strength = pack_nodes["FantasyIDPlotStrength"], layer_strength("early layers")[0]
    image, about = plot.execute(strength, 42, 10).args
    assert image.shape == (1, 640, 960, 3)
    assert about == "The identity acts in layers 1–21 of 42, in steps 1–10 of 10, strength 1."
    layers = len(mini_model.transformer.layer_attentions())
    assert f" of {layers}, " in plot.execute(strength, 42, 10, mini_model).args[1]


def test_the_definition_tells_the_bars_every_presets_shape(pack_nodes, pack_module):
    parse_strength = pack_module("fantasyid_core.video.strength").parse_strength
    required = pack_nodes["FantasyIDLayerStrength"].INPUT_TYPES()["required"]
    shapes = required["preset"][1]["shapes"]
    assert set(shapes) == {option for option in required["preset"][1]["options"] if option != "custom"}
    assert all(str(parse_strength(text)) == text for text in shapes.values())
