"""Go on with the weights of an older mini in the configuration of a new one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..config import MINI
from ..errors import InputError

if TYPE_CHECKING:
    from ..model import FantasyIDModel
    from ..video.vae import VideoAutoencoder

State = dict[str, torch.Tensor]


def renewed(old: FantasyIDModel, vae: VideoAutoencoder | None, seed: int = 0) -> FantasyIDModel:
    """A mini of today's configuration around ``vae`` (None: the old one's) with the weights of ``old``.

    What is no weight changes (the scale of depths, the size of patches, the frames that see the reference); the model
    has to get used to it, which takes some hundred steps instead of all of them. Raises InputError when the weights
    have other sizes than today's.
    """
    from ..model import new_mini

    model = new_mini(seed)
    assert old.text is not None and model.text is not None
    try:
        model.identity_encoder.load_state_dict(old.identity_encoder.state_dict())
        model.text.encoder.load_state_dict(old.text.encoder.state_dict())
        model.transformer.load_state_dict(_with_patches(old, MINI.transformer.patch_size))
    except RuntimeError as error:
        raise InputError(
            "The mini to go on from has weights of other sizes than a new one; train on without --renew."
        ) from error
    return replace(model, vae=old.vae if vae is None else vae, model_id=model.identity_encoder.model_id)


def _with_patches(old: FantasyIDModel, side: int) -> State:
    """The transformer's weights for patches of ``side`` latent values: what it knows of a patch's corner.

    A token then holds what the old one held of its first ``side`` × ``side`` values, at the same places of the hidden
    state, so that the blocks between find it where they look for it.
    """
    state, before = old.transformer.state_dict(), old.config.transformer.patch_size
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :, :side, :side]
    channels = old.config.transformer.latent_channels
    for name in ("proj_out.weight", "proj_out.bias"):
        rows = state[name].unflatten(0, (channels, before, before))[:, :side, :side]  # (C, side, side, …)
        state[name] = rows.flatten(0, 2)
    return state
