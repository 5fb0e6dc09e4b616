"""The models of the golden numbers: the release's own, at real width with few layers, weights made of their names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ..config import RELEASE, ModelConfig
from ..video.layer_attention import LayerAttention
from ..video.transformer import LayerAdaptiveTransformer3DModel, official_key
from ..weights.golden_rule import fill_module

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

TINY_VAE: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "latent_channels": 16,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_height": 64,
    "sample_width": 96,
    "scaling_factor": 0.7,
}


def golden_config(layers: int = 2, interval: int = 1, learned: bool = False) -> ModelConfig:
    """The release at its real width with few layers; with learned positions at 8×12 latents and 9 frames."""
    dit = replace(RELEASE.transformer, layers=layers, learned_positions=learned)
    if learned:
        dit = replace(dit, sample_height=8, sample_width=12, sample_frames=9)
    return replace(RELEASE, transformer=dit, injection=replace(RELEASE.injection, interval=interval))


def golden_transformer(config: ModelConfig) -> LayerAdaptiveTransformer3DModel:
    """A transformer whose weights are made of their names."""
    with torch.device("meta"):
        model = LayerAdaptiveTransformer3DModel(config)
    model.to_empty(device="cpu")
    fill_module(model, lambda name: official_key(name, config.injection.interval))
    return model.requires_grad_(False)


def golden_vae() -> AutoencoderKLCogVideoX:
    """The tiny VAE of the pipeline's golden numbers."""
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX(**TINY_VAE)
    fill_module(vae, lambda name: "vae." + name)
    return vae.requires_grad_(False)


def golden_layer_attention() -> LayerAttention:
    """The identity layer of the first block at the release's size."""
    attention = LayerAttention(RELEASE)
    fill_module(attention, lambda name: "layer_attention.0." + name)
    return attention.requires_grad_(False)
