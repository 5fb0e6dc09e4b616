"""The mini in one file: all five networks, and everything that is needed to build them.

Keys are ``transformer.``, ``identity_encoder.``, ``vae.`` and ``text_encoder.`` + the module's own names. Weights are
float16; in a packed file the large ones are int8, one float16 scale per row under the same key + ``:scale``. The header
holds the configuration, the VAE's scaling factor, and a note on how the weights came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from ..config import ModelConfig
from ..errors import CheckpointError, InputError
from .architecture import config_from_text, config_to_text
from .writing import beside

if TYPE_CHECKING:
    from ..model import FantasyIDModel

PARTS = ("transformer", "identity_encoder", "vae", "text_encoder")
SCALE = ":scale"  #: behind a packed weight's key
SMALLEST_PACKED = 4096  #: numbers; smaller weights cost nothing and often matter more


def save_mini(
    model: FantasyIDModel, path: Path, note: Mapping[str, Any] | None = None, *, packed: bool = False
) -> None:
    """Write ``model``'s four networks to ``path``, whole or not at all. note: provenance, as JSON.

    packed: half the size; each weight is off by 1/254 of its row's largest at most.
    """
    from safetensors.torch import save_file

    if model.vae is None or model.text is None:
        raise CheckpointError("Only a model with its own VAE and text encoder makes a mini file.")
    tensors: dict[str, torch.Tensor] = {}
    for part, module in modules_of(model).items():
        for name, tensor in module.state_dict().items():
            if name != "encoder.embed_tokens.weight":  # T5 holds its word table twice
                tensors |= _stored(f"{part}.{name}", tensor.detach().cpu(), packed)
    header = {
        "config": config_to_text(model.config),
        "scaling_factor": str(model.vae.config["scaling_factor"]),
        "note": json.dumps(dict(note or {}), ensure_ascii=False),
    }
    with beside(path) as place:
        save_file(tensors, place, header)


def _stored(key: str, weight: torch.Tensor, packed: bool) -> dict[str, torch.Tensor]:
    """What a file holds of ``weight``."""
    if not packed or weight.ndim < 2 or weight.numel() < SMALLEST_PACKED:
        return {key: weight.half().contiguous()}
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(dim=1) / 127).clamp_min(2e-7).half()
    whole = (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return {key: whole.view(weight.shape).contiguous(), key + SCALE: scale}


def read_mini(path: Path) -> tuple[ModelConfig, float, dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """(configuration, the VAE's scaling factor, state dict of every part in float32, note) of a file.

    Raises CheckpointError when the file is damaged or not such a file.
    """
    from safetensors import SafetensorError, safe_open

    states: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            keys = set(file.keys())
            for key in sorted(key for key in keys if not key.endswith(SCALE)):
                part, _, name = key.partition(".")
                weight = file.get_tensor(key).float()
                if key + SCALE in keys:
                    scale = file.get_tensor(key + SCALE).float()
                    weight = (weight.flatten(1) * scale[:, None]).view_as(weight)
                states[part][name] = weight
        config, factor = config_from_text(header["config"]), float(header["scaling_factor"])
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{path.name} is damaged or no mini of FantasyID; copy it again, or install the pack again."
        ) from error
    return config, factor, states, json.loads(header.get("note", "{}"))


def load_mini(path: Path) -> FantasyIDModel:
    """The mini that ``path`` holds, in float32, with weights that may be trained.

    It is built by the file's own configuration, so that variants and minis of older versions load too. Raises
    CheckpointError when the file is damaged, no such file, or its weights are not those of its configuration.
    """
    from ..model import new_mini

    config, factor, states, _ = read_mini(path)
    try:
        model = new_mini(0, config)
        for part, module in modules_of(model).items():
            state = states[part]
            if part == "text_encoder":
                state = state | {"encoder.embed_tokens.weight": state["shared.weight"]}
            module.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError, KeyError, ZeroDivisionError, InputError) as error:
        raise CheckpointError(f"The weights in {path.name} are not those of the mini that its header names.") from error
    cast(Any, model.vae).register_to_config(scaling_factor=factor)
    return replace(model, model_id=model.identity_encoder.model_id)


def is_mini(path: Path) -> bool:
    """Whether ``path`` is a file as :func:`save_mini` writes it, by its header alone."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file() or path.suffix.lower() != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return {"config", "scaling_factor"} <= set(file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def modules_of(model: FantasyIDModel) -> dict[str, torch.nn.Module]:
    """The four networks by part."""
    assert model.vae is not None and model.text is not None
    return {
        "transformer": model.transformer,
        "identity_encoder": model.identity_encoder,
        "vae": cast(torch.nn.Module, model.vae),
        "text_encoder": model.text.encoder,
    }
