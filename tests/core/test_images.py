"""Any picture that an artist has becomes a photograph, or one sentence says why not."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from PIL import Image

from fantasyid_core.errors import InputError
from fantasyid_core.images import NEUTRAL_GREY, as_photograph, load_photograph, save_image, to_uint8

RNG = np.random.default_rng(1)
BYTES = RNG.integers(0, 256, (40, 30, 3), dtype=np.uint8)
GREY = np.array(NEUTRAL_GREY, dtype=np.float32) / 255


def one_sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 250
    return text


def test_bytes_survive_the_round_trip_exactly():
    every_level = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 16, 3))
    assert np.array_equal(to_uint8(as_photograph(every_level)), every_level)


@pytest.mark.parametrize(
    "same_picture",
    [
        BYTES,
        BYTES[None],
        BYTES.astype(np.uint16) * 257,
        BYTES.astype(np.float64) / 255,
        torch.from_numpy(BYTES.astype(np.float32) / 255)[None],
        torch.from_numpy(BYTES),
        Image.fromarray(BYTES),
        np.asfortranarray(BYTES),
        np.concatenate([BYTES, np.full((40, 30, 1), 255, np.uint8)], axis=2),
    ],
    ids=["uint8", "batch of one", "uint16", "float64", "torch batch", "torch bytes", "PIL", "Fortran order", "opaque"],
)
def test_the_same_picture_in_any_form_is_the_same_photograph(same_picture):
    photograph = as_photograph(same_picture)
    assert photograph.dtype == np.float32 and photograph.flags.c_contiguous and not photograph.flags.writeable
    assert np.array_equal(to_uint8(photograph), BYTES)


def test_half_precision_tensors_are_accepted():
    tensor = torch.from_numpy(BYTES.astype(np.float32) / 255).to(torch.bfloat16)
    assert np.abs(as_photograph(tensor) - BYTES / 255.0).max() < 0.003


@pytest.mark.parametrize("grey", [BYTES[..., 0], BYTES[..., :1], BYTES[None, ..., 0], BYTES[None, ..., :1]])
def test_grey_pictures_get_three_equal_channels(grey):
    photograph = as_photograph(grey)
    assert all(np.array_equal(to_uint8(photograph)[..., channel], BYTES[..., 0]) for channel in range(3))


def test_transparency_shows_neutral_grey():
    picture = np.concatenate([BYTES, np.zeros((40, 30, 1), np.uint8)], axis=2)
    picture[:20, :, 3] = 128
    photograph = as_photograph(picture)
    assert np.allclose(photograph[20:], GREY)
    assert np.allclose(photograph[:20], GREY + (BYTES[:20] / 255.0 - GREY) * 128 / 255, atol=1e-6)
    assert np.allclose(as_photograph(np.dstack([BYTES[..., 0], np.zeros((40, 30), np.uint8)])), GREY)


def test_highlights_above_one_are_clipped():
    bright = BYTES.astype(np.float32) / 255 * 1.2 - 0.05
    assert np.array_equal(as_photograph(bright), np.clip(bright, 0, 1))


def test_callers_own_memory_is_never_frozen_or_shared():
    mine = BYTES.astype(np.float32) / 255
    photograph = as_photograph(mine)
    assert mine.flags.writeable and not np.shares_memory(mine, photograph)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((0, 64, 64, 3), np.float32), "batch is empty"),
        (np.zeros((2, 64, 64, 3), np.float32), "batch of 2"),
        (np.zeros((1, 1, 3), np.float32), "1×1 pixels"),
        (np.zeros((500, 15, 3), np.float32), "15×500 pixels"),
        (np.full((64, 64, 3), np.nan, np.float32), "NaN"),
        (np.full((64, 64, 3), np.inf, np.float32), "NaN or infinity"),
        (np.zeros((3, 64, 64), np.float32), "3×64×64"),
        (np.zeros(64, np.float32), "64"),
        (np.float32(3), "single number"),
        (np.zeros((64, 64, 5), np.float32), "64×64×5"),
        (np.zeros((64, 64, 3), np.int64), "int64"),
        (BYTES.astype(np.float32), "divide it by 255"),
        ("photo.jpg", "other than numbers"),
        (None, "other than numbers"),
    ],
)
def test_what_is_no_photograph_is_refused_in_one_sentence(picture, words):
    with pytest.raises(InputError) as error:
        as_photograph(picture)
    assert words in one_sentence(error)


def test_one_bad_pixel_among_many_is_noticed():
    picture = np.zeros((64, 64, 3), np.float32)
    picture[40, 3, 1] = np.nan
    with pytest.raises(InputError):
        as_photograph(picture)


def test_eight_thousand_pixels_take_seconds_not_minutes():
    start = time.perf_counter()
    assert as_photograph(np.zeros((8000, 6000, 3), np.uint8)).shape == (8000, 6000, 3)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("name", ["photo.png", "My photo of Zoë 王.png", "a b/ü/c.png"])
def test_pictures_are_saved_and_loaded_under_any_name(tmp_path, name):
    save_image(tmp_path / name, as_photograph(BYTES))
    assert np.array_equal(to_uint8(load_photograph(tmp_path / name)), BYTES)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(("suffix", "worst"), [(".jpg", 0.05), (".webp", 0.05), (".bmp", 0.0)])
def test_other_file_types_are_written_by_their_name(tmp_path, suffix, worst):
    smooth = np.tile(np.linspace(0, 1, 64, dtype=np.float32)[:, None, None], (1, 64, 3))
    path = save_image(tmp_path / f"x{suffix}", smooth)
    assert np.abs(load_photograph(path) - smooth).max() <= worst + 0.002


def test_phone_photographs_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned by a quarter
    Image.fromarray(BYTES).save(tmp_path / "phone.png", exif=exif)
    assert np.array_equal(to_uint8(load_photograph(tmp_path / "phone.png")), np.rot90(BYTES, -1))


def test_sixteen_bit_and_palette_files_are_read(tmp_path):
    levels = (RNG.random((32, 32)) * 65535).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    assert np.abs(load_photograph(tmp_path / "deep.png")[..., 1] - levels / 65535.0).max() < 1e-6
    palette = Image.fromarray(BYTES).quantize(16)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(to_uint8(load_photograph(tmp_path / "palette.png")), np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "see-through.png", transparency=0)
    clear = np.asarray(palette) == 0
    assert np.allclose(load_photograph(tmp_path / "see-through.png")[clear], GREY)


def test_print_colours_are_read(tmp_path):
    Image.fromarray(BYTES).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert load_photograph(tmp_path / "print.jpg").shape == (40, 30, 3)


def test_unreadable_files_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    Image.fromarray(np.tile(BYTES, (8, 8, 1))).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:4000])
    for name, words in {
        "absent.png": "no picture at",
        ".": "no picture at",
        "text.png": "not a picture",
        "empty.jpg": "not a picture",
        "half.png": "damaged",
    }.items():
        with pytest.raises(InputError) as error:
            load_photograph(tmp_path / name)
        assert words in str(error.value), name
        assert "\n" not in str(error.value)


def test_a_file_that_claims_a_monstrous_size_is_refused_before_it_is_unpacked(tmp_path):
    Image.new("1", (30000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"bomb\.png claims more pixels"):
        load_photograph(tmp_path / "bomb.png")


def test_saving_says_what_is_wrong_and_leaves_nothing_behind(tmp_path):
    photograph = as_photograph(BYTES)
    with pytest.raises(InputError, match=r"'\.xyz' is not a picture type"):
        save_image(tmp_path / "x.xyz", photograph)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another folder"):
        save_image(tmp_path / "file" / "x.png", photograph)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
