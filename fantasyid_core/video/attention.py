"""CogVideoX's joint attention on diffusers' dispatcher, so that choosing an attention backend has an effect."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb


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
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Video [B, N, C], text [B, L, C], rotary cos and sin [N, D] → attended video [B, N, C] and text [B, L, C]."""
        assert attn.norm_q is not None and attn.norm_k is not None  # every CogVideoX has them
        text_length, video_length = encoder_hidden_states.shape[1], hidden_states.shape[1]
        joint = torch.cat([encoder_hidden_states, hidden_states], dim=1)  # (B, L+N, C)
        query = attn.norm_q(attn.to_q(joint).unflatten(-1, (attn.heads, -1)))  # (B, L+N, heads, D)
        key = attn.norm_k(attn.to_k(joint).unflatten(-1, (attn.heads, -1)))  # (B, L+N, heads, D)
        value = attn.to_v(joint).unflatten(-1, (attn.heads, -1))  # (B, L+N, heads, D)
        if image_rotary_emb is not None:
            for x in (query, key):
                rows = x[:, text_length:]  # (B, N, heads, D)
                x[:, text_length:] = apply_rotary_emb(rows, image_rotary_emb, sequence_dim=1)  # type: ignore[arg-type]
        # older diffusers have no parallel_config argument, so it is named only when it is set
        parallel = {} if self._parallel_config is None else {"parallel_config": self._parallel_config}
        attended = dispatch_attention_fn(
            query, key, value, attn_mask=attention_mask, backend=self._attention_backend, **parallel
        )  # (B, L+N, heads, D)
        out = attn.to_out[1](attn.to_out[0](attended.flatten(2)))  # (B, L+N, C)
        text, video = out.split([text_length, video_length], dim=1)
        return video, text
