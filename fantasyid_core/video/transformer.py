"""The layer-adaptive DiT: diffusers' CogVideoX with identity attention inside its blocks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import prod
from typing import Any

import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock, CogVideoXTransformer3DModel
from torch import nn

from ..config import ModelConfig, TransformerConfig
from ..errors import InputError
from .attention import CogVideoXAttention, fuse_projections, unfuse_projections
from .feed_forward import SlicedFeedForward
from .identity_context import IdentityContext
from .layer_attention import LayerAttention, LayerBlock, LayerIdentity
from .parallel import context_parallel_plan
from .people_context import PeopleContext
from .size import SPATIAL_COMPRESSION
from .step_cache import ThroughBlocks

NORM_EPS = 1e-5


class LayerAdaptiveBlock(CogVideoXBlock):
    """A CogVideoX block whose video tokens then take what they need of the identity, with weights of its own.

    The identity attention lives inside the block, so that whatever works block by block (step caches, regional
    compilation, offloading, checkpointing) sees one unit. Every ``interval``-th block has one; the others are plain.
    """

    layer_attention: LayerAttention | None
    layer_block: LayerBlock | None

    def __init__(self, config: ModelConfig, layer: int) -> None:
        dit = config.transformer
        super().__init__(
            dim=dit.width,
            num_attention_heads=dit.heads,
            attention_head_dim=dit.head_dim,
            time_embed_dim=dit.time_embed_dim,
            attention_bias=True,
            norm_eps=NORM_EPS,
        )
        self.attn1.set_processor(CogVideoXAttention())  # type: ignore[arg-type] # not in diffusers' union
        self.ff.__class__ = SlicedFeedForward  # not built anew: filling 75 million weights takes its time
        attends = layer % config.injection.interval == 0
        self.layer_attention = LayerAttention(config) if attends else None
        self.layer_block = LayerBlock(dit.width) if attends and config.injection.layer_block else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        temb: torch.Tensor,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        identity: tuple[LayerIdentity, ...] = (),
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Video [B, N, C], text [B, L, C], time [B, T], rotary cos and sin [N, D] → video [B, N, C], text [B, L, C].

        identity: one entry per person; each adds what strength and region let through, all on the block's own output.
        """
        video, text = super().forward(hidden_states, encoder_hidden_states, temb, image_rotary_emb, attention_kwargs)
        if identity and self.layer_attention is not None:
            video = sum((self._from_identity(video, person) for person in identity), start=video)
        return video, text

    def _from_identity(self, video: torch.Tensor, identity: LayerIdentity) -> torch.Tensor:
        assert self.layer_attention is not None
        taken = self.layer_attention(video, identity.key, identity.value)  # (B, N, C)
        if self.layer_block is not None:
            taken = self.layer_block(taken, identity.grid)
        if identity.strength is not None:
            taken = taken * identity.strength
        if identity.region is not None:
            taken = taken * identity.region.to(taken.dtype)
        return taken


TransformerBlockRegistry.register(
    LayerAdaptiveBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1),
)


