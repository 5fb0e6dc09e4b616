"""``fantasyid doctor`` says what is there, what is missing, what clashes, and what would be used."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from fake_checkpoint import small_folder

from fantasyid_core import doctor, libraries
from fantasyid_core.errors import MissingLibraryError
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.weights.catalog import CATALOG


def row(report, name, section=None):
    return next(r for r in report.rows if r.name == name and section in (None, r.section))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small_folder(folder / "fantasyid" / "FantasyID")
    (folder / "fantasyid" / "transform.pkl").write_bytes(b"x")
    return folder


def test_an_empty_installation_lists_every_file_with_size_licence_and_place(tmp_path):
    report = doctor.doctor_report([tmp_path])
    for file in CATALOG:
        if file.need == "shipped":
            assert row(report, file.name).status == "ok"
            continue
        found = row(report, file.name, "Model files")
        assert found.status == "absent" and file.licence in found.detail and f"models/{file.folder}/" in found.detail
    assert row(report, "the mini model").detail == "yes"
    assert "transformer and eva" in row(report, "the release checkpoint").detail


def test_present_files_are_shown_with_what_their_headers_say(models):
    report = doctor.doctor_report([models])
    found = row(report, "transformer_ema (or transformer)")
    assert found.status == "ok" and "release, 4 blocks, identity every 1, learned positions" in found.detail
    assert row(report, "the release checkpoint").status == "ok"
    assert row(report, "the 3D branch of the release").status == "ok"
    assert row(report, "FLAME geometry from a photograph").detail == "needs flame and deca"


def test_a_checkpoint_that_will_not_load_is_broken_and_says_why(tmp_path):
    folder = small_folder(tmp_path / "fantasyid" / "FantasyID", eva=False)
    shard = sorted((folder / "transformer").glob("*.safetensors"))[0]
    os.truncate(shard, 4000)
    report = doctor.doctor_report([tmp_path])
    found = row(report, "transformer_ema (or transformer)")
    assert found.status == "broken" and "truncated" in found.detail and found in report.broken


def _install(monkeypatch, versions):
    """Let these distributions, and no others, be installed."""
    for module in (doctor, libraries):
        monkeypatch.setattr(module, "installed_version", versions.get)


def test_the_detector_names_the_clash_that_keeps_insightface_from_loading(monkeypatch, tmp_path):
    _install(monkeypatch, {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0"})
    monkeypatch.setitem(sys.modules, "insightface", None)  # so that its import fails
    (tmp_path / "buffalo_l").mkdir()
    (tmp_path / "buffalo_l" / "det_10g.onnx").write_bytes(b"")
    with pytest.raises(MissingLibraryError, match=r"onnxruntime and onnxruntime-gpu overwrite each other.*'yunet'"):
        make_detector("insightface", models=tmp_path, pack="buffalo_l")


def test_two_onnxruntimes_clash(monkeypatch, tmp_path):
    versions = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.0", "torch": torch.__version__}
    _install(monkeypatch, versions)
    report = doctor.doctor_report([tmp_path])
    clash = [r for r in report.rows if r.status == "warning"]
    assert len(clash) == 1 and "onnxruntime and onnxruntime-gpu overwrite each other" in clash[0].detail
    missing = row(report, "diffusers")
    assert missing.status == "broken" and "pip install diffusers" in missing.detail
    assert row(report, "insightface").status == "absent"


def test_a_stand_in_counts_as_the_library(monkeypatch, tmp_path):
    versions = {"opencv-python-headless": "5.0.0", "onnxruntime-gpu": "1.31.0"}
    _install(monkeypatch, versions)
    report = doctor.doctor_report([tmp_path])
    assert row(report, "opencv-python").detail == "5.0.0 (opencv-python-headless)"
    assert not [r for r in report.rows if r.status == "warning"]


@pytest.mark.parametrize(("gigabytes", "card"), [(0, None), (80, "80"), (24, "24"), (15, "16"), (12, "12"), (8, "8")])
def test_what_the_checkpoint_needs_is_said_for_every_card_and_for_this_one(gigabytes, card):
    rows = doctor.memory_rows(int(gigabytes * 1e9))
    assert [row.name for row in rows] == [f"{size} GB card" for size in (80, 24, 16, 12, 8)]
    assert [row.name for row in rows if "(this card)" in row.detail] == ([f"{card} GB card"] if card else [])
    assert not [row for row in rows if row.status == "warning"]


def test_a_card_that_is_too_small_is_warned_of():
    assert [row.name for row in doctor.memory_rows(int(2e9)) if row.status == "warning"] == ["8 GB card"]


def test_the_device_is_the_one_that_is_there():
    device, memory, name = doctor.choose_device()
    assert device == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert (memory > 0) == (device != "cpu") and name


def test_the_command_prints_the_report_and_fails_only_for_what_is_broken(models, monkeypatch):
    lines: list[str] = []
    assert doctor.run_doctor([models], lines.append) == 0
    text = lines[0]
    assert text.startswith("Machine\n") and "Libraries" in text and "Ready for" in text and "✓ ready" in text
    _install(monkeypatch, {})
    assert doctor.run_doctor([models], lines.append) == 1
