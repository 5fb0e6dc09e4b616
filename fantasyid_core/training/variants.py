"""The paper's ablations as variants of the mini that fork from one text-to-video model and train at one budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..config import MINI, ModelConfig
from ..errors import CheckpointError
from ..model import FantasyIDModel, new_mini
from ..weights.mini_file import modules_of, read_mini
from .video_objective import VideoOptions

INJECTION = (".layer_attention.", ".layer_block.")  #: in the names of a transformer's weights that carry the identity


@dataclass(frozen=True)
class Variant:
    """title: a row's name. paper: what the paper has for it (FID, RS, IFS, FM). config, options: what differs."""

    title: str
    paper: tuple[float, float, float, float]
    config: ModelConfig = MINI
    options: VideoOptions = field(default_factory=VideoOptions)


VARIANTS: Mapping[str, Variant] = {
    "full": Variant("the whole method", (142.50, 0.57, 0.95, 0.61)),
    "q-former": Variant(
        "Q-Former instead of the face abstractor",
        (145.82, 0.55, 0.93, 0.49),
        config=replace(MINI, face_abstractor=replace(MINI.face_abstractor, kind="q-former")),
    ),
    "no-multi-view": Variant(
        "without the multi-view collection", (130.77, 0.54, 0.98, 0.33), options=VideoOptions(multi_view=False)
    ),
    "no-vertices": Variant("without vertices", (172.51, 0.42, 0.90, 0.36), options=VideoOptions(branches="2D only")),
    "no-layer-block": Variant(
        "without F_l",
        (235.46, 0.33, 0.93, 0.22),
        config=replace(MINI, injection=replace(MINI.injection, layer_block=False)),
    ),
}


def fork(text: Path, config: ModelConfig, seed: int) -> FantasyIDModel:
    """A model of ``config`` whose text-to-video half is that of the mini file ``text``; what knows the identity starts
    at ``seed``. Raises CheckpointError when the halves do not fit."""
    model = new_mini(seed, config)
    _, factor, states, _ = read_mini(text)
    kept = {key: value for key, value in states["transformer"].items() if not any(part in key for part in INJECTION)}
    own = {key: value for key, value in model.transformer.state_dict().items() if any(p in key for p in INJECTION)}
    words = states["text_encoder"] | {"encoder.embed_tokens.weight": states["text_encoder"]["shared.weight"]}
    modules = modules_of(model)
    try:
        modules["transformer"].load_state_dict(kept | own, strict=True)
        modules["vae"].load_state_dict(states["vae"], strict=True)
        modules["text_encoder"].load_state_dict(words, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{text.name} is a text-to-video mini of another size.") from error
    model.vae.register_to_config(scaling_factor=factor)  # type: ignore[union-attr]
    return model
