"""Frames to be measured, one after the other: from video files, animated pictures, folders of pictures and arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import InputError
from ..images import as_photograph, load_photograph

METRIC_FPS = 8.0  #: frames per second at which every metric looks: the release's own rate
ANIMATED = (".webp", ".gif", ".png", ".apng")
_SAME_MOMENT = 1e-3  # seconds: containers round times to milliseconds
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Frame:
    """time: seconds from the clip's start. picture: [H, W, 3] RGB 0..1, read-only."""

    time: float
    picture: FloatArray


def read_frames(path: str | Path, folder_fps: float = METRIC_FPS) -> Iterator[Frame]:
    """The frames of the file or folder at ``path``, in time order, read as they are asked for.

    Video files by PyAV, turned as their rotation mark says; animated .webp, .gif and .png by Pillow with their own
    durations; a single picture is one frame; a folder's pictures in the order of their names (2 before 10),
    ``folder_fps`` per second.
    Raises InputError when it is missing, empty, or no video, and in mid-reading when it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return _folder_frames(path, folder_fps)
    if not path.is_file():
        raise InputError(f"There is no video at {path}; check the folder and the name.")
    if path.suffix.lower() in ANIMATED:
        return _animated_frames(path)
    return iter([Frame(0.0, load_photograph(path))]) if path.suffix.lower() in PICTURES else _video_frames(path)


def array_frames(frames: npt.ArrayLike, fps: float) -> Iterator[Frame]:
    """The frames [F, H, W, 3] (floats 0..1 or bytes) of a clip of ``fps`` frames per second."""
    array = np.asarray(frames)
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        raise InputError(f"A video must be [frames, height, width, 3], but this is {list(array.shape)}.")
    if not fps > 0:
        raise InputError(f"The frame rate must be above 0 frames per second, not {fps:g}.")
    return (Frame(number / fps, as_photograph(picture)) for number, picture in enumerate(array))


def at_rate(frames: Iterable[Frame], fps: float = METRIC_FPS) -> Iterator[Frame]:
    """Of ``frames`` those nearest to 0, 1 / fps, 2 / fps … seconds, each once at most: a slower clip stays as it is."""
    number = 0  # of the moment number / fps that wants a frame next
    before: Frame | None = None
    for frame in frames:
        if before is not None:
            middle = (before.time + frame.time) / 2.0  # up to here ``before`` is the nearer one
            if number / fps <= middle + _SAME_MOMENT:
                yield before
                number = int((middle + _SAME_MOMENT) * fps) + 1
        before = frame
    if before is not None and number / fps <= before.time + _SAME_MOMENT:
        yield before


def _folder_frames(folder: Path, fps: float) -> Iterator[Frame]:
    files = sorted((file for file in folder.iterdir() if file.suffix.lower() in PICTURES), key=_natural_order)
    if not files:
        raise InputError(f"The folder {folder} holds no pictures; give a video, or a folder with .png or .jpg frames.")
    return (Frame(number / fps, load_photograph(file)) for number, file in enumerate(files))


def _natural_order(path: Path) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]


def _animated_frames(path: Path) -> Iterator[Frame]:
    from PIL import Image, ImageSequence

    time = 0.0
    try:
        with Image.open(path) as opened:
            for picture in ImageSequence.Iterator(opened):
                yield Frame(time, as_photograph(picture.convert("RGBA")))
                time += float(picture.info.get("duration") or 1000.0 / METRIC_FPS) / 1000.0
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} is no animated picture that can be read, or it is damaged.") from error


def _video_frames(path: Path) -> Iterator[Frame]:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path.name} holds no pictures, only sound; give a video.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start: float | None = None
            for number, frame in enumerate(container.decode(stream)):
                time = float(frame.time) if frame.time is not None else number / float(stream.average_rate or 8)
                start = time if start is None else start
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(getattr(frame, "rotation", 0) / 90))
                yield Frame(time - start, as_photograph(pixels))
    except av.FFmpegError as error:
        raise InputError(f"{path.name} is no video that can be read, or it is damaged; encode it again.") from error
