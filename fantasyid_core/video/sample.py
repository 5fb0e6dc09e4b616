"""Sampling: from noise, text, a reference and an identity to a clean latent video."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import cos, pi
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from ..progress import ProgressCallback, silent
from .identity_context import IdentityContext
from .people_context import PeopleContext
from .schedule import NOISE_SCHEDULE, make_sampler
from .size import rotary_table
from .strength import LayerStrength

if TYPE_CHECKING:
    from .transformer import LayerAdaptiveTransformer3DModel


@dataclass(frozen=True)
class SamplingOptions:
    """What a user may choose about the sampling.

    steps: 1..1000. guidance_scale: of the text, 1 = off (and half the work). dynamic_guidance: the release's rising
    guidance, with its quirk (see :func:`guidance_at`). identity_guidance: 0 = off, as released; above 0 a further
    model call per step without the identity tells apart what the identity does, and that is added so many times more.
    strength: of the identity, per layer and step. noise_schedule: a checkpoint's own scheduler_config.json.
    """

    steps: int = 50
    guidance_scale: float = 6.0
    dynamic_guidance: bool = False
    identity_guidance: float = 0.0
    strength: LayerStrength = field(default_factory=LayerStrength)
    sampler: str = "dpm"
    noise_schedule: Mapping[str, Any] = field(default_factory=lambda: NOISE_SCHEDULE)


@dataclass(frozen=True, eq=False)
class Conditions:
    """What the video is made from; the latents take their size, dtype and device from here.

    positive, negative: [1, L, D] text embeddings (negative None: only with guidance 1). reference: [1, F, C, H, W]
    latents of the reference crop at frame 0, zeros behind (:func:`encode_reference`). identity: None = plain CogVideoX.
    """

    positive: torch.Tensor
    negative: torch.Tensor | None
    reference: torch.Tensor
    identity: IdentityContext | PeopleContext | None = None

    def __post_init__(self) -> None:
        if self.negative is not None and self.negative.shape != self.positive.shape:
            raise InputError(
                f"Prompt and negative prompt must be encoded to the same length, but they are "
                f"{list(self.positive.shape)} and {list(self.negative.shape)}; encode both with the same node."
            )


@torch.no_grad()
def sample(
    model: LayerAdaptiveTransformer3DModel,
    conditions: Conditions,
    options: SamplingOptions,
    generator: torch.Generator,
    progress: ProgressCallback = silent,
    check: Callable[[], None] | None = None,
) -> torch.Tensor:
    """Denoise: → clean latents [1, F, C, H, W] in the text's dtype.

    generator: as the VAE's posterior draw left it; here come the noise, then the sampler's draws. progress: gets the
    estimate of the clean latents (float32, of the same shape) after each step. check: called before every block of
    every step; it and progress cancel by raising. Source: the release's loop (release.md, sampling loop).
    """
    from diffusers.utils.torch_utils import randn_tensor

    text, reference = conditions.positive, conditions.reference
    sampler = make_sampler(options.sampler, options.steps, options.noise_schedule)
    denoiser = _Denoiser(model, conditions, options, check)
    latents = randn_tensor(reference.shape, generator=generator, device=text.device, dtype=text.dtype)
    try:
        for i, timestep in enumerate(sampler.timesteps):
            velocity = denoiser.velocity(latents, int(timestep), i / options.steps)  # float32
            latents, clean = sampler.step(velocity, i, latents, generator)
            latents = latents.to(text.dtype)  # as released: only the estimate keeps float32 from step to step
            progress(i + 1, options.steps, clean)
    finally:
        model._reset_stateful_cache()  # a step cache must not carry this video into the next
    return latents


def guidance_at(timestep: int, options: SamplingOptions) -> float:
    """The text guidance of a step.

    Dynamic guidance is the release's formula, which takes the raw timestep (999 … 0) for a step number: with few
    steps it swings between 1 and 1 + scale instead of rising. Kept, because it is what the release computes.
    """
    if not options.dynamic_guidance:
        return options.guidance_scale
    done = (options.steps - timestep) / options.steps
    return 1.0 + options.guidance_scale * (1.0 - cos(pi * done**5.0)) / 2.0


class _Denoiser:
    """The guided model: one velocity out of one, two or three branches."""

    def __init__(
        self,
        model: LayerAdaptiveTransformer3DModel,
        conditions: Conditions,
        options: SamplingOptions,
        check: Callable[[], None] | None,
    ) -> None:
        self.model, self.conditions, self.options, self.check = model, conditions, options, check
        _, frames, _, height, width = conditions.reference.shape
        self.rotary = rotary_table(model.model_config, frames, height, width, conditions.positive.device)
        self.guided = options.guidance_scale > 1.0
        if self.guided and conditions.negative is None:
            raise InputError("Guidance above 1 needs a negative prompt (it may be empty); encode one or set it to 1.")

    def velocity(self, latents: torch.Tensor, timestep: int, fraction: float) -> torch.Tensor:
        """The guided velocity of ``latents`` [1, F, C, H, W] at ``timestep``, ``fraction`` of the way: float32."""
        texts = [self.conditions.positive]
        if self.guided and self.conditions.negative is not None:
            texts.insert(0, self.conditions.negative)  # as released: negative first, in one batch
        identity = self._identity(fraction)
        branches = self._call("guidance", latents, texts, timestep, identity).float()
        positive = branches[-1:]
        guided = positive
        if self.guided:
            negative = branches[:1]
            guided = negative + guidance_at(timestep, self.options) * (positive - negative)
        if self.options.identity_guidance and identity is not None:
            without = self._call("without identity", latents, [self.conditions.positive], timestep, None).float()
            guided = guided + self.options.identity_guidance * (positive - without)
        return guided

    def _identity(self, fraction: float) -> IdentityContext | PeopleContext | None:
        identity = self.conditions.identity
        return None if identity is None else identity.at(self.options.strength, fraction)

    def _call(
        self,
        branch: str,
        latents: torch.Tensor,
        texts: list[torch.Tensor],
        timestep: int,
        identity: IdentityContext | PeopleContext | None,
    ) -> torch.Tensor:
        """One model call on a batch of ``texts``, [B, F, C, H, W]; step caches keep one memory per ``branch``."""
        batch = len(texts)
        noisy = torch.cat([latents, self.conditions.reference], dim=2)  # (1, F, 2C, H, W)
        with self.model.cache_context(branch):
            return self.model(
                hidden_states=noisy.expand(batch, -1, -1, -1, -1),
                encoder_hidden_states=torch.cat(texts),
                timestep=torch.full((batch,), timestep, device=latents.device),
                image_rotary_emb=self.rotary,
                return_dict=False,
                identity=identity,
                check=self.check,
            )[0]
