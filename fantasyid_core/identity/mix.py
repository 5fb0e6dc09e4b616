"""Two identities made into one, by the ways that artists know from face-embeds nodes.

The video model normalises every identity token before it attends to it (LayerAttention's LayerNorm), so a token's
length says nothing there and only its direction counts: "add" differs from "average" by how much of the second one it
takes, not by being stronger. How strongly an identity acts is the sampler's identity strength.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..arrays import FloatArray
from ..errors import InputError
from .identity import Identity

Combine = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def norm_average(tokens: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The weighted mean direction of ``tokens`` [N, T, C] at their weighted mean length: [T, C].

    shares: [N], their sum 1. Each token counts by its share alone, however long it is.
    """
    lengths = tokens.norm(dim=-1, keepdim=True).clamp(min=1e-12)  # [N, T, 1]
    weights = shares.to(tokens)[:, None, None]
    direction = (weights * tokens / lengths).sum(0)
    scale = (weights * lengths).sum(0) / direction.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return direction * scale


def _average(a: torch.Tensor, b: torch.Tensor, ratio: float) -> torch.Tensor:
    return torch.lerp(a, b, ratio)


def _norm_average(a: torch.Tensor, b: torch.Tensor, ratio: float) -> torch.Tensor:
    return norm_average(torch.stack([a, b]), torch.tensor([1.0 - ratio, ratio]))


def _add(a: torch.Tensor, b: torch.Tensor, ratio: float) -> torch.Tensor:
    return a + ratio * b


def _subtract(a: torch.Tensor, b: torch.Tensor, ratio: float) -> torch.Tensor:
    return a - ratio * b


def _concat(a: torch.Tensor, b: torch.Tensor, ratio: float) -> torch.Tensor:
    return torch.cat([a] * (ratio < 1.0) + [b] * (ratio > 0.0))


#: name → how the tokens [T, C] of A and B become those of the mix, and B's share of a blended reference picture.
METHODS: dict[str, tuple[Combine, Callable[[float], float]]] = {
    "average": (_average, lambda ratio: ratio),
    "norm average": (_norm_average, lambda ratio: ratio),
    "add": (_add, lambda ratio: ratio / (1.0 + ratio)),
    "subtract": (_subtract, lambda ratio: 0.0),
    "concat": (_concat, lambda ratio: ratio),
}
REFERENCES = ("the greater share's", "A's", "B's", "blended")


def mix_identities(
    a: Identity, b: Identity, ratio: float = 0.5, method: str = "average", reference: str = REFERENCES[0]
) -> Identity:
    """``a`` and ``b`` as one identity of the same model.

    ratio: 0..1, how much of ``b``. method: a name of METHODS. "average": (1 - ratio) a + ratio b; "norm average": the
    same of directions, each token counting alike however long it is; "add": a + ratio b; "subtract": a - ratio b;
    "concat": both lists of tokens side by side (0 leaves ``b`` out, 1 leaves ``a`` out, nothing between matters).
    reference: whose crop conditions the first frame: a name of REFERENCES; "blended" lays one over the other by B's
    share. Except with "concat" both need as many tokens. Raises InputError, in one sentence, for what does not fit.
    """
    if method not in METHODS:
        raise InputError(f"There is no way to mix called '{method}'; choose one of: {', '.join(METHODS)}.")
    if not 0.0 <= ratio <= 1.0:
        raise InputError(f"The ratio must lie between 0 (only A) and 1 (only B), not {ratio:g}.")
    _check_fit(a, b, method)
    combine, share_of_b = METHODS[method]
    tokens = combine(a.tokens, b.tokens, ratio)
    if float(tokens.abs().max()) == 0.0:
        raise InputError("Nothing is left of this identity when the other is subtracted; choose a smaller ratio.")
    share = share_of_b(ratio)
    notes = {"mix": f"{method}, ratio {ratio:.2f}", "reference picture": reference, **_notes(a, b, method, ratio)}
    fit = b.reference_fit if _is_b(reference, share) else a.reference_fit
    return Identity(tokens, _reference(a.reference, b.reference, share, reference), a.model, fit, notes)


def _check_fit(a: Identity, b: Identity, method: str) -> None:
    if a.model != b.model:
        raise InputError(
            f"Identity A was made by the model {a.model} and B by {b.model}, which cannot be mixed; make both with the "
            "same model."
        )
    if method != "concat" and a.tokens.shape != b.tokens.shape:
        raise InputError(
            f"Identity A has {len(a.tokens)} tokens and B {len(b.tokens)}; fuse both with the same branches and the "
            "same combine, or mix them by 'concat'."
        )


def _notes(a: Identity, b: Identity, method: str, ratio: float) -> dict[str, str]:
    """Both provenances: what they share once, the rest as "A, geometry" and "B, geometry"."""
    same = {
        key: note
        for key, note in a.provenance.items()
        if b.provenance.get(key) == note and key not in ("mix", "reference picture")  # this mix has its own
    }
    own = {
        f"{name}, {key}": note
        for name, each in (("A", a), ("B", b))
        for key, note in each.provenance.items()
        if key not in same
    }
    if method == "concat" and 0.0 < ratio < 1.0 and "tokens" in same:
        same["tokens"] = f"{same['tokens']} + {same['tokens']}"
    return same | own


def _is_b(reference: str, share: float) -> bool:
    return reference == "B's" or (reference != "A's" and share > 0.5)


def _reference(a: FloatArray, b: FloatArray, share: float, reference: str) -> FloatArray:
    """The crop [512, 512, 3]; aligned crops have the eyes at the same places, so that a blend is a face again."""
    if reference not in REFERENCES:
        raise InputError(f"There is no reference called '{reference}'; choose one of: {', '.join(REFERENCES)}.")
    if reference == "blended":
        return (1.0 - share) * a + share * b
    return b if _is_b(reference, share) else a
