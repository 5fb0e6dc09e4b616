"""Text as the release encodes it: fixed length, padding attended to; also from ComfyUI's own tokens."""

from __future__ import annotations

import pytest
import torch
from video_models import noise

from fantasyid_core.config import MINI
from fantasyid_core.errors import InputError
from fantasyid_core.video.mini import mini_text_encoder
from fantasyid_core.video.text import WordHashTokenizer, encode_text, fit_conditioning, fixed_length_tokens

LENGTH = 32
PROMPT = "A woman turns her head, smiles, and looks into the rain."


@pytest.fixture(scope="module")
def text():
    return mini_text_encoder(MINI)


@torch.no_grad()
def test_a_prompt_is_encoded_at_the_full_length_without_a_mask(text):
    encoded = text.encode(PROMPT)
    assert encoded.shape == (1, LENGTH, 128)
    ids = text.tokenizer(PROMPT, max_length=LENGTH).input_ids
    everything_attended = text.encoder(ids, attention_mask=torch.ones_like(ids))[0]
    padding_masked = text.encoder(ids, attention_mask=(ids != 0).long())[0]
    torch.testing.assert_close(encoded, everything_attended)
    assert (encoded - padding_masked).abs().max() > 1e-3


@torch.no_grad()
def test_prompts_of_any_length_work_and_differ(text):
    prompts = ["", "rain", PROMPT, PROMPT * 20, "人が雨の中を歩く", "a\n\tb  c"]
    encoded = [text.encode(prompt) for prompt in prompts]
    assert all(one.shape == (1, LENGTH, 128) and torch.isfinite(one).all() for one in encoded)
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(encoded) for b in encoded[:i])


def test_hashed_words_are_the_same_on_every_machine():
    ids = WordHashTokenizer(4094)("The rain, the RAIN.", max_length=8).input_ids
    assert ids.tolist() == [[1926, 2013, 580, 1926, 2013, 3354, 1, 0]]
    assert WordHashTokenizer(4094).vocabulary == 4096


def test_a_long_prompt_loses_its_end_but_not_the_end_token():
    ids = WordHashTokenizer(100)("word " * 50, max_length=8).input_ids[0]
    assert ids.tolist() == [ids[0]] * 7 + [1]


@pytest.mark.parametrize("words", [0, 3, 7, 8, 20])
def test_comfyuis_tokens_become_the_releases_token_for_token(words):
    tokenizer = WordHashTokenizer(100)
    prompt = " ".join(f"word{k}" for k in range(words))
    ours = tokenizer(prompt, max_length=8).input_ids[0].tolist()
    longest = tokenizer(prompt, max_length=words + 1).input_ids[0].tolist()
    for padded in (words + 1, 40):  # as core tokenizers give it: end token, then padding to their own minimum
        pairs = [[(token, 1.0, 1) for token in longest] + [(0, 1.0, 0)] * (padded - words - 1)]
        assert [[token for token, *_ in batch] for batch in fixed_length_tokens(pairs, 8)] == [ours]


def test_weights_that_the_artist_wrote_are_kept():
    assert fixed_length_tokens([[(17, 1.3), (18, 1.0), (1, 1.0)]], 5) == [
        [(17, 1.3), (18, 1.0), (1, 1.0), (0, 1.0), (0, 1.0)]
    ]


def test_embeddings_among_the_tokens_are_kept():
    embedding = torch.zeros(4)
    tokens = fixed_length_tokens([[(embedding, 1.0, 1), (1, 1.0, 0)]], 3)[0]
    assert tokens[0][0] is embedding
    assert tokens[1:] == [(1, 1.0, 0), (0, 1.0, 0)]


def test_conditioning_of_the_right_length_is_left_alone_and_other_lengths_are_fitted():
    conditioning = noise(1, 8, 4)
    assert torch.equal(fit_conditioning(conditioning, 8), conditioning)
    assert torch.equal(fit_conditioning(conditioning, 6), conditioning[:, :6])
    longer = fit_conditioning(conditioning, 10)
    assert torch.equal(longer[:, :8], conditioning)
    assert torch.equal(longer[:, 8:], conditioning[:, -1:].expand(-1, 2, -1))
    with pytest.raises(InputError, match="text node"):
        fit_conditioning(noise(4, 8), 8)


@torch.no_grad()
def test_a_transformers_tokenizer_is_asked_as_the_release_asks(text):
    asked = {}

    def tokenizer(prompt, **options):
        asked.update(options, prompt=prompt)
        return WordHashTokenizer(100)(prompt, max_length=options["max_length"])

    encode_text(tokenizer, text.encoder, PROMPT, 16)
    assert asked == {
        "prompt": PROMPT,
        "padding": "max_length",
        "max_length": 16,
        "truncation": True,
        "add_special_tokens": True,
        "return_tensors": "pt",
    }
