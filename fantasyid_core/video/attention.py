"""CogVideoX's joint attention on diffusers' dispatcher, so that choosing an attention backend has an effect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb
from torch import nn

from .attention_choice import ATTENTIONS, require_attention
from .parallel import check_attention_shareable
from .slices import row_slices

SEPARATE = ("to_q", "to_k", "to_v")


class CogVideoXAttention:
    """The processor of CogVideoX's ``attn1``: text rows first, rotary positions on the video rows only.

    diffusers' own one has no ``_attention_backend``, which makes ``set_attention_backend`` pass over it silently.
    """

    _attention_backend: Any = None
    _parallel_config: Any = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        skip: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Video [B, N, C], text [B, L, C], rotary cos and sin [N, D] → attended video [B, N, C] and text [B, L, C].

        skip: nothing of either, zeros of their shapes (skip_layers.py).
        """
        if skip:
            return torch.zeros_like(hidden_states), torch.zeros_like(encoder_hidden_states)
        text_length, video_length = encoder_hidden_states.shape[1], hidden_states.shape[1]
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)  # (B, L+N, C)
        query, key, value = _query_key_value(attn, joint)  # (B, L+N, heads, D) each
        del joint  # a quarter of what is held during the attention
        if image_rotary_emb is not None:
            for x in (query, key):
                _rotate_(x[:, text_length:], image_rotary_emb)
        options = {"attn_mask": attention_mask, "backend": self._attention_backend}
        if self._parallel_config is None:  # older diffusers have no such argument
            attended = dispatch_attention_fn(query, key, value, **options)  # (B, L+N, heads, D)
        else:
            attended = _shared_attention(query, key, value, **options, parallel_config=self._parallel_config)
        del query, key, value  # or the projection would hold most
        out = attn.to_out[1](attn.to_out[0](attended.flatten(2)))  # (B, L+N, C)
        text, video = out.split([text_length, video_length], dim=1)
        return video, text


#: What processes tell each other cannot be compiled; the rest of the block can.
_shared_attention = torch.compiler.disable(dispatch_attention_fn)


@torch.no_grad()
def fuse_projections(model: nn.Module) -> None:
    """One matmul for query, key and value in every block of ``model``, in place; repeating it changes nothing.

    diffusers' own fusing keeps the separate weights beside the fused ones and puts a processor in place that does not
    switch backends; this one does neither. The state dict has ``to_qkv`` instead of three names until
    :func:`unfuse_projections`, so load and patch weights before.
    """
    for attn in _joint_attentions(model):
        if not attn.fused_projections:
            attn.to_qkv = _joined([getattr(attn, name) for name in SEPARATE])
            for name in SEPARATE:
                delattr(attn, name)
            attn.fused_projections = True


@torch.no_grad()
def unfuse_projections(model: nn.Module) -> None:
    """Undo :func:`fuse_projections`: the same weights under their three names again."""
    for attn in _joint_attentions(model):
        if attn.fused_projections:
            for name, layer in zip(SEPARATE, _parted(attn.to_qkv, len(SEPARATE)), strict=True):
                setattr(attn, name, layer)
            del attn.to_qkv
            attn.fused_projections = False


@contextmanager
def use_attention(model: nn.Module, name: str) -> Iterator[None]:
    """Within it every joint attention of ``model`` runs on the backend ``name`` ("auto": on what was set before).

    Only this model's attentions switch; diffusers' own ``set_attention_backend`` also changes the default of all other
    models in the process. Raises InputError for an unknown name and MissingLibraryError for one that cannot run here.
    """
    require_attention(name)
    backend = ATTENTIONS[name].backend
    if backend is None:
        yield
        return
    check_attention_shareable(model, AttentionBackendName(backend))
    processors: list[Any] = [attn.processor for attn in _joint_attentions(model)]
    before = [processor._attention_backend for processor in processors]
    try:
        for processor in processors:
            processor._attention_backend = AttentionBackendName(backend)
        yield
    finally:
        for processor, was in zip(processors, before, strict=True):
            processor._attention_backend = was


def _joint_attentions(model: nn.Module) -> list[Attention]:
    attentions: list[Any] = [module for module in model.modules() if isinstance(module, Attention)]
    return [attn for attn in attentions if isinstance(attn.processor, CogVideoXAttention)]


def _query_key_value(attn: Attention, joint: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[B, S, C] → normalised query, normalised key, value, each [B, S, heads, D].

    One after the other when they are separate, so that at no time more than one of them is held twice.
    """
    assert attn.norm_q is not None and attn.norm_k is not None  # every CogVideoX has them
    if attn.fused_projections:
        query, key, value = attn.to_qkv(joint).unflatten(-1, (3, attn.heads, -1)).unbind(2)
        return _by_heads(attn.norm_q(query)), _by_heads(attn.norm_k(key)), _by_heads(value)
    query = _by_heads(attn.norm_q(attn.to_q(joint).unflatten(-1, (attn.heads, -1))))
    key = _by_heads(attn.norm_k(attn.to_k(joint).unflatten(-1, (attn.heads, -1))))
    return query, key, _by_heads(attn.to_v(joint).unflatten(-1, (attn.heads, -1)))


def _by_heads(x: torch.Tensor) -> torch.Tensor:
    """[B, S, heads, D], on a CPU with each head's rows together in memory; graphics cards read either order well.

    torch's CPU kernel walks head by head, and is a tenth faster so (docs/performance.md).
    """
    return x.transpose(1, 2).contiguous().transpose(1, 2) if x.device.type == "cpu" else x


def _rotate_(rows: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Turn rows [B, N, heads, D] by their positions' cos and sin [N, D], in place (in float32, as everywhere)."""
    cos, sin = rotary
    for some in row_slices(rows.shape[1]):
        turned: Any = apply_rotary_emb(rows[:, some], (cos[some], sin[some]), sequence_dim=1)  # type: ignore[arg-type]
        rows[:, some] = turned


def _joined(layers: list[nn.Linear]) -> nn.Linear:
    """One layer that computes the rows of all ``layers``, of their class (an editor may have put its own in)."""
    weight = torch.cat([layer.weight for layer in layers])
    bias = torch.cat([layer.bias for layer in layers]) if layers[0].bias is not None else None
    return _linear_like(layers[0], weight, bias)


def _parted(layer: nn.Linear, parts: int) -> list[nn.Linear]:
    biases = layer.bias.chunk(parts) if layer.bias is not None else [None] * parts
    return [_linear_like(layer, w.clone(), b) for w, b in zip(layer.weight.chunk(parts), biases, strict=True)]


def _linear_like(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    with torch.device("meta"):
        made = type(layer)(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.clone(), requires_grad=layer.weight.requires_grad)
    return made.train(layer.training)
