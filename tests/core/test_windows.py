"""Videos longer than the model was trained on: windows over time, and how they are blended."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from video_models import conditions, tiny_config, tiny_model

from fantasyid_core.config import RELEASE
from fantasyid_core.errors import InputError
from fantasyid_core.video.sample import SamplingOptions, Tally, sample
from fantasyid_core.video.windows import Window, trained_latent_frames, window_for

OPTIONS = SamplingOptions(steps=3, sampler="ddim")
WINDOWED = replace(OPTIONS, window=Window(3, 2))


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_config())


def long_conditions(model, frames):
    given = conditions(model)
    more = torch.zeros(1, frames - given.reference.shape[1], *given.reference.shape[2:])
    return replace(given, reference=torch.cat([given.reference, more], dim=1))


def run(model, options, given, tally=None):
    return sample(model, given, options, torch.Generator().manual_seed(0), tally=tally)


@pytest.mark.parametrize(
    ("frames", "length", "overlap"), [(25, 13, 4), (7, 5, 2), (14, 13, 12), (61, 13, 6), (9, 3, 2)]
)
def test_windows_cover_every_frame_and_overlap_as_asked(frames, length, overlap):
    spans = Window(length, overlap).spans(frames)
    assert spans[0].start == 0 and spans[-1].stop == frames
    assert all(span.stop - span.start == length for span in spans)
    assert all(left.stop - right.start >= overlap for left, right in pairwise(spans))


@pytest.mark.parametrize(("frames", "length", "overlap"), [(25, 13, 4), (14, 13, 12), (61, 13, 11), (9, 3, 2)])
def test_weights_add_up_to_one_and_a_later_windows_first_frame_has_none(frames, length, overlap):
    window = Window(length, overlap)
    total = torch.zeros(frames)
    for number, (span, weight) in enumerate(zip(window.spans(frames), window.weights(frames), strict=True)):
        assert weight.min() >= 0 and (weight[0] == (1 if number == 0 else 0))
        total[span] += weight
    torch.testing.assert_close(total, torch.ones(frames))


def test_a_single_window_is_the_plain_sampling_bit_for_bit(model):
    given = conditions(model)
    assert torch.equal(run(model, WINDOWED, given), run(model, OPTIONS, given))


def test_the_model_sees_windows_at_the_positions_it_was_trained_at(model):
    seen = []
    handle = model.register_forward_hook(
        lambda _m, _a, kw, _o: seen.append((kw["hidden_states"].shape[1], len(kw["image_rotary_emb"][0]))),
        with_kwargs=True,
    )
    tally = Tally()
    latents = run(model, WINDOWED, long_conditions(model, 7), tally)
    handle.remove()
    assert latents.shape == (1, 7, 4, 4, 6) and torch.isfinite(latents).all()
    assert set(seen) == {(3, 3 * 2 * 3)}
    assert tally.blocks == 3 * 2 * 3 * 5  # steps, branches, blocks, windows at 0, 1, 2, 3, 4


def test_every_window_sees_the_reference_at_its_first_frame(model):
    inputs = []
    handle = model.register_forward_hook(lambda _m, _a, kw, _o: inputs.append(kw["hidden_states"]), with_kwargs=True)
    given = long_conditions(model, 5)
    run(model, WINDOWED, given)
    handle.remove()
    for hidden in inputs:
        assert torch.equal(hidden[:1, :1, 4:], given.reference[:, :1])
        assert hidden[:, 1:, 4:].abs().max() == 0


def test_where_all_windows_agree_the_blend_changes_nothing(model):
    """A model that looks at each value by itself sees no windows."""
    given = long_conditions(model, 9)
    alone = _PointWise(model)
    torch.testing.assert_close(run(alone, WINDOWED, given), run(alone, OPTIONS, given), rtol=0, atol=1e-5)


def test_an_identity_region_is_cut_to_each_window(model):
    given = long_conditions(model, 5)
    everywhere = given.identity.with_region(torch.ones(1, 5 * 6))
    late = torch.ones(1, 5, 6)
    late[:, :2] = 0
    whole, all_regions, late_region = (
        run(model, WINDOWED, replace(given, identity=identity))
        for identity in (given.identity, everywhere, given.identity.with_region(late.flatten(1)))
    )
    assert torch.equal(all_regions, whole)
    assert not torch.equal(late_region, whole)


def test_step_caches_and_windows_work_together(model):
    from fantasyid_core.video.levers import Levers

    given, tally = long_conditions(model, 5), Tally()
    levers = Levers(cache="interval", cache_start=0.0, cache_end=0.9)
    latents = run(model, replace(WINDOWED, levers=levers), given, tally)
    assert tally.blocks == 3 * 2 * 3  # one of three steps: 3 windows, 2 branches, 3 blocks
    assert torch.isfinite(latents).all()


def test_only_longer_videos_get_windows():
    assert trained_latent_frames(RELEASE) == 13
    assert window_for(RELEASE, 49) is None
    assert window_for(RELEASE, 17) is None
    assert window_for(RELEASE, 57) == Window(13, 4)
    assert window_for(RELEASE, 97, overlap=6) == Window(13, 6)


def test_windows_that_cannot_be_are_refused_in_one_sentence():
    for overlap in (1, 13):
        with pytest.raises(InputError, match="2 to 12"):
            Window(13, overlap)
    learned = tiny_model(tiny_config(learned=True))
    options = replace(OPTIONS, window=Window(4, 2))
    with pytest.raises(InputError, match="3 latent frames"):
        run(learned, options, conditions(learned))


class _PointWise:
    """Stands for a model whose velocity at a place depends on nothing but what is there."""

    def __init__(self, model):
        self.inner = model

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, hidden_states, encoder_hidden_states, timestep, **_):
        return (hidden_states[:, :, :4].sin() + encoder_hidden_states.mean(),)


def test_noise_is_drawn_once_for_the_whole_video(model):
    used, expected = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    sample(model, long_conditions(model, 7), WINDOWED, used)
    torch.randn((1, 7, 4, 4, 6), generator=expected)
    assert torch.equal(used.get_state(), expected.get_state())
