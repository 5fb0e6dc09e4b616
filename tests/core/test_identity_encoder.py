"""The identity encoder: what its tokens depend on, and that nothing else is computed or kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_identity import SMALL, is_one_sentence, made_up_hierarchy, random_crops, random_vertices, small_encoder

from fantasyid_core.config import RELEASE
from fantasyid_core.errors import InputError, MissingFileError
from fantasyid_core.identity.encoder import IdentityEncoder, official_key
from fantasyid_core.identity.eva import EvaTower, FullEvaTower, eva_input, rotary_tables, rotate
from fantasyid_core.identity.initialise import initialise_


@torch.no_grad()
def test_tokens_are_2d_first_then_3d():
    encoder = small_encoder()
    crops, vertices = random_crops(2), random_vertices(2)
    tokens = encoder(crops, vertices)
    assert tokens.shape == (2, SMALL.identity_tokens, SMALL.identity_width)
    both = SMALL.face_abstractor.tokens
    assert torch.equal(tokens[:, :both], encoder.face_tokens(crops))
    assert torch.equal(tokens[:, both:], encoder.vertex_tokens(vertices, encoder.face_tokens(crops)))
    assert torch.isfinite(tokens).all()
    assert tokens.std() > 0.1


@torch.no_grad()
def test_each_branch_can_be_left_away():
    encoder = small_encoder()
    crops, vertices = random_crops(1), random_vertices(1)
    assert torch.equal(encoder(crops, vertices, "2D only"), encoder.face_tokens(crops))
    shape_alone = encoder(crops, vertices, "3D only")
    assert shape_alone.shape[1] == SMALL.vertex_net.tokens
    assert torch.equal(shape_alone, encoder(random_crops(1, seed=9), vertices, "3D only"))
    with_face = encoder(crops, vertices)[:, SMALL.face_abstractor.tokens :]
    assert (with_face - shape_alone).abs().max() > 1e-3, "3D tokens read the 2D tokens when both are there"
    with pytest.raises(InputError) as caught:
        encoder(crops, vertices, "4D")
    assert is_one_sentence(caught.value)


@torch.no_grad()
def test_3d_tokens_read_the_depth_of_the_coarse_vertices_and_nothing_else():
    encoder = small_encoder()
    vertices = random_vertices(1)
    coarse = torch.from_numpy(made_up_hierarchy().coarse_vertices.astype("int64"))
    before = encoder.vertex_tokens(vertices, None)
    sideways = vertices.clone()
    sideways[..., :2] += 1.0
    others = vertices.clone()
    others[:, [i for i in range(vertices.shape[1]) if i not in coarse.tolist()]] += 1.0
    assert torch.equal(encoder.vertex_tokens(sideways, None), before)
    assert torch.equal(encoder.vertex_tokens(others, None), before)
    one = vertices.clone()
    one[:, coarse[3], 2] += 0.05
    assert (encoder.vertex_tokens(one, None) - before).abs().max() > 1e-3


@torch.no_grad()
def test_bfloat16_keeps_the_3d_network_in_float32_with_rounded_weights():
    exact, low = small_encoder(), small_encoder().to(torch.bfloat16)
    crops, vertices = random_crops(1), random_vertices(1)
    wanted, tokens = exact(crops, vertices), low(crops, vertices)
    assert tokens.dtype == torch.bfloat16
    assert {p.dtype for p in low.vertex_spiral_net.parameters()} == {torch.float32}
    assert {p.dtype for p in low.face_abstractor.parameters()} == {torch.bfloat16}
    query = low.vertex_spiral_net.vtx_query
    assert torch.equal(query, query.bfloat16().float()), "still the rounded weights"
    assert (tokens.float() - wanted).norm() / wanted.norm() < 0.05


def test_an_encoder_first_used_for_inference_can_still_be_trained():
    encoder = small_encoder().to(torch.bfloat16)
    crops, vertices = random_crops(1), random_vertices(1)
    with torch.inference_mode():
        encoder(crops, vertices)
    encoder(crops, vertices).square().mean().backward()
    assert encoder.vertex_spiral_net.vtx_query.grad.abs().max() > 0


def test_encoder_can_be_built_without_memory_and_then_given_its_weights():
    with torch.device("meta"):
        empty = IdentityEncoder(SMALL, made_up_hierarchy())
    filled = small_encoder()
    empty.load_state_dict(filled.state_dict(), strict=True, assign=True)
    assert not any(t.is_meta for t in (*empty.parameters(), *empty.buffers()))
    crops, vertices = random_crops(1), random_vertices(1)
    with torch.inference_mode():
        assert torch.equal(empty.eval()(crops, vertices), filled(crops, vertices))


def test_starting_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = small_encoder(seed=7)
    torch.manual_seed(2)
    again, other = small_encoder(seed=7), small_encoder(seed=8)
    for (name, a), b in zip(first.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert first.model_id == again.model_id != other.model_id


def test_model_id_is_the_same_in_every_dtype_and_changes_with_the_weights():
    encoder = small_encoder()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(parameter.bfloat16().float())
    wanted = encoder.model_id
    assert wanted.startswith("mini-")
    assert small_encoder().to(torch.bfloat16).model_id == wanted
    with torch.no_grad():
        encoder.face_abstractor.proj_out[0, 0] += 0.5
    assert encoder.model_id != wanted


def test_every_parameter_learns():
    encoder = IdentityEncoder(SMALL, made_up_hierarchy())
    initialise_(encoder, 0)
    encoder(random_crops(2), random_vertices(2)).square().mean().backward()
    still = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def test_without_the_mesh_file_the_2d_branch_works_and_the_3d_branch_says_what_is_missing():
    encoder = IdentityEncoder(SMALL, None)
    initialise_(encoder, 0)
    crops, vertices = random_crops(1), random_vertices(1)
    with torch.no_grad():
        assert torch.equal(encoder(crops, vertices, "2D only"), small_encoder()(crops, vertices, "2D only"))
    with pytest.raises(MissingFileError) as caught:
        encoder(crops, vertices)
    assert is_one_sentence(caught.value)
    assert "models folder" in str(caught.value)


def test_a_mesh_that_does_not_fit_the_model_is_refused():
    encoder = small_encoder()
    with pytest.raises(InputError) as caught:
        encoder.vertex_tokens(torch.zeros(1, 199, 3), None)
    assert is_one_sentence(caught.value)
    for change in ({"topology": "flame-5023"}, {"level_sizes": (200, 50, 14)}, {"spiral_length": 7}):
        config = replace(SMALL, vertex_net=replace(SMALL.vertex_net, **change))
        with pytest.raises(InputError) as caught:
            IdentityEncoder(config, made_up_hierarchy())
        assert is_one_sentence(caught.value), caught.value


def test_sizes_that_cannot_work_are_refused_when_the_model_is_built():
    odd = replace(SMALL.vertex_net, width=24)
    with pytest.raises(InputError, match="halved"):
        IdentityEncoder(replace(SMALL, vertex_net=odd), made_up_hierarchy())
    uneven = replace(SMALL.vertex_net, reducer_widths=(16, 20, 32, 64))
    with pytest.raises(InputError, match="divisible by 8"):
        IdentityEncoder(replace(SMALL, vertex_net=uneven), made_up_hierarchy())


@torch.no_grad()
def test_stopping_after_the_block_that_counts_changes_nothing():
    config = replace(SMALL.eva, layers=24)
    full = FullEvaTower(config, embedding=16)
    initialise_(full, 0)
    short = EvaTower(replace(config, layers=20))
    missing = short.load_state_dict(full.state_dict(), strict=False)
    assert missing.missing_keys == []
    images = eva_input(random_crops(2), SMALL.eva.image_size)
    features = full.features(images)
    assert len(features.hidden) == 5
    assert torch.equal(short(images), features.hidden[4])
    assert features.embedding.shape == (2, 16)


def test_rotary_positions_turn_patches_by_their_distance_and_leave_the_class_row():
    cos, sin = rotary_tables(SMALL.eva)
    generator = torch.Generator().manual_seed(0)
    one = torch.randn((1, 1, 1, 16), generator=generator).expand(-1, -1, 37, -1)
    other = torch.randn((1, 1, 1, 16), generator=generator).expand(-1, -1, 37, -1)
    a, b = rotate(one, cos, sin)[0, 0], rotate(other, cos, sin)[0, 0]
    assert torch.equal(a[0], one[0, 0, 0])
    assert torch.allclose(a.norm(dim=-1), one[0, 0].norm(dim=-1), atol=1e-5)
    patch = {(row, column): 1 + 6 * row + column for row in range(6) for column in range(6)}
    near = a[patch[0, 1]] @ b[patch[2, 2]]
    assert torch.isclose(near, a[patch[3, 4]] @ b[patch[5, 5]], atol=1e-4), "same step, same score"
    assert not torch.isclose(near, a[patch[0, 1]] @ b[patch[2, 3]], atol=1e-3)


def test_release_encoder_has_exactly_the_live_parameters():
    with torch.device("meta"):
        encoder = IdentityEncoder(RELEASE, None)
    sizes = {name: tensor.numel() for name, tensor in encoder.state_dict().items()}
    per_part = {part: sum(n for name, n in sizes.items() if name.startswith(f"{part}.")) for part in encoder._modules}
    assert per_part["face_abstractor"] == 17_698_880
    assert per_part["vertex_spiral_net"] == 9_653_632
    assert per_part["vertex_reducer"] == 34_105_600
    assert len({official_key(name) for name in sizes}) == len(sizes)
    assert official_key("eva.blocks.3.attn.q_bias") == "visual.blocks.3.attn.q_bias"
    assert (
        official_key("face_abstractor.stage2.1.conv3.norm.bias") == "face_abstractor.layers.9.0.net.2.b2.conv3.bn.bias"
    )