class LayerAdaptiveTransformer3DModel(CogVideoXTransformer3DModel):
    """CogVideoX's DiT with the layer-aware injection; release, paper and mini by configuration.

    State-dict names are diffusers' own plus ``transformer_blocks.{i}.layer_attention.*`` (and ``layer_block.*``);
    :func:`official_key` gives the public checkpoint's names. Without an identity it is plain CogVideoX.
    """

    _no_split_modules = ["LayerAdaptiveBlock", "CogVideoXPatchEmbed"]  # noqa: RUF012 (diffusers reads a class attribute)
    _repeated_blocks = ["LayerAdaptiveBlock"]  # noqa: RUF012 (the same)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(**_cogvideox_arguments(config.transformer), num_layers=0)
        self.model_config = config
        layers = config.transformer.layers
        self.transformer_blocks = nn.ModuleList(LayerAdaptiveBlock(config, layer) for layer in range(layers))
        self.own_tokens = nn.Identity()  # all tokens [B, N, …]; context parallelism leaves this process's share of them
        self.register_to_config(num_layers=layers)

    def prepare_identity(self, tokens: torch.Tensor) -> IdentityContext:
        """Identity tokens [T, I] or [1 or B, T, I] → every layer's keys and values, on the tokens' device.

        They are computed where the weights lie, so that this also works on an offloaded model. Raises InputError
        when the tokens have another width than the model reads.
        """
        width = self.model_config.identity_width
        if tokens.ndim not in (2, 3) or tokens.shape[-1] != width:
            raise InputError(
                f"This model reads identity tokens of width {width}, but these are {list(tokens.shape)}; "
                "make the identity with this model's own encoder."
            )
        batched = tokens if tokens.ndim == 3 else tokens[None]  # (1 or B, T, I)
        return IdentityContext(tuple(_keys_values(attention, batched) for attention in self.layer_attentions()))

    def layer_attentions(self) -> list[LayerAttention]:
        """The identity layers in order; the k-th stands behind block k × interval."""
        blocks = [self.transformer_blocks[i] for i in range(0, len(self.transformer_blocks), self._interval)]
        return [block.layer_attention for block in blocks]  # type: ignore[misc] # every interval-th block has one

    def fuse_qkv_projections(self) -> None:
        """diffusers' name for :func:`fuse_projections`, whose attention backend still switches."""
        fuse_projections(self)

    def unfuse_qkv_projections(self) -> None:
        """See :func:`unfuse_projections`."""
        unfuse_projections(self)

    @property
    def _cp_plan(self) -> dict[str, Any]:  # type: ignore[override] # diffusers reads an attribute
        return context_parallel_plan(self.model_config)

    @property
    def _interval(self) -> int:
        return self.model_config.injection.interval

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
        ofs: None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
        identity: IdentityContext | PeopleContext | None = None,
        check: Callable[[], None] | None = None,
        cache: ThroughBlocks | None = None,
        skip_attention: Collection[int] = (),
    ) -> tuple[torch.Tensor] | Transformer2DModelOutput:
        """Predict the velocity of noisy latents. The order of arguments is diffusers'; four are new.

        hidden_states: [B, F, 2C, H, W], noisy latents then reference latents by channel, the reference at frame 0.
        encoder_hidden_states: [B, L, D] text. timestep: [B]. image_rotary_emb: cos and sin [F·H·W/4, head_dim].
        identity: None switches it off. check: called before every block that is run; it cancels the step by raising.
        cache: how video and text come through the blocks (step_cache.py: what they added in an earlier step may stand
            in for them); None runs them all.
        skip_attention: the blocks whose joint attention adds nothing (skip_layers.py).
        Returns [B, F, C, H, W]. Raises InputError for a size that the learned positions do not have.
        """
        _, frames, _, height, width = hidden_states.shape
        self._check_learned_positions(encoder_hidden_states.shape[1], height, width)
        patch = self.model_config.transformer.patch_size
        grid = (frames, height // patch, width // patch)
        if self.model_config.transformer.reference_everywhere:
            hidden_states = _reference_everywhere(hidden_states)
        temb = self.time_embedding(self.time_proj(timestep).to(hidden_states.dtype), timestep_cond)  # (B, T)
        joint = self.embedding_dropout(self.patch_embed(encoder_hidden_states, hidden_states))  # (B, L+N, C)
        text, video = map(self.own_tokens, joint.split([encoder_hidden_states.shape[1], prod(grid)], dim=1))
        del joint  # or the first block's input would be held until the last
        if image_rotary_emb is not None:
            cos, sin = (self.own_tokens(x[None])[0] for x in image_rotary_emb)
            image_rotary_emb = cos, sin

        def run(i: int, video: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if check is not None:
                check()
            layer, block = self._layer_identity(identity, i, grid), self.transformer_blocks[i]
            options = {**(attention_kwargs or {}), "skip": True} if i in skip_attention else attention_kwargs
            return self._run_block(block, video, text, temb, image_rotary_emb, options, layer)

        if cache is not None:
            video = cache.through(run, len(self.transformer_blocks), video, text)
        else:
            for i in range(len(self.transformer_blocks)):
                video, text = run(i, video, text)
        video = self.norm_out(self.norm_final(video), temb=temb)  # text rows are done with
        out = _unpatchify(self.proj_out(video), grid, patch)  # (B, F, C, H, W)
        return Transformer2DModelOutput(sample=out) if return_dict else (out,)

    def _run_block(self, block: nn.Module, video: torch.Tensor, text: torch.Tensor, *rest: Any) -> tuple[Any, Any]:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, video, text, *rest)  # type: ignore[misc]
        temb, rotary, attention_kwargs, identity = rest
        return block(
            hidden_states=video,
            encoder_hidden_states=text,
            temb=temb,
            image_rotary_emb=rotary,
            attention_kwargs=attention_kwargs,
            identity=identity,
        )

    def _layer_identity(
        self, identity: IdentityContext | PeopleContext | None, block: int, grid: tuple[int, int, int]
    ) -> tuple[LayerIdentity, ...]:
        if identity is None or block % self._interval:
            return ()
        people = identity.layer(block // self._interval, grid)
        return tuple(x if x.region is None else x._replace(region=self.own_tokens(x.region)) for x in people)

    def _check_learned_positions(self, text_length: int, height: int, width: int) -> None:
        dit = self.model_config.transformer
        if not dit.learned_positions:
            return
        if (height, width) != (dit.sample_height, dit.sample_width):
            raise InputError(
                f"This checkpoint has learned positions for {dit.sample_width * SPATIAL_COMPRESSION}×"
                f"{dit.sample_height * SPATIAL_COMPRESSION} pixels and makes no other size; set that width and height."
            )
        if text_length != dit.text_length:
            raise InputError(
                f"This checkpoint has learned positions for {dit.text_length} text tokens, but the text has "
                f"{text_length}; encode the prompt with FantasyID's own text node."
            )


def official_key(our_key: str, interval: int = 1) -> str:
    """The public checkpoint's name of our state-dict name ``our_key``.

    ``transformer_blocks.{i}.layer_attention.*`` ↔ ``layer_attention.{i // interval}.*`` (``layer_block`` alike, which
    the public checkpoint lacks); all other names are the same.
    """
    parts = our_key.split(".")
    if len(parts) > 3 and parts[0] == "transformer_blocks" and parts[2] in ("layer_attention", "layer_block"):
        return ".".join([parts[2], str(int(parts[1]) // interval), *parts[3:]])
    return our_key


def _reference_everywhere(hidden_states: torch.Tensor) -> torch.Tensor:
    """[B, F, 2C, H, W] with the reference of frame 0 at every frame."""
    noisy, reference = hidden_states.chunk(2, dim=2)
    return torch.cat([noisy, reference[:, :1].expand_as(noisy)], dim=2)


def _cogvideox_arguments(dit: TransformerConfig) -> dict[str, Any]:
    return {
        "num_attention_heads": dit.heads,
        "attention_head_dim": dit.head_dim,
        "in_channels": 2 * dit.latent_channels,
        "out_channels": dit.latent_channels,
        "time_embed_dim": dit.time_embed_dim,
        "text_embed_dim": dit.text_embed_dim,
        "sample_width": dit.sample_width,
        "sample_height": dit.sample_height,
        "sample_frames": dit.sample_frames,
        "patch_size": dit.patch_size,
        "temporal_compression_ratio": dit.temporal_compression,
        "max_text_seq_length": dit.text_length,
        "norm_eps": NORM_EPS,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": dit.learned_positions,
    }


def _keys_values(attention: LayerAttention, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    key, value = attention.keys_values(tokens.to(attention.to_kv.weight.device))
    return key.to(tokens.device), value.to(tokens.device)


def _unpatchify(x: torch.Tensor, grid: tuple[int, int, int], patch: int) -> torch.Tensor:
    """[B, F·H·W, C·p·p] on the patch grid (F, H, W) → [B, F, C, H·p, W·p]."""
    frames, rows, columns = grid
    x = x.reshape(len(x), frames, rows, columns, -1, patch, patch)  # (B, F, H, W, C, p, p)
    return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
