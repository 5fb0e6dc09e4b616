"""From what is wired to the sampler to what the core's sampler takes: sizes, conditions, memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image

from ..fantasyid_core.errors import InputError, MissingFileError
from ..fantasyid_core.identity.identity_file import require_model
from ..fantasyid_core.video.people import People, as_people, people_pixels, prepare_people
from ..fantasyid_core.video.size import SPATIAL_COMPRESSION, check_video_size, latent_shape
from ..fantasyid_core.video.text import fit_conditioning
from ..fantasyid_core.weights.catalog import entry
from .core_video import VideoModel, call_memory
from .memory import on_device, vae_device, video_device
from .preview import latent_preview
from .tiny_decoder import with_tiny_decoder

if TYPE_CHECKING:
    from ..fantasyid_core.identity.identity import Identity
    from ..fantasyid_core.model import FantasyIDModel
    from ..fantasyid_core.video.identity_context import IdentityContext
    from ..fantasyid_core.video.people_context import PeopleContext
    from ..fantasyid_core.video.sample import Conditions
    from ..fantasyid_core.video.vae import VideoAutoencoder

Conditioning = list[tuple[torch.Tensor, dict[str, Any]]]

_UNTILED_BYTES = 12e9 / (480 * 720)  # per pixel of a frame, beyond the weights (published: +12 GB at 480×720)


class VideoSize(NamedTuple):
    """A video in pixels."""

    frames: int
    height: int
    width: int


def asked_size(model: FantasyIDModel, frames: int, height: int, width: int) -> VideoSize:
    """The size that was asked for, 0 standing for the model's own. InputError when the model cannot make it."""
    dit = model.config.transformer
    size = VideoSize(
        frames or dit.sample_frames,
        height or dit.sample_height * SPATIAL_COMPRESSION,
        width or dit.sample_width * SPATIAL_COMPRESSION,
    )
    check_video_size(*size, model.config)
    return size


def conditions_of(
    model: FantasyIDModel,
    positive: Conditioning,
    negative: Conditioning,
    identity: Identity | People | None,
    size: VideoSize,
    generator: torch.Generator,
) -> Conditions:
    """Everything on the transformer's device and in its dtype; ``generator`` makes its first draw here.

    identity: of one person, or of several with a region each.
    """
    from ..fantasyid_core.video.sample import Conditions

    reference = reference_latents(model, identity, size, generator)
    shell = partial(VideoModel, model)
    device = on_device(model.transformer, video_device(), sampling_memory(model, size), shell)
    dtype = model.transformer.dtype
    context = _context(model, identity, size, device)
    length = model.config.transformer.text_length
    texts = (_text("positive", positive, length), _text("negative", negative, length))
    return Conditions(*(text.to(device, dtype) for text in texts), reference.to(device, dtype), context)


def one_of(identity: Identity | None, people: People | None) -> Identity | People | None:
    """What is connected of the two. InputError when both are."""
    if identity is not None and people is not None:
        raise InputError(
            "Both one identity and several people are connected; disconnect one of them, or make the identity one of "
            "the people with Add Person."
        )
    return identity if people is None else people


def require_vae(model: FantasyIDModel) -> VideoAutoencoder:
    """The model's VAE, or the sentence that says where to put one."""
    if model.vae is None:
        raise MissingFileError(entry("vae").missing_message())
    return model.vae


def preview_of(model: FantasyIDModel) -> Callable[[torch.Tensor], list[Image.Image]] | None:
    """What turns half-finished latents into pictures; None for a model without a VAE."""
    if model.vae is None:
        return None
    device = on_device(model.vae, vae_device())
    return with_tiny_decoder(model, latent_preview(model.vae), device)


def sampling_memory(model: FantasyIDModel, size: VideoSize) -> int:
    """Bytes that one guided step needs beside the weights."""
    _, frames, _, height, width = latent_shape(model.config, *size)
    return call_memory(model.config, 2, (frames, height, width), model.transformer.dtype)


def decoding_memory(latent: torch.Tensor) -> int:
    """Bytes that decoding a latent [1, C, F, H, W] needs beside the weights, untiled."""
    return int(_UNTILED_BYTES * latent.shape[3] * latent.shape[4] * SPATIAL_COMPRESSION**2)


def reference_latents(
    model: FantasyIDModel, identity: Identity | People | None, size: VideoSize, generator: torch.Generator
) -> torch.Tensor:
    """Latents of the reference picture at frame 0 [1, F, C, H, W]; zeros without an identity."""
    if identity is None:
        return torch.zeros(latent_shape(model.config, *size))
    from ..fantasyid_core.video.vae import encode_pixels

    people = as_people(identity)
    for each in people.identities:
        require_model(each, model.model_id)
    vae = require_vae(model)
    on_device(vae, vae_device())
    return encode_pixels(vae, people_pixels(people, size.height, size.width), size.frames, generator)


def _context(
    model: FantasyIDModel, identity: Identity | People | None, size: VideoSize, device: torch.device
) -> IdentityContext | PeopleContext | None:
    """Keys and values of every layer, on ``device``, where the transformer must be."""
    dtype = model.transformer.dtype
    if isinstance(identity, People):
        _, frames, _, height, width = latent_shape(model.config, *size)
        return prepare_people(model.transformer, identity, (frames, height, width), device, dtype)
    return None if identity is None else model.transformer.prepare_identity(identity.tokens.to(device, dtype))


def _text(name: str, conditioning: Conditioning, length: int) -> torch.Tensor:
    """The tokens [1, length, D] of a CONDITIONING with one entry."""
    if len(conditioning) != 1 or len(conditioning[0][0]) != 1:
        raise InputError(
            f"The {name} conditioning holds several prompts; this sampler takes one, so encode them as one text."
        )
    return fit_conditioning(conditioning[0][0], length)
