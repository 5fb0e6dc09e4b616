"""A checkpoint loads whole and right, in every form it may have, or says in one sentence what is wrong with it."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from fake_checkpoint import NAME, SMALL, copy_of, rewrite, small_folder, small_state, write_config
from safetensors.torch import load_file, save_file

from fantasyid_core.errors import CheckpointError, MissingFileError
from fantasyid_core.weights.architecture import config_from_text, config_to_text, infer_config
from fantasyid_core.weights.checkpoint import read_checkpoint
from fantasyid_core.weights.loading import load_identity_encoder, load_transformer, open_checkpoint, open_eva
from fantasyid_core.weights.streaming import TensorReader, read_header


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("official"))


@pytest.fixture
def damaged(official, tmp_path):
    return copy_of(official, tmp_path / "copy")


def shards(folder, subfolder="transformer"):
    return sorted((folder / subfolder).glob("*.safetensors"))


def assert_holds(transformer, state):
    ours = transformer.state_dict()
    assert torch.equal(ours["transformer_blocks.3.ff.net.2.weight"], state["transformer_blocks.3.ff.net.2.weight"])
    assert torch.equal(ours["patch_embed.pos_embedding"], state["patch_embed.pos_embedding"])
    attention = ours["transformer_blocks.2.layer_attention.to_kv.weight"]
    assert torch.equal(attention, state["layer_attention.2.to_kv.weight"])


# --- the forms a checkpoint may have ---


def test_the_official_folder_loads_with_its_own_architecture(official):
    opened = open_checkpoint(official)
    assert opened.config == SMALL
    assert len(shards(official)) == 3
    transformer = load_transformer(opened)
    assert_holds(transformer, small_state())
    assert not transformer.training and not any(p.requires_grad for p in transformer.parameters())


@pytest.mark.parametrize("form", ["no index", "transformer_ema", "one file", "file alone", "bin", "pth file"])
def test_every_form_gives_the_same_weights(official, tmp_path, form):
    folder = copy_of(official, tmp_path / "copy")
    path = folder
    if form == "no index":
        next((folder / "transformer").glob("*.index.json")).unlink()
    elif form == "transformer_ema":
        (folder / "transformer").rename(folder / "transformer_ema")
    else:
        state = small_state()
        for file in (folder / "transformer").glob(f"{NAME}*"):
            file.unlink()
        if form in ("one file", "file alone"):
            path = folder / "transformer" / "model.safetensors"
            save_file(state, path)
        else:
            path = folder / "transformer" / ("diffusion_pytorch_model.bin" if form == "bin" else "model.pth")
            torch.save(state, path)
        path = path if form in ("file alone", "pth file") else folder
    assert_holds(load_transformer(open_checkpoint(path)), small_state())


def test_the_averaged_weights_are_preferred_as_in_the_release(official, tmp_path):
    folder = copy_of(official, tmp_path / "copy")
    copy_of(folder / "transformer", folder / "transformer_ema")
    assert open_checkpoint(folder).index.path.name == "transformer_ema"


def test_a_checkpoint_without_config_json_is_read_from_its_keys(official, tmp_path):
    folder = copy_of(official, tmp_path / "copy")
    rewrite(folder, lambda state: state.pop("patch_embed.pos_embedding"))
    (folder / "transformer" / "config.json").unlink()
    config = infer_config(read_checkpoint(folder))
    assert config.transformer.layers == 4 and config.transformer.heads == 2
    assert not config.transformer.learned_positions


@pytest.mark.parametrize("interval", [1, 2, 4])
def test_the_interval_is_counted(tmp_path, interval):
    config = replace(SMALL, injection=replace(SMALL.injection, interval=interval))
    folder = small_folder(tmp_path, config, eva=False)
    write_config(folder)
    path = folder / "transformer" / "config.json"
    values = json.loads(path.read_text())
    values.pop("cross_attn_interval")
    path.write_text(json.dumps(values))
    opened = open_checkpoint(folder)
    assert opened.config.injection.interval == interval
    assert len(load_transformer(opened).layer_attentions()) == 4 // interval


def test_the_layer_block_of_the_paper_is_recognised(damaged):
    def add_blocks(state):
        for layer in range(4):
            state[f"layer_block.{layer}.conv.weight"] = torch.zeros(32, 1, 3, 3, dtype=torch.bfloat16)
            state[f"layer_block.{layer}.norm.weight"] = torch.zeros(32, dtype=torch.bfloat16)
            state[f"layer_block.{layer}.norm.bias"] = torch.zeros(32, dtype=torch.bfloat16)

    opened = open_checkpoint(rewrite(damaged, add_blocks))
    assert opened.config.family == "paper" and opened.config.injection.layer_block
    assert load_transformer(opened).transformer_blocks[0].layer_block is not None


# --- dtypes and memory ---


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_come_in_the_asked_dtype(official, dtype):
    transformer = load_transformer(open_checkpoint(official), dtype)
    state = small_state()
    for name, tensor in transformer.state_dict().items():
        assert tensor.dtype == dtype, name
    key = "transformer_blocks.1.attn1.to_q.weight"
    assert torch.equal(transformer.state_dict()[key], state[key].to(dtype))


def test_writing_into_a_weight_never_reaches_the_file(official):
    before = shards(official)[0].read_bytes()
    transformer = load_transformer(open_checkpoint(official))
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.zero_()
    assert shards(official)[0].read_bytes() == before


def test_loading_in_the_files_dtype_copies_nothing(official):
    """The weights are views of the mapped file: two loads share it, and no tensor owns memory of its own."""
    opened = open_checkpoint(official)
    with TensorReader() as reader:
        key = "transformer_blocks.0.ff.net.0.proj.weight"
        first, second = (reader.read(key, opened.index.entries[key]) for _ in range(2))
    assert first.data_ptr() == second.data_ptr()


def test_identity_weights_are_rounded_and_the_vertex_network_stays_wide(official):
    encoder = load_identity_encoder(open_checkpoint(official), None)
    assert {p.dtype for p in encoder.vertex_spiral_net.parameters()} == {torch.float32}
    assert {p.dtype for p in encoder.vertex_reducer.parameters()} == {torch.bfloat16}
    assert encoder.eva.rope_cos.dtype == torch.bfloat16
    state = small_state()
    query = encoder.vertex_spiral_net.vtx_query
    assert torch.equal(query, state["vertex_spiral_net.vtx_query"].float())
    assert len(encoder.eva.blocks) == 20


def test_dead_weights_are_neither_needed_nor_kept(damaged):
    dead = ("face_abstractor.latents", "face_abstractor.mapping_0", "face_abstractor.layers.3.")

    def drop(state):
        for key in [key for key in state if key.startswith(dead)]:
            state.pop(key)

    opened = open_checkpoint(rewrite(damaged, drop))
    kept = sum(p.numel() for p in load_identity_encoder(opened, None).face_abstractor.parameters())
    assert kept < sum(t.numel() for k, t in small_state().items() if k.startswith("face_abstractor.")) / 4


# --- what a user may get wrong, or a download ---


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


def test_the_configuration_survives_a_files_metadata():
    assert config_from_text(config_to_text(SMALL)) == SMALL
    with pytest.raises(CheckpointError, match="not readable"):
        config_from_text('{"family": "release"}')
