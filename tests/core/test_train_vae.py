"""The stage that trains the mini's video autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid_core.errors import InputError, MissingFileError
from fantasyid_core.training.clips import ClipOptions
from fantasyid_core.training.loop import RunOptions, run
from fantasyid_core.training.shards import make_dataset
from fantasyid_core.training.train_vae import VaeObjective, VaeStage, faster_pictures, features_weight, load_vae_folder
from fantasyid_core.video.mini import mini_vae


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_dataset(folder, ClipOptions(seed=3, size=32, frames=9, references=0, crop=32), 8)
    return folder


def test_it_trains_goes_on_and_leaves_a_vae(clips: Path, tmp_path: Path) -> None:
    first = VaeStage(clips, batch=2, frames=9, pictures=0.5)
    assert run(first, RunOptions(tmp_path / "a", 2, 2, 1e-3, schedule="constant", log_every=1)) == 2
    trained = load_vae_folder(tmp_path / "a")
    second = VaeStage(clips, batch=2, frames=9, start=tmp_path / "a", decoder_only=True)
    run(second, RunOptions(tmp_path / "b", 1, 2, 1e-3, schedule="constant"))
    finished = load_vae_folder(tmp_path / "b")
    encoders = zip(trained.encoder.parameters(), finished.encoder.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in encoders)
    assert not torch.equal(trained.decoder.conv_out.conv.weight, finished.decoder.conv_out.conv.weight)


def test_pictures_are_convolved_faster_but_alike() -> None:
    plain, fast = mini_vae(), mini_vae()
    faster_pictures(fast)
    for frames in (1, 9):
        video = torch.rand(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
        with torch.no_grad():
            latents = plain.encode(video).latent_dist.mean
            torch.testing.assert_close(fast.encode(video).latent_dist.mean, latents, atol=2e-5, rtol=0)
            torch.testing.assert_close(fast.decode(latents).sample, plain.decode(latents).sample, atol=2e-5, rtol=0)


def test_latents_leave_the_stage_at_deviation_one(clips: Path, tmp_path: Path) -> None:
    stage = VaeStage(clips, batch=2)
    stage.export(stage.module, tmp_path)
    vae = load_vae_folder(tmp_path)
    with torch.no_grad():
        video = torch.from_numpy(np.ascontiguousarray(stage.arrays["frames"])).permute(0, 4, 1, 2, 3) / 127.5 - 1
        latents = vae.encode(video).latent_dist.mean * vae.config["scaling_factor"]
    assert float(latents.std()) == pytest.approx(1.0, abs=0.02)


def test_features_weigh_most_where_they_are() -> None:
    weight = features_weight(np.array([[[[16.0, 8.0]] * 5]]), 32)
    assert weight.shape == (1, 1, 1, 32, 32)
    assert int(weight[0, 0, 0].argmax()) == 8 * 32 + 16
    assert float(weight.min()) == pytest.approx(1.0, abs=1e-3)


def test_the_encoder_takes_no_part_when_only_the_decoder_trains() -> None:
    objective = VaeObjective(mini_vae(), decoder_only=True)
    losses = objective({"pixels": torch.zeros(1, 3, 1, 32, 32), "weight": torch.ones(1, 1, 1, 32, 32)})
    losses["loss"].backward()
    assert all(p.grad is None for p in objective.vae.encoder.parameters())


def test_too_few_frames_no_clips_and_no_vae_are_said(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lower --frames"):
        VaeStage(clips, 2, frames=17)
    with pytest.raises(MissingFileError, match="train data"):
        VaeStage(tmp_path, 2)
    with pytest.raises(InputError, match="train vae"):
        load_vae_folder(tmp_path)
