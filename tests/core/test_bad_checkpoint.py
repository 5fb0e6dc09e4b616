"""A file that is damaged, unfinished, or something else is refused in one sentence that says what it is."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from fake_checkpoint import copy_of, rewrite, shards, small_folder, write_config
from safetensors.torch import load_file, save_file

from fantasyid_core.errors import CheckpointError, MissingFileError
from fantasyid_core.weights.loading import load_transformer, open_checkpoint, open_eva
from fantasyid_core.weights.streaming import read_header


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("official"))


@pytest.fixture
def damaged(official, tmp_path):
    return copy_of(official, tmp_path / "copy")


def test_a_truncated_shard_is_named(damaged):
    shard = shards(damaged)[1]
    os.truncate(shard, shard.stat().st_size - 1000)
    with pytest.raises(CheckpointError, match=rf"{shard.name} is truncated.*half-downloaded"):
        open_checkpoint(damaged)


def test_an_index_that_names_a_missing_shard(damaged):
    shard = shards(damaged)[2]
    shard.unlink()
    (shard.parent / (shard.name + ".incomplete")).write_bytes(b"")
    with pytest.raises(CheckpointError, match=rf"{shard.name} is not in transformer/.*did not finish"):
        open_checkpoint(damaged)


def test_a_missing_shard_without_index(damaged):
    next((damaged / "transformer").glob("*.index.json")).unlink()
    shards(damaged)[1].unlink()
    with pytest.raises(CheckpointError, match="Shard 2 of 3 is missing"):
        open_checkpoint(damaged)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>" + b" " * 100, "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5", "Git LFS pointer"),
        (b"PK\x03\x04\x00\x00\x08\x08" + b"\xff" * 100, "torch archive"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b"no json at all!!" * 4, "wrong safetensors header"),
        ((10**7).to_bytes(8, "little") + b"{}", "truncated or has a wrong safetensors header"),
        (b"", "truncated or has a wrong safetensors header"),
    ],
)
def test_a_file_that_is_something_else(tmp_path, content, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(path)


def test_a_header_that_contradicts_itself(tmp_path):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(CheckpointError, match="wrong safetensors header"):
        read_header(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_weights_are_found_while_loading(damaged, value):
    def spoil(state):
        state["transformer_blocks.2.attn1.to_v.weight"][3, 5] = value

    opened = open_checkpoint(rewrite(damaged, spoil))
    with pytest.raises(CheckpointError, match=r"transformer_blocks\.2\.attn1\.to_v\.weight hold NaN or infinity"):
        load_transformer(opened)


def test_quantised_weights_are_refused(damaged):
    def quantise(state):
        state["proj_out.weight"] = state["proj_out.weight"].to(torch.int8)

    opened = open_checkpoint(rewrite(damaged, quantise))
    with pytest.raises(CheckpointError, match=r"proj_out\.weight as I8.*bf16"):
        load_transformer(opened)


def test_ten_wrong_keys_are_listed_and_the_rest_counted(damaged):
    def spoil(state):
        for key in [key for key in state if key.startswith("transformer_blocks.3.")]:
            state[key.replace("transformer_blocks.3.", "other.")] = state.pop(key)
        state["norm_final.weight"] = torch.ones(7, dtype=torch.bfloat16)

    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(
            rewrite(damaged, lambda state: spoil(state)),
        )
    text = str(caught.value)
    assert "num_layers" in text and "half-downloaded" in text

    write_config(damaged, num_layers=3)
    with pytest.raises(CheckpointError, match="do not go evenly"):
        open_checkpoint(damaged)


def test_extra_missing_and_misshaped_keys_are_told_apart(damaged):
    def spoil(state):
        for number in range(13):
            state[f"adapter.{number}"] = torch.zeros(2)
        state.pop("norm_out.linear.bias")
        state["norm_final.weight"] = torch.ones(7, dtype=torch.bfloat16)

    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(rewrite(damaged, spoil))
    text = str(caught.value)
    assert "1 missing (norm_out.linear.bias)" in text
    assert "13 unknown (adapter.0, adapter.1" in text and "and 3 more" in text
    assert "norm_final.weight [7] instead of [32]" in text
    assert "looks like a FantasyID checkpoint" in text


def cogvideox(width: int, channels: int, patch_dims: int = 4) -> dict[str, torch.Tensor]:
    patch = (width, channels, 2, 2) if patch_dims == 4 else (width, channels * 4)
    return {
        "patch_embed.proj.weight": torch.zeros(patch),
        "patch_embed.text_proj.weight": torch.zeros(width, 8),
        "transformer_blocks.0.norm1.linear.weight": torch.zeros(4, 4),
    }


FAMILIES = {
    "CogVideoX-2B": cogvideox(1920, 16),
    "plain CogVideoX-5B ": cogvideox(3072, 16),
    "CogVideoX-5B-I2V": cogvideox(3072, 32),
    r"CogVideoX 1\.5": cogvideox(3072, 32, patch_dims=2),
    "ConsisID": {**cogvideox(3072, 32), "local_facial_extractor.latents": torch.zeros(1)},
    "a LoRA": {"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.zeros(4, 8)},
    "CogVideoX VAE": {"decoder.mid_block.resnets.0.norm1.conv_y.conv.weight": torch.zeros(1)},
    "T5 text encoder": {"encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(1)},
    "vision tower": {"visual.cls_token": torch.zeros(1)},
    "video DiT": {"layer_attention.0.to_q.weight": torch.zeros(1), "face_abstractor.proj_out": torch.zeros(1)},
    "Wan video": {"patch_embedding.weight": torch.zeros(1)},
    "none of the families": {"weight": torch.zeros(1)},
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_another_family_is_named(tmp_path, family):
    save_file(FAMILIES[family], tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=family):
        open_checkpoint(tmp_path / "model.safetensors")


def test_a_pickle_that_tries_to_run_code_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "plain.bin").write_bytes(pickle.dumps({"weight": Evil()}))
    torch.save({"weight": Evil()}, tmp_path / "archive.bin")
    for name in ("plain.bin", "archive.bin"):
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_an_index_cannot_point_out_of_its_folder(damaged):
    index = next((damaged / "transformer").glob("*.index.json"))
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside its own folder"):
        open_checkpoint(damaged)


def test_two_checkpoints_in_one_folder(damaged):
    next((damaged / "transformer").glob("*.index.json")).unlink()
    save_file(load_file(shards(damaged)[0]), damaged / "transformer" / "other.safetensors")
    with pytest.raises(CheckpointError, match="mixes two checkpoints"):
        open_checkpoint(damaged)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"is_kps": True}, "is_kps = True"),
        ({"num_layers": 42}, "num_layers = 42, but the keys say 4"),
        ({"cross_attn_interval": 2}, "cross_attn_interval = 2"),
        ({"sample_frames": 49}, "position table has"),
        ({"ofs_embed_dim": 512}, "another model's config.json"),
    ],
)
def test_a_config_that_does_not_belong_to_the_weights(damaged, changes, says):
    write_config(damaged, **changes)
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(damaged)


def test_a_broken_config_json(damaged):
    (damaged / "transformer" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not readable JSON"):
        open_checkpoint(damaged)


def test_nothing_there(tmp_path):
    with pytest.raises(MissingFileError, match="fantasyid doctor"):
        open_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(MissingFileError, match="holds no checkpoint"):
        open_checkpoint(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="is not a checkpoint this loader reads"):
        open_checkpoint(tmp_path / "model.gguf")


def test_a_vision_tower_that_is_missing_or_another_one(damaged, tmp_path):
    tower = next((damaged / "face_encoder").iterdir())
    opened = open_checkpoint(damaged)
    assert len(open_eva(opened).entries) == 4 + 20 * 21  # class row, positions, patches; 20 of 24 blocks
    tower.unlink()
    with pytest.raises(MissingFileError, match=r"EVA02_CLIP_L_336_psz14_s6B\.pt.*856 MB.*MIT.*face_encoder"):
        open_eva(opened)
    torch.save({"visual.cls_token": torch.zeros(1, 1, 32)}, tower)
    with pytest.raises(CheckpointError, match=r"visual\.pos_embed"):
        open_eva(opened)
