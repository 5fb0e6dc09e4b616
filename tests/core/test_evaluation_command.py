"""``fantasyid evaluate``: a table to read, a file for programs, and one sentence when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fantasyid_core.cli import main
from fantasyid_core.evaluation import command
from fantasyid_core.images import load_photograph, save_image
from fantasyid_core.video.files import write_mp4

ASTRONAUT = Path(command.__file__).parent.parent / "assets" / "astronaut.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """her.mp4 (a still of the astronaut), nobody.mp4, and other.png: her face, darker and mirrored."""
    folder = tmp_path_factory.mktemp("videos")
    part = load_photograph(ASTRONAUT)[:320, 60:420]
    write_mp4(folder / "her.mp4", np.stack([part] * 2), 8)
    write_mp4(folder / "nobody.mp4", np.full((2, 64, 64, 3), 0.5, np.float32), 8)
    save_image(folder / "other.png", np.ascontiguousarray(part[:, ::-1] * np.float32(0.6)))
    return folder


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    code = main(["evaluate", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err.split("fantasyid: ")[-1]


def test_a_video_gets_a_table_and_everything_as_json(capsys, folder):
    code, out, _ = run(
        capsys, "--reference", ASTRONAUT, "--other", folder / "other.png", "--gallery", folder / "other.png",
        "--real", folder / "her.mp4", "--json", folder / "all.json", folder / "her.mp4",
    )  # fmt: skip
    assert code == 0
    head, row = out.splitlines()[:2]
    cells = dict(
        zip(head.replace("yaw range", "yaw").replace(" ↑", "").replace(" ↓", "").split(), row.split(), strict=True)
    )
    assert cells["clip"] == "her.mp4"
    assert cells["faces"] == "2/2"
    assert float(cells["RS"]) > 0.98
    assert float(cells["IFS"]) > 0.98
    assert cells["rank-1"] == "100%"
    assert float(cells["copy-paste"]) > 0.7
    assert "rank-1 among 2 people (chance 50%)" in out
    assert "FID 0.0000 of 2 faces against 2 real ones; so few faces make it far too large" in out
    known = json.loads((folder / "all.json").read_text(encoding="utf-8"))
    assert f"{known['clips'][0]['rs']:.3f}" == cells["RS"]
    assert known["mean"]["rs"] == known["clips"][0]["rs"]
    assert len(known["clips"][0]["per_frame"]) == 2
    assert known["settings"]["frames per second"] == 8
    assert [path.name for path in folder.glob(".*")] == []


def test_a_video_without_a_face_is_one_sentence(capsys, folder):
    code, out, error = run(capsys, "--reference", ASTRONAUT, folder / "nobody.mp4")
    assert (code, out) == (1, "")
    assert error == "None of the 2 frames of nobody.mp4 that were looked at shows a face.\n"


def test_among_others_it_is_a_line_below_the_table_and_the_exit_code_tells(capsys, folder):
    code, out, _ = run(capsys, "--markdown", "--reference", ASTRONAUT, folder / "her.mp4", folder / "nobody.mp4")
    assert code == 1
    assert out.startswith("| clip | faces | RS ↑ |")
    assert "| her.mp4 | 2/2 |" in out
    assert "- None of the 2 frames of nobody.mp4 that were looked at shows a face." in out


def test_wrong_options_are_said_in_one_sentence(capsys, folder):
    her, other = folder / "her.mp4", folder / "other.png"
    for arguments, sentence in [
        (("--reference", ASTRONAUT, "--reference", other, her), "need one reference for all or one for each, but 2"),
        (("--reference", ASTRONAUT, "--reference", other, "--other", other, her, her), "go with a single reference"),
        (("--reference", ASTRONAUT, "--json", folder / "none" / "all.json", her), "none does not exist; make it"),
        (("--reference", folder / "none.png", her), "There is no picture at"),
        (("--reference", ASTRONAUT, folder / "none.mp4"), "There is no video at"),
        (("--reference", ASTRONAUT, "--embedder", "arcface", her), "--insightface"),
        (("--reference", ASTRONAUT, "--embedder", "arcface", "--insightface", folder, her), "non-commercial research"),
        (("--reference", ASTRONAUT, "--folder-fps", "0", her), "above 0 frames per second"),
    ]:  # fmt: skip
        code, out, error = run(capsys, *arguments)
        assert (code, out) == (1, "")
        assert sentence in error
        assert error.endswith(".\n")
        assert error.count("\n") == 1


def test_each_video_may_have_its_own_reference(capsys, folder):
    code, out, _ = run(
        capsys, "--reference", folder / "other.png", "--reference", ASTRONAUT, folder / "her.mp4", folder / "her.mp4"
    )
    assert code == 0
    first, second, mean = (line.split() for line in out.splitlines()[1:4])
    assert float(first[2]) < float(second[2])
    assert (first[-2], second[-2], mean[-2]) == ("0%", "100%", "50%")
