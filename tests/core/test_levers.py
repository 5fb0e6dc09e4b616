"""Fewer and cheaper steps: what each lever leaves out, and that "exact" leaves out nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from video_models import conditions, noise, tiny_config, tiny_model

from fantasyid_core.errors import InputError
from fantasyid_core.video.levers import PRESETS, Levers, in_words, preset
from fantasyid_core.video.sample import SamplingOptions, Tally, sample
from fantasyid_core.video.schedule import make_sampler
from fantasyid_core.video.size import rotary_table
from fantasyid_core.video.step_cache import StepCache
from fantasyid_core.video.strength import LayerStrength

LAYERS, STEPS = 3, 8
OPTIONS = SamplingOptions(steps=STEPS)


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_config(LAYERS))


def run(model, seed=0, given=None, options=OPTIONS, **levers):
    """(latents, what was counted) with these levers."""
    tally = Tally()
    options = replace(options, levers=Levers(**levers))
    latents = sample(model, given or conditions(model), options, torch.Generator().manual_seed(seed), tally=tally)
    return latents, tally


def plain(model, seed=0):
    """The sampling without any lever, written down once more."""
    given, generator = conditions(model), torch.Generator().manual_seed(seed)
    latents = torch.randn(given.reference.shape, generator=generator)
    sampler = make_sampler("dpm", STEPS)
    texts = torch.cat([given.negative, given.positive])
    for i, timestep in enumerate(sampler.timesteps):
        with torch.no_grad():
            negative, positive = model(
                hidden_states=torch.cat([latents, given.reference], dim=2).expand(2, -1, -1, -1, -1),
                encoder_hidden_states=texts,
                timestep=torch.full((2,), int(timestep)),
                image_rotary_emb=rotary_table(model.model_config, 3, 4, 6),
                identity=given.identity,
                return_dict=False,
            )[0].split(1)
        latents, _ = sampler.step(negative + 6.0 * (positive - negative), i, latents, generator)
    return latents


def test_exact_leaves_nothing_out_bit_for_bit(model):
    latents, tally = run(model)
    assert torch.equal(latents, plain(model))
    assert (tally.steps, tally.blocks) == (STEPS, 2 * STEPS * LAYERS)
    assert preset("exact") == Levers()


def test_blocks_are_counted_as_they_are_called(model):
    called = []
    handles = [
        b.register_forward_hook(lambda _m, _a, out: called.append(len(out[0]))) for b in model.transformer_blocks
    ]
    _, tally = run(model, cache="interval", guidance_every=2, guidance_end=0.8)
    for handle in handles:
        handle.remove()
    assert tally.blocks == sum(called)


@pytest.mark.parametrize(
    ("name", "steps", "least"), [("balanced", 50, 2.0), ("balanced", 20, 2.0), ("fast", 50, 3.0), ("fast", 20, 3.0)]
)
def test_presets_leave_out_what_they_promise(model, name, steps, least):
    _, exact = run(model, options=SamplingOptions(steps=steps))
    tally, options = Tally(), SamplingOptions(steps=steps, levers=PRESETS[name])
    latents = sample(model, conditions(model), options, torch.Generator(), tally=tally)
    assert exact.blocks == tally.exact_blocks == exact.exact_blocks
    assert exact.blocks / tally.blocks >= least
    assert torch.isfinite(latents).all()


def test_the_share_of_the_steps_is_what_is_sampled_and_reported(model):
    reports, options = [], replace(OPTIONS, levers=Levers(step_share=0.5))
    half = sample(
        model, conditions(model), options, torch.Generator().manual_seed(0), lambda *report: reports.append(report[:2])
    )
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    asked, _ = run(model, options=SamplingOptions(steps=4))
    assert torch.equal(half, asked)
    assert [Levers(step_share=share).steps(asked) for share, asked in ((0.5, 50), (0.5, 1), (0.01, 20))] == [25, 1, 1]


def test_the_solver_of_the_levers_goes_before_the_samplers_own(model):
    forced, _ = run(model, solver="ddim")
    chosen, _ = run(model, options=replace(OPTIONS, sampler="ddim"))
    assert torch.equal(forced, chosen)
    assert not torch.equal(forced, run(model)[0])


def test_what_is_left_out_is_foretold_and_told(model):
    levers = Levers(step_share=0.5, guidance_every=2, guidance_end=0.8)
    _, tally = run(model, step_share=0.5, guidance_every=2, guidance_end=0.8)
    assert tally.blocks == LAYERS * levers.branches(STEPS) == LAYERS * (4 + 2)
    assert str(tally) == "4 steps, 18 of 48 block evaluations, 2.7 times less than exact"
    assert str(run(model)[1]) == "8 steps, 48 of 48 block evaluations"
    assert in_words(Levers()) == "Nothing is left out."
    words = in_words(levers)
    assert words.startswith("25 of 50 steps; guidance from 0% to 80%")
    assert words.endswith("35% of the work of an exact sampling.")
    assert "At most 100% of the work" in in_words(Levers(cache="first block"))


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_the_exact_work_counts_the_identitys_own_branch_where_there_is_one(model, guidance):
    options = replace(OPTIONS, identity_guidance=guidance, strength=LayerStrength().between(0.5, 1.0))
    _, tally = run(model, options=options)
    assert tally.exact_blocks == tally.blocks == LAYERS * (2 * STEPS + int(guidance) * STEPS // 2)


# --- guidance


def test_outside_its_interval_guidance_is_one_and_its_branch_is_not_run(model):
    _, tally = run(model, guidance_start=0.25, guidance_end=0.75)
    assert tally.blocks == LAYERS * (STEPS + STEPS // 2)
    nowhere, _ = run(model, guidance_start=0.5, guidance_end=0.5)
    unguided = sample(model, conditions(model), replace(OPTIONS, guidance_scale=1.0), torch.Generator().manual_seed(0))
    assert torch.equal(nowhere, unguided)


def test_the_guidance_difference_is_taken_over_between_the_steps_that_make_it(model):
    _, tally = run(model, guidance_every=3)
    assert tally.blocks == LAYERS * (STEPS + 3)  # the negative branch in steps 0, 3, 6
    always, _ = run(model)
    near, far = (run(model, guidance_every=every)[0] for every in (2, STEPS))
    assert 0 < (near - always).abs().mean() < (far - always).abs().mean()


def test_a_difference_that_does_not_change_may_be_taken_over_exactly(model):
    """With both prompts the same it is zero in every step, so leaving it out costs nothing."""
    given = conditions(model)
    given = replace(given, negative=given.positive)
    torch.testing.assert_close(run(model, given=given, guidance_every=STEPS)[0], run(model, given=given)[0])


def test_identity_guidance_takes_its_difference_over_too(model):
    options = replace(OPTIONS, identity_guidance=1.0)
    _, always = run(model, options=options)
    _, tally = run(model, options=options, guidance_every=4)
    assert always.blocks == 3 * STEPS * LAYERS
    assert tally.blocks == LAYERS * (STEPS + 2 + 2)


def test_one_branch_after_the_other_is_the_same_video_with_half_the_batch(model):
    batches = []
    handle = model.register_forward_hook(
        lambda _m, _a, kw, _o: batches.append(len(kw["hidden_states"])), with_kwargs=True
    )
    one_by_one, tally = run(model, negative="sequential")
    handle.remove()
    together, both = run(model)
    torch.testing.assert_close(one_by_one, together, rtol=0, atol=1e-5)
    assert batches == [1] * 2 * STEPS
    assert tally == both


# --- step caches

CACHES = {
    "first block": {"cache": "first block", "cache_threshold": 10.0},
    "interval": {"cache": "interval"},
    "magnitude": {"cache": "magnitude", "cache_threshold": 10.0},
}


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_skips_blocks_where_it_may_and_only_there(model, cache):
    """Eager in every way: 2 of 3 steps within 0.25..0.75 are skipped, but for the block that a rule needs."""
    levers = CACHES[cache] | {"cache_start": 0.25, "cache_end": 0.75, "cache_most": 1}
    latents, tally = run(model, **levers)
    always_run = 1 if cache == "first block" else 0
    assert tally.blocks == 2 * (LAYERS * (STEPS - 2) + always_run * 2)  # of steps 2 to 5 every second
    assert torch.isfinite(latents).all()
    assert not torch.equal(latents, run(model)[0])


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_that_never_finds_a_step_near_enough_is_exact(model, cache):
    """A threshold of 0 leaves nothing to skip; the interval rule, which has none, may skip in no step."""
    levers = CACHES[cache] | ({"cache_end": 0.1} if cache == "interval" else {"cache_threshold": 0.0})
    latents, tally = run(model, **levers)
    assert torch.equal(latents, run(model)[0])
    assert tally.blocks == 2 * STEPS * LAYERS


def test_what_is_reused_is_what_was_computed(model):
    """Steps in which nothing changes cost nothing: on one and the same input the cache gives the very output."""
    cache = StepCache(Levers(cache="interval", cache_start=0.0))
    video, text = noise(1, 18, 32), noise(1, 5, 32)
    first = cache.call(["only"], 0, 0.0).through(_times_three, 4, video, text)
    again = cache.call(["only"], 1, 0.5).through(_fail, 4, video, text)
    torch.testing.assert_close(again, first, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("order", "exact"), [(0, False), (1, False), (2, True)])
def test_extrapolation_follows_a_polynomial_of_its_order(order, exact):
    """What the block adds is a square of the step, of which three remembered steps know everything."""
    levers = Levers(cache="interval", cache_order=order, cache_most=2, cache_start=0.35, cache_end=1.0)
    cache, video = StepCache(levers), torch.zeros(1, 2, 2)
    for step in range(5):
        ran = []

        def block(_i, video, text, step=step, ran=ran):
            ran.append(step)
            return video + step**2, text

        guess = cache.call(["only"], step, step / 10).through(block, 1, video, video)
        assert bool(ran) == (step < 4)
    assert torch.allclose(guess, torch.full_like(guess, 16.0)) == exact


def test_branches_and_steps_of_another_strength_are_kept_apart():
    cache = StepCache(Levers(cache="interval", cache_start=0.0, cache_most=9))
    video = torch.zeros(1, 1, 1)

    def add(amount):
        return lambda _i, video, text: (video + amount, text)

    for name, amount in (("a", 1.0), ("b", 2.0)):
        cache.call([name], 0, 0.0, "strong").through(add(amount), 1, video, video)
    both = cache.call(["b", "a"], 1, 0.1, "strong").through(_fail, 1, torch.zeros(2, 1, 1), video)
    assert both.flatten().tolist() == [2.0, 1.0]
    weaker = cache.call(["a"], 2, 0.2, "weak").through(add(5.0), 1, video, video)
    assert weaker.item() == 5.0  # computed anew, because the strength changed


def test_a_call_that_is_repeated_after_an_error_is_remembered_once():
    cache = StepCache(Levers(cache="interval", cache_order=2, cache_start=0.0))
    video = torch.zeros(1, 1, 1)
    for _ in range(2):
        cache.call(["a"], 0, 0.0).through(lambda _i, v, t: (v + 1.0, t), 1, video, video)
    assert cache.call(["a"], 1, 0.1).through(_fail, 1, video, video).item() == 1.0


def test_what_is_taken_over_is_never_older_than_asked():
    cache, video = StepCache(Levers(cache="interval", cache_start=0.0, cache_most=2)), torch.zeros(1, 1, 1)
    cache.call(["a"], 0, 0.0).through(lambda _i, v, t: (v + 1.0, t), 1, video, video)
    late = cache.call(["a"], 3, 0.3).through(lambda _i, v, t: (v + 5.0, t), 1, video, video)
    assert late.item() == 5.0  # though no step has been skipped: this branch was not called in between


@pytest.mark.parametrize("negative", ["batched", "sequential"])
def test_a_step_that_makes_a_difference_for_others_is_run_whole(model, negative):
    """Both branches in each second step, neither in the others: what a stale difference would spoil for two steps."""
    levers = {"guidance_every": 2, "cache": "interval", "cache_start": 0.0, "cache_end": 1.0, "cache_most": 9}
    _, tally = run(model, negative=negative, **levers)
    assert tally.blocks == 2 * LAYERS * STEPS // 2


def test_where_text_guidance_has_ended_the_identitys_difference_is_still_of_whole_calls(model):
    """From step 2 on the positive branch is on its own: every second step it is half of a difference."""
    levers = {"guidance_every": 2, "guidance_end": 0.25, "cache": "interval", "cache_start": 0.0, "cache_most": 9}
    options = replace(OPTIONS, identity_guidance=1.0)
    _, tally = run(model, options=options, cache_end=1.0, **levers)
    assert tally.blocks == LAYERS * (3 + 3 * 2)  # three branches in step 0, two in steps 2, 4 and 6


def test_a_change_of_strength_over_the_steps_reaches_the_video_in_spite_of_the_cache(model):
    strength = LayerStrength().between(0.5, 1.0)
    _, tally = run(model, options=replace(OPTIONS, strength=strength), cache="interval", cache_most=99, cache_start=0)
    # the first step, the step in which the identity joins, and the last, which lies behind cache_end
    assert tally.blocks == 2 * 2 * LAYERS


def test_a_cache_forgets_one_video_before_the_next(model):
    first = run(model, cache="interval")[0]
    run(model, seed=1, cache="interval")
    assert torch.equal(run(model, cache="interval")[0], first)


# --- the second-order solver


def test_the_second_order_solver_is_exact_for_a_known_flow():
    """Data of one known point: whatever the step sizes, the exact denoiser leads there, with any number of steps."""
    goal, start = noise(1, 2, 4, 4, 6, seed=5), noise(1, 2, 4, 4, 6)
    for steps in (1, 2, 5):
        assert (_flow("dpm2m", steps, start, lambda _x, _s, _n: goal) - goal).abs().max() < 1e-5


def test_the_second_order_solver_needs_half_the_steps_of_the_first_order_one():
    """Data is a bell curve of width 0.6 around 1: its denoiser is known, and so is where each noise must end."""
    start, width = noise(1, 2, 4, 4, 6), 0.6

    def denoise(x, signal, level):
        return 1.0 + width**2 * signal / ((width * signal) ** 2 + level**2) * (x - signal)

    errors = {
        (name, steps): float((_flow(name, steps, start, denoise) - (1.0 + width * start)).abs().mean())
        for name, steps in (("ddim", 40), ("dpm2m", 20), ("dpm2m", 40))
    }
    assert errors["dpm2m", 20] < errors["ddim", 40]
    assert errors["dpm2m", 40] < 0.5 * errors["dpm2m", 20]


def _flow(name, steps, latents, denoise):
    """The sampler ``name`` on a model that knows the clean video to expect of x at (signal, noise)."""
    sampler, generator = make_sampler(name, steps), torch.Generator()
    kept = make_sampler("dpm", 1).alphas_cumprod
    for i, timestep in enumerate(sampler.timesteps):
        signal, level = float(kept[timestep].sqrt()), float((1 - kept[timestep]).sqrt())
        velocity = (signal * latents - denoise(latents, signal, level)) / level
        latents, _ = sampler.step(velocity, i, latents, generator)
    return latents


def test_the_second_order_solver_draws_nothing(model):
    used, expected = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    sample(model, conditions(model), replace(OPTIONS, sampler="dpm2m"), used)
    torch.randn((1, 3, 4, 4, 6), generator=expected)  # the noise that the video starts from
    assert torch.equal(used.get_state(), expected.get_state())


# --- what cannot be


@pytest.mark.parametrize(
    ("levers", "words"),
    [
        ({"cache": "tea"}, "first block"),
        ({"negative": "never"}, "batched"),
        ({"step_share": 0.0}, "0.01 and 1"),
        ({"cache_most": 0}, "between 1"),
        ({"cache_order": 3}, "between 0 and 2"),
        ({"guidance_every": 0}, "between 1"),
        ({"guidance_start": 0.6, "guidance_end": 0.5}, "smaller to a larger"),
        ({"cache_threshold": float("nan")}, "between 0"),
    ],
)
def test_levers_that_cannot_be_are_refused_in_one_sentence(levers, words):
    with pytest.raises(InputError, match=words):
        Levers(**levers)


def test_an_unknown_preset_or_solver_names_those_there_are(model):
    with pytest.raises(InputError, match="exact, balanced, fast"):
        preset("warp")
    with pytest.raises(InputError, match="dpm, ddim, dpm2m"):
        run(model, solver="euler")


def _times_three(_i, video, text):
    return 3 * video, text


def _fail(*_):
    raise AssertionError("the blocks were run")
