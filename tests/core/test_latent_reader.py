"""The network that reads latents, and the loss that is taken with its eyes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from benchmarks.latent_reader import table
from fantasyid_core.errors import CheckpointError, InputError, MissingFileError
from fantasyid_core.model import new_mini
from fantasyid_core.training.clips import ClipOptions
from fantasyid_core.training.latent_reader import (
    LatentReader,
    load_latent_reader,
    perceptual_distance,
    save_latent_reader,
)
from fantasyid_core.training.latents import ELSEWHERE, SURFACE, EncodedClips, encode_dataset, load_encoded
from fantasyid_core.training.loop import RunOptions, run
from fantasyid_core.training.shards import make_dataset
from fantasyid_core.training.train_reader import FILE, ReaderStage
from fantasyid_core.training.train_video import VideoStage
from fantasyid_core.training.video_objective import VideoObjective, VideoOptions
from fantasyid_core.video.mini import mini_vae
from fantasyid_core.weights.mini_file import load_mini

PEOPLE = 16


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedClips:
    folder = tmp_path_factory.mktemp("clips")
    make_dataset(folder / "clips", ClipOptions(seed=4, size=32, frames=9, references=2, crop=32), PEOPLE)
    encode_dataset(folder / "clips", mini_vae(), folder / "latents", own=1, elsewhere=2, closer=True)
    return load_encoded(folder / "latents")


@pytest.fixture(scope="module")
def reader_file(encoded: EncodedClips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader that has learned these few people by heart."""
    out = tmp_path_factory.mktemp("reader")
    stage = ReaderStage(encoded, batch=4 * PEOPLE)
    wanted = RunOptions(out, 40, batch=4 * PEOPLE, learning_rate=6e-3, warmup=2, optimiser="muon", ema=0.9, log_every=4)
    assert run(stage, wanted) == 40
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["where"] < 0.5 * rows[0]["where"]
    assert rows[-1]["identity"] < 0.6 * rows[0]["identity"]
    return out / FILE


def test_a_reader_knows_its_people_again(encoded: EncodedClips, reader_file: Path) -> None:
    reader = load_latent_reader(reader_file)
    place = int(np.flatnonzero(encoded.arrays["reference_kinds"][0] == ELSEWHERE)[0])
    pictures = (encoded.arrays["latents"][:, 0], encoded.arrays["reference_latents"][:, place])
    clip, elsewhere = (reader(torch.from_numpy(some.astype(np.float32))).identity for some in pictures)
    found = (clip @ elsewhere.T).argmax(dim=1)
    assert (found == torch.arange(PEOPLE)).float().mean() > 0.6  # chance: 0.06


def test_the_table_of_what_it_sees(encoded: EncodedClips, reader_file: Path) -> None:
    lines = table(load_latent_reader(reader_file), encoded)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| 0")]
    assert [row[0] for row in rows] == ["0", "0.3", "0.6"]
    assert int(rows[0][2].rstrip("%")) > 50  # where: explained
    assert [float(row[-1]) for row in rows] == sorted(float(row[-1]) for row in rows)


def test_what_looks_more_alike_is_nearer(encoded: EncodedClips, reader_file: Path) -> None:
    reader = load_latent_reader(reader_file)
    clean = torch.from_numpy(encoded.arrays["latents"][:, 0].astype(np.float32))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    slightly, much = (perceptual_distance(reader, clean + size * noise, clean) for size in (0.2, 1.0))
    others = perceptual_distance(reader, clean.roll(1, 0), clean)
    assert torch.allclose(perceptual_distance(reader, clean, clean), torch.zeros(PEOPLE), atol=1e-6)
    assert (slightly < much).all()
    assert (slightly < others).all()


def test_a_video_model_learns_to_please_it_and_the_mini_is_as_before(
    encoded: EncodedClips, reader_file: Path, tmp_path: Path
) -> None:
    wanted = VideoOptions(perceptual=0.5, surface=0.5, reader=reader_file, pictures=0.0)
    stage = VideoStage(new_mini(0), encoded, wanted, batch=4, shown=1)
    assert run(stage, RunOptions(tmp_path, 24, batch=4, learning_rate=4e-3, warmup=1, optimiser="muon", log_every=4))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["perceptual"] < 0.9 * rows[0]["perceptual"]
    told = sum(rows[-1][name] for name in ("cover", "where", "shape", "expression"))
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["velocity"] + 0.5 * told + 0.5 * rows[-1]["perceptual"], abs=1e-4)
    made = load_mini(tmp_path / "mini.safetensors")
    names = {name for name, _ in new_mini(0).transformer.named_parameters()}
    assert {name for name, _ in made.transformer.named_parameters()} == names


def test_the_reader_itself_stays_and_the_velocity_is_as_without_it(encoded: EncodedClips, reader_file: Path) -> None:
    plain, seeing = (
        VideoStage(new_mini(0), encoded, wanted, batch=4, shown=1)
        for wanted in (VideoOptions(), VideoOptions(perceptual=1.0, reader=reader_file))
    )
    batch = next(seeing.batches(0, 0, 1))
    losses, alone = seeing.module(batch), plain.module(next(plain.batches(0, 0, 1)))
    assert set(alone) == {"loss"}
    assert float(losses["velocity"].detach()) == pytest.approx(float(alone["loss"].detach()), rel=1e-5)
    losses["perceptual"].backward()
    objective = cast(VideoObjective, seeing.module)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in objective.transformer.parameters())
    assert set(objective.state_dict()) == set(plain.module.state_dict())
    assert seeing.settings() == plain.settings()  # a run may take it up or leave it halfway


def test_without_a_reader_or_with_another_file_it_says_so(encoded: EncodedClips, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name that of `train reader`"):
        VideoOptions(perceptual=0.5)
    with pytest.raises(InputError, match="0 or more, not -1"):
        VideoOptions(perceptual=-1.0, reader=tmp_path)
    missing = VideoOptions(perceptual=0.5, reader=tmp_path / "reader.safetensors")
    with pytest.raises(MissingFileError, match="`fantasyid train reader` makes one"):
        VideoStage(new_mini(0), encoded, missing, batch=4)
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_latent_reader(tmp_path / "cut.safetensors")
    run_of_something_else = Path(__file__).parents[2] / "fantasyid_core" / "assets" / "synthetic_heads.safetensors"
    with pytest.raises(CheckpointError, match="is no latent reader"):
        load_latent_reader(run_of_something_else)
    save_latent_reader(LatentReader(16), tmp_path / "narrow.safetensors")
    narrow = VideoOptions(perceptual=0.5, reader=tmp_path / "narrow.safetensors")
    with pytest.raises(InputError, match="reads 16 channels, and the model has 32"):
        VideoStage(new_mini(0), encoded, narrow, batch=4)


def test_latents_that_a_reader_cannot_learn_from_are_said(encoded: EncodedClips) -> None:
    without = EncodedClips({k: v for k, v in encoded.arrays.items() if k != SURFACE}, encoded.captions)
    with pytest.raises(InputError, match="make them anew from drawn clips"):
        ReaderStage(without, batch=8)
    with pytest.raises(InputError, match="choose a multiple"):
        ReaderStage(encoded, batch=6)
    few = encoded.arrays | {"reference_kinds": np.zeros_like(encoded.arrays["reference_kinds"])}
    with pytest.raises(InputError, match="fewer than 2 pictures from elsewhere"):
        ReaderStage(EncodedClips(few, encoded.captions), batch=8)
