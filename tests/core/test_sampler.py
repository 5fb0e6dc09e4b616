"""Sampling: what seeds, guidance, strength, previews and cancel do; and which sizes are refused, in which words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from video_models import conditions, noise, tiny_config, tiny_model

from fantasyid_core.config import RELEASE
from fantasyid_core.errors import InputError
from fantasyid_core.video.sample import Conditions, SamplingOptions, guidance_at, sample
from fantasyid_core.video.schedule import SAMPLERS, make_sampler
from fantasyid_core.video.size import check_video_size, latent_shape, rotary_table
from fantasyid_core.video.skip_layers import SkipLayers
from fantasyid_core.video.strength import LayerStrength, StrengthBand, parse_strength

OPTIONS = SamplingOptions(steps=4)
FURTHER = {"identity_guidance": 0.7, "reference_guidance": 0.5, "skip_layers": SkipLayers(0.7, start=0.0)}


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_config())


def run(model, options=OPTIONS, given=None, seed=0, **more):
    return sample(model, given or conditions(model), options, torch.Generator().manual_seed(seed), **more)


def differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() > 1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_gives_the_same_video_again_and_another_seed_another(model, sampler):
    options = replace(OPTIONS, sampler=sampler)
    assert torch.equal(run(model, options), run(model, options))
    assert differ(run(model, options), run(model, options, seed=1))
    assert run(model, options).shape == (1, 3, 4, 4, 6)


def test_random_numbers_are_drawn_in_the_releases_order_the_thrown_away_ones_too(model):
    used = torch.Generator().manual_seed(0)
    sample(model, conditions(model), OPTIONS, used)
    expected = torch.Generator().manual_seed(0)
    for _ in range(1 + 1 + 2 + 2 + 1):  # the latents; then one noise in the first and last step, two in between
        torch.randn((1, 3, 4, 4, 6), generator=expected)
    assert torch.equal(used.get_state(), expected.get_state())


def test_guidance_one_halves_the_work_and_needs_no_negative_prompt(model):
    batches = []
    handle = model.register_forward_hook(
        lambda _m, _a, kw, _o: batches.append(len(kw["hidden_states"])), with_kwargs=True
    )
    given = conditions(model)
    run(model, given=given)
    run(model, replace(OPTIONS, guidance_scale=1.0), replace(given, negative=None))
    handle.remove()
    assert batches == [2] * 4 + [1] * 4
    with pytest.raises(InputError, match="negative prompt"):
        run(model, given=replace(given, negative=None))


def test_the_guided_velocity_is_the_textbooks(model):
    """With the sampler taken away: one step from noise, recomputed by hand from the two branches."""
    given, outputs = conditions(model), []
    handle = model.register_forward_hook(lambda _m, _a, out: outputs.append(out[0]))
    one_step = replace(OPTIONS, steps=1, sampler="ddim", guidance_scale=3.0)
    latents = run(model, one_step, given)
    handle.remove()
    negative, positive = outputs[0].chunk(2)
    velocity = negative + 3.0 * (positive - negative)
    # at t = 999 with zero terminal SNR nothing of the video is left, so the clean estimate is minus the velocity
    torch.testing.assert_close(latents, -velocity, rtol=0, atol=1e-5)


def test_dynamic_guidance_swings_as_the_releases_does():
    options = SamplingOptions(steps=3, guidance_scale=6.0, dynamic_guidance=True)
    scales = [guidance_at(timestep, options) for timestep in (999, 666, 332)]
    assert scales == pytest.approx([1.0000000386950705, 6.999999981398925, 3.7481633040187146], abs=1e-9)
    assert guidance_at(999, replace(options, dynamic_guidance=False)) == 6.0


def test_identity_guidance_adds_a_branch_and_zero_adds_nothing(model):
    batches = []
    handle = model.register_forward_hook(
        lambda _m, _a, kw, _o: batches.append(kw["identity"] is None), with_kwargs=True
    )
    stronger = run(model, replace(OPTIONS, identity_guidance=2.0))
    handle.remove()
    assert batches == [False, True] * 4
    assert differ(stronger, run(model))
    without = conditions(model, identity=False)
    assert torch.equal(run(model, replace(OPTIONS, identity_guidance=2.0), without), run(model, OPTIONS, without))


def test_identity_guidance_is_linear_in_what_the_identity_does(model):
    """One DDIM step is linear in the velocity: twice the guidance moves the video twice as far."""
    one_step = replace(OPTIONS, steps=1, sampler="ddim")
    none, one, two = (run(model, replace(one_step, identity_guidance=g)) for g in (0.0, 1.0, 2.0))
    torch.testing.assert_close(two - none, 2 * (one - none), rtol=0, atol=1e-5)


def test_reference_guidance_moves_away_from_a_call_without_picture_and_tokens(model):
    given, seen, outputs = conditions(model), [], []

    def look(_model, _args, kw, out):
        seen.append((kw["identity"] is not None, bool(kw["hidden_states"][:, :, 4:].any())))
        outputs.append(out[0])

    handle = model.register_forward_hook(look, with_kwargs=True)
    one_step = replace(OPTIONS, steps=1, sampler="ddim", guidance_scale=1.0)
    latents = run(model, replace(one_step, reference_guidance=0.5), given)
    handle.remove()
    assert seen == [(True, True), (False, False)]
    somebody, nobody = outputs
    torch.testing.assert_close(latents, -(somebody + 0.5 * (somebody - nobody)), rtol=0, atol=1e-5)


def test_without_an_identity_there_is_no_reference_guidance(model):
    without = conditions(model, identity=False)
    assert torch.equal(run(model, replace(OPTIONS, reference_guidance=2.0), without), run(model, OPTIONS, without))


def test_each_further_guidance_adds_its_own(model):
    """One DDIM step is linear in the velocity: what three guidances do together is what each of them does alone."""
    one_step = replace(OPTIONS, steps=1, sampler="ddim")
    plain, *alone = (
        run(model, replace(one_step, **more)) for more in ({}, *({name: value} for name, value in FURTHER.items()))
    )
    together = run(model, replace(one_step, **FURTHER))
    torch.testing.assert_close(together - plain, sum(one - plain for one in alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize("of", ["identity", "reference"])
@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_an_impossible_guidance_is_refused(model, of, wrong):
    with pytest.raises(InputError, match=f"{of.capitalize()} guidance"):
        run(model, replace(OPTIONS, **{f"{of}_guidance": wrong}))


def test_strength_zero_is_a_video_without_the_identity(model):
    off = replace(OPTIONS, strength=LayerStrength((StrengthBand((0.0,)),)))
    assert torch.equal(run(model, off), run(model, given=conditions(model, identity=False)))
    assert differ(run(model, off), run(model))


def test_start_and_end_choose_the_steps_that_see_the_identity(model):
    seen = []
    handle = model.register_forward_hook(
        lambda _m, _a, kw, _o: seen.append(kw["identity"] is not None), with_kwargs=True
    )
    run(model, replace(OPTIONS, strength=LayerStrength().between(0.25, 0.75)))
    handle.remove()
    assert seen == [False, True, True, False]


def test_layers_take_the_strength_they_were_given(model):
    early, late = (run(model, replace(OPTIONS, strength=parse_strength(name))) for name in ("1 0 0", "0 0 1"))
    assert differ(early, late)
    assert differ(early, run(model))


def test_each_step_reports_progress_and_a_preview_of_the_clean_video(model):
    reports = []
    latents = run(model, progress=lambda *report: reports.append(report))
    assert [(done, total) for done, total, _ in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert all(preview.shape == latents.shape and preview.dtype == torch.float32 for *_, preview in reports)
    torch.testing.assert_close(reports[-1][2], latents, rtol=0, atol=1e-5)  # the last estimate is the video


def test_cancel_passes_through_at_once_from_progress_and_from_between_two_blocks(model):
    class CancelledError(Exception):
        pass

    checks, steps = [], []

    def cancel_in_the_second_step():
        checks.append(1)
        if len(checks) == 5:  # three blocks a step
            raise CancelledError

    with pytest.raises(CancelledError):
        run(model, check=cancel_in_the_second_step, progress=lambda *_: steps.append(1))
    assert len(steps) == 1

    def cancel_after_the_first_step(*_):
        raise CancelledError

    with pytest.raises(CancelledError):
        run(model, progress=cancel_after_the_first_step)


def test_bfloat16_latents_are_cast_back_each_step_and_estimates_stay_float32():
    low, previews, inputs = tiny_model(tiny_config()).bfloat16(), [], []
    low.register_forward_hook(lambda _m, _a, kw, _o: inputs.append(kw["hidden_states"].dtype), with_kwargs=True)
    latents = run(low, given=conditions(low, dtype=torch.bfloat16), progress=lambda *r: previews.append(r[2].dtype))
    assert latents.dtype == torch.bfloat16
    assert set(inputs) == {torch.bfloat16}
    assert set(previews) == {torch.float32}
    assert torch.isfinite(latents.float()).all()


def test_a_step_cache_does_not_carry_one_video_into_the_next():
    from diffusers import FirstBlockCacheConfig

    model = tiny_model(tiny_config(layers=4))
    model.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    given = conditions(model)
    first = run(model, given=given)
    assert torch.equal(run(model, given=given), first)
    with pytest.raises(RuntimeError):
        run(model, given=given, progress=_fail)
    assert torch.equal(run(model, given=given), first)


def _fail(*_):
    raise RuntimeError


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_any_number_of_steps_ends_in_a_finite_video(model, steps):
    assert torch.isfinite(run(model, replace(OPTIONS, steps=steps))).all()


def test_settings_that_cannot_work_are_refused_in_one_sentence(model):
    given = conditions(model)
    with pytest.raises(InputError, match="one of: dpm, ddim"):
        make_sampler("euler", 4)
    with pytest.raises(InputError, match="between 1 and 1000"):
        make_sampler("dpm", 0)
    with pytest.raises(InputError, match="same length"):
        Conditions(given.positive, noise(1, 4, 12), given.reference)


@pytest.mark.parametrize(
    ("frames", "height", "width", "words"),
    [
        (48, 480, 720, "take 49"),
        (13, 480, 720, "take 17"),
        (0, 480, 720, "take 1"),
        (49, 481, 719, "take 720×480"),
        (49, 8, 720, "take 720×16"),
        (49, 512, 768, "720×480 pixels only"),
    ],
)
def test_a_size_that_cannot_be_made_names_the_nearest_one(frames, height, width, words):
    with pytest.raises(InputError, match=words) as caught:
        check_video_size(frames, height, width, RELEASE)
    assert "\n" not in str(caught.value)


def test_sizes_that_can_be_made_pass():
    check_video_size(49, 480, 720, RELEASE)
    check_video_size(1, 480, 720, RELEASE)
    check_video_size(17, 128, 256, tiny_config())
    assert latent_shape(RELEASE, 49, 480, 720) == (1, 13, 16, 60, 90)
    assert rotary_table(RELEASE, 13, 60, 90)[0].shape == (17550, 64)
