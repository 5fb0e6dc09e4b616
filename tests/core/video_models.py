"""Models small enough for a test: the real classes, a few thousand weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from fantasyid_core.config import InjectionConfig, ModelConfig, TransformerConfig, VertexNetConfig
from fantasyid_core.video.mini import _seeded
from fantasyid_core.video.sample import Conditions
from fantasyid_core.video.size import rotary_table
from fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel

WIDTH = 24  # of identity tokens


def tiny_config(layers: int = 3, interval: int = 1, learned: bool = False, layer_block: bool = False) -> ModelConfig:
    """4×6 latents × 3 frames, width 32."""
    return ModelConfig(
        identity_width=WIDTH,
        vertex_net=VertexNetConfig(reducer_widths=(8, 8, 16, WIDTH)),
        injection=InjectionConfig(interval=interval, heads=2, head_dim=8, layer_block=layer_block),
        transformer=TransformerConfig(
            heads=2,
            head_dim=16,
            layers=layers,
            latent_channels=4,
            time_embed_dim=16,
            text_embed_dim=12,
            text_length=5,
            sample_height=4,
            sample_width=6,
            sample_frames=9,
            learned_positions=learned,
        ),
    )


def tiny_model(config: ModelConfig, seed: int = 0) -> LayerAdaptiveTransformer3DModel:
    return _seeded(lambda: LayerAdaptiveTransformer3DModel(config), seed)


def with_layer_block(config: ModelConfig) -> ModelConfig:
    return replace(config, injection=replace(config.injection, layer_block=True))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def identity_tokens(batch: int = 1, seed: int = 7) -> torch.Tensor:
    return noise(batch, 6, WIDTH, seed=seed)


def call(model, identity=None, batch=1, frames=3, seed=0, height=4, width=6, dtype=torch.float32, **more):
    """One velocity [B, F, 4, H, W] of pseudo-random latents and text."""
    dit = model.model_config.transformer
    return model(
        hidden_states=noise(batch, frames, 8, height, width, seed=seed).to(dtype),
        encoder_hidden_states=noise(batch, dit.text_length, dit.text_embed_dim, seed=seed + 1).to(dtype),
        timestep=torch.full((batch,), 500),
        image_rotary_emb=rotary_table(model.model_config, frames, height, width),
        return_dict=False,
        identity=identity,
        **more,
    )[0]


def conditions(model, identity: bool = True, dtype: torch.dtype = torch.float32) -> Conditions:
    dit = model.model_config.transformer
    reference = torch.zeros(1, 3, dit.latent_channels, 4, 6)
    reference[:, :1] = noise(1, 1, dit.latent_channels, 4, 6, seed=3)
    return Conditions(
        positive=noise(1, dit.text_length, dit.text_embed_dim, seed=1).to(dtype),
        negative=noise(1, dit.text_length, dit.text_embed_dim, seed=2).to(dtype),
        reference=reference.to(dtype),
        identity=model.prepare_identity(identity_tokens().to(dtype)) if identity else None,
    )
