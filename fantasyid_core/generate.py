"""The whole way in one function: one photograph and a prompt → a video in which the person stays that person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from .arrays import FloatArray
from .errors import MissingFileError
from .faces.detect import chosen_index, detect_faces, with_mask
from .faces.detectors import make_detector
from .faces.face import Face
from .geometry.adapt import for_model
from .geometry.extractors import make_extractor
from .geometry.geometry import FaceGeometry
from .identity.fuse import fuse_features
from .identity.identity import Identity
from .input_path import InputPath
from .out_of_memory import Ladder
from .progress import ProgressCallback, silent
from .video.levers import EXACT, Levers
from .video.memory_presets import MEMORY_PRESETS
from .video.sample import Conditions, SamplingOptions, sample
from .video.size import SPATIAL_COMPRESSION, check_video_size
from .video.skip_layers import MINI_SCALE, OFF, SkipLayers
from .video.strength import LayerStrength, StrengthBand
from .video.vae import decode_latents, encode_reference
from .video.windows import window_for
from .views.augment import augment_views
from .views.views import FaceViews

if TYPE_CHECKING:
    from .model import FantasyIDModel
    from .video.text import TextEncoder
    from .video.vae import VideoAutoencoder

MINI_REFERENCE_GUIDANCE = 1.0  #: at 2 it obeys the prompt a little less (docs/training.md)

#: Called with the name of a long stage; gives that stage's progress callback.
StageProgress = Callable[[str], ProgressCallback]


def quiet(stage: str) -> ProgressCallback:
    """Report nothing of any stage."""
    return silent


@dataclass(frozen=True)
class GenerateOptions:
    """What a user may choose. None for a size, the number of steps or the guidance means the model's own.

    strength: identity strength, 1 = as trained. identity_guidance: 0 = off, as released (video/sample.py).
    reference_guidance, skip_layers: see there and video/skip_layers.py; None = the model's own.
    detector, extractor, combine: names of the rooms' registries. input_path: see input_path.py. levers: fewer and
    cheaper steps.

    More frames than the model was trained on are made in windows that overlap (video/windows.py).
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    strength: float = 1.0
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    detector: str = "yunet"
    choose: str = "largest"
    extractor: str = "parametric head"
    combine: str = "reference"
    input_path: InputPath = "recommended"
    levers: Levers = EXACT
    identity_guidance: float = 0.0
    reference_guidance: float | None = None
    skip_layers: SkipLayers | None = None


@dataclass(frozen=True, eq=False)
class Identified:
    """What the first four rooms made of a photograph. face: faces[chosen] with its mask."""

    faces: tuple[Face, ...]
    chosen: int
    face: Face
    geometry: FaceGeometry
    views: FaceViews
    identity: Identity


@dataclass(frozen=True, eq=False)
class Generation(Identified):
    """Everything that a generation made, stage by stage. frames: [F, H, W, 3] RGB 0..1."""

    frames: FloatArray


def generate(
    photograph: FloatArray,
    model: FantasyIDModel,
    options: GenerateOptions,
    progress: StageProgress = quiet,
    ladder: Ladder | None = None,
) -> Generation:
    """A photograph [H, W, 3] RGB 0..1 walks through the five rooms and leaves as a video.

    ladder: how it keeps to the memory (video/placement.py), None = every part works where it lies. Raises NoFaceError,
    and InputError for a size or setting that the model cannot make, before any long step, or for a full memory.
    """
    size, ladder = video_size(model, options), ladder or Ladder(MEMORY_PRESETS)
    found = identify(photograph, model, options, progress, ladder)
    return Generation(**vars(found), frames=make_video(model, found.identity, options, size, progress, ladder))


