"""The step preview by the public tiny decoder for CogVideoX's latents (TAECVX), where its file is in models/vae_approx.

It decodes frame by frame, so it holds a few frames at a time. The network is the core's own (TAEHV); a
core that has none, or a file that is damaged, leaves the linear preview of ``preview.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import folder_paths
import torch
from PIL import Image

from ..fantasyid_core.errors import FantasyIDError
from ..fantasyid_core.out_of_memory import is_out_of_memory
from ..fantasyid_core.weights.assign import assign_weights, official_shapes, uniform
from ..fantasyid_core.weights.catalog import entry, locate
from ..fantasyid_core.weights.checkpoint import check_keys, read_checkpoint
from ..fantasyid_core.weights.streaming import TensorReader
from .folders import models_directories

if TYPE_CHECKING:
    from ..fantasyid_core.model import FantasyIDModel

Pictures = Callable[[torch.Tensor], list[Image.Image]]

CHANNELS = 16  #: of CogVideoX's latents
_EVERY = 4  # frames of the video per picture: one per latent frame, as the linear preview shows


def tiny_decoder_file() -> Path | None:
    """Where the decoder's file lies, None when the user has none."""
    own = [Path(path) for path in folder_paths.get_folder_paths("vae_approx")]
    return locate(entry("tiny_decoder"), [*models_directories(), *own])


def with_tiny_decoder(model: FantasyIDModel, linear: Pictures, device: torch.device) -> Pictures:
    """``linear``, or better pictures where this model, ``device`` and the installed files allow them.

    Not on a CPU, which would be busy with them for longer than with a linear picture.
    """
    file = tiny_decoder_file()
    if file is None or management.is_device_cpu(device) or model.config.transformer.latent_channels != CHANNELS:
        return linear
    try:
        decoder = load_tiny_decoder(file, device, torch.float16)
    except (FantasyIDError, ImportError, AttributeError, TypeError, RuntimeError, MemoryError) as error:
        logging.warning("FantasyID shows a rough preview, because the tiny decoder could not be loaded: %s", error)
        return linear
    return _Guarded(pictures_of(decoder), linear)


def load_tiny_decoder(file: Path, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The core's TAEHV with the weights of ``file``. CheckpointError when they are not those of a CogVideoX one.

    By hand to the device, as the core does with its own previewers: 20 MB that the manager need not count.
    """
    from comfy.taesd.taehv import TAEHV

    module: torch.nn.Module = TAEHV(latent_channels=CHANNELS, latent_format=None, show_progress_bar=False)
    index = read_checkpoint(file)
    check_keys(index, official_shapes(module, str), {})
    with TensorReader() as reader:
        assign_weights(module, index, str, uniform(dtype), reader, device)
    return module


def pictures_of(decoder: torch.nn.Module) -> Pictures:
    """A function from latents [1, F, C, H, W] to F pictures of 8·W × 8·H."""
    weight = next(decoder.parameters())

    @torch.no_grad()
    def pictures(latents: torch.Tensor) -> list[Image.Image]:
        tiny: Any = decoder
        video = tiny.decode(latents.movedim(2, 1).to(weight))[0, :, ::_EVERY]  # (3, F, 8H, 8W), 0..1
        frames = (video.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
        return [Image.fromarray(frame) for frame in frames]

    return pictures


class _Guarded:
    """The better pictures until they once run out of memory, then the rough ones: a preview must never end a video."""

    def __init__(self, better: Pictures, rough: Pictures) -> None:
        self._better: Pictures | None = better
        self._rough = rough

    def __call__(self, latents: torch.Tensor) -> list[Image.Image]:
        if self._better is not None:
            try:
                return self._better(latents)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._better = None  # and its weights with it
        return self._rough(latents)
