"""The fourth room's golden numbers: face abstractor, vertex network and reducer, vision tower."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..config import RELEASE
from ..geometry.geometry import FLAME_TOPOLOGY
from ..geometry.hierarchy import MeshHierarchy
from ..identity import eva, face_abstractor, vertex_reducer, vertex_spiral_net
from ..identity.eva import FullEvaTower
from ..identity.face_abstractor import FaceAbstractor
from ..identity.vertex_reducer import VertexReducer
from ..identity.vertex_spiral_net import VertexSpiralNet
from ..weights.golden_rule import fill_module, tensor_input
from .golden import Golden

Numbers = Iterator[tuple[str, torch.Tensor]]
HIDDEN = (1, 577, 1024)


def hidden_state(suffix: str = "") -> torch.Tensor:
    """[1, 577, 1024] the fifth EVA hidden state; the other four and id_cond have no effect (release.md §1)."""
    return tensor_input(f"id_vit_hidden.4{suffix}", HIDDEN)


@dataclass
class IdentityNets:
    """The identity networks with weights made of their names, built when first used and then kept."""

    golden: Golden

    @cached_property
    def abstractor(self) -> FaceAbstractor:
        """The 2D branch, float32."""
        module = FaceAbstractor(RELEASE.face_abstractor, RELEASE.eva.grid, RELEASE.identity_width)
        fill_module(module, face_abstractor.official_key)
        return module.eval().requires_grad_(False)

    @cached_property
    def vertex_net(self) -> VertexSpiralNet:
        """The 3D branch, float32, on the folder's mesh hierarchy."""
        module = VertexSpiralNet(RELEASE.vertex_net, self.hierarchy())
        fill_module(module, vertex_spiral_net.official_key)
        return module.eval().requires_grad_(False)

    @cached_property
    def reducer(self) -> VertexReducer:
        """The end of the 3D branch, float32."""
        module = VertexReducer(RELEASE.vertex_net)
        fill_module(module, vertex_reducer.official_key)
        return module.eval().requires_grad_(False)

    def hierarchy(self) -> MeshHierarchy:
        """The two levels of the golden mesh hierarchy that the network reads."""
        arrays = self.golden.hierarchy_arrays
        return MeshHierarchy(
            FLAME_TOPOLOGY,
            spirals=tuple(arrays[f"spiral_{level}"] for level in range(2)),
            down=tuple(arrays[f"down_{level}"] for level in range(2)),
            up_index=tuple(arrays[f"up_{level}_index"] for level in range(2)),
            up_weight=tuple(arrays[f"up_{level}_weight"] for level in range(2)),
        )

    @torch.no_grad()
    def face_tokens(self, suffix: str = "") -> torch.Tensor:
        """[1, 36, 2048] ``output`` of the face abstractor."""
        return self.abstractor(hidden_state(suffix))

    @torch.no_grad()
    def tokens(self, dtype: torch.dtype, vertices: str = "anne") -> torch.Tensor:
        """[1, 115, 2048] all tokens, computed in ``dtype`` as the release does: the vertex network stays in float32
        with weights rounded to ``dtype``, everything else has weights and activations in ``dtype``.
        """
        nets = IdentityNets(self.golden) if dtype != torch.float32 else self
        if dtype != torch.float32:
            nets.abstractor.to(dtype)
            nets.vertex_net.to(dtype).float()
            nets.reducer.to(dtype)
        face = nets.abstractor(hidden_state().to(dtype))
        shape = nets.reducer(nets.vertex_net(self.golden.vertices(vertices), face))
        return torch.cat([face, shape], dim=1)


@torch.no_grad()
def face_abstractor_numbers(nets: IdentityNets, wanted: Collection[str]) -> Numbers:
    """face_abstractor.safetensors (golden README, b)."""
    features = hidden_state()
    stages = nets.abstractor.stages(features)
    yield "mapping_4_patch_rows_plus_both_pos_emb", stages.entered
    yield "stage1_first_channels", stages.stage1[:, :8]
    yield "stage1", stages.stage1
    yield "pooled", stages.pooled
    yield "stage2", stages.stage2
    yield "cabstractor_out", stages.readout
    yield "output", nets.abstractor(features)
    if any("batch2" in key for key in wanted):
        both = nets.abstractor(torch.cat([features, hidden_state(".b")]))
        yield from {"output_batch2": both, "output_batch2_row0": both[:1], "output_batch2_row1": both[1:]}.items()


def vertex_numbers(nets: IdentityNets, wanted: Collection[str]) -> Numbers:
    """vertex_spiral_net.safetensors (golden README, c): of every person the file names, and of the random pair."""
    for person in dict.fromkeys(key.partition(".")[0] for key in wanted):
        if person == "random_batch2":
            tokens = torch.cat([nets.face_tokens(), nets.face_tokens(".b")])
            yield from _vertex_numbers(nets, person, tensor_input("vertices", (2, 5023, 3), 0.1), tokens)
        elif person in nets.golden.all_vertices:
            yield from _vertex_numbers(nets, person, nets.golden.vertices(person), nets.face_tokens())


@torch.no_grad()
def _vertex_numbers(
    nets: IdentityNets,
    person: str,
    vertices: torch.Tensor,  # [N, 5023, 3]
    face_tokens: torch.Tensor,  # [N, 36, 2048]
) -> Numbers:
    net = nets.vertex_net
    coarse = net.coarse_vertices(vertices)
    descriptor = net(vertices, face_tokens)
    numbers = {
        "coarse_vertices": coarse,
        "depth_embedding": net.depth_embedding(coarse),
        "face_tokens": net.shrink(face_tokens),
        "transformer_out": net.attend(vertices, face_tokens),
        "descriptor": descriptor,
        "reduced": nets.reducer(descriptor),
        "descriptor_without_face_tokens": net(vertices, None),
    }
    yield from ((f"{person}.{name}", tensor) for name, tensor in numbers.items())


@torch.no_grad()
def eva_numbers() -> Numbers:
    """eva_visual.safetensors (golden README, f): the whole tower, with the blocks that the model itself leaves out."""
    with torch.device("meta"):
        tower = FullEvaTower(replace(RELEASE.eva, layers=eva.FULL_LAYERS))
    cos, sin = eva.rotary_tables(RELEASE.eva)
    tower.to_empty(device="cpu").requires_grad_(False).eval()
    tower.rope_cos, tower.rope_sin = cos, sin
    fill_module(tower, eva.official_key)
    features = tower.features(tensor_input("eva.image", (1, 3, 336, 336)))
    normalised = features.embedding / features.embedding.norm(dim=-1, keepdim=True)
    yield from {"rope_cos": tower.rope_cos, "rope_sin": tower.rope_sin}.items()
    yield from ((f"hidden_{level}", hidden) for level, hidden in enumerate(features.hidden))
    yield "cond_raw", features.embedding
    yield "cond_normalised", normalised
    yield "id_cond", torch.cat([tensor_input("eva.arcface", (1, 512)), normalised], dim=-1)
