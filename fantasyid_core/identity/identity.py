"""What leaves the fourth room: the identity descriptor of one person, ready for the video model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from ..arrays import FloatArray, checked_array
from ..errors import InputError
from ..faces.face import CROP_SIZE


@dataclass(frozen=True, eq=False)
class Identity:
    """The fused 2D + 3D identity tokens (paper: V_F) and the reference crop.

    tokens: [T, C] float32 on the CPU, 2D tokens first, then 3D (release: 36 + 79 = 115 tokens × 2048).
    reference: [512, 512, 3] RGB 0..1, the crop that also conditions the video model's input (release: VAE-encoded at
    latent frame 0). model: the identity encoder that made the tokens, as ``<family>-<fingerprint>``; another model's
    sampler refuses them. reference_fit: how the reference is placed in the video's frame (input_path.py):
    "letterbox", "stretch" or "centre". provenance: readable notes on how it was made (views, geometry source …).
    """

    tokens: torch.Tensor
    reference: FloatArray
    model: str
    reference_fit: str = "letterbox"
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or 0 in self.tokens.shape:
            raise InputError(f"Identity tokens must be [tokens, width], but these are {list(self.tokens.shape)}.")
        if not torch.isfinite(self.tokens).all():
            raise InputError("The identity tokens hold NaN or infinity; make the identity again from its photograph.")
        set_ = object.__setattr__
        set_(self, "tokens", self.tokens.detach().to("cpu", torch.float32).contiguous())
        reference = checked_array("The reference crop", self.reference, (CROP_SIZE, CROP_SIZE, 3))
        set_(self, "reference", reference)
        set_(self, "provenance", MappingProxyType(dict(self.provenance)))
