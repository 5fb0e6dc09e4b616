"""The identity encoder half of a model: face crops and vertices → identity tokens, once per generation."""

from __future__ import annotations

import torch
from torch import nn

from ..config import ModelConfig
from ..geometry.hierarchy import MeshHierarchy
from . import eva, face_abstractor, vertex_reducer, vertex_spiral_net
from .branches import Branches, checked_branches
from .eva import EvaTower, eva_input
from .fingerprint import fingerprint
from .q_former import build_face_branch
from .vertex_reducer import VertexReducer
from .vertex_spiral_net import VertexSpiralNet

#: The encoder's four parts and how each one's parameters are called in the published checkpoints.
PART_KEYS = {
    "eva": eva.official_key,
    "face_abstractor": face_abstractor.official_key,
    "vertex_spiral_net": vertex_spiral_net.official_key,
    "vertex_reducer": vertex_reducer.official_key,
}


def official_key(our_key: str) -> str:
    """The published name of the encoder's parameter ``our_key``; ``visual.…`` ones lie in the EVA-CLIP file."""
    part, _, rest = our_key.partition(".")
    return PART_KEYS[part](rest)


class IdentityEncoder(nn.Module):
    """Vision tower, 2D branch and 3D branch (release: 115 tokens × 2048 from one crop and one head).

    ``hierarchy`` may be None when the mesh file is absent; then only "2D only" works. Move it with ``.to``: the 3D
    network widens its weights to float32 again by itself.
    """

    def __init__(self, config: ModelConfig, hierarchy: MeshHierarchy | None) -> None:
        super().__init__()
        self.config = config
        self.eva = EvaTower(config.eva)
        self.face_abstractor = build_face_branch(config.face_abstractor, config.eva.grid, config.identity_width)
        self.vertex_spiral_net = VertexSpiralNet(config.vertex_net, hierarchy)
        self.vertex_reducer = VertexReducer(config.vertex_net)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.face_abstractor.proj_out.device

    @property
    def model_id(self) -> str:
        """``<family>-<fingerprint>``: which encoder this is, whatever its dtype and device."""
        topology = self.config.vertex_net.topology
        return f"{self.config.family}-{fingerprint(self.state_dict(), salt=topology)}"

    def face_tokens(self, crops: torch.Tensor) -> torch.Tensor:  # [N, 3, H, W] → [N, T2, C]
        """The 2D tokens of RGB crops 0..1 (release: 36 each)."""
        return self.face_abstractor(self.eva(eva_input(crops, self.config.eva.image_size)))

    def vertex_tokens(
        self,
        vertices: torch.Tensor,  # [N, V, 3] head-frame metres, in this model's topology
        face_tokens: torch.Tensor | None,  # [N, T2, C], or None for the shape alone
    ) -> torch.Tensor:  # [N, T3, C]
        """The 3D tokens (release: 79 each), which also read the 2D tokens when these are given."""
        return self.vertex_reducer(self.vertex_spiral_net(vertices, face_tokens))

    def forward(
        self,
        crops: torch.Tensor,  # [N, 3, H, W] RGB 0..1
        vertices: torch.Tensor,  # [N, V, 3] head-frame metres
        branches: Branches = "2D + 3D",
    ) -> torch.Tensor:  # [N, T, C]
        """Identity tokens, 2D first, then 3D."""
        branches = checked_branches(branches)
        if branches == "3D only":
            return self.vertex_tokens(vertices, None)
        face_tokens = self.face_tokens(crops)
        if branches == "2D only":
            return face_tokens
        return torch.cat([face_tokens, self.vertex_tokens(vertices, face_tokens)], dim=1)
