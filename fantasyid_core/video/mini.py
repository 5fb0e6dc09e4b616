"""The mini's video half: the same classes as the release's, at a size that a CPU runs in seconds.

Initial weights are a function of the seed alone, so that an untrained mini is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from ..config import ModelConfig
from .patch_vae import PatchAutoencoder
from .text import END, PAD, TextEncoder, WordHashTokenizer
from .transformer import LayerAdaptiveTransformer3DModel

MINI_VAE: dict[str, Any] = {"latent_channels": 32}  #: see video/patch_vae.py
WORD_BUCKETS = 4094  #: with padding and end, a vocabulary of 4096

_Module = TypeVar("_Module", bound=nn.Module)


def mini_transformer(config: ModelConfig, seed: int = 0) -> LayerAdaptiveTransformer3DModel:
    """The mini's DiT with initial weights, in eval mode."""
    return _seeded(lambda: LayerAdaptiveTransformer3DModel(config), seed)


def mini_vae(seed: int = 0) -> PatchAutoencoder:
    """The mini's VAE with initial weights, in eval mode."""
    return _seeded(lambda: PatchAutoencoder(**MINI_VAE), seed)


def mini_text_encoder(config: ModelConfig, seed: int = 0) -> TextEncoder:
    """The mini's T5 (two layers) behind hashed words, with initial weights, in eval mode."""
    from transformers import T5Config, T5EncoderModel

    tokenizer = WordHashTokenizer(WORD_BUCKETS)
    width = config.transformer.text_embed_dim
    t5 = T5Config(
        vocab_size=tokenizer.vocabulary,
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=END,
    )
    return TextEncoder(tokenizer, _seeded(lambda: T5EncoderModel(t5), seed), config.transformer.text_length)


def _seeded(build: Callable[[], _Module], seed: int) -> _Module:
    """What ``build`` makes when the random numbers start at ``seed``; the caller's own random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()
