"""Clips are read as a viewer sees them: every format, upright, at one rate, and a bad file is said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fantasyid_core.errors import InputError
from fantasyid_core.evaluation.clips import Frame, array_frames, at_rate, read_frames
from fantasyid_core.images import save_image
from fantasyid_core.video.files import write_mp4, write_webp


def clip(frames: int = 9) -> np.ndarray:
    """Frame k is grey of brightness k / 10, its top left quarter red."""
    video = np.repeat(np.arange(frames, dtype=np.float32)[:, None, None, None] / 10, 3, axis=-1)
    video = np.array(np.broadcast_to(video, (frames, 48, 64, 3)))
    video[:, :24, :32] = (0.9, 0.1, 0.1)
    return video


def brightness(frames: list[Frame]) -> np.ndarray:
    return np.array([frame.picture[-10:, -10:].mean() for frame in frames])


def write_folder(folder: Path, video: np.ndarray) -> Path:
    for number, picture in enumerate(video):
        save_image(folder / f"frame {number}.png", picture)  # without zeros in front: 10 comes after 9
    (folder / "notes.txt").write_text("no picture")
    return folder


def write_gif(path: Path, video: np.ndarray) -> Path:
    pictures = [Image.fromarray((picture * 255).astype(np.uint8)) for picture in video]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=120)
    return path


@pytest.mark.parametrize("kind", ["mp4", "webp", "gif", "folder"])
def test_every_kind_of_clip_gives_its_frames_in_order_with_their_times(kind, tmp_path):
    video = clip(11 if kind == "folder" else 9)
    if kind == "folder":
        frames = list(read_frames(write_folder(tmp_path / "frames", video), folder_fps=8))
    else:
        write = {"mp4": write_mp4, "webp": write_webp, "gif": lambda path, video, _: write_gif(path, video)}[kind]
        frames = list(read_frames(write(tmp_path / f"clip.{kind}", video, 8), folder_fps=1))
    assert len(frames) == len(video)
    assert np.allclose(brightness(frames), np.arange(len(video)) / 10, atol=0.03)
    assert np.allclose(frames[3].picture[5:15, 5:15].mean(axis=(0, 1)), (0.9, 0.1, 0.1), atol=0.06)
    step = 0.12 if kind == "gif" else 0.125
    assert np.allclose([frame.time for frame in frames], np.arange(len(video)) * step, atol=2e-3)


def test_a_phones_upright_film_is_turned_as_its_mark_says(tmp_path):
    path = write_mp4(tmp_path / "phone.mp4", clip(), 8)
    data = path.read_bytes()
    unit = (1 << 16).to_bytes(4, "big")
    none, back = bytes(4), (-(1 << 16) & 0xFFFFFFFF).to_bytes(4, "big")
    upright, at = unit + none * 3 + unit, data.index(b"tkhd")
    where = data.index(upright, at)
    assert where - at < 100
    turned = none + unit + none + back + none  # (x, y) → (-y, x): a quarter turn clockwise
    path.write_bytes(data[:where] + turned + data[where + len(turned) :])
    picture = next(iter(read_frames(path))).picture
    assert picture.shape == (64, 48, 3)
    assert np.allclose(picture[5:25, 30:40].mean(axis=(0, 1)), (0.9, 0.1, 0.1), atol=0.06)  # now top right


@pytest.mark.parametrize(
    ("fps", "count", "expected"),
    [
        (8, 9, list(range(9))),
        (24, 25, list(range(0, 25, 3))),
        (30, 31, [0, 4, 7, 11, 15, 19, 22, 26, 30]),
        (4, 5, list(range(5))),
        (8, 1, [0]),
    ],
)
def test_every_clip_is_looked_at_eight_times_a_second_and_a_slower_one_stays_as_it_is(fps, count, expected):
    video = np.zeros((count, 16, 16, 3), np.float32)
    kept = list(at_rate(array_frames(video, fps), 8.0))
    times = np.array([frame.time for frame in kept])
    assert len(kept) == len(expected)
    assert np.abs(times * fps - expected).max() <= 1.0  # where two frames are equally near, either will do
    assert np.abs(times - np.arange(len(kept)) / min(fps, 8)).max() <= 0.5 / fps + 1e-6


def test_uneven_times_never_show_one_frame_twice():
    times = [0.0, 0.01, 0.02, 0.5, 0.51, 1.4]
    picture = np.zeros((16, 16, 3), np.float32)
    kept = [frame.time for frame in at_rate((Frame(time, picture) for time in times), 8.0)]
    assert kept == sorted(set(kept))
    assert {0.0, 1.4} <= set(kept)


def test_what_is_no_clip_is_said_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="There is no video at"):
        read_frames(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        read_frames(tmp_path / "empty")
    for name in ("text.mp4", "text.gif", "text.webp"):
        (tmp_path / name).write_bytes(b"this is no video" * 20)
        with pytest.raises(InputError, match=rf"{name} is no .*damaged"):
            list(read_frames(tmp_path / name))
    whole = write_mp4(tmp_path / "whole.mp4", clip(), 8).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 4])
    with pytest.raises(InputError, match=r"cut.mp4 is no .*damaged"):
        list(read_frames(tmp_path / "cut.mp4"))
    with pytest.raises(InputError, match="frames, height, width, 3"):
        array_frames(np.zeros((4, 4)), 8)
