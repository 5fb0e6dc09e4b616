"""One video by several processes: the same numbers as by one, and the same decisions in all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import parallel_worker
import pytest
import torch
from safetensors.torch import load_file
from video_models import noise

from fantasyid_core.evaluation.clips import read_frames
from fantasyid_core.weights.catalog import ASSETS

TESTS = Path(__file__).resolve().parent
TOLERANCE = 1e-5  #: of velocities and latents of order 1, in float32


def launch(processes: int, *command: str) -> str:
    """Run a Python command in several processes; what they said."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parents[1]}{os.pathsep}{TESTS}"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run([*launcher, *command], env=environment, timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes computed."""
    folder = tmp_path_factory.mktemp("two")
    launch(2, str(TESTS / "parallel_worker.py"), str(folder))
    return [load_file(folder / f"{rank}.safetensors") for rank in range(2)]


def test_both_processes_hold_the_same_result_bit_for_bit(two):
    assert two[0].keys() == two[1].keys()
    assert all(torch.equal(two[0][name], two[1][name]) for name in two[0])


@torch.no_grad()
def test_two_processes_predict_the_velocity_of_one(two):
    for name, alone in parallel_worker.velocities().items():
        assert torch.allclose(two[0][name], alone, rtol=0, atol=TOLERANCE), name
    assert not torch.equal(two[0]["paper, identity"], two[0]["paper, region and strength"])
    assert not torch.equal(two[0]["paper, identity"], two[0]["release, identity"])


@torch.no_grad()
def test_two_processes_sample_the_video_of_one_with_the_same_decisions(two):
    alone = parallel_worker.samplings()
    for name, made in alone.items():
        assert torch.allclose(two[0][name], made, rtol=0, atol=TOLERANCE * made.abs().max()), name
    for cache in ("first block", "magnitude"):  # or the thresholds would decide nothing
        assert len({int(made) for name, made in alone.items() if name.startswith(cache) and "blocks" in name}) > 1


def test_diffusers_own_door_follows_the_same_plan(two):
    assert torch.allclose(two[0]["by diffusers"], two[0]["paper, identity"], rtol=0, atol=TOLERANCE)


def test_what_a_cache_decides_by_is_the_mean_over_all_shares(two):
    everything = torch.cat([noise(2, 3 + rank, 5, seed=rank) for rank in range(2)], dim=1)
    assert float(two[0]["mean"]) == pytest.approx(float(everything.mean()), rel=1e-6)


@torch.no_grad()
def test_shares_of_unequal_length_give_the_same_numbers(tmp_path):
    launch(3, str(TESTS / "parallel_worker.py"), str(tmp_path))
    for name in ("release", "paper"):
        alone = parallel_worker.uneven(name)
        for rank in range(3):
            assert torch.allclose(load_file(tmp_path / f"{rank}.safetensors")[name], alone, rtol=0, atol=TOLERANCE)


def test_the_command_makes_one_file_that_shows_the_video_of_one_process(tmp_path):
    arguments = ["generate", "--reference", str(ASSETS / "astronaut.png"), "--prompt", "a person smiles"]
    arguments += ["--steps", "6", "--speed", "fast", "--out"]
    command = str(TESTS / "command_with_frames.py")
    said = launch(2, command, *arguments, str(tmp_path / "two.webp"))
    assert said.count("two.webp") == 1  # only the first process writes and talks
    launch(1, command, *arguments, str(tmp_path / "one.webp"))
    one, other = (np.load(tmp_path / name) for name in ("one.npy", "two.npy"))
    assert len(one) == len(list(read_frames(tmp_path / "two.webp"))) == 17
    assert np.abs(one - other).max() < 1e-4
    assert sorted(path.name for path in tmp_path.glob("*.webp")) == ["one.webp", "two.webp"]
    assert len(list(tmp_path.iterdir())) == 4
