"""Video files: h264 .mp4 and animated .webp, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import InputError

H264_QUALITY = "18"  #: x264's constant rate factor; 18 looks lossless
#: without x264's macroblock tree, which reads memory that nobody wrote: the same frames became now this file, now that
H264_OPTIONS = {"crf": H264_QUALITY, "x264-params": "mbtree=0"}
BT709 = 1  #: the number of that colour standard in every video container


def write_mp4(path: str | Path, frames: FloatArray, fps: float) -> Path:
    """Write frames [F, H, W, 3] RGB 0..1 as h264, yuv420p, BT.709, playable everywhere while it still downloads.

    An odd side gets its last row or column twice, which h264 needs. Raises InputError for frames of another shape, a
    frame rate that is none, or a folder that cannot be written.
    """
    levels, rate = _levels(frames), _frame_rate(fps)
    levels = np.pad(levels, ((0, 0), (0, levels.shape[1] % 2), (0, levels.shape[2] % 2), (0, 0)), mode="edge")
    with _written_whole(Path(path), ".mp4") as part:
        _encode_h264(part, levels, rate)
    return Path(path)


def write_webp(path: str | Path, frames: FloatArray, fps: float) -> Path:
    """Write frames [F, H, W, 3] RGB 0..1 as an animated .webp that repeats forever. Errors as :func:`write_mp4`."""
    from PIL import Image

    levels, rate = _levels(frames), _frame_rate(fps)
    pictures = [Image.fromarray(level) for level in levels]
    edges = [round(1000 * k / rate) for k in range(len(pictures) + 1)]  # ms; rounding never adds up
    durations = [stop - start for start, stop in pairwise(edges)]
    with _written_whole(Path(path), ".webp") as part:
        pictures[0].save(
            part, "WEBP", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=85, method=4
        )
    return Path(path)


def _encode_h264(path: Path, levels: npt.NDArray[np.uint8], rate: Fraction) -> None:
    import av
    from av.video.reformatter import Colorspace

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=H264_OPTIONS)
        stream.height, stream.width = levels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # "limited", what players expect
        for level in levels:
            frame = av.VideoFrame.from_ndarray(level, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode())


def _levels(frames: FloatArray) -> npt.NDArray[np.uint8]:
    """[F, H, W, 3] RGB 0..1 → the same as 0..255."""
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise InputError(f"A video must be [frames, height, width, 3], but this is {list(frames.shape)}.")
    return (np.clip(np.nan_to_num(frames), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _frame_rate(fps: float) -> Fraction:
    if not 0.1 <= fps <= 240:
        raise InputError(f"The frame rate must lie between 0.1 and 240 frames per second, not {fps}.")
    return Fraction(fps).limit_denominator(1001)  # 23.976 = 24000/1001 and the like


@contextmanager
def _written_whole(path: Path, suffix: str) -> Iterator[Path]:
    """A file beside ``path`` to write into; it takes the place of ``path`` when all went well, else it is removed."""
    part = path.with_name(f".{path.stem[:40]}-{os.getpid()}.part{suffix}")
    try:
        part.touch()
    except OSError as error:
        raise InputError(
            f"The folder {path.parent} cannot be written ({error.strerror}); choose another output folder."
        ) from error
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(
            f"{path.name} could not be written to {path.parent} ({error.strerror or error}); "
            "make room there or choose another output folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)
