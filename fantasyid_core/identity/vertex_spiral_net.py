"""The 3D branch (paper: SpiralNet++ over the head mesh): the depth of few vertices → a descriptor per fine vertex.

Only the z coordinate of the coarsest vertices (FLAME: 314 of 5023) enters. Learned queries plus a sinusoidal depth code
and the shrunk 2D tokens pass a transformer together; the query rows then grow to the fine mesh by interpolation and
spiral convolutions. It always computes in float32, whatever the model's dtype, as the release does (parts 4, 5).
"""

from __future__ import annotations

from math import pi

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..config import VertexNetConfig
from ..errors import InputError, MissingFileError
from ..geometry.hierarchy import MeshHierarchy

DEPTH_BASE = 10000.0  #: of the sinusoidal depth code
SPIRAL_LEVELS = (1, 0, 0)  #: the mesh level of each spiral convolution, in order


class PreNorm(nn.Module):
    """Layer norm, then ``fn``."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, T, width]
        return self.fn(self.norm(x))


class Attention(nn.Module):
    """Plain multi-head self-attention; the output projection is item 0 of ``to_out``, as in the checkpoint."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, T, width]
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Linear, GELU, linear; place 2 of ``net`` is the checkpoint's dropout, which is 0."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, T, width]
        return self.net(x)


