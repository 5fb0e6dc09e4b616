"""Skip-layer guidance: which attention is left out, what that adds to the velocity, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from video_models import conditions, tiny_config, tiny_model

from fantasyid_core.errors import InputError
from fantasyid_core.video.levers import Levers
from fantasyid_core.video.sample import SamplingOptions, Tally, sample
from fantasyid_core.video.skip_layers import SkipLayers, parse_layers
from fantasyid_core.video.windows import Window

LAYERS, STEPS = 3, 4
OPTIONS = SamplingOptions(steps=STEPS)


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_config(layers=LAYERS))


def run(model, skip: SkipLayers, options: SamplingOptions = OPTIONS, **more) -> torch.Tensor:
    options = replace(options, skip_layers=skip)
    return sample(model, conditions(model), options, torch.Generator().manual_seed(0), **more)


def calls(model, skip: SkipLayers, options: SamplingOptions = OPTIONS) -> list[tuple[int, list[int]]]:
    """Of each model call: how many branches, and the layers whose attention is left out."""
    seen = []
    handle = model.register_forward_hook(
        lambda _m, _a, kw, _o: seen.append((len(kw["hidden_states"]), sorted(kw["skip_attention"]))), with_kwargs=True
    )
    run(model, skip, options)
    handle.remove()
    return seen


def test_zero_is_off_bit_for_bit_whatever_the_layers(model):
    plain = sample(model, conditions(model), OPTIONS, torch.Generator().manual_seed(0))
    assert torch.equal(run(model, SkipLayers(0.0, (99,))), plain)
    assert calls(model, SkipLayers()) == [(2, [])] * STEPS
    assert not torch.equal(run(model, SkipLayers(1.0)), plain)


def test_one_more_call_per_step_skips_the_middle_layer_or_those_named(model):
    assert calls(model, SkipLayers(1.0, start=0.0)) == [(2, []), (1, [1])] * STEPS
    assert calls(model, SkipLayers(1.0, (2, 0), 0.0)) == [(2, []), (1, [0, 2])] * STEPS
    assert calls(model, SkipLayers(1.0, start=0.0), replace(OPTIONS, guidance_scale=1.0)) == [(1, []), (1, [1])] * STEPS


def test_it_starts_at_a_part_of_the_steps(model):
    assert calls(model, SkipLayers(1.0)) == [(2, [])] * 2 + [(2, []), (1, [1])] * (STEPS - 2)
    assert calls(model, SkipLayers(1.0, start=0.6)) == [(2, [])] * (STEPS - 1) + [(2, []), (1, [1])]
    assert torch.equal(run(model, SkipLayers(1.0, start=1.0)), run(model, SkipLayers()))


def test_a_skipped_layer_is_one_whose_attention_adds_nothing():
    """By hand: with the output projection of that attention at zero, a plain call gives the same velocity."""
    model = tiny_model(tiny_config(layers=LAYERS))
    skipped = velocity(model, [1])
    with torch.no_grad():
        for parameter in model.transformer_blocks[1].attn1.to_out[0].parameters():
            parameter.zero_()
    assert torch.equal(velocity(model, []), skipped)
    assert torch.equal(velocity(model, [1]), skipped)
    assert not torch.equal(velocity(model, [2]), skipped)


def velocity(model, skip: list[int]) -> torch.Tensor:
    given = conditions(model)
    with torch.no_grad():
        return model(
            hidden_states=torch.cat([given.reference, given.reference], dim=2),
            encoder_hidden_states=given.positive,
            timestep=torch.tensor([500]),
            return_dict=False,
            identity=given.identity,
            skip_attention=skip,
        )[0]


def test_the_guided_velocity_moves_away_from_the_skipped_one(model):
    """One DDIM step from pure noise: the clean estimate is minus the velocity, which is recomputed by hand."""
    outputs = []
    handle = model.register_forward_hook(lambda _m, _a, out: outputs.append(out[0]))
    one_step = replace(OPTIONS, steps=1, sampler="ddim", guidance_scale=3.0)
    latents = run(model, SkipLayers(2.0, start=0.0), one_step)
    handle.remove()
    (negative, positive), skipped = outputs[0].split(1), outputs[1]
    expected = negative + 3.0 * (positive - negative) + 2.0 * (positive - skipped)
    torch.testing.assert_close(latents, -expected, rtol=0, atol=1e-5)


def test_the_difference_is_taken_over_between_the_steps_that_make_it_and_counted(model):
    exact, half = Tally(), Tally()
    run(model, SkipLayers(1.0), tally=exact)
    run(model, SkipLayers(1.0), replace(OPTIONS, levers=Levers(guidance_every=2)), tally=half)
    assert exact.blocks == exact.exact_blocks == half.exact_blocks == LAYERS * (3 * STEPS - 2)
    assert half.blocks == LAYERS * (STEPS + 2 + 1)  # the negative prompt in steps 0 and 2, this in step 2


def test_windows_and_step_caches_keep_the_branch_apart(model):
    """A cache that is never used (nothing is near) must leave the video as it is: one memory per branch."""
    unused = Levers(cache="first block", cache_threshold=0.0)
    assert torch.equal(run(model, SkipLayers(1.0), replace(OPTIONS, levers=unused)), run(model, SkipLayers(1.0)))
    whole = replace(OPTIONS, window=Window(3, 2))
    assert torch.equal(run(model, SkipLayers(1.0), whole), run(model, SkipLayers(1.0)))


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale):
    with pytest.raises(InputError, match="Skip-layer guidance must be 0"):
        SkipLayers(scale)


@pytest.mark.parametrize("start", [-0.1, 1.1, float("nan")])
def test_an_impossible_start_is_refused(start):
    with pytest.raises(InputError, match="may start at 0 to 1"):
        SkipLayers(1.0, start=start)


def test_layers_that_the_model_does_not_have_are_refused(model):
    with pytest.raises(InputError, match="has the layers 0 to 2, so 7 cannot be skipped"):
        run(model, SkipLayers(1.0, (1, 7)))
    with pytest.raises(InputError, match="counted from 0"):
        SkipLayers(1.0, (-1,))


def test_layers_are_read_from_words():
    assert parse_layers(" 10, 9 9") == (9, 10)
    assert parse_layers("") == ()
    for wrong in ("middle", "1.5", "4-6"):
        with pytest.raises(InputError, match="as numbers"):
            parse_layers(wrong)
