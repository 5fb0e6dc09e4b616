"""Several people in one video: whose region is whose, and that each takes exactly what it would take alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from video_models import WIDTH, call, noise, tiny_config, tiny_model, with_layer_block

from fantasyid_core.errors import InputError
from fantasyid_core.identity.identity import Identity
from fantasyid_core.video.people import People, Person, as_people, people_pixels, prepare_people, region_maps
from fantasyid_core.video.people_picture import draw_people
from fantasyid_core.video.sample import Conditions, SamplingOptions, sample
from fantasyid_core.video.strength import LayerStrength, parse_strength
from fantasyid_core.video.vae import reference_pixels

LATENTS = (3, 4, 6)  # frames, height, width: a patch grid of 3 × 2 × 3


def someone(seed: int, colour: float = 0.5) -> Identity:
    return Identity(noise(6, WIDTH, seed=seed), np.full((512, 512, 3), colour, np.float32), "tiny-0")


ANNA, BERT = someone(1, 0.2), someone(2, 0.9)


def couple(one="auto", other="auto", **more):
    return People((Person(ANNA, one, **more), Person(BERT, other)))


def mask(*columns: float) -> np.ndarray:
    """[1, 2, columns]: the same levels in both rows."""
    return np.array([[columns, columns]], np.float32)


@pytest.fixture(scope="module", params=["released", "paper"])
def model(request):
    config = tiny_config()
    made = tiny_model(config if request.param == "released" else with_layer_block(config))
    for block in made.transformer_blocks:  # F_l's norm starts at zero; let it do something
        if block.layer_block is not None:
            torch.nn.init.normal_(block.layer_block.norm.weight, generator=torch.Generator().manual_seed(4))
    return made


def context(model, people):
    return prepare_people(model, people, LATENTS, "cpu", torch.float32)


def block_output(model, people):
    """What the first block adds for these people: [N, C]."""
    video, text = noise(1, 18, 32, seed=5), noise(1, 5, 32, seed=6)
    time = noise(1, 16, seed=7)
    block = model.transformer_blocks[0]
    plain = block(video, text, time, None)[0]
    return (block(video, text, time, None, identity=context(model, people).layer(0, (3, 2, 3)))[0] - plain)[0]


def test_automatic_regions_are_equal_strips_from_left_to_right():
    maps = region_maps(couple(), 1, 2, 6)
    assert maps[0].tolist() == [[[1, 1, 1, 0, 0, 0]] * 2]
    assert torch.equal(maps.sum(0), torch.ones(1, 2, 6))
    three = region_maps(couple().and_(Person(someone(3))), 1, 1, 6)[:, 0, 0]
    torch.testing.assert_close(three, torch.eye(3).repeat_interleave(2, dim=1))


def test_a_column_that_a_border_crosses_is_shared_by_area():
    torch.testing.assert_close(region_maps(couple(), 1, 1, 3)[:, 0, 0], torch.tensor([[1, 0.5, 0], [0, 0.5, 1]]))


def test_only_the_automatic_ones_share_the_automatic_strips():
    people = couple("whole frame").and_(Person(someone(3)))
    alone = People((Person(BERT), Person(someone(3))))
    assert torch.equal(region_maps(people, 1, 1, 4)[1:] > 0, region_maps(alone, 1, 1, 4) > 0)


def test_where_regions_overlap_nobody_gets_more_than_one_person_would():
    maps = region_maps(couple(mask(1, 1, 0), mask(0, 1, 1)), 1, 2, 3)[:, 0, 0]
    assert maps.tolist() == [[1, 0.5, 0], [0, 0.5, 1]]


def test_a_soft_mask_keeps_its_levels_and_any_size_fits():
    fine = np.repeat(np.repeat(mask(0.5, 1, 0), 40, axis=1), 30, axis=2)
    maps = region_maps(People((Person(ANNA, fine),)), 2, 2, 3)
    torch.testing.assert_close(maps[0, :, 0], torch.tensor([[0.5, 1, 0]] * 2))


def test_a_mask_of_several_frames_moves_over_the_video():
    moving = np.stack([mask(1, 0)[0], mask(0, 1)[0]])
    assert region_maps(People((Person(ANNA, moving),)), 2, 1, 2)[0, :, 0].tolist() == [[1, 0], [0, 1]]


def test_each_regions_tokens_get_exactly_that_persons_contribution(model):
    both = block_output(model, couple(mask(1, 0, 0), mask(0, 1, 1)))
    anna, bert = (block_output(model, as_people(one)) for one in (ANNA, BERT))
    left = torch.tensor([1, 0, 0] * 6, dtype=torch.bool)
    assert anna.abs().max() > 1e-3 and (anna - bert).abs().max() > 1e-3
    # they are taken as a difference of two numbers, which leaves rounding behind
    torch.testing.assert_close(both[left], anna[left], rtol=0, atol=1e-6)
    torch.testing.assert_close(both[~left], bert[~left], rtol=0, atol=1e-6)


def test_where_two_share_a_token_it_gets_half_of_each(model):
    both = block_output(model, couple("whole frame", "whole frame"))
    anna, bert = (block_output(model, as_people(one)) for one in (ANNA, BERT))
    torch.testing.assert_close(both, (anna + bert) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("region", ["auto", "whole frame", np.ones((1, 7, 5), np.float32)])
def test_one_person_with_the_whole_frame_is_the_plain_way_exactly(model, region):
    people = context(model, People((Person(ANNA, region),)))
    assert torch.equal(call(model, people), call(model, model.prepare_identity(ANNA.tokens)))
    page = people_pixels(People((Person(ANNA, region),)), 32, 48)
    assert torch.equal(page, reference_pixels(ANNA.reference, 32, 48, "letterbox"))


def test_everybody_has_a_strength_and_steps_of_their_own(model):
    people = context(model, couple(strength=parse_strength("2 @ 50-100%")))
    early, late = people.at(LayerStrength(), 0.0), people.at(parse_strength("0.5"), 0.5)
    assert [c.strength for c in early.contexts] == [(1.0,) * 3]  # Bert alone
    assert [c.strength for c in late.contexts] == [(1.0,) * 3, (0.5,) * 3]
    assert people.at(parse_strength("0"), 0.5) is None


def test_people_sample_like_one_when_only_one_acts(model):
    """The whole sampler: Bert switched off, Anna everywhere."""
    people = People((Person(ANNA, "whole frame"), Person(BERT, "right half", parse_strength("0"))))
    alone = People((Person(ANNA, region_maps(people, 1, 1, 3)[0].numpy()),))
    text, reference = noise(1, 5, 12), torch.zeros(1, 3, 4, 4, 6)
    given = (Conditions(text, text, reference, context(model, them)) for them in (people, alone))
    first, second = (sample(model, one, SamplingOptions(steps=2), torch.Generator().manual_seed(0)) for one in given)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


def test_crops_stand_in_the_middle_of_their_regions_on_grey():
    page = (people_pixels(couple(), 32, 64)[0, 0] + 1) / 2
    anna, bert, grey = (round(255 * level) / 255 for level in (0.2, 0.9, 132 / 255))
    assert page[16].tolist() == pytest.approx([anna] * 32 + [bert] * 32, abs=1e-6)
    tall = (people_pixels(couple(), 64, 64)[0, 0] + 1) / 2
    assert tall[0].tolist() == pytest.approx([grey] * 64, abs=1e-6)
    assert tall[32].tolist() == pytest.approx([anna] * 32 + [bert] * 32, abs=1e-6)


def test_where_boxes_overlap_the_stronger_region_has_the_pixel():
    page = people_pixels(couple(mask(1, 1, 0.6), mask(0, 0.7, 1)), 32, 48)[0, 0]
    anna, bert = -0.6, 0.8
    assert page[16, 4].item() == pytest.approx(anna, abs=0.01)
    assert page[16, 20].item() == pytest.approx(anna, abs=0.01)  # 1 : 0.7
    assert page[16, 44].item() == pytest.approx(bert, abs=0.01)


def test_somebody_who_is_not_in_the_first_frame_has_no_crop_there():
    later = np.stack([np.zeros((2, 3)), np.ones((2, 3))]).astype(np.float32)
    assert people_pixels(People((Person(ANNA, later),)), 16, 16).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("upper half", "one of: auto, whole frame"),
        (np.zeros((1, 4, 4), np.float32), "paint where"),
        (np.full((1, 4, 4), 2.0, np.float32), "levels from 0 to 1"),
        (np.zeros((4, 4), np.float32), "shape"),
    ],
)
def test_a_region_that_is_none_is_refused(region, words):
    with pytest.raises(InputError, match=words):
        Person(ANNA, region)
    with pytest.raises(InputError, match="nobody"):
        People(())


def test_the_same_person_twice_gets_two_strips():
    twice = Person(ANNA)
    assert region_maps(People((twice, twice)), 1, 1, 4)[:, 0, 0].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_the_picture_shows_faces_where_people_stand_and_dark_where_nobody_does():
    picture = draw_people(People((Person(ANNA, "left third"), Person(BERT, "right third"))), 96, 192)
    anna, nobody, bert = (picture[48, column].mean() for column in (32, 96, 160))
    assert picture.shape == (96, 192, 3)
    assert anna < bert and nobody < bert and picture[90, 96].mean() < picture[90, 16].mean()
