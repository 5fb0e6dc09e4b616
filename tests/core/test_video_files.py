"""Video files: they play, they keep colour, size and time, and nothing half-written is left behind."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from fantasyid_core.errors import InputError
from fantasyid_core.training.clips import ClipOptions, make_clip
from fantasyid_core.video.files import write_mp4, write_webp


def clip(frames: int = 9, height: int = 64, width: int = 96) -> np.ndarray:
    """Saturated quarters and a bar that moves one step per frame."""
    video = np.zeros((frames, height, width, 3), np.float32)
    video[:, : height // 2, : width // 2] = (0.9, 0.1, 0.1)
    video[:, : height // 2, width // 2 :] = (0.1, 0.8, 0.2)
    video[:, height // 2 :, : width // 2] = (0.1, 0.2, 0.9)
    video[:, height // 2 :, width // 2 :] = (0.8, 0.8, 0.8)
    for k in range(frames):
        video[k, :, 8 * k : 8 * k + 8] = 0.5
    return video


def test_an_mp4_plays_everywhere_and_keeps_frames_size_rate_and_colour(tmp_path):
    video = clip()
    path = write_mp4(tmp_path / "clip.mp4", video, 8)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(8)
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]) / 255
    assert decoded.shape == video.shape
    for y, x in ((16, 88), (48, 88), (16, 20), (48, 20)):  # away from edges, which 4:2:0 blurs
        np.testing.assert_allclose(decoded[-1, y, x], video[-1, y, x], atol=0.03)


def test_the_player_is_told_the_colour_standard_and_can_start_before_the_end(tmp_path):
    path = write_mp4(tmp_path / "clip.mp4", clip(), 8)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.colorspace == 1
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_the_same_frames_are_the_same_file_whatever_lies_in_memory(tmp_path):
    random = np.random.default_rng(0)
    shown = make_clip(ClipOptions(seed=3, size=64, frames=17, references=0), 1).frames.astype(np.float32) / 255
    files = set()
    for _ in range(12):
        used = [
            random.integers(0, 255, size, dtype=np.uint8) for size in random.choice([4096, 6144, 12288, 100000], 300)
        ]
        del used[::2]  # what the encoder is given next is full of old numbers
        files.add(write_mp4(tmp_path / "clip.mp4", shown, 8).read_bytes())
    assert len(files) == 1


def test_odd_sides_get_one_more_row_or_column(tmp_path):
    path = write_mp4(tmp_path / "clip.mp4", clip(height=63, width=95), 8)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.height, context.width) == (64, 96)


@pytest.mark.parametrize("fps", [8, 24, 23.976])
def test_a_webp_repeats_and_keeps_frames_and_time(tmp_path, fps):
    path = write_webp(tmp_path / "clip.webp", clip(), fps)
    with Image.open(path) as picture:
        assert (picture.n_frames, picture.size, picture.info["loop"]) == (9, (96, 64), 0)
        lasting = 0
        for index in range(picture.n_frames):
            picture.seek(index)
            picture.load()
            lasting += picture.info["duration"]
    assert lasting == round(9 * 1000 / fps)


@pytest.mark.parametrize("write", [write_mp4, write_webp])
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, write):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(InputError, match="choose another output folder") as caught:
            write(folder / "clip.mp4", clip(), 8)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [write_mp4, write_webp])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, write, monkeypatch):
    path = tmp_path / "clip.bin"
    path.write_bytes(b"the old one")

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write(path, clip(), 8)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_video_is_refused(tmp_path):
    for wrong in (np.zeros((0, 8, 8, 3)), np.zeros((8, 8, 3)), np.zeros((2, 8, 8, 4))):
        with pytest.raises(InputError, match=r"\[frames, height, width, 3\]"):
            write_mp4(tmp_path / "clip.mp4", wrong, 8)
    with pytest.raises(InputError, match="frame rate"):
        write_webp(tmp_path / "clip.webp", clip(), 0)
    assert not list(tmp_path.iterdir())
