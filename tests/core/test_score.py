"""The score of one video, and the pages it is drawn on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fantasyid_core.errors import InputError, NoFaceError
from fantasyid_core.evaluation.embedders import EMBEDDERS, make_embedder
from fantasyid_core.evaluation.score import HEIGHT, WIDTH, draw_no_score, draw_score, score_video
from fantasyid_core.evaluation.watch import Eyes, see_person
from fantasyid_core.training.clips import ClipOptions, make_clip


@pytest.fixture(scope="module")
def eyes():
    return Eyes(make_embedder("dlib"))


@pytest.fixture(scope="module")
def clip():
    return make_clip(ClipOptions(seed=11, size=128, frames=9, references=1), 22)


@pytest.fixture(scope="module")
def person(clip, eyes):
    return see_person("somebody", np.asarray(clip.references[0], np.float32) / 255, eyes)


@pytest.fixture(scope="module")
def score(clip, person, eyes):
    return score_video(clip.frames.astype(np.float32) / 255, 8.0, person, eyes)


def test_a_person_is_more_like_themselves_than_somebody_else_is(score, person, eyes):
    other = make_clip(ClipOptions(seed=11, size=128, frames=1, references=0), 23).frames.astype(np.float32) / 255
    assert score.metrics.rs > score_video(other, 8.0, person, eyes).metrics.rs + 0.1


def test_every_eighth_of_a_second_has_its_place(score, clip, person, eyes):
    np.testing.assert_allclose(score.seconds, np.arange(9) / 8)
    assert len(score.metrics.per_frame) == len(score.yaw) == 9
    faster = score_video(clip.frames.astype(np.float32) / 255, 24.0, person, eyes)
    np.testing.assert_allclose(faster.seconds, [0.0, 3 / 24, 6 / 24])


def test_the_line_of_one_person_is_the_embedder_s_own(score):
    """dlib's stands at 0.46; ArcFace's network has no say, so nothing is drawn there."""
    row = 100 + 44 + round((1 - EMBEDDERS["dlib"].same_person) * (330 - 34 - 144))
    with_line, without = draw_score(score), draw_score(replace(score, embedder="arcface"))
    assert np.array_equal(with_line[100:190], without[100:190])
    assert not np.array_equal(with_line[row - 2 : row + 3], without[row - 2 : row + 3])


def test_the_page_and_the_text_say_the_same(score):
    page = draw_score(score)
    assert page.shape == (HEIGHT, WIDTH, 3) and 0.0 <= page.min() < page.max() <= 1.0
    assert f"likeness (RS) {score.metrics.rs:.3f}" in score.text()
    assert "CC0" in score.text()
    assert draw_no_score("There is no face.").shape == page.shape


def test_what_cannot_be_scored_is_said(person, eyes):
    with pytest.raises(NoFaceError):
        score_video(np.random.default_rng(0).random((2, 64, 64, 3), dtype=np.float32), 8.0, person, eyes)
    with pytest.raises(InputError, match="NaN"):
        score_video(np.full((1, 64, 64, 3), np.nan, np.float32), 8.0, person, eyes)
    for frames, fps in ((np.zeros((0, 64, 64, 3), np.float32), 8.0), (np.zeros((1, 64, 64, 3), np.float32), 0.0)):
        with pytest.raises(InputError):
            score_video(frames, fps, person, eyes)
