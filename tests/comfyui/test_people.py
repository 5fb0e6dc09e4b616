"""Several people at the nodes: the chain, the regions, and what the sampler makes of them."""

from __future__ import annotations

import pytest
import torch
from test_bad_input import refused


@pytest.fixture(scope="module")
def add(pack_nodes):
    """``add(identity, ...)`` → people, picture."""

    def call(identity, region="auto", strength=1.0, start=0.0, end=1.0, **more):
        return pack_nodes["FantasyIDAddPerson"].execute(identity, region, strength, start, end, **more).args

    return call


@pytest.fixture(scope="module")
def video(pack_nodes, mini_model):
    """One step of a tiny video with these optional inputs: [1, C, F, H, W]."""
    text = [[torch.zeros(1, 1, mini_model.config.transformer.text_embed_dim), {}]]

    def call(**optional):
        sampled = pack_nodes["FantasyIDSampler"].execute(
            mini_model, text, text, 5, 2, 1.0, 1.0, 0.0, 1.0, 9, 32, 32, **optional
        )
        return sampled.args[0]["samples"]

    return call


def test_one_person_is_the_same_as_an_identity(video, add, someone):
    anna = someone(1)
    assert torch.equal(video(people=add(anna)[0]), video(identity=anna))


def test_each_person_changes_the_video_and_so_does_where_they_stand(video, add, someone):
    anna, bert = someone(1, 0.2), someone(2, 0.9)
    both = video(people=add(bert, others=add(anna)[0])[0])
    turned = video(people=add(anna, others=add(bert)[0])[0])
    alone = video(identity=anna)
    assert all((a - b).abs().max() > 1e-2 for a, b in ((both, turned), (both, alone), (turned, alone)))


def test_a_mask_takes_the_regions_place(add, someone):
    mask = torch.zeros(1, 10, 10)
    mask[:, :, 7:] = 1
    people, _ = add(someone(1), "left half", mask=mask)
    assert people.persons[0].region.shape == (1, 10, 10)
    assert refused(add, someone(1), mask=torch.zeros(1, 64, 64)).endswith("paint where the person is.")


def test_strength_and_steps_are_this_persons_own(add, someone):
    people = add(someone(2), others=add(someone(1), strength=0.5, start=0.25, end=0.5)[0])[0]
    assert [str(person.strength) for person in people.persons] == ["0.5 @ 25-50%", "1"]


def test_the_picture_shows_each_face_in_its_region(add, someone):
    _, picture = add(someone(2, 0.9), others=add(someone(1, 0.1))[0])
    assert picture.shape == (1, 480, 720, 3)
    left, right = picture[0, 240, 180], picture[0, 240, 540]
    assert left.mean() < 0.5 < right.mean()


def test_both_an_identity_and_people_is_too_much(video, add, someone):
    anna = someone(1)
    assert "disconnect one" in refused(video, identity=anna, people=add(anna)[0])


def test_a_person_of_another_model_is_refused(video, add, someone):
    from dataclasses import replace

    stranger = replace(someone(1), model="release-0123456789")
    assert "release-0123456789" in refused(video, people=add(someone(2), others=add(stranger)[0])[0])