class VertexLayer(nn.Sequential):
    """One pre-norm transformer layer: attention (item 0), then feed-forward (item 1), each with its residual."""

    def __init__(self, config: VertexNetConfig) -> None:
        super().__init__(
            PreNorm(config.width, Attention(config.width, config.heads)),
            PreNorm(config.width, FeedForward(config.width, config.mlp_hidden)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, T, width]
        x = x + self[0](x)
        return x + self[1](x)


class VertexTransformer(nn.Module):
    """The layers, without a final norm."""

    def __init__(self, config: VertexNetConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(VertexLayer(config) for _ in range(config.layers)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, T, width]
        return self.layers(x)


class SpiralConvolution(nn.Module):
    """A linear layer over the features of each vertex's spiral, neighbour by neighbour."""

    def __init__(self, width: int, spiral_length: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width * spiral_length, width)

    def forward(
        self,
        x: torch.Tensor,  # [N, V, width]
        spirals: torch.Tensor,  # [V, S]
    ) -> torch.Tensor:  # [N, V, width]
        rows = x.index_select(1, spirals.flatten())  # its gradient is a sum by index, an advanced index's is a sort
        return self.layer(rows.reshape(len(x), len(spirals), -1))


class UpsampleBlock(nn.Module):
    """Interpolate to the finer mesh, spiral convolution, ELU."""

    def __init__(self, width: int, spiral_length: int) -> None:
        super().__init__()
        self.conv = SpiralConvolution(width, spiral_length)

    def forward(
        self,
        x: torch.Tensor,  # [N, V_coarse, width]
        index: torch.Tensor,  # [V, 3]
        weight: torch.Tensor,  # [V, 3]
        spirals: torch.Tensor,  # [V, S]
    ) -> torch.Tensor:  # [N, V, width]
        corners = x.index_select(1, index.flatten()).unflatten(1, index.shape)  # [N, V, 3, width]
        interpolated = (corners * weight.to(x.dtype).unsqueeze(-1)).sum(2)
        return F.elu(self.conv(interpolated, spirals))


class VertexUpsampler(nn.Module):
    """Two upsampling blocks and a last spiral convolution without activation."""

    def __init__(self, config: VertexNetConfig) -> None:
        super().__init__()
        width, length = config.width, config.spiral_length
        self.de_layers = nn.ModuleList(
            [UpsampleBlock(width, length), UpsampleBlock(width, length), SpiralConvolution(width, length)]
        )


class FaceTokenHalver(nn.Module):
    """Two linear layers with a GELU between them: width → width / 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [N, T, width] → [N, T, width / 2]
        return self.fc2(F.gelu(self.fc1(x)))


class VertexSpiralNet(nn.Module):
    """Vertices [N, V, 3] and 2D tokens → descriptor [N, V, width], float32.

    ``hierarchy`` may be None, to hold the weights alone: then ``forward`` says which file is missing. Raises InputError
    when the hierarchy's sizes are not the config's.
    """

    def __init__(self, config: VertexNetConfig, hierarchy: MeshHierarchy | None) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.vtx_query = nn.Parameter(torch.zeros(1, config.level_sizes[-1], width))
        self.vtx_upsampler = VertexUpsampler(config)
        self.transformer = VertexTransformer(config)
        self.vtx_descriptor_head = nn.Sequential(nn.Linear(width, width))
        self.hw_down = nn.ModuleList(FaceTokenHalver(w) for w in _halvings(config.reducer_widths[-1], width))
        self.has_mesh = hierarchy is not None
        if hierarchy is not None:
            self._register_mesh(hierarchy)

    def _register_mesh(self, hierarchy: MeshHierarchy) -> None:
        """Keep the index arrays as buffers: they move with the module and are in no checkpoint."""
        _check_hierarchy(self.config, hierarchy)
        self._register("coarse", hierarchy.coarse_vertices.astype(np.int64))
        for level in (0, 1):
            self._register(f"spirals_{level}", hierarchy.spirals[level].astype(np.int64))
            self._register(f"up_index_{level}", hierarchy.up_index[level].astype(np.int64))
            self._register(f"up_weight_{level}", hierarchy.up_weight[level])

    def _register(self, name: str, array: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(array)), persistent=False)

    def coarse_vertices(self, vertices: torch.Tensor) -> torch.Tensor:  # [N, V, 3] → [N, V_coarse, 3]
        """The picked vertices of the coarsest level; coarse vertices are fine ones, not averages."""
        return vertices.index_select(1, self.get_buffer("coarse"))

    def depth_embedding(self, coarse: torch.Tensor) -> torch.Tensor:  # [N, V_coarse, 3] → [N, V_coarse, width]
        """Sinusoids of 2π (z / 2 + 1 / 2), z scaled: even columns sine, odd cosine, one frequency per pair."""
        angle = (0.5 * self.config.depth_scale * coarse[..., 2] + 0.5) * (2 * pi)
        column = torch.arange(self.config.width, dtype=torch.float32, device=coarse.device)
        pair = torch.div(column, 2, rounding_mode="floor")
        phase = angle.unsqueeze(-1) / DEPTH_BASE ** (2 * pair / self.config.width)
        return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], dim=-1).flatten(-2)

    def shrink(self, face_tokens: torch.Tensor) -> torch.Tensor:  # [N, T, C] → [N, T, width]
        """The 2D tokens at this network's width, halved step by step."""
        for halver in self.hw_down:
            face_tokens = halver(face_tokens)
        return face_tokens

    def attend(
        self,
        vertices: torch.Tensor,  # [N, V, 3]
        face_tokens: torch.Tensor | None,  # [N, T, C]
    ) -> torch.Tensor:  # [N, V_coarse (+ T), width]
        """The transformer's output over the depth-coded queries and, behind them, the 2D tokens if there are any."""
        rows = self.vtx_query + self.depth_embedding(self.coarse_vertices(vertices))
        if face_tokens is not None:
            rows = torch.cat([rows, self.shrink(face_tokens)], dim=1)
        return self.transformer(rows)

    def grow(self, queries: torch.Tensor) -> torch.Tensor:  # [N, V_coarse, width] → [N, V, width]
        """The query rows spread over the fine mesh."""
        x = queries
        for block, level in zip(self.vtx_upsampler.de_layers, SPIRAL_LEVELS, strict=True):
            spirals = self.get_buffer(f"spirals_{level}")
            if isinstance(block, UpsampleBlock):
                x = block(x, self.get_buffer(f"up_index_{level}"), self.get_buffer(f"up_weight_{level}"), spirals)
            else:
                x = block(x, spirals)
        return self.vtx_descriptor_head(x)

    def forward(
        self,
        vertices: torch.Tensor,  # [N, V, 3] head-frame metres
        face_tokens: torch.Tensor | None,  # [N, T, C]
    ) -> torch.Tensor:  # [N, V, width]
        """The descriptor of every fine vertex. Raises MissingFileError without a mesh, InputError for another mesh."""
        self._check_vertices(vertices)
        self.keep_float32()
        face_tokens = None if face_tokens is None else face_tokens.float()
        with torch.autocast(vertices.device.type, enabled=False):
            return self.grow(self.attend(vertices.float(), face_tokens)[:, : self.config.level_sizes[-1]])

    def keep_float32(self) -> None:
        """Widen the weights in place if a dtype move narrowed them; they stay rounded, as the release's are."""
        if any(tensor.dtype != torch.float32 for tensor in self.parameters()):
            with torch.inference_mode(False):  # else the widened weights could never be trained again
                self.float()

    def _check_vertices(self, vertices: torch.Tensor) -> None:
        if not self.has_mesh:
            raise MissingFileError(
                f"The 3D branch needs the mesh hierarchy of {self.config.topology} (the release's transform.pkl or our "
                "converted .safetensors); put it into the models folder, or choose the 2D branch only."
            )
        if vertices.ndim != 3 or tuple(vertices.shape[1:]) != (self.config.level_sizes[0], 3):
            raise InputError(
                f"The 3D branch reads {self.config.level_sizes[0]} vertices of the topology {self.config.topology}, "
                f"but it was given {list(vertices.shape)}."
            )


def _halvings(start: int, end: int) -> list[int]:
    """The widths ``start``, ``start`` / 2, … above ``end``. Raises InputError when halving does not reach ``end``."""
    widths = []
    width = start
    while width > end and width % 2 == 0:
        widths.append(width)
        width //= 2
    if width != end:
        raise InputError(f"2D tokens of width {start} cannot be halved down to the 3D branch's width {end}.")
    return widths


def _check_hierarchy(config: VertexNetConfig, hierarchy: MeshHierarchy) -> None:
    length = hierarchy.spirals[0].shape[1]
    if hierarchy.topology != config.topology:
        raise InputError(f"This model's 3D branch reads {config.topology} meshes, not {hierarchy.topology} ones.")
    if hierarchy.level_sizes[:3] != config.level_sizes or len(hierarchy.spirals) < 2 or length != config.spiral_length:
        raise InputError(
            f"This model's mesh levels have {config.level_sizes} vertices and spirals of {config.spiral_length}, but "
            f"the mesh hierarchy's have {hierarchy.level_sizes} and {length}; take the hierarchy that belongs to it."
        )


def official_key(our_key: str) -> str:
    """The name in a released checkpoint of this module's parameter ``our_key``."""
    return f"vertex_spiral_net.{our_key}"
