"""The three contestants of the step benchmark: plain CogVideoX, the release's way, ours; all with the same weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

from benchmarks.release_way import FACE_VECTOR, MAPPINGS, ReleaseFaceAbstractor, ReleaseVertexBranch, ReleaseWay
from fantasyid_core.config import RELEASE, ModelConfig
from fantasyid_core.geometry.hierarchy import SPIRAL_LENGTH, MeshHierarchy
from fantasyid_core.identity.face_abstractor import FaceAbstractor
from fantasyid_core.identity.initialise import initialise_
from fantasyid_core.identity.vertex_reducer import VertexReducer
from fantasyid_core.identity.vertex_spiral_net import VertexSpiralNet
from fantasyid_core.video.identity_context import IdentityContext
from fantasyid_core.video.size import rotary_table
from fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel, _cogvideox_arguments


@dataclass(frozen=True, eq=False)
class Contestants:
    """Three models over one set of weights, and the inputs of a call.

    call: arguments of diffusers' model. face_vector, hidden, vertices: what the release's networks read at every step.
    """

    config: ModelConfig
    plain: CogVideoXTransformer3DModel
    release: ReleaseWay
    ours: LayerAdaptiveTransformer3DModel
    call: dict[str, Any]
    face_vector: torch.Tensor
    hidden: list[torch.Tensor]
    vertices: torch.Tensor

    def run_plain(self) -> torch.Tensor:
        """(a) diffusers' CogVideoX, no identity → velocity [B, F, C, H, W]."""
        return self.plain(**self.call)[0]

    def run_release(self) -> torch.Tensor:
        """(b) the same plus identity the release's way."""
        return self.release(self.face_vector, self.hidden, self.vertices, **self.call)

    def prepare(self) -> IdentityContext:
        """Ours, once per generation: networks (only what lives), keys and values."""
        abstractor, branch = self.release.abstractor, self.release.vertex_branch
        live: FaceAbstractor = abstractor.live[0]
        face_tokens = live(self.hidden[-1])
        vertex_tokens = branch.reducer(branch.net(self.vertices, face_tokens))
        return self.ours.prepare_identity(torch.cat([face_tokens, vertex_tokens], dim=1))

    def run_ours(self, identity: IdentityContext | None) -> torch.Tensor:
        """(c) ours; (d) without an identity."""
        return self.ours(identity=identity, **self.call)[0]


def make_contestants(
    config: ModelConfig, size: tuple[int, int, int], batch: int, dtype: torch.dtype, device: str = "cpu"
) -> Contestants:
    """Random weights. size: latent frames, height, width."""
    torch.manual_seed(0)
    ours = LayerAdaptiveTransformer3DModel(config)
    torch.nn.Module.to(ours, device, dtype).eval().requires_grad_(False)  # diffusers' own ``to`` warns of nothing
    plain = _plain_with_weights_of(ours)
    release = ReleaseWay(plain, ours.layer_attentions(), *_release_networks(config, dtype, device))
    frames, height, width = size
    dit = config.transformer
    grid = config.eva.grid
    call = {
        "hidden_states": torch.randn(batch, frames, 2 * dit.latent_channels, height, width).to(device, dtype),
        "encoder_hidden_states": 0.2 * torch.randn(batch, dit.text_length, dit.text_embed_dim).to(device, dtype),
        "timestep": torch.full((batch,), 499, device=device),
        "image_rotary_emb": rotary_table(config, frames, height, width, device),
        "return_dict": False,
    }
    return Contestants(
        config,
        plain,
        release,
        ours,
        call,
        face_vector=torch.randn(1, FACE_VECTOR).to(device, dtype),
        hidden=[torch.randn(1, 1 + grid**2, config.eva.width).to(device, dtype) for _ in range(MAPPINGS)],
        vertices=0.1 * torch.randn(1, config.vertex_net.level_sizes[0], 3).to(device),
    )


def benchmark_config(layers: int, base: ModelConfig = RELEASE) -> ModelConfig:
    """The release at real width with few layers, for any size of video (so without its learned positions)."""
    return replace(base, transformer=replace(base.transformer, layers=layers, learned_positions=False))


def _plain_with_weights_of(ours: LayerAdaptiveTransformer3DModel) -> CogVideoXTransformer3DModel:
    """diffusers' own model on our model's very tensors, so that two models need the memory of one."""
    dit = ours.model_config.transformer
    with torch.device("meta"):
        plain = CogVideoXTransformer3DModel(**_cogvideox_arguments(dit), num_layers=dit.layers)
    weights = {name: tensor for name, tensor in ours.state_dict().items() if ".layer_" not in name}
    plain.load_state_dict(weights, assign=True)
    return plain.eval().requires_grad_(False)


def _release_networks(
    config: ModelConfig, dtype: torch.dtype, device: str
) -> tuple[ReleaseFaceAbstractor, ReleaseVertexBranch]:
    live = FaceAbstractor(config.face_abstractor, config.eva.grid, config.identity_width)
    abstractor = ReleaseFaceAbstractor(config, live)
    net = VertexSpiralNet(config.vertex_net, made_up_hierarchy(config))
    reducer = VertexReducer(config.vertex_net)
    for module in (abstractor, net, reducer):
        initialise_(module, seed=0).to(device, dtype).eval().requires_grad_(False)
    net.keep_float32()
    return abstractor, ReleaseVertexBranch(net, reducer)


def made_up_hierarchy(config: ModelConfig) -> MeshHierarchy:
    """Random but valid indices at the sizes of the config's mesh: they cost what the real ones cost."""
    rng = np.random.default_rng(0)
    sizes = config.vertex_net.level_sizes
    steps = list(pairwise(sizes))
    return MeshHierarchy(
        config.vertex_net.topology,
        spirals=tuple(rng.integers(0, fine, (fine, SPIRAL_LENGTH)).astype(np.int32) for fine, _ in steps),
        down=tuple(rng.choice(fine, coarse, replace=False).astype(np.int32) for fine, coarse in steps),
        up_index=tuple(rng.integers(0, coarse, (fine, 3)).astype(np.int32) for fine, coarse in steps),
        up_weight=tuple(rng.dirichlet([1.0, 1.0, 1.0], fine).astype(np.float32) for fine, _ in steps),
    )