def identify(
    photograph: FloatArray,
    model: FantasyIDModel,
    options: GenerateOptions,
    progress: StageProgress = quiet,
    ladder: Ladder | None = None,
) -> Identified:
    """The first four rooms: a photograph [H, W, 3] RGB 0..1 → an identity that serves any number of videos."""
    ladder = ladder or Ladder(MEMORY_PRESETS)
    faces = detect_faces(photograph, make_detector(options.detector), as_released=options.input_path == "as released")
    chosen = chosen_index(faces, options.choose)
    face = with_mask(faces[chosen])
    geometry = make_extractor(options.extractor, model.folders, options.input_path).extract(face)
    views = augment_views(face, geometry, progress=progress("views"))
    fuse = partial(
        fuse_features,
        views,
        for_model(geometry, model.config.vertex_net.topology, options.input_path, model.folders),
        model.identity_encoder,
        combine=options.combine,
        input_path=options.input_path,
        progress=progress("identity"),
    )
    identity = ladder.run("identity encoder", fuse)
    return Identified(faces, chosen, face, geometry, views, identity)


def make_video(
    model: FantasyIDModel,
    identity: Identity,
    options: GenerateOptions,
    size: tuple[int, int, int],
    progress: StageProgress = quiet,
    ladder: Ladder | None = None,
) -> FloatArray:
    """The last room: an identity and a prompt → frames [F, H, W, 3] RGB 0..1. size: frames, height, width in pixels."""
    vae, text = _require(model)
    ladder = ladder or Ladder(MEMORY_PRESETS)
    positive, negative = ladder.run(
        "text encoder", lambda: (text.encode(options.prompt), text.encode(options.negative_prompt))
    )
    generator = torch.Generator("cpu")

    def encode() -> torch.Tensor:
        generator.manual_seed(options.seed)  # the same noise on every device, and at every try
        return encode_reference(vae, identity.reference, *size, generator, fit=identity.reference_fit)

    reference = ladder.run("VAE", encode)
    context = ladder.run("transformer", lambda: model.transformer.prepare_identity(identity.tokens.to(reference)))
    conditions = Conditions(positive, negative, reference, context)
    sampling = SamplingOptions(
        steps=options.steps or default_steps(model),
        guidance_scale=default_guidance(model) if options.guidance_scale is None else options.guidance_scale,
        identity_guidance=options.identity_guidance,
        reference_guidance=default_reference_guidance(model)
        if options.reference_guidance is None
        else options.reference_guidance,
        skip_layers=default_skip_layers(model) if options.skip_layers is None else options.skip_layers,
        strength=LayerStrength((StrengthBand((options.strength,)),)),
        noise_schedule=model.noise_schedule,
        levers=options.levers,
        window=window_for(model.config, size[0]),
    )
    latents = sample(model.transformer, conditions, sampling, generator, progress("video"), ladder=ladder)
    return decode_latents(vae, latents, progress=progress("decode"), ladder=ladder)


def default_steps(model: FantasyIDModel) -> int:
    """50 as released; the mini shows what it can in fewer."""
    return 20 if model.config.family == "mini" else 50


def default_guidance(model: FantasyIDModel) -> float:
    """6 as released; the mini's colours and features coarsen above 3."""
    return 3.0 if model.config.family == "mini" else 6.0


def default_reference_guidance(model: FantasyIDModel) -> float:
    """Off as released: nothing says that the checkpoint was trained without a reference picture. The mini was."""
    return MINI_REFERENCE_GUIDANCE if model.config.family == "mini" else 0.0


def default_skip_layers(model: FantasyIDModel) -> SkipLayers:
    """Off as released; without it the mini's faces blur and double more in turns (docs/training.md)."""
    return SkipLayers(MINI_SCALE) if model.config.family == "mini" else OFF


def video_size(model: FantasyIDModel, options: GenerateOptions) -> tuple[int, int, int]:
    """Frames, height, width in pixels; the model's own where nothing was asked for."""
    dit = model.config.transformer
    size = (
        options.frames or dit.sample_frames,
        options.height or dit.sample_height * SPATIAL_COMPRESSION,
        options.width or dit.sample_width * SPATIAL_COMPRESSION,
    )
    check_video_size(*size, model.config)
    return size


def _require(model: FantasyIDModel) -> tuple[VideoAutoencoder, TextEncoder]:
    if model.vae is None or model.text is None:
        raise MissingFileError(model.notice)
    return model.vae, model.text
