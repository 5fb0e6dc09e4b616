"""Many videos in one go: nothing twice, nothing lost, the same files from two processes as from one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fantasyid_core.batch import part_of, plan, run_batch
from fantasyid_core.errors import InputError
from fantasyid_core.generate import GenerateOptions
from fantasyid_core.images import save_image
from fantasyid_core.model import load_model

ASTRONAUT = Path(__file__).resolve().parents[2] / "fantasyid_core" / "assets" / "astronaut.png"


def test_every_combination_has_a_file_that_says_what_it_is(tmp_path: Path) -> None:
    jobs = plan([Path("a.jpg"), Path("b.png")], ["She smiles, slowly!", "", "Turns left"], [0, 7], tmp_path)
    assert len(jobs) == 8 and len({job.out for job in jobs}) == 8
    assert jobs[1].out == tmp_path / "a_01_she-smiles-slowly_7.mp4"
    assert [job for rank in range(3) for job in part_of(jobs, rank, 3)] == jobs


@pytest.mark.parametrize("given", [([], ["x"], [0]), ([Path("a.png")], [" "], [0]), ([Path("a.png")], ["x"], [])])
def test_a_batch_of_nothing_is_refused(given: tuple[list[Path], list[str], list[int]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one"):
        plan(*given, tmp_path)


def test_photographs_of_one_name_would_overwrite_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same name"):
        plan([Path("a/me.png"), Path("b/me.png")], ["x"], [0], tmp_path)


def test_a_photograph_without_a_face_takes_nothing_else_away(tmp_path: Path) -> None:
    save_image(tmp_path / "wall.png", np.full((128, 128, 3), 0.5, np.float32))
    jobs = plan([tmp_path / "wall.png", ASTRONAUT], ["a person smiles"], [0], tmp_path / "out")
    made: dict[Path, np.ndarray] = {}
    options = GenerateOptions("", steps=1, frames=9, height=32, width=32)
    failures = run_batch(jobs, load_model("mini"), options, made.__setitem__)
    assert list(made) == [jobs[1].out] and made[jobs[1].out].shape == (9, 32, 32, 3)
    assert len(failures) == 1 and failures[0].startswith("wall.png: ")


def test_two_processes_make_the_files_of_one_and_a_second_run_makes_none(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("A person smiles\nA person turns left\n", encoding="utf-8")
    arguments = ["-m", "fantasyid_core.cli", "batch", "--reference", str(ASTRONAUT), "--steps", "1"]
    arguments += ["--prompts", str(tmp_path / "prompts.txt")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for launch, folder in (([sys.executable], "one"), (two, "two"), ([sys.executable], "one")):
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / folder).glob("*.mp4")}
        command = [*launch, *arguments, "--out", str(tmp_path / folder)]
        said = subprocess.run(
            command, check=True, env=environment, timeout=300, stdout=subprocess.PIPE, text=True
        ).stdout
        assert said.count(".mp4") == 2 - len(before)  # each video is made by one process
        assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    one, other = ({p.name: p.read_bytes() for p in (tmp_path / name).glob("*.mp4")} for name in ("one", "two"))
    assert len(one) == 2 and one == other
