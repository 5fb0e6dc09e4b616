"""A model of what the authors' release spends on identity: the same numbers as ours, its way and at its cost.

Written from the description of what the release computes (docs/input-paths.md names where ours differs in its results;
here nothing does). At every denoising step it
  * runs the whole face abstractor, of which nine tenths reach no output (five mappings, ten layers, an embedding of the
    face vector that is never read), the vertex network with sparse index + scatter, and the reducer;
  * projects the identity to keys and values anew in every layer;
  * materialises the scores of video tokens × identity tokens in the model's precision and their softmax in float32.
The live part of every network is taken by reference from our own, so that both compute with the same weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import nn

from fantasyid_core.config import ModelConfig
from fantasyid_core.identity.face_abstractor import FaceAbstractor
from fantasyid_core.identity.vertex_reducer import VertexReducer
from fantasyid_core.identity.vertex_spiral_net import SPIRAL_LEVELS, UpsampleBlock, VertexSpiralNet
from fantasyid_core.video.layer_attention import LayerAttention

MAPPINGS = 5  #: one per hidden state of the vision tower that is handed over
LAYERS_PER_MAPPING = 2
FACE_VECTOR = 1280  #: face recogniser 512 + image-text model 768; computed, embedded, never used
FACE_VECTOR_TOKENS = 5
LATENT_QUERIES = 144


class _AbstractorLayer(nn.Module):
    """Convolution stages with a position tensor of its own, then the feed-forward."""

    def __init__(self, parts: FaceAbstractor) -> None:
        super().__init__()
        self.pos_emb = parts.pos_emb
        self.stage1, self.stage2 = parts.stage1, parts.stage2
        self.readout, self.feed_forward = parts.readout, parts.feed_forward
        self.grid, self.pooled_grid = parts.grid, parts.config.pooled_grid

    def forward(self, features: torch.Tensor) -> torch.Tensor:  # [1, grid², width] → [1, tokens, width]
        features += self.pos_emb  # in place: the next layer that shares this input sees both (release parts 2, 4)
        maps = self.stage1(features.transpose(1, 2).unflatten(2, (self.grid, self.grid)))
        maps = self.stage2(F.adaptive_avg_pool2d(maps, self.pooled_grid))
        return self.feed_forward(self.readout(maps.flatten(2).transpose(1, 2)))


class ReleaseFaceAbstractor(nn.Module):
    """The whole face abstractor. ``live``: ours, whose weights are the ones that count."""

    def __init__(self, config: ModelConfig, live: FaceAbstractor) -> None:
        super().__init__()
        width = config.face_abstractor.width
        spares = [
            FaceAbstractor(config.face_abstractor, config.eva.grid, config.identity_width)
            for _ in range(MAPPINGS * LAYERS_PER_MAPPING - 1)
        ]
        self.mappings = nn.ModuleList([*(spare.mapping for spare in spares[: MAPPINGS - 1]), live.mapping])
        self.layers = nn.ModuleList(_AbstractorLayer(parts) for parts in [*spares, live])
        self.layers[-2].pos_emb = live.pos_emb_before
        self.latents = nn.Parameter(torch.randn(1, LATENT_QUERIES, width))
        self.id_embedding_mapping = _mapping(FACE_VECTOR, width, FACE_VECTOR_TOKENS * width)
        self.proj_out = live.proj_out
        self.live = [live]  # in a list, or its weights would be registered twice

    def forward(self, face_vector: torch.Tensor, hidden: list[torch.Tensor]) -> torch.Tensor:
        """face_vector [1, 1280], five hidden states [1, 1 + grid², width] → 2D tokens [1, tokens, identity width]."""
        embedded = self.id_embedding_mapping(face_vector).unflatten(1, (FACE_VECTOR_TOKENS, -1))
        result = torch.cat([self.latents, embedded], dim=1)  # (1, 149, width), overwritten below
        for index, (mapping, features) in enumerate(zip(self.mappings, hidden, strict=True)):
            mapped = mapping(features)[:, 1:]  # (1, grid², width)
            for layer in self.layers[index * LAYERS_PER_MAPPING : (index + 1) * LAYERS_PER_MAPPING]:
                result = layer(mapped)
        return result @ self.proj_out


def _mapping(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.01)),
        *(nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(0.01)),
        nn.Linear(hidden, outputs),
    )


class ReleaseVertexBranch(nn.Module):
    """Vertex network and reducer with our weights; upsampling by sparse index + scatter, arrays copied at each call."""

    def __init__(self, net: VertexSpiralNet, reducer: VertexReducer) -> None:
        super().__init__()
        self.net, self.reducer = net, reducer
        self.arrays = {name: buffer.cpu() for name, buffer in net.named_buffers()}  # plain attributes, on the host

    def forward(self, vertices: torch.Tensor, face_tokens: torch.Tensor) -> torch.Tensor:
        """vertices [1, V, 3], 2D tokens [1, T, C] → 3D tokens [1, T3, C]."""
        self.net.float()  # the release walks through all modules at every step
        queries = self.net.config.level_sizes[-1]
        x = self.net.attend(vertices.float(), face_tokens.float())[:, :queries]
        for block, level in zip(self.net.vtx_upsampler.de_layers, SPIRAL_LEVELS, strict=True):
            spirals = self.arrays[f"spirals_{level}"].to(x.device)
            if isinstance(block, UpsampleBlock):
                x = F.elu(block.conv(self._pooled(x, level), spirals))
            else:
                x = block(x, spirals)  # type: ignore[operator]
        return self.reducer(self.net.vtx_descriptor_head(x))

    def _pooled(self, x: torch.Tensor, level: int) -> torch.Tensor:  # [1, V_coarse, C] → [1, V, C]
        columns = self.arrays[f"up_index_{level}"].to(x.device)  # (V, 3)
        weights = self.arrays[f"up_weight_{level}"].to(x.device)
        rows = torch.arange(len(columns), device=x.device).repeat_interleave(columns.shape[1])  # (3·V)
        picked = x.index_select(1, columns.flatten()) * weights.flatten()[:, None]  # (1, 3·V, C)
        fine = x.new_zeros(len(x), len(columns), x.shape[-1])
        return fine.scatter_add_(1, rows[None, :, None].expand_as(picked), picked)


def release_layer_attention(layer: LayerAttention, tokens: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
    """Identity tokens [1, T, I], video [B, N, C] → what is added to the video [B, N, C], with the score matrix made."""
    scale = layer.head_dim**-0.25
    query = layer._split_heads(layer.to_q(layer.norm2(video)))  # (B, heads, N, head_dim)
    key, value = layer.keys_values(tokens)  # (1, heads, T, head_dim)
    scores = (query * scale) @ (key * scale).transpose(-2, -1)  # (B, heads, N, T)
    weights = scores.float().softmax(dim=-1).to(scores.dtype)
    return layer.to_out((weights @ value).transpose(1, 2).flatten(2))


class ReleaseWay:
    """diffusers' plain block stack with identity done the release's way: one call is one model call of a step."""

    def __init__(
        self,
        plain: CogVideoXTransformer3DModel,
        layers: list[LayerAttention],
        abstractor: ReleaseFaceAbstractor,
        vertex_branch: ReleaseVertexBranch,
    ) -> None:
        self.plain, self.layers = plain, layers
        self.abstractor, self.vertex_branch = abstractor, vertex_branch

    def identity_tokens(
        self, face_vector: torch.Tensor, hidden: list[torch.Tensor], vertices: torch.Tensor
    ) -> torch.Tensor:
        """See the two networks → [1, T, I], 2D first."""
        face_tokens = self.abstractor(face_vector, hidden)
        return torch.cat([face_tokens, self.vertex_branch(vertices, face_tokens)], dim=1)

    def __call__(
        self, face_vector: torch.Tensor, hidden: list[torch.Tensor], vertices: torch.Tensor, **call: object
    ) -> torch.Tensor:
        """Identity inputs, then the arguments of diffusers' model → velocity [B, F, C, H, W]."""
        tokens = self.identity_tokens(face_vector, hidden, vertices)
        hooks = [
            block.register_forward_hook(_adding(layer, tokens))
            for block, layer in zip(self.plain.transformer_blocks, self.layers, strict=True)
        ]
        try:
            return self.plain(**call)[0]
        finally:
            for hook in hooks:
                hook.remove()


def _adding(layer: LayerAttention, tokens: torch.Tensor):  # type: ignore[no-untyped-def] # noqa: ANN202 (torch's hook)
    def hook(
        _block: nn.Module, _arguments: object, output: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        video, text = output
        return video + release_layer_attention(layer, tokens, video), text

    return hook
