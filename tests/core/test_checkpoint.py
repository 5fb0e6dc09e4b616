"""A checkpoint loads whole and right, in every form it may have."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from fake_checkpoint import NAME, SMALL, copy_of, rewrite, shards, small_folder, small_state, write_config
from safetensors.torch import save_file

from fantasyid_core.config import MINI
from fantasyid_core.errors import CheckpointError
from fantasyid_core.weights.architecture import config_from_text, config_to_text, infer_config
from fantasyid_core.weights.checkpoint import read_checkpoint
from fantasyid_core.weights.loading import load_identity_encoder, load_transformer, open_checkpoint
from fantasyid_core.weights.streaming import TensorReader


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("official"))


@pytest.fixture
def damaged(official, tmp_path):
    return copy_of(official, tmp_path / "copy")


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


def test_the_configuration_survives_a_files_metadata():
    assert config_from_text(config_to_text(SMALL)) == SMALL
    with pytest.raises(CheckpointError, match="not readable"):
        config_from_text('{"family": "release"}')


def test_files_from_before_have_the_reference_in_the_first_frame_alone():
    text = json.loads(config_to_text(MINI))
    del text["transformer"]["reference_everywhere"]
    assert config_from_text(json.dumps(text)).transformer.reference_everywhere is False
