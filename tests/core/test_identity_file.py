"""Identity files: what comes back, and what is said when a file is not one."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_identity import is_one_sentence

from fantasyid_core.errors import CheckpointError, InputError, MissingFileError
from fantasyid_core.identity.identity import Identity
from fantasyid_core.identity.identity_file import load_identity, require_model, save_identity


def some_identity(seed: int = 0) -> Identity:
    tokens = torch.randn((11, 16), generator=torch.Generator().manual_seed(seed))
    reference = np.random.default_rng(seed).random((512, 512, 3), dtype=np.float32)
    return Identity(
        tokens, reference, "mini-0123456789ab", "stretch", {"views": "photograph, größer", "fusion": "mean"}
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_identity(some_identity(), tmp_path_factory.mktemp("identity") / "person.safetensors")


def test_what_was_saved_comes_back_bit_for_bit(saved):
    before, after = some_identity(), load_identity(saved)
    assert torch.equal(after.tokens, before.tokens)
    assert np.array_equal(after.reference, before.reference)
    assert (after.model, after.reference_fit) == (before.model, "stretch")
    assert dict(after.provenance) == dict(before.provenance)
    assert [path.name for path in saved.parent.iterdir()] == ["person.safetensors"]


def test_saving_again_replaces_the_file_whole(tmp_path):
    path = tmp_path / "person.safetensors"
    save_identity(some_identity(1), str(path))
    save_identity(some_identity(2), str(path))
    assert torch.equal(load_identity(path).tokens, some_identity(2).tokens)


def test_a_failing_save_leaves_the_old_file_and_no_half_of_a_new_one(tmp_path, monkeypatch):
    path = save_identity(some_identity(1), tmp_path / "person.safetensors")

    def disk_full(tensors, target, metadata):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fantasyid_core.identity.identity_file.save_file", disk_full)
    with pytest.raises(InputError, match="No space left") as caught:
        save_identity(some_identity(2), path)
    assert is_one_sentence(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["person.safetensors"]
    assert torch.equal(load_identity(path).tokens, some_identity(1).tokens)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="file"):
        save_identity(some_identity(), tmp_path / "file" / "person.safetensors")


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.safetensors") as caught:
        save_identity(some_identity(), tmp_path / "person.pt")
    assert list(tmp_path.iterdir()) == []
    assert str(caught.value).endswith(".")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="nobody"):
        load_identity(tmp_path / "nobody.safetensors")


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 60, 300, 5000, -1])
def test_a_truncated_file_is_called_damaged(saved, tmp_path, kept):
    path = tmp_path / "half.safetensors"
    path.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"half\.safetensors is damaged") as caught:
        load_identity(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_recognised_as_other_files(tmp_path):
    other = tmp_path / "lora.safetensors"
    save_file({"tokens": torch.zeros(2, 2)}, other, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lora\.safetensors is not a FantasyID identity") as caught:
        load_identity(other)
    assert "\n" not in str(caught.value)
    (tmp_path / "text.safetensors").write_text("hello, I am a text file and nothing more than that")
    with pytest.raises(CheckpointError):
        load_identity(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "2"}, "format 2"),
        ({"version": None}, "format None"),
        ({"model": None}, "damaged"),
        ({"provenance": "{"}, "damaged"),
        ({"provenance": "[1]"}, "damaged"),
        ({"provenance": "[" * 100_000}, "damaged"),
    ],
)
def test_metadata_that_cannot_be_right_is_refused(tmp_path, change, said):
    metadata = {"format": "fantasyid-identity", "version": "1", "model": "m", "provenance": "{}"} | change
    path = tmp_path / "odd.safetensors"
    tensors = {"tokens": torch.zeros(2, 2), "reference": torch.zeros(512, 512, 3)}
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})
    with pytest.raises(CheckpointError, match=said):
        load_identity(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"tokens": torch.zeros(2, 2)},
        {"reference": torch.zeros(512, 512, 3)},
        {"tokens": torch.zeros(2), "reference": torch.zeros(512, 512, 3)},
        {"tokens": torch.full((2, 2), torch.nan), "reference": torch.zeros(512, 512, 3)},
        {"tokens": torch.zeros(2, 2), "reference": torch.zeros(512, 512)},
        {"tokens": torch.zeros(2, 2), "reference": torch.zeros(512, 512, 3, dtype=torch.bfloat16)},
    ],
)
def test_tensors_that_cannot_be_right_are_refused(tmp_path, tensors):
    path = tmp_path / "odd.safetensors"
    save_file(tensors, path, {"format": "fantasyid-identity", "version": "1", "model": "m", "provenance": "{}"})
    with pytest.raises(CheckpointError, match="damaged"):
        load_identity(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 600), value=st.integers(0, 255))
def test_a_changed_byte_in_the_header_is_never_a_crash(saved, tmp_path, position, value):
    data = bytearray(saved.read_bytes())
    data[position] = value
    path = tmp_path / "changed.safetensors"
    path.write_bytes(bytes(data))
    try:
        loaded = load_identity(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert loaded.tokens.shape == (11, 16)


def test_a_header_that_promises_more_than_the_file_holds_is_damaged(tmp_path):
    header = json.dumps({"tokens": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}}).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="damaged"):
        load_identity(path)


def test_an_identity_of_another_model_is_refused_by_name():
    require_model(some_identity(), "mini-0123456789ab")
    with pytest.raises(InputError) as caught:
        require_model(some_identity(), "release-ffffffffffff")
    assert is_one_sentence(caught.value)
    assert "mini-0123456789ab" in str(caught.value)
    assert "release-ffffffffffff" in str(caught.value)
