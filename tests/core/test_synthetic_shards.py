"""Synthetic clips on disk: whole, resumable, the same however they are made."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid_core.cli import main
from fantasyid_core.errors import CheckpointError, InputError, MissingFileError
from fantasyid_core.training import shards
from fantasyid_core.training.clips import ClipOptions, make_clip
from fantasyid_core.training.dataset import CachedClips, SyntheticClips, clip_loader, sample_of
from fantasyid_core.training.shards import make_dataset, read_shard

OPTIONS = ClipOptions(seed=2, size=32, crop=32, frames=5, references=1)
COMMAND = ["train", "data", "--seed", "2", "--size", "32", "--frames", "5", "--references", "1"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "CLIPS_PER_SHARD", 3)


def run(*arguments: str, **options: object) -> subprocess.Popen[str]:
    code = "import sys; from fantasyid_core.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *COMMAND, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)  # type: ignore


def test_what_is_read_is_what_was_made(tmp_path: Path) -> None:
    paths = make_dataset(tmp_path, OPTIONS, 5)
    assert len(paths) == 2
    read = [clip for path in paths for clip in read_shard(path)]
    for index, clip in enumerate(read):
        made = make_clip(OPTIONS, index).arrays()
        assert all(np.array_equal(value, made[name]) for name, value in clip.arrays().items())
    assert len(read) == 5


def test_two_processes_make_the_same_files_as_one(tmp_path: Path) -> None:
    one = make_dataset(tmp_path / "one", OPTIONS, 7, processes=1)
    two = make_dataset(tmp_path / "two", OPTIONS, 7, processes=2)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_only_what_is_missing_or_damaged_is_made_again(tmp_path: Path) -> None:
    paths = make_dataset(tmp_path, OPTIONS, 9)
    before = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[1].write_bytes(before[1][:1000])
    (tmp_path / "clips-00001.safetensors.1.part").write_bytes(b"half")
    kept = paths[2].stat().st_mtime_ns
    seen: list[tuple[int, int]] = []
    make_dataset(tmp_path, OPTIONS, 9, report=lambda done, total, _=None: seen.append((done, total)))
    assert [path.read_bytes() for path in paths] == before
    assert paths[2].stat().st_mtime_ns == kept
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not list(tmp_path.glob("*.part"))


def test_more_clips_extend_what_is_there(tmp_path: Path) -> None:
    first = make_dataset(tmp_path, OPTIONS, 4)[0].read_bytes()
    paths = make_dataset(tmp_path, OPTIONS, 8)
    assert paths[0].read_bytes() == first
    assert sum(len(list(read_shard(path))) for path in paths) == 8


def test_an_interrupted_run_leaves_whole_shards_and_goes_on(tmp_path: Path) -> None:
    def as_in_a_terminal() -> None:  # a job in the background of a script inherits that interrupts are ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    out = str(tmp_path / "set")
    process = run("--out", out, "--clips", "4000", "--processes", "2", preexec_fn=as_in_a_terminal)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob("set/clips-*.safetensors")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    made = list(tmp_path.glob("set/clips-*.safetensors"))
    assert made
    assert all(len(list(read_shard(path))) == 64 for path in made)
    assert not list(tmp_path.glob("set/*.part"))


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(tmp_path: Path) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = run("--out", str(tmp_path), "--clips", "3", "--processes", "1", preexec_fn=little_room)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "Nothing more can be written" in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_another_set_is_not_mixed_in(tmp_path: Path) -> None:
    make_dataset(tmp_path, OPTIONS, 1)
    with pytest.raises(InputError, match="another seed"):
        make_dataset(tmp_path, ClipOptions(seed=3, size=32, crop=32, frames=5, references=1), 1)


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert main([*COMMAND, "--out", str(tmp_path / "file" / "set"), "--clips", "1"]) == 1
    assert "choose a folder that can be written." in capsys.readouterr().err


def test_an_empty_or_damaged_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="fantasyid train data"):
        CachedClips(tmp_path)
    (tmp_path / "clips-00000.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged"):
        next(iter(CachedClips(tmp_path)))


def test_a_training_loop_gets_batches_of_everything(tmp_path: Path) -> None:
    make_dataset(tmp_path, OPTIONS, 6)
    batch = next(iter(clip_loader(CachedClips(tmp_path), 4)))
    assert batch["frames"].shape == (4, 5, 32, 32, 3)
    assert batch["vertices"].shape == (4, 3202, 3)
    assert len(batch["caption"]) == 4
    assert batch["frames"].dtype == torch.uint8


def test_every_clip_is_seen_once_whoever_reads(tmp_path: Path) -> None:
    make_dataset(tmp_path, OPTIONS, 9)
    people = [int(s["person"]) for rank in range(2) for s in CachedClips(tmp_path, rank=rank, world=2)]
    assert sorted(people) == list(range(9))
    orders = [[int(s["person"]) for s in CachedClips(tmp_path, epoch=epoch)] for epoch in range(2)]
    assert orders[0] != orders[1]
    loader = clip_loader(SyntheticClips(OPTIONS, start=3, count=6), batch_size=1, workers=2)
    assert sorted(int(batch["person"]) for batch in loader) == [3, 4, 5, 6, 7, 8]


def test_on_the_fly_is_the_same_as_from_disk(tmp_path: Path) -> None:
    make_dataset(tmp_path, OPTIONS, 2)
    for made, read in zip(SyntheticClips(OPTIONS, count=2), CachedClips(tmp_path, shuffle=False), strict=True):
        assert made["caption"] == read["caption"]
        assert torch.equal(made["frames"], read["frames"])
        assert torch.equal(made["vertices"], read["vertices"])
    assert torch.equal(sample_of(make_clip(OPTIONS, 1))["frames"], made["frames"])
