"""The Q-Former in the face abstractor's place: same tokens, its own weights, and files that say which one it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_identity import SMALL, made_up_hierarchy, random_crops, random_vertices, small_encoder

from fantasyid_core.config import MINI, FaceAbstractorConfig, ModelConfig
from fantasyid_core.errors import InputError
from fantasyid_core.identity.encoder import IdentityEncoder
from fantasyid_core.identity.initialise import initialise_
from fantasyid_core.identity.q_former import QFormer
from fantasyid_core.model import new_mini
from fantasyid_core.weights.architecture import config_from_text, config_to_text
from fantasyid_core.weights.mini_file import load_mini, save_mini


def with_q_former(config: ModelConfig) -> ModelConfig:
    return replace(config, face_abstractor=replace(config.face_abstractor, kind="q-former"))


def q_former_encoder() -> IdentityEncoder:
    encoder = IdentityEncoder(with_q_former(SMALL), made_up_hierarchy())
    initialise_(encoder, 0)
    return encoder.eval()


@torch.no_grad()
def test_it_gives_as_many_tokens_of_the_same_width_and_they_depend_on_the_face() -> None:
    crops, vertices = random_crops(2), random_vertices(2)
    ours, abstractor = q_former_encoder()(crops, vertices), small_encoder()(crops, vertices)
    assert ours.shape == abstractor.shape
    assert isinstance(q_former_encoder().face_abstractor, QFormer)
    faces = q_former_encoder().face_tokens(crops)
    assert (faces[0] - faces[1]).abs().max() > 1e-3, "another face gives other tokens"
    assert (faces[0, 0] - faces[0, 1]).abs().max() > 1e-3, "every query gives a token of its own"


@torch.no_grad()
def test_it_reads_where_on_the_face_a_feature_lies_through_its_positions_alone() -> None:
    branch = QFormer(with_q_former(SMALL).face_abstractor, SMALL.eva.grid, SMALL.identity_width)
    initialise_(branch, 0)
    features = torch.randn((1, 1 + SMALL.eva.grid**2, SMALL.eva.width), generator=torch.Generator().manual_seed(3))
    moved = torch.cat([features[:, :1], features[:, 1:].flip(1)], dim=1)
    assert (branch(features) - branch(moved)).abs().max() > 1e-4
    branch.pos_emb.zero_()
    torch.testing.assert_close(branch(features), branch(moved))


def test_every_weight_learns() -> None:
    branch = initialise_(QFormer(with_q_former(SMALL).face_abstractor, SMALL.eva.grid, SMALL.identity_width), 0)
    branch(torch.randn(2, 1 + SMALL.eva.grid**2, SMALL.eva.width)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in branch.parameters())


def test_the_mini_keeps_which_branch_it_has(tmp_path: Path) -> None:
    model = new_mini(3, with_q_former(MINI))
    save_mini(model, tmp_path / "mini.safetensors")
    back = load_mini(tmp_path / "mini.safetensors")
    assert back.config.face_abstractor.kind == "q-former"
    assert torch.equal(
        back.identity_encoder.face_abstractor.proj_out, model.identity_encoder.face_abstractor.proj_out.half().float()
    )


def test_files_from_before_mean_the_abstractor() -> None:
    text = json.loads(config_to_text(MINI))
    for name in ("kind", "layers", "heads"):
        del text["face_abstractor"][name]
    assert config_from_text(json.dumps(text)) == MINI
    assert config_from_text(config_to_text(with_q_former(MINI))) == with_q_former(MINI)


def test_wrong_choices_are_said() -> None:
    with pytest.raises(InputError, match="no 2D branch 'perceiver'; choose one of: abstractor, q-former"):
        FaceAbstractorConfig(kind="perceiver")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be divided into 5 heads"):
        FaceAbstractorConfig(kind="q-former", heads=5)
