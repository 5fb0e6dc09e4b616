"""Model files are found where users put them, and a missing one is described in one sentence."""

from __future__ import annotations

import re

import pytest

from fantasyid_core.errors import MissingFileError
from fantasyid_core.model import new_mini
from fantasyid_core.weights.catalog import CATALOG, entry, find, locate, locate_below, readable_size
from fantasyid_core.weights.mini_file import save_mini


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("file", CATALOG, ids=lambda file: file.key)
def test_every_row_is_complete_and_names_no_address(file):
    text = file.missing_message()
    for part in (file.name, file.licence, file.origin, readable_size(file.size)):
        assert part in text
    assert file.folder in text and file.marks and file.size > 0
    assert not re.search(r"https?://|www\.|\.(com|org|co|io)\b", text)
    assert text.count(". ") == 0 and text.endswith(".")


def test_keys_are_unique():
    assert len({file.key for file in CATALOG}) == len(CATALOG)
    with pytest.raises(KeyError):
        entry("no such file")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("flame", "fantasyid/flame/generic_model.pkl"),
        ("flame", "fantasyid/generic_model.pkl"),
        ("flame", "fantasyid/flame/FLAME2020/FLAME2020/generic_model.pkl"),
        ("deca", "fantasyid/flame/deca_model.tar"),
        ("mesh_hierarchy", "fantasyid/assets/transform.pkl"),
        ("eva", "fantasyid/FantasyID/face_encoder/EVA02_CLIP_L_336_psz14_s6B.pt"),
        ("eva", "clip_vision/EVA02_CLIP_L_336_psz14_s6B.pt"),
        ("t5xxl_fp16", "clip/t5xxl_fp16.safetensors"),
        ("t5xxl_fp8", "text_encoders/t5/t5xxl_fp8_e4m3fn_scaled.safetensors"),
        ("scheduler", "fantasyid/FantasyID/scheduler/scheduler_config.json"),
    ],
)
def test_files_are_found_in_and_around_their_folder(tmp_path, key, place):
    path = put(tmp_path / "models" / place)
    assert find(entry(key), [tmp_path / "elsewhere", tmp_path / "models"]) == path


@pytest.mark.parametrize(
    ("key", "folder", "mark"),
    [
        ("antelopev2", "insightface/models/antelopev2", "scrfd_10g_bnkps.onnx"),
        # the zip unpacked into a folder of its own name, the most reported mistake
        ("antelopev2", "insightface/models/antelopev2/antelopev2", "scrfd_10g_bnkps.onnx"),
        ("antelopev2", "fantasyid/FantasyID/face_encoder/models/antelopev2", "scrfd_10g_bnkps.onnx"),
        ("buffalo_l", "insightface/buffalo_l", "det_10g.onnx"),
        ("transformer", "fantasyid/Fantasy-ID/transformer", "a.safetensors"),
        ("vae", "fantasyid/FantasyID/vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "fantasyid/FantasyID/text_encoder", "model-00001-of-00002.safetensors"),
    ],
)
def test_folders_are_found_by_what_lies_in_them(tmp_path, key, folder, mark):
    put(tmp_path / folder / mark)
    assert find(entry(key), [tmp_path]) == tmp_path / folder


def test_the_averaged_transformer_is_preferred(tmp_path):
    put(tmp_path / "fantasyid" / "FantasyID" / "transformer" / "a.safetensors")
    ema = put(tmp_path / "fantasyid" / "FantasyID" / "transformer_ema" / "a.safetensors")
    assert locate(entry("transformer"), [tmp_path]) == ema.parent


def test_our_converted_mesh_is_preferred_to_the_pickle(tmp_path):
    put(tmp_path / "fantasyid" / "transform.pkl")
    ours = put(tmp_path / "fantasyid" / "flame" / "mesh_hierarchy.safetensors")
    assert locate(entry("mesh_hierarchy"), [tmp_path]) == ours


def test_the_models_folder_may_be_the_packs_own(tmp_path):
    path = put(tmp_path / "fantasyid" / "flame" / "generic_model.pkl")
    assert locate(entry("flame"), [tmp_path / "fantasyid"]) == path


def test_the_case_of_a_name_does_not_matter(tmp_path):
    path = put(tmp_path / "fantasyid" / "flame" / "Generic_Model.pkl")
    assert locate(entry("flame"), [tmp_path]) == path


def test_nothing_is_searched_without_end(tmp_path):
    put(tmp_path / "fantasyid" / "a/b/c/d/e/f/generic_model.pkl")
    assert locate(entry("flame"), [tmp_path]) is None
    assert locate_below(entry("flame"), tmp_path / "fantasyid/a") is not None


def test_a_missing_file_is_told_in_one_sentence(tmp_path):
    with pytest.raises(MissingFileError) as caught:
        find(entry("flame"), [tmp_path])
    text = str(caught.value)
    assert "generic_model.pkl" in text and "53.0 MB" in text and "FLAME licence" in text
    assert "ComfyUI/models/fantasyid/flame/" in text and "registration" in text


@pytest.mark.parametrize(
    ("size", "text"), [(500, "500 B"), (856_461_210, "856 MB"), (13_388_586_624, "13.4 GB"), (1500, "1.5 kB")]
)
def test_sizes_read_well(size, text):
    assert readable_size(size) == text


def test_a_trained_mini_is_not_taken_for_a_converted_checkpoint(tmp_path):
    converted = put(tmp_path / "models" / "fantasyid" / "fantasyid-release.safetensors")
    save_mini(new_mini(0), tmp_path / "models" / "fantasyid" / "fantasyid-mine.safetensors")
    assert locate(entry("converted"), [tmp_path / "models"]) == converted
    converted.unlink()
    assert locate(entry("converted"), [tmp_path / "models"]) is None
