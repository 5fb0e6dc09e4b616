"""Fusing views and geometry into an identity."""

from __future__ import annotations

import pytest
import torch
from small_identity import SMALL, is_one_sentence, random_geometry, random_views, small_encoder

from fantasyid_core.errors import InputError
from fantasyid_core.identity import fusions
from fantasyid_core.identity.encoder import IdentityEncoder
from fantasyid_core.identity.fuse import fuse_features

T2, T3 = SMALL.face_abstractor.tokens, SMALL.vertex_net.tokens


@pytest.fixture(scope="module")
def encoder() -> IdentityEncoder:
    return small_encoder()


def test_reference_is_what_the_encoder_makes_of_the_first_view(encoder):
    views, geometry = random_views((0.2, 5.0, 1.0)), random_geometry()
    identity = fuse_features(views, geometry, encoder)
    crop = torch.tensor(views.crops[:1]).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = encoder(crop, torch.tensor(geometry.vertices)[None])[0]
    assert torch.equal(identity.tokens, wanted)
    assert (identity.reference == views.crops[0]).all()
    assert identity.model == encoder.model_id


def test_mean_follows_the_weights(encoder):
    geometry = random_geometry()
    tokens = {
        weights: fuse_features(random_views(weights), geometry, encoder, combine="mean").tokens
        for weights in ((1.0, 0.0, 0.0), (1.0, 1.0, 2.0), (2.0, 2.0, 4.0), (0.0, 1.0, 0.0))
    }
    reference = fuse_features(random_views((1.0, 1.0, 1.0)), geometry, encoder).tokens
    assert torch.equal(tokens[1.0, 0.0, 0.0], reference)
    assert torch.allclose(tokens[1.0, 1.0, 2.0], tokens[2.0, 2.0, 4.0], atol=1e-5)
    assert (tokens[0.0, 1.0, 0.0] - reference).abs().max() > 1e-2
    singles = [random_views((1.0, 1.0, 1.0)).crops[i : i + 1] for i in range(3)]
    with torch.no_grad():
        one = [encoder.face_tokens(torch.tensor(crop).permute(0, 3, 1, 2))[0] for crop in singles]
    wanted = 0.25 * one[0] + 0.25 * one[1] + 0.5 * one[2]
    assert torch.allclose(tokens[1.0, 1.0, 2.0][:T2], wanted, atol=1e-5)


def test_concat_lists_every_view_that_counts(encoder):
    geometry = random_geometry()
    identity = fuse_features(random_views((1.0, 0.0, 3.0)), geometry, encoder, combine="concat")
    reference = fuse_features(random_views((1.0, 0.0, 3.0)), geometry, encoder)
    assert len(identity.tokens) == 2 * T2 + T3
    assert torch.equal(identity.tokens[:T2], reference.tokens[:T2])
    assert torch.equal(identity.tokens[2 * T2 :], reference.tokens[T2:]), "the 3D branch reads the first view"


def test_branches_choose_the_tokens(encoder):
    views = random_views((1.0, 1.0))
    whole = fuse_features(views, random_geometry(), encoder)
    flat = fuse_features(views, random_geometry("free", 50), encoder, branches="2D only")
    shape = fuse_features(views, random_geometry(), encoder, branches="3D only")
    assert torch.equal(flat.tokens, whole.tokens[:T2])
    assert shape.tokens.shape == (T3, SMALL.identity_width)
    assert "topology" not in flat.provenance
    assert "fusion" not in shape.provenance


def test_a_mesh_of_another_topology_is_refused_with_the_way_out(encoder):
    for geometry in (random_geometry("free"), random_geometry(count=199)):
        with pytest.raises(InputError) as caught:
            fuse_features(random_views(), geometry, encoder)
        assert is_one_sentence(caught.value)
        assert "2D only" in str(caught.value)


def test_unknown_names_are_refused_with_the_known_ones(encoder):
    with pytest.raises(InputError, match="reference, mean, concat"):
        fuse_features(random_views(), random_geometry(), encoder, combine="median")
    with pytest.raises(InputError, match="2D only"):
        fuse_features(random_views(), random_geometry(), encoder, branches="2d")


def test_provenance_says_how_it_was_made(encoder):
    notes = fuse_features(random_views((1.0, 0.5)), random_geometry(), encoder, combine="mean").provenance
    assert notes["fusion"] == "mean"
    assert notes["views"] == "photograph (1.00), rendered yaw +10 (0.50)"
    assert notes["geometry"] == "a made-up head"
    assert notes["topology"] == "made-up-200"
    assert notes["branches"] == "2D + 3D"


def test_progress_counts_up_to_its_total_and_can_cancel(encoder):
    calls = []
    fuse_features(
        random_views((1.0, 1.0, 1.0)), random_geometry(), encoder, combine="mean", progress=lambda *c: calls.append(c)
    )
    assert calls == [(1, 4, None), (2, 4, None), (3, 4, None), (4, 4, None)]

    class CancelledError(Exception):
        pass

    def cancel(done: int, total: int, preview: object) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        fuse_features(random_views(), random_geometry(), encoder, progress=cancel)


def test_reference_encodes_one_view_only(encoder):
    calls = []
    fuse_features(random_views((1.0,) * 4), random_geometry(), encoder, progress=lambda *c: calls.append(c[0]))
    assert calls == [1, 5]


def test_another_fusion_needs_one_line(encoder, monkeypatch):
    class Strongest:
        def fuse(self, encode, weights):
            return encode(int(weights.argmax()))

    monkeypatch.setitem(fusions.FUSIONS, "strongest", Strongest())
    views, geometry = random_views((1.0, 3.0)), random_geometry()
    strongest = fuse_features(views, geometry, encoder, combine="strongest")
    second = fuse_features(random_views((0.0, 3.0)), geometry, encoder, combine="mean")
    assert torch.equal(strongest.tokens, second.tokens)


def test_the_encoder_stays_trainable_after_fusing(encoder):
    fuse_features(random_views(), random_geometry(), encoder)
    assert all(p.requires_grad and not p.is_inference() for p in encoder.parameters())
