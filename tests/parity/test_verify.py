"""``fantasyid verify`` compares every key of every golden file, and fails aloud."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from golden import golden_path, golden_tensors
from safetensors.torch import save_file

from fantasyid_core.errors import InputError
from fantasyid_core.verify import run_verify, verify


def verdicts(folder, file):
    return {check.key: check for check in verify(folder) if check.file == file}


def save(folder, name, tensors):
    save_file({key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}, folder / name)


def test_a_golden_file_passes_and_the_exit_code_is_zero(tmp_path):
    target = tmp_path / "golden"
    target.mkdir()
    for name in ("layer_attention.safetensors", "rope_full.safetensors", "manifest.json", "face_preprocess.npz"):
        shutil.copy(golden_path(name), target)
    lines: list[str] = []
    assert run_verify(target, lines.append) == 0
    assert any("layer_attention.safetensors" in line and "max" in line and "tolerance" in line for line in lines)
    assert " 0 failed" in lines[-1]


def test_a_number_that_is_off_fails_and_so_does_the_command(tmp_path):
    golden = golden_tensors("layer_attention.safetensors")
    golden["output"][0, 5, 7] += 5e-5
    save(tmp_path, "layer_attention.safetensors", golden)
    lines: list[str] = []
    assert run_verify(tmp_path, lines.append) == 1
    assert lines[-1].startswith("FAIL") and "max 4.9" in lines[-1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_golden_that_is_no_number_fails(tmp_path, value):
    golden = golden_tensors("layer_attention.safetensors")
    golden["output"][0, 0, 0] = value
    save(tmp_path, "layer_attention.safetensors", golden)
    assert verdicts(tmp_path, "layer_attention.safetensors")["output"].failed


def test_a_key_that_nothing_computes_fails(tmp_path):
    save(tmp_path, "rope_full.safetensors", {**golden_tensors("rope_full.safetensors"), "rope_half_cos": torch.ones(3)})
    checks = verdicts(tmp_path, "rope_full.safetensors")
    assert checks["rope_half_cos"].failed and "not computed" in checks["rope_half_cos"].note
    assert not checks["rope_full_cos"].failed


def test_a_file_that_nobody_knows_fails(tmp_path):
    save(tmp_path, "unheard_of.safetensors", {"x": torch.ones(2)})
    (tmp_path / "unheard_of.json").write_text(json.dumps({"x": 1}))
    assert [check.failed for check in verify(tmp_path)] == [True, True]


def test_another_shape_fails(tmp_path):
    save(tmp_path, "rope_full.safetensors", {"rope_full_cos": torch.ones(49, 64)})
    assert "shape" in verdicts(tmp_path, "rope_full.safetensors")["rope_full_cos"].note


def test_a_damaged_golden_file_fails_without_ending_the_run(tmp_path):
    (tmp_path / "a_broken.safetensors").write_bytes(b"nothing")
    shutil.copy(golden_path("rope_full.safetensors"), tmp_path)
    checks = verify(tmp_path)
    assert checks[0].failed and "truncated" in checks[0].note
    assert not any(check.failed for check in checks[1:])


def test_a_folder_without_golden_numbers_is_refused(tmp_path):
    with pytest.raises(InputError, match="no golden numbers"):
        verify(tmp_path)


def test_missing_meshes_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("FANTASYID_GOLDEN", raising=False)
    lonely = tmp_path / "a" / "b"
    lonely.mkdir(parents=True)
    save(lonely, "vertex_spiral_net.safetensors", {"anne.reduced": torch.zeros(1, 79, 2048)})
    checks = verify(lonely)
    assert checks[0].failed
