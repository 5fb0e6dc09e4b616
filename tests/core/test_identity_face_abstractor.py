"""Leaving out the dead parts of the face abstractor changes nothing at all."""

from __future__ import annotations

import torch
from small_identity import SMALL
from torch import nn

from fantasyid_core.identity.face_abstractor import FaceAbstractor, official_key
from fantasyid_core.identity.initialise import initialise_

GRID, WIDTH = SMALL.eva.grid, SMALL.eva.width


class WholeAbstractor(nn.Module):
    """Everything that the released module computes: five mappings, ten layers, the second input; two layers per input.

    Its loop keeps only the last layer's result, and every layer adds its positions to the shared input in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            FaceAbstractor(SMALL.face_abstractor, GRID, SMALL.identity_width) for _ in range(10)
        )
        self.mappings = nn.ModuleList(
            FaceAbstractor(SMALL.face_abstractor, GRID, SMALL.identity_width).mapping for _ in range(5)
        )
        self.id_embedding_mapping = nn.Linear(20, 5 * WIDTH)
        self.latents = nn.Parameter(torch.zeros(1, 7, WIDTH))
        self.proj_out = nn.Parameter(torch.zeros(WIDTH, SMALL.identity_width))

    def forward(self, id_cond: torch.Tensor, hidden: list[torch.Tensor]) -> torch.Tensor:
        own = self.id_embedding_mapping(id_cond).unflatten(-1, (5, WIDTH))
        latents = torch.cat([self.latents.expand(len(id_cond), -1, -1), own], dim=1)
        for level in range(5):
            shared = self.mappings[level](hidden[level])[:, 1:]
            for layer in self.layers[2 * level : 2 * level + 2]:
                shared += layer.pos_emb
                latents = layer.feed_forward(self._convolve(layer, shared))
        return latents @ self.proj_out

    def _convolve(self, layer: FaceAbstractor, rows: torch.Tensor) -> torch.Tensor:
        map_ = rows.transpose(1, 2).unflatten(2, (GRID, GRID))
        pooled = nn.functional.adaptive_avg_pool2d(layer.stage1(map_), SMALL.face_abstractor.pooled_grid)
        return layer.readout(layer.stage2(pooled).flatten(2).transpose(1, 2))


def live_part(whole: WholeAbstractor) -> FaceAbstractor:
    live = FaceAbstractor(SMALL.face_abstractor, GRID, SMALL.identity_width)
    state = dict(whole.layers[9].state_dict())
    state |= {f"mapping.{name}": value for name, value in whole.mappings[4].state_dict().items()}
    state |= {"pos_emb_before": whole.layers[8].pos_emb.data, "proj_out": whole.proj_out.data}
    live.load_state_dict(state)
    return live


@torch.no_grad()
def test_the_live_part_alone_gives_the_whole_modules_tokens_to_the_last_bit():
    whole = WholeAbstractor()
    initialise_(whole, 0)
    for layer in whole.layers:
        layer.pos_emb.normal_(generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    hidden = [torch.randn((2, 1 + GRID**2, WIDTH), generator=generator) for _ in range(5)]
    wanted = whole(torch.randn((2, 20), generator=generator), hidden)
    live = live_part(whole)
    assert torch.equal(live(hidden[4]), wanted)
    live.pos_emb_before.zero_()
    assert (live(hidden[4]) - wanted).abs().max() > 1e-3, "layer 8's positions reach the output"


@torch.no_grad()
def test_the_class_row_has_no_effect():
    live = FaceAbstractor(SMALL.face_abstractor, GRID, SMALL.identity_width)
    initialise_(live, 0)
    features = torch.randn((1, 1 + GRID**2, WIDTH), generator=torch.Generator().manual_seed(0))
    changed = features.clone()
    changed[:, 0] += 10
    assert torch.equal(live(features), live(changed))


def test_checkpoint_names_are_all_different_and_of_layers_8_and_9_only():
    live = FaceAbstractor(SMALL.face_abstractor, GRID, SMALL.identity_width)
    names = [official_key(name) for name in live.state_dict()]
    assert len(set(names)) == len(names)
    heads = {".".join(name.split(".")[1:3]) for name in names if ".layers." in name}
    assert heads == {"layers.8", "layers.9"}
    assert [name for name in names if "layers.8" in name] == ["face_abstractor.layers.8.0.pos_emb"]
