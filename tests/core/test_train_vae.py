"""The stage that trains the mini's video autoencoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid_core.errors import InputError, MissingFileError
from fantasyid_core.training.arrays import load_arrays, pixels
from fantasyid_core.training.clips import ClipOptions
from fantasyid_core.training.loop import RunOptions, run
from fantasyid_core.training.shards import dataset_shards, make_dataset
from fantasyid_core.training.train_vae import VaeObjective, VaeStage, features_weight, load_vae_folder
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
    assert not torch.equal(trained.decoder.outward.weight, finished.decoder.outward.weight)


def test_it_starts_as_the_best_linear_autoencoder_of_patches(clips: Path) -> None:
    vae = VaeStage(clips, batch=2).module.vae  # type: ignore[union-attr]
    video = pixels(load_arrays(dataset_shards(clips), ("frames",))["frames"])
    padded = torch.cat([video[:, :, :1].repeat(1, 1, 3, 1, 1), video], dim=2).numpy()  # the first frame four times
    rows = padded.reshape(len(video), 3, 3, 4, 4, 8, 4, 8).transpose(0, 2, 4, 6, 1, 3, 5, 7).reshape(-1, 768)
    values = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False)
    with torch.no_grad():
        latents = vae.encode(video).latent_dist.mean
        decoded = _to_patches_like(vae.decoder, latents)
    lost = np.square(decoded - rows).sum()
    assert lost == pytest.approx(np.square(values[32:]).sum(), rel=1e-3)
    assert float(latents.square().mean()) == pytest.approx(1.0, rel=0.05)


def _to_patches_like(decoder: torch.nn.Module, latents: torch.Tensor) -> np.ndarray:
    """All of what the decoder's linear part makes, the three frames before the first included, as rows."""
    flat = decoder.straight(latents.transpose(1, 2).flatten(0, 1))  # type: ignore[operator]
    return np.asarray(flat.permute(0, 2, 3, 1).reshape(-1, 768))


def test_latents_leave_the_stage_at_deviation_one(clips: Path, tmp_path: Path) -> None:
    stage = VaeStage(clips, batch=2)
    stage.export(stage.module, tmp_path)
    vae = load_vae_folder(tmp_path)
    with torch.no_grad():
        video = torch.from_numpy(np.ascontiguousarray(stage.arrays["frames"])).permute(0, 4, 1, 2, 3) / 127.5 - 1
        latents = vae.encode(video).latent_dist.mean * vae.config["scaling_factor"]
    assert float(latents.std()) == pytest.approx(1.0, abs=0.02)


def test_features_weigh_most_where_they_are() -> None:
    weight = features_weight(torch.tensor([[[[16.0, 8.0]] * 5]]), 32)
    assert weight.shape == (1, 1, 1, 32, 32)
    assert int(weight[0, 0, 0].argmax()) == 8 * 32 + 16
    assert float(weight.min()) == pytest.approx(1.0, abs=1e-3)


def test_the_encoder_takes_no_part_when_only_the_decoder_trains() -> None:
    objective = VaeObjective(mini_vae(), decoder_only=True)
    grey = torch.full((1, 1, 32, 32, 3), 127, dtype=torch.uint8)
    losses = objective({"frames": grey, "keypoints": torch.zeros(1, 1, 5, 2)})
    losses["loss"].backward()
    assert all(p.grad is None for p in objective.vae.encoder.parameters())


def test_too_few_frames_no_clips_and_no_vae_are_said(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lower --frames"):
        VaeStage(clips, 2, frames=17)
    with pytest.raises(MissingFileError, match="train data"):
        VaeStage(tmp_path, 2)
    with pytest.raises(InputError, match="train vae"):
        load_vae_folder(tmp_path)
