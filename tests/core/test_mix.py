"""Identities of identities, and the card that shows one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_identity import is_one_sentence

from fantasyid_core.errors import InputError
from fantasyid_core.identity.card import describe_identity, draw_identity_card, token_norms
from fantasyid_core.identity.identity import Identity
from fantasyid_core.identity.mix import METHODS, REFERENCES, mix_identities


def someone(seed: int, tokens: int = 7, model: str = "mini-0123456789ab", fit: str = "letterbox") -> Identity:
    random = torch.Generator().manual_seed(seed)
    crop = np.full((512, 512, 3), 0.2 * seed, np.float32)
    notes = {"views": f"photograph {seed} (1.00), turned 30° (0.50)", "fusion": "mean", "tokens": "4 2D + 3 3D"}
    return Identity(torch.randn(tokens, 16, generator=random), crop, model, fit, notes)


A, B = someone(1), someone(2, fit="stretch")


@pytest.mark.parametrize("method", ["average", "norm average"])
def test_the_ends_of_the_ratio_are_the_two_people(method: str) -> None:
    torch.testing.assert_close(mix_identities(A, B, 0.0, method).tokens, A.tokens)
    torch.testing.assert_close(mix_identities(A, B, 1.0, method).tokens, B.tokens)


def test_average_add_and_subtract_are_what_they_say() -> None:
    torch.testing.assert_close(mix_identities(A, B, 0.25).tokens, 0.75 * A.tokens + 0.25 * B.tokens)
    torch.testing.assert_close(mix_identities(A, B, 0.25, "add").tokens, A.tokens + 0.25 * B.tokens)
    torch.testing.assert_close(mix_identities(A, B, 0.25, "subtract").tokens, A.tokens - 0.25 * B.tokens)


def test_norm_average_does_not_hear_who_is_louder() -> None:
    loud = Identity(10 * B.tokens, B.reference, B.model, B.reference_fit, B.provenance)
    quiet, much = (mix_identities(A, who, 0.5, "norm average").tokens for who in (B, loud))
    torch.testing.assert_close(torch.nn.functional.normalize(quiet), torch.nn.functional.normalize(much))


def test_concat_lists_both() -> None:
    both = mix_identities(A, someone(3, tokens=5), 0.5, "concat")
    assert torch.equal(both.tokens[:7], A.tokens) and len(both.tokens) == 12
    assert torch.equal(mix_identities(A, B, 0.0, "concat").tokens, A.tokens)


@pytest.mark.parametrize(
    ("reference", "ratio", "level", "fit"),
    [
        (REFERENCES[0], 0.4, 0.2, "letterbox"),
        (REFERENCES[0], 0.6, 0.4, "stretch"),
        ("A's", 0.9, 0.2, "letterbox"),
        ("B's", 0.1, 0.4, "stretch"),
        ("blended", 0.25, 0.25, "letterbox"),
    ],
)
def test_the_reference_is_the_one_that_was_asked_for(reference: str, ratio: float, level: float, fit: str) -> None:
    mixed = mix_identities(A, B, ratio, reference=reference)
    assert mixed.reference[0, 0, 0] == pytest.approx(level)
    assert mixed.reference_fit == fit


def test_both_provenances_are_kept() -> None:
    notes = mix_identities(A, B).provenance
    assert notes["fusion"] == "mean"
    assert notes["A, views"].startswith("photograph 1")
    assert notes["B, views"].startswith("photograph 2")


def test_a_mix_of_mixes_remembers_all_of_them() -> None:
    first, second = mix_identities(A, B), mix_identities(B, A)
    notes = mix_identities(first, second, 0.25, "norm average", "blended").provenance
    assert notes["mix"] == "norm average, ratio 0.25"
    assert notes["reference picture"] == "blended"
    assert notes["A, mix"] == notes["B, mix"] == "average, ratio 0.50"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mix_identities(A, someone(2, model="release-ffffffffffff")),
        lambda: mix_identities(A, someone(2, tokens=5)),
        lambda: mix_identities(A, B, 1.5),
        lambda: mix_identities(A, B, method="multiply"),
        lambda: mix_identities(A, B, reference="nobody's"),
        lambda: mix_identities(A, A, 1.0, "subtract"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(wrong) -> None:
    with pytest.raises(InputError) as caught:
        wrong()
    assert is_one_sentence(str(caught.value))


@pytest.mark.parametrize("method", METHODS)
def test_the_card_shows_every_kind_of_identity(method: str) -> None:
    mixed = mix_identities(A, B, 0.5, method)
    card = draw_identity_card(mixed, "Somebody")
    assert card.shape[1:] == (1080, 3) and 0.0 <= card.min() < card.max() <= 1.0
    assert f"holds: {len(mixed.tokens)} tokens of 16 numbers" in describe_identity(mixed)


def test_the_card_tells_2d_from_3d_tokens() -> None:
    norms = token_norms(A)
    assert norms.parts == (("2D", 4), ("3D", 3))
    np.testing.assert_allclose(norms.values, A.tokens.norm(dim=1).numpy(), rtol=1e-6)
    lines = norms.lines()
    assert lines[0].startswith("4 2D tokens") and lines[1].startswith("3 3D tokens")


def test_two_people_s_cards_differ() -> None:
    assert not np.array_equal(draw_identity_card(A), draw_identity_card(B))
