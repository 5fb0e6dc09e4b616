"""Pictures in and out: whatever an editor, a script or a file hands over becomes one photograph."""

from __future__ import annotations

import struct
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from .arrays import FloatArray
from .errors import InputError

#: RGB 0..255 of what lies behind transparency and beyond the picture's edge: the release's crop border, a grey that
#: is neither a bright nor a dark halo to a detector or an encoder.
NEUTRAL_GREY = (132, 133, 135)
MIN_SIDE = 16  #: pixels; nothing smaller can hold a face
_LARGEST_FLOAT = 16.0  # highlights may pass 1; a picture that passes this was never divided by 255
_BROKEN_FILE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what PIL raises on damaged files


def as_photograph(image: Any) -> FloatArray:
    """``image`` as one photograph [H, W, 3], float32 RGB 0..1, read-only (so that faces can share it).

    image: NumPy array, torch tensor or PIL image; [H, W], [H, W, 1..4], or a batch of one; uint8, uint16, bool, or
    floats 0..1 (highlights above 1 are clipped). Transparency is laid over NEUTRAL_GREY.
    Raises InputError, in one sentence, for an empty batch, several pictures, NaN, another shape or a side < 16 px.
    """
    levels = _unit_levels(_one_picture(_as_array(image)))  # (H, W, 1..4)
    colour = _over_grey(levels) if levels.shape[2] in (2, 4) else levels
    photograph = np.ascontiguousarray(np.repeat(colour, 3, axis=2) if colour.shape[2] == 1 else colour)  # (H, W, 3)
    photograph.flags.writeable = False
    return photograph


def load_photograph(path: str | Path) -> FloatArray:
    """The picture file at ``path``, upright (EXIF orientation honoured), as [H, W, 3] float32 RGB 0..1.

    Any format PIL reads, 16-bit grey included. Raises InputError when it is missing, no picture, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no picture at {path}; check the folder and the name.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                pixels = _pil_pixels(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path.name} claims more pixels than can be read safely; make a smaller copy of it."
        ) from error
    except _BROKEN_FILE as error:
        raise InputError(
            f"{path.name} is not a picture that can be read, or it is damaged; save it again as PNG or JPEG."
        ) from error
    return as_photograph(pixels)


def save_image(path: str | Path, rgb: FloatArray) -> Path:
    """Write ``rgb`` [H, W, 3] 0..1 to ``path`` (.png, .jpg, .webp …); written beside its place, then renamed.

    Raises InputError for an unknown file type or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"'{path.suffix}' is not a picture type; let the name end in .png, .jpg or .webp.")
    picture = Image.fromarray(to_uint8(rgb))
    picture_format = Image.registered_extensions()[path.suffix.lower()]
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            picture.save(file, format=picture_format)
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        if part is not None:
            part.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror or error}); choose another folder.") from error
    return path


def to_uint8(rgb: FloatArray) -> npt.NDArray[np.uint8]:
    """0..1 floats → 0..255 bytes, rounded; exact for pictures that came from bytes."""
    scaled = np.multiply(rgb, np.float32(255.0), dtype=np.float32)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, 0.0, 255.0, out=scaled).astype(np.uint8)


def _as_array(image: Any) -> npt.NDArray[Any]:
    if isinstance(image, Image.Image):
        return _pil_pixels(image)
    if hasattr(image, "detach"):  # a torch tensor, recognised without importing torch
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image
    array = np.asarray(image)
    if array.dtype != bool and not np.issubdtype(array.dtype, np.number):
        raise InputError("This is not an image: it holds something other than numbers.")
    return array


def _pil_pixels(picture: Image.Image) -> npt.NDArray[Any]:
    """[H, W] or [H, W, 2..4]; 16-bit grey stays 16-bit, palettes and print colours become RGB(A)."""
    if picture.mode.startswith("I"):  # "I;16", "I;16B", and "I" in which older PIL hands out 16-bit grey
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    if picture.mode == "F":
        return np.asarray(picture)
    transparent = picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info
    return np.asarray(picture.convert("RGBA" if transparent else "RGB"))


def _one_picture(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[H, W], [H, W, C], [1, H, W] or [1, H, W, C] → [H, W, C]."""
    if array.ndim in (3, 4) and array.shape[0] == 0:
        raise InputError("The image batch is empty; connect at least one picture.")
    if array.ndim == 4:
        if array.shape[0] > 1:
            raise InputError(f"This is a batch of {array.shape[0]} images, but one photograph is wanted; pick one.")
        array = array[0]
    elif array.ndim == 3 and array.shape[0] == 1 and array.shape[2] > 4:
        array = array[0]  # a mask batch of one
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        shape = "×".join(map(str, array.shape)) or "a single number"
        raise InputError(f"An image must be height × width × 1 to 4 channels, but this one is {shape}.")
    height, width = array.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise InputError(f"The image is only {width}×{height} pixels; both sides need at least {MIN_SIDE}.")
    return array


def _over_grey(levels: FloatArray) -> FloatArray:
    """Grey or colour with an opacity channel behind it → [H, W, 3], laid over NEUTRAL_GREY."""
    colour, opacity = levels[..., :-1], levels[..., -1:]
    grey = np.array(NEUTRAL_GREY, dtype=np.float32) / 255.0
    return (grey + (colour - grey) * opacity).astype(np.float32)


def _unit_levels(array: npt.NDArray[Any]) -> FloatArray:
    """Any accepted number type → float32 0..1, same shape, in memory of its own."""
    if array.dtype in (np.uint8, np.uint16):
        top = np.iinfo(array.dtype).max
        table = np.arange(top + 1, dtype=np.float32) / np.float32(top)  # five times as fast as dividing every pixel
        return table[array]
    if array.dtype == bool:
        return array.astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"An image of {array.dtype} has no known range; give bytes, 16-bit levels or floats 0..1.")
    low, high = float(array.min()), float(array.max())  # NaN anywhere makes both NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("The image holds values that are not numbers (NaN or infinity); mend the node that made it.")
    if high > _LARGEST_FLOAT:
        raise InputError(f"The image's values go up to {high:g}, but floats must lie in 0..1; divide it by 255.")
    if low < 0.0 or high > 1.0:
        return np.clip(array, 0.0, 1.0).astype(np.float32)
    return array.astype(np.float32)
