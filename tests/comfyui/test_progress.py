"""What the artist sees while the sampler runs: frames that play, the time left, memory; and cancel still cancels."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def progress(pack_module):
    return pack_module("nodes.progress")


@pytest.fixture
def reports(core, monkeypatch):
    """Every report that reaches the editor: (done, total, grey of the picture or None)."""
    import comfy.utils

    seen = []

    def hook(done, total, preview, node_id=None):
        seen.append((done, total, None if preview is None else int(np.asarray(preview[1])[0, 0, 0])))

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    return seen


class Node:
    hidden = None


def greys(latents):
    """One picture per latent frame, as grey as its first number."""
    return [Image.new("RGB", (4, 4), (int(frame.flatten()[0]),) * 3) for frame in latents[0]]


def test_the_frames_of_a_step_play_until_the_next_ones_come(progress, reports):
    latents = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1, 1)
    with progress.moving_progress(Node, 2, greys) as report:
        report(1, 2, latents)
        assert reports == [(1, 2, 10)]
        time.sleep(4.5 * progress.FRAME_SECONDS)
        played = [grey for _, _, grey in reports[1:]]
        assert len(played) >= 3 and set(played) == {10, 20, 30}
        report(2, 2, latents + 100)
        assert reports[-1] == (2, 2, 110)
    ended = len(reports)
    time.sleep(2.5 * progress.FRAME_SECONDS)
    assert len(reports) == ended, "nothing plays when the sampler is done"


def test_a_cancel_that_the_preview_meets_first_still_reaches_the_sampler(progress, core, monkeypatch):
    import comfy.model_management as management
    import comfy.utils

    def hook(*_, **__):
        management.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    with progress.moving_progress(Node, 2, greys) as report:
        report(1, 2, torch.zeros(1, 2, 1, 1, 1))
        management.interrupt_current_processing(True)
        time.sleep(3 * progress.FRAME_SECONDS)
        with pytest.raises(management.InterruptProcessingException):
            management.throw_exception_if_processing_interrupted()
    assert not management.processing_interrupted()


def test_the_node_says_the_step_the_time_left_and_the_memory(progress, reports, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "show_text", lambda node, text: said.append(text))
    with progress.moving_progress(Node, 4, None, "layers 1 to 8") as report:
        report(1, 4, torch.zeros(1, 1, 1, 1, 1))
    assert said[0] == "layers 1 to 8"
    about, line = said[1].split("\n")
    assert about == said[0] and line.startswith("Step 1 of 4, 0 s left, ") and line.endswith(" in use")
    assert progress._left(95) == "2 min left" and progress._left(2 * 3600 + 300) == "2 h 5 min left"


def test_there_is_a_picture_for_every_latent_frame_and_it_has_the_pictures_colours(pack_module, mini_model):
    from pathlib import Path

    vae = mini_model.vae
    pictures = pack_module("nodes.preview").latent_preview(vae)
    red = torch.tensor([0.8, -0.6, -0.6]).view(1, 3, 1, 1, 1).expand(1, 3, 9, 64, 64)
    with torch.no_grad():
        latents = vae.encode(red).latent_dist.mode().transpose(1, 2) * vae.config.scaling_factor
    shown = pictures(latents)
    assert [picture.size for picture in shown] == [(8, 8)] * 3
    red_part, green_part, _ = np.asarray(shown[1], np.float32).mean(axis=(0, 1))
    assert red_part > green_part + 60
    assert Path(pack_module("nodes.preview").PHOTOGRAPH).is_file()
