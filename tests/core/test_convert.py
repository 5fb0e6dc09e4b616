"""The converted file is the official folder, only smaller: same numbers, same strictness, its origin inside."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from fake_checkpoint import SMALL, copy_of, official_layout, rewrite, small_folder, small_state

from fantasyid_core.errors import CheckpointError, InputError
from fantasyid_core.weights.catalog import entry as catalogued
from fantasyid_core.weights.catalog import locate
from fantasyid_core.weights.convert import convert_checkpoint, read_provenance, run_convert
from fantasyid_core.weights.loading import load_identity_encoder, load_transformer, load_vae, open_checkpoint

TINY_VAE = {
    "block_out_channels": (8, 8, 8, 8),
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_height": 16,
    "sample_width": 16,
}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    from diffusers import AutoencoderKLCogVideoX

    folder = small_folder(tmp_path_factory.mktemp("models") / "fantasyid" / "FantasyID")
    torch.manual_seed(0)
    AutoencoderKLCogVideoX(**TINY_VAE).save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def converted(official, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "fantasyid-bf16.safetensors"
    convert_checkpoint(official, path)
    return path


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    a, b = ours.state_dict(), theirs.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_both_halves_tower_and_vae_come_out_as_they_went_in(official, converted):
    before, after = open_checkpoint(official), open_checkpoint(converted)
    assert after.config == before.config == SMALL and after.is_converted
    assert same(load_transformer(after), load_transformer(before))
    ours, theirs = load_identity_encoder(after, None), load_identity_encoder(before, None)
    assert same(ours, theirs) and ours.model_id == theirs.model_id
    assert same(load_vae(after), load_vae(before))


def test_dead_keys_are_gone_and_counted(official, tmp_path):
    done = convert_checkpoint(official, tmp_path / "a.safetensors")
    dead = [key for key, spec in official_layout(SMALL).items() if not spec.live]
    tower_dead = 4 * 23 + 4 + 2 * 21  # four blocks, norm and head, rotary tables of tower and 20 blocks
    assert done.dropped == len(dead) + tower_dead
    assert done.parts == ("transformer", "eva", "vae")
    keys = open_checkpoint(tmp_path / "a.safetensors").index.entries
    assert not set(dead) & set(keys)
    assert done.nbytes == sum(entry.nbytes for entry in keys.values())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_dtype_is_chosen(official, tmp_path, dtype):
    path = tmp_path / "x.safetensors"
    convert_checkpoint(official, path, getattr(torch, dtype))
    opened = open_checkpoint(path)
    assert {entry.dtype for entry in opened.index.entries.values()} == {"F32" if dtype == "float32" else "F16"}
    weight = load_transformer(opened, getattr(torch, dtype)).transformer_blocks[0].ff.net[2].weight
    assert torch.equal(weight, small_state()["transformer_blocks.0.ff.net.2.weight"].to(getattr(torch, dtype)))


def test_the_file_says_where_it_came_from_and_names_no_folder_of_the_user(official, converted):
    index = open_checkpoint(converted).index
    provenance = read_provenance(index)
    assert provenance["source"] == "transformer" and provenance["tool"].startswith("fantasyid ")
    assert "EVA02_CLIP_L_336_psz14_s6B.pt" in provenance["files"] and len(provenance["files"]) == 5
    assert str(official.parent) not in json.dumps(dict(index.metadata))
    assert index.metadata["parts"] == "transformer eva vae"


def test_a_converted_file_can_be_converted_again(converted, tmp_path):
    again = tmp_path / "again.safetensors"
    done = convert_checkpoint(converted, again, torch.float32)
    assert done.dropped == 0 and done.parts == ("transformer", "eva", "vae")
    back = tmp_path / "back.safetensors"
    convert_checkpoint(again, back)
    assert same(load_transformer(open_checkpoint(back)), load_transformer(open_checkpoint(converted)))


def test_the_papers_variant_and_an_interval_survive(tmp_path):
    config = replace(SMALL, injection=replace(SMALL.injection, interval=2))
    folder = small_folder(tmp_path / "official", config, eva=False)

    def add_blocks(state):
        for layer in range(2):
            state[f"layer_block.{layer}.conv.weight"] = torch.full((32, 1, 3, 3), 0.1 * layer, dtype=torch.bfloat16)
            state[f"layer_block.{layer}.norm.weight"] = torch.zeros(32, dtype=torch.bfloat16)
            state[f"layer_block.{layer}.norm.bias"] = torch.zeros(32, dtype=torch.bfloat16)

    rewrite(folder, add_blocks)
    done = convert_checkpoint(folder, tmp_path / "out.safetensors")
    assert done.config.family == "paper" and done.config.injection.interval == 2 and done.parts == ("transformer",)
    assert same(load_transformer(open_checkpoint(done.path)), load_transformer(open_checkpoint(folder)))


def test_a_damaged_converted_file_is_refused_like_any_other(converted, tmp_path):
    path = tmp_path / "short.safetensors"
    path.write_bytes(converted.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(path)


def test_a_converted_file_of_another_version_asks_to_be_converted_again(converted, tmp_path):
    path = tmp_path / "other.safetensors"
    path.write_bytes(converted.read_bytes().replace(b'"fantasyid_format":"1"', b'"fantasyid_format":"9"'))
    with pytest.raises(CheckpointError, match="format 9"):
        open_checkpoint(path)


def test_nothing_is_left_when_a_conversion_is_cancelled(official, tmp_path):
    def cancel(done, total, preview=None):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(official, tmp_path / "x.safetensors", progress=cancel)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_source_is_spoilt(official, tmp_path):
    folder = copy_of(official, tmp_path / "copy")
    rewrite(folder, lambda state: state["proj_out.bias"].fill_(float("nan")))
    with pytest.raises(CheckpointError, match=r"proj_out\.bias hold NaN"):
        convert_checkpoint(folder, tmp_path / "out" / "x.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_noticed_before_anything_is_written(official, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(InputError, match="make room first"):
        convert_checkpoint(official, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(official, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Nothing can be written into"):
        convert_checkpoint(official, tmp_path / "file" / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "dtype", "says"), [("x.bin", "bfloat16", "must end in"), ("x.safetensors", "int8", "int8")]
)
def test_wrong_wishes_are_refused(official, tmp_path, name, dtype, says):
    with pytest.raises(InputError, match=says):
        run_convert(official, tmp_path / name, dtype)


def test_the_command_says_what_it_wrote_and_what_is_not_in_it(tmp_path):
    folder = small_folder(tmp_path / "official", eva=False)
    lines: list[str] = []
    assert run_convert(folder, tmp_path / "out.safetensors", write=lines.append) == 0
    assert "transformer; 8" in lines[0] or "dead keys dropped" in lines[0]
    assert any("no eva" in line for line in lines) and any("no vae" in line for line in lines)


def test_the_catalogue_finds_the_converted_file(converted, tmp_path):
    folder = tmp_path / "models" / "fantasyid"
    folder.mkdir(parents=True)
    shutil.copy(converted, folder)
    assert locate(catalogued("converted"), [tmp_path / "models"]) == folder / converted.name
