"""The stage that trains the network for synthetic heads: what goes in, what is spoiled, how it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid_core.cli import main
from fantasyid_core.errors import InputError
from fantasyid_core.evaluation.head_network import load_head_network
from fantasyid_core.geometry.head import load_head
from fantasyid_core.training.clips import ClipOptions
from fantasyid_core.training.loop import RunOptions, run
from fantasyid_core.training.shards import make_dataset
from fantasyid_core.training.spoil import blurred, moved, recoloured_grey, round_trip, smaller, spoiled, tinted
from fantasyid_core.training.train_embedder import FILE, EmbedderStage, contrast, motion_targets
from fantasyid_core.video.mini import mini_vae


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    make_dataset(folder, ClipOptions(seed=3, size=64, frames=5, references=2, crop=64), 8)
    return folder


def options(out: Path, steps: int) -> RunOptions:
    return RunOptions(out, steps, 6, 1e-3, warmup=1, schedule="constant", optimiser="muon", log_every=1)


def test_a_resumed_run_is_the_uninterrupted_one(clips: Path, tmp_path: Path) -> None:
    for out, stops in (("whole", (4,)), ("parts", (2, 4))):
        for steps in stops:
            run(EmbedderStage(clips, 6, vae=mini_vae()), options(tmp_path / out, steps))
    whole, parts = (load_head_network(tmp_path / name / FILE).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    untrained = EmbedderStage(clips, 6).module.network.state_dict()  # type: ignore[union-attr]
    assert not torch.equal(whole["shape_out.weight"], untrained["shape_out.weight"].half().float())


def test_the_command_trains_and_says_where_the_network_is(clips: Path, tmp_path: Path, capsys) -> None:
    arguments = ["--data", clips, "--out", tmp_path, "--steps", 1, "--batch", 6]
    assert main(["train", "embedder", *map(str, arguments)]) == 0
    assert str(tmp_path / FILE) in capsys.readouterr().out
    assert (tmp_path / "samples-000001.jpg").is_file()
    assert main(["train", "embedder", *map(str, arguments[:-1]), "7"]) == 1
    assert "two people or more 3 times" in capsys.readouterr().err


def test_a_batch_shows_everybody_in_three_takes(clips: Path) -> None:
    stage = EmbedderStage(clips, 12)
    batch = next(stage.batches(0, 0, 1))
    assert batch["pictures"].shape == (12, 64, 64, 3)
    for person in batch["person"].unique():
        own = (batch["person"] == person).nonzero().flatten()
        assert len(own) == 3
        assert all(torch.equal(batch["shape"][own[0]], batch["shape"][k]) for k in own)
        assert len({batch["pictures"][k].numpy().tobytes() for k in own}) == 3
    place = int(batch["person"][0])
    assert any(np.array_equal(batch["pictures"][0], frame) for frame in stage.arrays["frames"][place])


def test_the_targets_are_the_poses_and_the_two_sides_mean() -> None:
    names = load_head().expression_names
    faces = np.zeros((2, 52), np.float32)
    faces[0, names.index("mouthSmileLeft")], faces[1, names.index("jawOpen")] = 1.0, 0.5
    made = motion_targets(np.array([[30, -15, 0], [0, 0, 60]], np.float32), faces)
    assert np.allclose(made, [[1, -0.5, 0, 0, 0.5, 0], [0, 0, 2, 0.5, 0, 0]])


def test_a_contrast_is_low_where_fellows_are_near_and_others_far() -> None:
    same = torch.eye(3, dtype=torch.bool).repeat_interleave(2, 0).repeat_interleave(2, 1)
    apart, itself = torch.eye(3).repeat_interleave(2, 0), torch.eye(6, dtype=torch.bool)
    assert float(contrast(20 * apart, apart, same, itself)) < 1e-3
    assert float(contrast(20 * apart, apart.roll(2, 0).roll(1, 0), same, itself)) > 5
    assert float(contrast(apart * 0, apart, same, itself)) == pytest.approx(np.log(5))
    assert float(contrast(apart * 0, apart, same, same & ~itself)) == pytest.approx(np.log(5))


def test_pictures_are_spoiled_in_their_own_precision_in_a_run_of_a_lower_one() -> None:
    pictures = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    plain = spoiled(pictures, torch.Generator().manual_seed(4), mini_vae())
    with torch.autocast("cpu", torch.bfloat16):
        lower = spoiled(pictures, torch.Generator().manual_seed(4), mini_vae())
    assert torch.equal(plain, lower)


def test_spoiling_leaves_a_picture_that_can_still_be_seen() -> None:
    random = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0, 1, 64).expand(12, 3, 64, 64)
    for made in (
        moved(ramp, random),
        spoiled(ramp, random),
        tinted(ramp, random),
        blurred(ramp, 2.0),
        smaller(ramp, 16),
    ):
        assert made.shape == ramp.shape
        assert 0.0 < float((made - ramp).abs().mean()) < 0.12
    grey = recoloured_grey(ramp, random)
    assert grey.shape == (12, 1, 64, 64)
    assert torch.equal(blurred(torch.ones(1, 3, 8, 8), 2.0).round(decimals=5), torch.ones(1, 3, 8, 8))
    ways = [spoiled(ramp.repeat(2, 1, 1, 1), torch.Generator().manual_seed(4), vae) for vae in (None, None, mini_vae())]
    assert torch.equal(*ways[:2])
    differing = (ways[0] - ways[2]).abs().mean(dim=(1, 2, 3)) > 0.1  # more than other noise can make
    assert int(differing.sum()) == 1  # one in 24 is encoded


def test_a_round_trip_is_the_autoencoders_own() -> None:
    vae = mini_vae()
    pictures = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = vae.encode(2 * pictures[:, :, None] - 1).latent_dist.mean
        wanted = (vae.decode(latents).sample[:, :, 0] / 2 + 0.5).clamp(0, 1)
    assert torch.equal(round_trip(pictures, vae), wanted)
    noisy = round_trip(pictures, vae, 0.5, torch.Generator().manual_seed(2))
    assert not torch.equal(noisy, wanted)


def test_clips_of_another_size_or_without_references_are_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path / "small", ClipOptions(seed=1, size=32, frames=1, references=2, crop=32), 1)
    make_dataset(tmp_path / "alone", ClipOptions(seed=1, size=64, frames=1, references=1, crop=64), 1)
    with pytest.raises(InputError, match="make the clips with --size 64"):
        EmbedderStage(tmp_path / "small", 6)
    with pytest.raises(InputError, match="too few for 2"):
        EmbedderStage(tmp_path / "alone", 6)
