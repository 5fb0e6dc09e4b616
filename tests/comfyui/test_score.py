"""Score, seeds and the best of several, at the nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_bad_input import refused

PHOTOGRAPH = Path(__file__).resolve().parents[2] / "fantasyid_core" / "assets" / "astronaut.png"


@pytest.fixture(scope="module")
def photograph():
    levels = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"), np.float32) / 255
    return torch.from_numpy(levels)[None]


def test_the_photograph_itself_is_as_like_as_can_be(pack_nodes, photograph):
    still = photograph.repeat(2, 1, 1, 1)
    likeness, steadiness, motion, yaw_range, plot, text = (
        pack_nodes["FantasyIDScore"].execute(still, photograph, 8.0, "dlib").args
    )
    assert likeness == pytest.approx(1.0, abs=1e-4) and steadiness == pytest.approx(1.0, abs=1e-4)
    assert motion == pytest.approx(0.0, abs=1e-3) and yaw_range == pytest.approx(0.0, abs=1e-3)
    assert plot.shape == (1, 620, 960, 3) and "RS" in text


def test_a_video_without_a_face_scores_nothing_and_goes_on(pack_nodes, photograph):
    noise = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    scores = pack_nodes["FantasyIDScore"].execute(noise, photograph, 8.0, "dlib").args
    assert scores[:4] == (0.0, 0.0, 0.0, 0.0) and "face" in scores[5]


def test_a_photograph_without_a_face_is_refused(pack_nodes, photograph):
    assert "photograph" in refused(pack_nodes["FantasyIDScore"].execute, photograph, photograph * 0, 8.0, "dlib")


def test_the_best_one_is_kept(pack_nodes):
    videos = [torch.full((1, 8, 8, 3), value) for value in (0.1, 0.2, 0.3)]
    keep = pack_nodes["FantasyIDKeepBest"].execute
    best = keep(videos, [0.5, 0.9, 0.7], ["highest"], [7, 8, 9]).args
    assert best[0] is videos[1] and best[1:] == (0.9, 2, 8)
    assert keep(videos, [0.5, 0.9, 0.7], ["lowest"]).args[1:] == (0.5, 1, 0)
    assert "2 scores" in refused(keep, videos, [0.5, 0.9], ["highest"])
    assert "1 seeds" in refused(keep, videos, [0.5, 0.9, 0.7], ["highest"], [1])


def test_seeds_follow_the_first(pack_nodes):
    assert pack_nodes["FantasyIDSeeds"].execute(5, 3).args == ([5, 6, 7],)
