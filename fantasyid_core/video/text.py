"""Text: T5 as the release runs it (fixed length, no attention mask), and a tokenizer that needs no vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from zlib import crc32

import torch

from ..errors import InputError

PAD, END = 0, 1  #: T5's token numbers
_WORD = re.compile(r"\w+|[^\w\s]")

#: A token of ComfyUI's tokenizers: its number (or an embedding), its weight, and perhaps a word number.
TokenPair = tuple[Any, ...]


class Tokenizer(Protocol):
    """A transformers tokenizer, as far as it is used here."""

    def __call__(
        self,
        text: str,
        *,
        padding: str,
        max_length: int,
        truncation: bool,
        add_special_tokens: bool,
        return_tensors: str,
    ) -> Any:
        """→ an object whose ``input_ids`` are [1, max_length] int64."""
        ...


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A tokenizer and a T5 encoder (transformers' T5EncoderModel), which give [1, length, D] per prompt."""

    tokenizer: Tokenizer
    encoder: Any
    length: int

    def encode(self, prompt: str) -> torch.Tensor:
        """The prompt as [1, length, D], in the encoder's dtype and on its device."""
        return encode_text(self.tokenizer, self.encoder, prompt, self.length)


@torch.no_grad()
def encode_text(tokenizer: Tokenizer, text_encoder: Any, prompt: str, length: int = 226) -> torch.Tensor:
    """Prompt → [1, length, D] as the release: cut or padded to ``length`` tokens, the padding attended to (no mask).

    A longer prompt loses its end, never the end token. In the encoder's dtype and on its device.
    """
    tokens = tokenizer(
        prompt,
        padding="max_length",
        max_length=length,
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    )
    return text_encoder(tokens.input_ids.to(text_encoder.device))[0]


def fixed_length_tokens(pairs: Sequence[Sequence[TokenPair]], length: int = 226) -> list[list[TokenPair]]:
    """ComfyUI's T5 tokens (``clip.tokenize(text)["t5xxl"]``), cut or padded to exactly ``length`` as the release does.

    Encoding them with a T5 that was loaded without attention mask (core CLIPLoader, type "sd3") gives what
    :func:`encode_text` gives: token for token the same numbers go in. Weights that the artist wrote are kept.
    """
    written = [pair for batch in pairs for pair in batch if not _is_special(pair)]
    kept = written[: length - 1]
    rest = (1.0, 0) if pairs and pairs[0] and len(pairs[0][0]) > 2 else (1.0,)  # word numbers, where they are asked for
    return [[*kept, (END, *rest), *[(PAD, *rest)] * (length - 1 - len(kept))]]


def _is_special(pair: TokenPair) -> bool:
    return isinstance(pair[0], int) and pair[0] in (PAD, END)


def fit_conditioning(conditioning: torch.Tensor, length: int = 226) -> torch.Tensor:
    """Text embeddings [B, L, D] made elsewhere → [B, length, D].

    Equal to the release only where L = length (core T5TokenizerOptions with min_length 226 on a T5 of type "sd3",
    prompts of at most 225 tokens). The rest is an approximation, because every T5 output depends on how much padding
    it saw: a longer one is cut, a shorter one goes on with its last row, which is the embedding of padding or of the
    end token; zeros would be something that the video model never met.
    """
    if conditioning.ndim != 3 or 0 in conditioning.shape:
        raise InputError(
            f"Text conditioning must be [batch, tokens, width], but it is {list(conditioning.shape)}; "
            "connect FantasyID's text node or a CLIPTextEncode with a T5."
        )
    missing = length - conditioning.shape[1]
    if missing <= 0:
        return conditioning[:, :length]
    return torch.cat([conditioning, conditioning[:, -1:].expand(-1, missing, -1)], dim=1)


@dataclass(frozen=True)
class TokenIds:
    """What a tokenizer returns. input_ids: [1, length] int64."""

    input_ids: torch.Tensor


@dataclass(frozen=True)
class WordHashTokenizer:
    """Words as numbers without a vocabulary file: each lower-cased word (and punctuation mark) is hashed into one of
    ``buckets`` numbers, after padding and end. The same on every machine and in every version (CRC-32).
    """

    buckets: int

    @property
    def vocabulary(self) -> int:
        """How many numbers there are in all."""
        return self.buckets + 2

    def __call__(
        self,
        text: str,
        *,
        padding: str = "max_length",
        max_length: int,
        truncation: bool = True,
        add_special_tokens: bool = True,
        return_tensors: str = "pt",
    ) -> TokenIds:
        """Text → [1, max_length], ended by the end token and padded; the other arguments are transformers' customs."""
        words = _WORD.findall(text.lower())[: max_length - 1]
        ids = [2 + crc32(word.encode("utf-8")) % self.buckets for word in words] + [END]
        return TokenIds(torch.tensor([ids + [PAD] * (max_length - len(ids))]))
