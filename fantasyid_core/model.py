"""A whole FantasyID model: the identity encoder half, the DiT half, and what stands around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from .config import MINI as MINI_CONFIG
from .config import ModelConfig
from .errors import InputError, MissingFileError

if TYPE_CHECKING:
    from .identity.encoder import IdentityEncoder
    from .video.text import TextEncoder
    from .video.transformer import LayerAdaptiveTransformer3DModel
    from .video.vae import VideoAutoencoder
    from .weights.loading import OpenedCheckpoint

T = TypeVar("T")

MINI = "mini"
MINI_NAMES = (MINI, "mini (untrained)")  #: what it is and was called; saved workflows hold the old name too
MINI_FILE = Path(__file__).parent / "assets" / "mini.safetensors"
MINI_NOTICE = (
    "The built-in mini model makes small videos (64 by 64 pixels) and learned from drawn heads alone: hair, skin, "
    "glasses, turns and most places come through, a likeness in part, and faces smear as they move. For more, load the "
    "public checkpoint."
)
TRAINED_MINI_NOTICE = "{} is a mini, not the public checkpoint: small videos, as good as its training."
PRECISIONS: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, eq=False)
class FantasyIDModel:
    """One loaded model, frozen and in eval mode.

    model_id: ``<family>-<fingerprint of the identity encoder>``; identities carry it. noise_schedule: the checkpoint's
    scheduler_config.json. folders: where files that belong to it are looked for. notice: what the user must know about
    these weights, in plain words, or "". vae and text are None when the checkpoint's folder has none; then others,
    loaded elsewhere, take their place.
    """

    config: ModelConfig
    identity_encoder: IdentityEncoder
    transformer: LayerAdaptiveTransformer3DModel
    vae: VideoAutoencoder | None
    text: TextEncoder | None
    model_id: str
    noise_schedule: Mapping[str, Any]
    folders: tuple[Path, ...] = ()
    notice: str = ""


def load_model(
    source: str | Path,
    *,
    precision: str = "auto",
    models_dirs: Sequence[Path] = (),
    device: torch.device | str = "cpu",
) -> FantasyIDModel:
    """The built-in mini (``MINI`` or "mini"), or the checkpoint folder, converted file or trained mini at ``source``.

    precision: one of PRECISIONS, or "auto" (bfloat16 as released, float32 for a mini). models_dirs: ComfyUI's models
    folders, where the mesh hierarchy is looked for. Raises CheckpointError, MissingFileError or InputError.
    """
    if precision != "auto" and precision not in PRECISIONS:
        raise InputError(f"There is no precision called '{precision}'; choose auto, {', '.join(PRECISIONS)}.")
    from .weights.mini_file import is_mini

    if str(source) in MINI_NAMES:
        return _mini(MINI_FILE, MINI_NOTICE, PRECISIONS.get(precision, torch.float32), device)
    path = Path(source)
    if is_mini(path):
        notice = TRAINED_MINI_NOTICE.format(path.name)
        return _mini(path, notice, PRECISIONS.get(precision, torch.float32), device)
    return _from_checkpoint(path, PRECISIONS.get(precision, torch.bfloat16), models_dirs, device)


def _mini(path: Path, notice: str, dtype: torch.dtype, device: torch.device | str) -> FantasyIDModel:
    from .weights.mini_file import load_mini, modules_of

    model = load_mini(path)
    for module in modules_of(model).values():
        module.requires_grad_(False).eval().to(device)
        if dtype != torch.float32:
            module.to(dtype)
    model.identity_encoder.vertex_spiral_net.keep_float32()
    return replace(model, model_id=model.identity_encoder.model_id, notice=notice)


def new_mini(seed: int, config: ModelConfig = MINI_CONFIG) -> FantasyIDModel:
    """A mini with initial weights that may be trained: a function of ``seed`` and ``config`` alone."""
    from .geometry.head_hierarchy import load_head_hierarchy
    from .identity.encoder import IdentityEncoder
    from .identity.initialise import initialise_
    from .video.mini import mini_text_encoder, mini_transformer, mini_vae
    from .video.schedule import NOISE_SCHEDULE

    encoder = IdentityEncoder(config, load_head_hierarchy())
    initialise_(encoder, seed)
    transformer, vae = mini_transformer(config, seed), mini_vae(seed)
    text = mini_text_encoder(config, seed)
    return FantasyIDModel(config, encoder, transformer, vae, text, encoder.model_id, NOISE_SCHEDULE)


def _from_checkpoint(
    path: Path, dtype: torch.dtype, models_dirs: Sequence[Path], device: torch.device | str
) -> FantasyIDModel:
    """Strict about the two halves; what stands around them may be missing and is then named in the notice."""
    from .geometry.transform_file import find_flame_hierarchy
    from .weights.loading import load_identity_encoder, load_transformer, load_vae, open_checkpoint

    opened = open_checkpoint(path)
    notices: list[str] = []
    folders = [*models_dirs, opened.official_folder]
    hierarchy = _or_notice(lambda: find_flame_hierarchy(folders), notices)
    vae = _or_notice(lambda: load_vae(opened, dtype, device), notices)
    text = _or_notice(lambda: _load_text(opened, dtype, device), notices)
    encoder = load_identity_encoder(opened, hierarchy, dtype=dtype, device=device)
    return FantasyIDModel(
        config=opened.config,
        identity_encoder=encoder,
        transformer=load_transformer(opened, dtype, device),
        vae=vae,
        text=text,
        model_id=encoder.model_id,
        noise_schedule=_noise_schedule(opened.official_folder),
        folders=tuple(folders),
        notice=" ".join(notices),
    )


def _or_notice(load: Callable[[], T], notices: list[str]) -> T | None:
    """What ``load`` gives, or None with its sentence among the notices when a file is not there."""
    try:
        return load()
    except MissingFileError as error:
        notices.append(str(error))
        return None


def _load_text(opened: OpenedCheckpoint, dtype: torch.dtype, device: torch.device | str) -> TextEncoder:
    """T5 and its tokenizer from the checkpoint's folder; never from anywhere else."""
    from .video.text import TextEncoder
    from .weights.catalog import entry, locate_below

    row = entry("text_encoder")
    folder = locate_below(row, opened.official_folder) if opened.index.path.is_dir() else None
    if folder is None or not (folder.parent / "tokenizer").is_dir():
        raise MissingFileError(row.missing_message())
    from transformers import AutoTokenizer, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(folder.parent / "tokenizer", local_files_only=True)
    encoder = T5EncoderModel.from_pretrained(folder, local_files_only=True, dtype=dtype, use_safetensors=True)
    encoder.requires_grad_(False).eval().to(device)
    return TextEncoder(tokenizer, encoder, opened.config.transformer.text_length)


def _noise_schedule(folder: Path) -> Mapping[str, Any]:
    """The checkpoint's own scheduler_config.json, or CogVideoX-5B-I2V's."""
    from .video.schedule import NOISE_SCHEDULE
    from .weights.checkpoint import read_json

    path = folder / "scheduler" / "scheduler_config.json"
    return dict(read_json(path)) if path.is_file() else NOISE_SCHEDULE
