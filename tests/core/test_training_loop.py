"""A training run: what it saves, how it goes on, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid_core.errors import CheckpointError, InputError
from fantasyid_core.training.arrays import draws
from fantasyid_core.training.loop import CHECKPOINT, SETTINGS, RunOptions, run
from fantasyid_core.training.optimisers import CAREFUL, Muon, make_optimisers, orthogonal

SCRIPT = Path(__file__).with_name("fitting_stage.py")
sys.path.insert(0, str(SCRIPT.parent))
from fitting_stage import FittingStage  # noqa: E402


def options(out: Path, steps: int, **named: object) -> RunOptions:
    return RunOptions(out, steps, batch=4, learning_rate=1e-2, warmup=1, schedule="constant", **named)  # type: ignore[arg-type]


def weights(out: Path) -> torch.Tensor:
    return torch.load(out / "weights.pt", weights_only=True)


def test_training_lowers_the_loss_and_logs_it(tmp_path: Path) -> None:
    assert run(FittingStage(), options(tmp_path, 60)) == 60
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    assert (tmp_path / "samples-000060.jpg").is_file()


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, optimiser: str) -> None:
    run(FittingStage(), options(tmp_path / "whole", 20, optimiser=optimiser))
    run(FittingStage(), options(tmp_path / "parts", 7, optimiser=optimiser))
    run(FittingStage(), options(tmp_path / "parts", 20, optimiser=optimiser))
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_first_row_of_a_resumed_run_is_of_the_steps_it_ran(tmp_path: Path) -> None:
    run(FittingStage(), options(tmp_path / "whole", 20, log_every=1))
    run(FittingStage(), options(tmp_path / "parts", 8))
    run(FittingStage(), options(tmp_path / "parts", 20))
    whole, parts = (
        {row["step"]: row["loss"] for row in map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())}
        for name in ("whole", "parts")
    )
    assert list(parts) == [10, 20]
    assert parts[10] == pytest.approx((whole[9] + whole[10]) / 2, abs=2e-5)
    assert parts[20] == pytest.approx(sum(whole[step] for step in range(11, 21)) / 10, abs=2e-5)


def test_the_logs_seconds_are_those_of_all_steps_and_of_no_sheet(tmp_path: Path) -> None:
    class Slow(FittingStage):
        def sheet(self, module: torch.nn.Module, path: Path) -> None:
            time.sleep(0.3)

    stage = Slow(before_batch=lambda step: time.sleep(0.02))
    run(stage, options(tmp_path, 10, sample_minutes=0))  # a sheet after every step
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert 10 * 0.02 <= row["seconds"] < 10 * 0.3


def test_the_paper_s_schedule_warms_up_and_comes_down(tmp_path: Path) -> None:
    run(FittingStage(), RunOptions(tmp_path, 40, 4, 1e-2, warmup=10, schedule="cosine", log_every=10))
    rates = [json.loads(line)["rate"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rates[0] == pytest.approx(1e-2)
    assert rates[0] > rates[1] > rates[2] > rates[3]
    assert rates[3] == pytest.approx(0.0, abs=1e-6)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    run(FittingStage(), options(tmp_path, 2))
    with pytest.raises(CheckpointError, match="another width"):
        run(FittingStage(width=5), options(tmp_path, 4))


def test_an_interrupted_save_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    run(FittingStage(), options(tmp_path, 5))
    (tmp_path / f"{CHECKPOINT}.part").mkdir()  # as a kill in the middle of the next save leaves it
    (tmp_path / f"{CHECKPOINT}.part" / "model.safetensors").write_bytes(b"half")
    assert run(FittingStage(), options(tmp_path, 6)) == 6
    assert json.loads((tmp_path / CHECKPOINT / SETTINGS).read_text())["step"] == 6
    assert not (tmp_path / f"{CHECKPOINT}.part").exists()


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    run(FittingStage(), options(tmp_path, 5))
    (tmp_path / CHECKPOINT).rename(tmp_path / f"{CHECKPOINT}.old")
    said: list[str] = []
    run(FittingStage(), options(tmp_path, 6), said.append)
    assert said[0] == "Going on from step 5."


def test_ctrl_c_saves_the_step_it_reached(tmp_path: Path) -> None:
    stage = FittingStage(before_batch=lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 3 else None)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(stage, options(tmp_path, 50))
    finally:
        signal.signal(signal.SIGINT, previous)
    assert json.loads((tmp_path / CHECKPOINT / SETTINGS).read_text())["step"] == 4
    assert run(FittingStage(), options(tmp_path, 6)) == 6


def test_a_loss_that_is_no_number_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lower the learning rate"):
        run(FittingStage(scale=float("nan")), options(tmp_path, 3))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 3, "batch": 0}, {"steps": 3, "learning_rate": 0.0}])
def test_impossible_options_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        RunOptions(tmp_path, **wrong)  # type: ignore[arg-type]


def test_an_unknown_optimiser_is_refused() -> None:
    with pytest.raises(InputError, match="adamw"):
        make_optimisers(torch.nn.Linear(2, 2), "sgd", 1e-3, 0.0)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_weight_is_in_one_group_and_the_identity_encoder_takes_smaller_steps(name: str) -> None:
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = torch.nn.Linear(3, 3)
            self.identity_encoder = torch.nn.Linear(3, 3)
            self.straight = torch.nn.Linear(3, 3)

    module = Both()
    groups = [group for one in make_optimisers(module, name, 1e-2, 0.01) for group in one.param_groups]
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates) == len(list(module.parameters()))
    for part, rate in ((module.transformer, 1e-2), (module.identity_encoder, CAREFUL * 1e-2), (module.straight, 1e-3)):
        assert [rates[id(p)] for p in part.parameters()] == pytest.approx([rate, rate])


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_muon_is_torchs_and_takes_a_kernel_as_the_matrix_it_is() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3, bias=False))
    matrix, flat = (torch.nn.Parameter(layer[0].weight.detach().flatten(1).clone()) for _ in range(2))
    own = Muon([flat], 1e-2, 0.01)
    (kernels,) = (o for o in make_optimisers(layer, "muon", 1e-2, 0.01) if isinstance(o, Muon))
    plain = torch.optim.Muon([matrix], lr=1e-2, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        gradient = torch.randn(6, 4, 3, 3)
        layer[0].weight.grad, matrix.grad = gradient.clone(), gradient.flatten(1)
        kernels.step()
        plain.step()
        flat.grad = gradient.flatten(1)
        own.step()
    assert torch.equal(layer[0].weight.flatten(1), flat)
    assert torch.allclose(flat, matrix, atol=3e-4)  # torch's orthogonalises in bfloat16
    kernels.zero_grad()
    assert layer[0].weight.grad is None


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_an_orthogonal_step_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    made = orthogonal(matrix)
    values = torch.linalg.svdvals(made)
    assert made.shape == matrix.shape and made.dtype == torch.float32
    assert values.min() > 0.6 and values.max() < 1.25
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(made.flatten(), (left @ right).flatten(), dim=0) > 0.97


def test_processes_share_every_round_without_overlap() -> None:
    seen: list[int] = []
    for rank in range(2):
        walk = draws(count=12, batch=3, step=0, seed=1, rank=rank, world=2)
        seen += [int(i) for _ in range(2) for i in next(walk)[1].indices]
    assert sorted(seen) == list(range(12))


def test_a_walk_taken_up_later_is_the_same_walk() -> None:
    whole = draws(count=10, batch=4, step=0, seed=2, rank=0, world=1)
    steps = [next(whole)[1] for _ in range(6)]
    later = draws(count=10, batch=4, step=4, seed=2, rank=0, world=1)
    draw = next(later)[1]
    assert np.array_equal(draw.indices, steps[4].indices)
    assert draw.random.random() == steps[4].random.random()


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, str(SCRIPT), str(tmp_path / "two"), "6", "2"], check=True, env=environment, timeout=180)
    assert json.loads((tmp_path / "two" / CHECKPOINT / SETTINGS).read_text())["processes"] == 2
    run(FittingStage(), options(tmp_path / "one", 6))
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "one"), rtol=0, atol=1e-6)
