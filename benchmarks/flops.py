"""FLOPs of a model call by formula: what the full size needs, without running it. Multiply + add = 2."""

from __future__ import annotations

from dataclasses import dataclass

from fantasyid_core.config import ModelConfig


@dataclass(frozen=True)
class StepFlops:
    """One call of the DiT, in FLOP.

    linear: the blocks' projections and feed-forwards. attention: the joint attention's two matmuls. identity_linear:
    the identity layers' query and output projections. identity_core: their attention. embedding: patches, text and the
    last projection, which are no part of the published counts of "linear" and "attention".
    """

    linear: int
    attention: int
    identity_linear: int
    identity_core: int
    embedding: int

    @property
    def plain(self) -> int:
        """Without identity."""
        return self.linear + self.attention + self.embedding

    @property
    def identity(self) -> int:
        """What identity adds at every step when keys and values are kept."""
        return self.identity_linear + self.identity_core

    @property
    def total(self) -> int:
        """With identity."""
        return self.plain + self.identity


def step_flops(config: ModelConfig, frames: int, height: int, width: int, batch: int = 1) -> StepFlops:
    """For latents [batch, frames, 2C, height, width] and text of the model's own length."""
    dit, injection = config.transformer, config.injection
    video = frames * (height // dit.patch_size) * (width // dit.patch_size)
    tokens = video + dit.text_length
    identity_layers = -(-dit.layers // injection.interval)
    inner = injection.heads * injection.head_dim
    patch = dit.latent_channels * dit.patch_size**2
    return StepFlops(
        linear=batch * dit.layers * 2 * tokens * 12 * dit.width**2,
        attention=batch * dit.layers * 4 * tokens**2 * dit.width,
        identity_linear=batch * identity_layers * 4 * video * dit.width * inner,
        identity_core=batch * identity_layers * 4 * video * config.identity_tokens * inner,
        embedding=batch * 2 * dit.width * (dit.text_length * dit.text_embed_dim + video * 3 * patch),
    )


def keys_values_flops(config: ModelConfig) -> int:
    """Identity tokens to keys and values, all layers: once per generation here, at every step in the release."""
    injection = config.injection
    layers = -(-config.transformer.layers // injection.interval)
    return layers * 4 * config.identity_tokens * config.identity_width * injection.heads * injection.head_dim


#: The release's identity networks per step (counted by running the cost model; see tests/core/test_benchmarks.py).
RELEASE_NETWORKS_FLOPS = 49e9
