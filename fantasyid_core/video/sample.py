"""Sampling: from noise, text, a reference and an identity to a clean latent video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import cos, inf, pi
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError
from ..out_of_memory import Ladder, Way, is_out_of_memory
from ..progress import ProgressCallback, silent
from .compiling import compiled_blocks
from .identity_context import IdentityContext
from .levers import AS_SET, EXACT, Levers
from .memory_presets import MEMORY_PRESETS, MemoryPreset
from .parallel import check_shareable, mean_over_shares, processes_sharing
from .people_context import PeopleContext
from .schedule import NOISE_SCHEDULE, make_sampler
from .size import rotary_table
from .skip_layers import OFF, SkipLayers
from .slices import rows_at_once
from .step_cache import StepCache
from .strength import LayerStrength
from .windows import Window, check_window

if TYPE_CHECKING:
    from .transformer import LayerAdaptiveTransformer3DModel

_NEGATIVE, _POSITIVE = "negative", "positive"  #: the branches of text guidance, and those of the further guidances:
_WITHOUT_IDENTITY, _NOBODY, _SKIPPING = "without identity", "nobody", "skipping layers"


@dataclass(frozen=True)
class SamplingOptions:
    """What a user may choose about the sampling.

    steps: 1..1000. guidance_scale: of the text, 1 = off (and half the work). dynamic_guidance: the release's rising
    guidance, with its quirk (see :func:`guidance_at`). identity_guidance: 0 = off, as released; above 0 a further
    model call per step without the identity tells apart what the identity does, and that is added so many times more.
    reference_guidance: the same without the reference picture too, for a model that was trained so now and then.
    skip_layers: a call with some attention left out (skip_layers.py). strength: of the
    identity, per layer and step. noise_schedule: a checkpoint's own scheduler_config.json.
    levers: fewer and cheaper steps. window: for videos longer than the model was trained on, None = all at once.
    """

    steps: int = 50
    guidance_scale: float = 6.0
    dynamic_guidance: bool = False
    identity_guidance: float = 0.0
    reference_guidance: float = 0.0
    skip_layers: SkipLayers = OFF
    strength: LayerStrength = field(default_factory=LayerStrength)
    sampler: str = "dpm"
    noise_schedule: Mapping[str, Any] = field(default_factory=lambda: NOISE_SCHEDULE)
    levers: Levers = EXACT
    window: Window | None = None


@dataclass
class Tally:
    """What a sampling took, counted as it runs.

    blocks: evaluations, one per block, branch and window. exact_blocks: those of the same sampling without levers.
    notes: what had to be done otherwise than asked, in sentences.
    """

    blocks: int = 0
    steps: int = 0
    exact_blocks: int = 0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        spared = 0 < self.blocks < self.exact_blocks
        less = f", {self.exact_blocks / self.blocks:.2g} times less than exact" if spared else ""
        return "\n".join(
            [f"{self.steps} steps, {self.blocks} of {self.exact_blocks} block evaluations{less}", *self.notes]
        )


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
    tally: Tally | None = None,
    ladder: Ladder | None = None,
) -> torch.Tensor:
    """Denoise: → clean latents [1, F, C, H, W] in the text's dtype.

    generator: as the VAE's posterior draw left it; here come the noise, then the sampler's draws. progress: gets the
    estimate of the clean latents (float32, of the same shape) after each step. check: called before every block of
    every step; it and progress cancel by raising. tally: counts what is done. ladder: what a step is made smaller by
    when the memory is too small, None = the memory presets, noted in the tally. Raises InputError when it is too small
    for the smallest. Source: the release's loop (release.md, sampling loop).
    """
    from diffusers.utils.torch_utils import randn_tensor

    from .attention import use_attention

    text, reference, levers = conditions.positive, conditions.reference, options.levers
    asked, steps = options.steps, levers.steps(options.steps)
    options = replace(options, steps=steps)
    solver = options.sampler if levers.solver == AS_SET else levers.solver
    sampler = make_sampler(solver, steps, options.noise_schedule)
    tally = Tally() if tally is None else tally
    ladder = ladder or Ladder(MEMORY_PRESETS, tally.notes.append)
    denoiser = _Denoiser(model, conditions, options, check, tally, ladder)
    tally.exact_blocks += denoiser.exact_blocks(asked)
    latents = randn_tensor(reference.shape, generator=generator, device=text.device, dtype=text.dtype)
    try:
        with use_attention(model, levers.attention), compiled_blocks(model, levers.compile_blocks):
            for i, timestep in enumerate(sampler.timesteps):
                velocity = denoiser.velocity(latents, int(timestep), i)  # float32
                latents, clean = sampler.step(velocity, i, latents, generator)
                latents = latents.to(text.dtype)  # as released: only the estimate keeps float32 from step to step
                progress(i + 1, steps, clean)
    except (RuntimeError, MemoryError) as error:  # around the model's calls, which the ladder looks after
        if not is_out_of_memory(error):
            raise
        raise InputError(_too_large(processes_sharing(model))) from error
    finally:
        model._reset_stateful_cache()  # a step cache must not carry this video into the next
    return latents


def _too_large(processes: int) -> str:
    if processes > 1:
        return (
            "The memory is too small for one process's share of this video; start more processes, let the negative "
            "prompt run 'sequential', or make fewer or smaller frames."
        )
    return (
        "The memory is too small for this video, even for one prompt after the other and a few rows at a time; "
        "make fewer frames or smaller ones, or close what else uses it."
    )


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
    """The guided model: one velocity out of one to five branches, each of one or several windows."""

    def __init__(
        self,
        model: LayerAdaptiveTransformer3DModel,
        conditions: Conditions,
        options: SamplingOptions,
        check: Callable[[], None] | None,
        tally: Tally,
        ladder: Ladder,
    ) -> None:
        self.model, self.conditions, self.options, self.check, self.tally = model, conditions, options, check, tally
        self.ladder = ladder
        _, frames, _, height, width = conditions.reference.shape
        device = conditions.positive.device
        self.spans: tuple[slice, ...] = (slice(0, frames),)
        self.weights: tuple[torch.Tensor, ...] = ()  # of the windows, where there are several
        if options.window is not None:
            check_window(model.model_config, options.window)
            self.spans = options.window.spans(frames)
            self.weights = tuple(weight.to(device) for weight in options.window.weights(frames))
        at_once = self.spans[0].stop
        self.rotary = rotary_table(model.model_config, at_once, height, width, device)
        check_shareable(model, conditions.positive.shape[1], len(self.rotary[0]))
        self.cache = StepCache(options.levers, mean_over_shares(model)) if options.levers.cache != "off" else None
        self.differences = {
            name: _Difference(options.levers.guidance_every)
            for name in (_NEGATIVE, _WITHOUT_IDENTITY, _NOBODY, _SKIPPING)
        }
        for of, scale in {"Identity": options.identity_guidance, "Reference": options.reference_guidance}.items():
            if not 0.0 <= scale < inf:
                raise InputError(f"{of} guidance must be 0 (off) or above, not {scale:g}.")
        skip = options.skip_layers
        self.skipped = skip.within(len(model.transformer_blocks)) if skip.scale else frozenset[int]()
        self.guided = options.guidance_scale > 1.0
        if self.guided and conditions.negative is None:
            raise InputError("Guidance above 1 needs a negative prompt (it may be empty); encode one or set it to 1.")

    def exact_blocks(self, steps: int) -> int:
        """How many blocks ``steps`` steps run without levers."""
        calls = steps * (2 if self.guided else 1) + sum(len(self._further(step / steps)) for step in range(steps))
        return calls * len(self.spans) * len(self.model.transformer_blocks)

    def velocity(self, latents: torch.Tensor, timestep: int, step: int) -> torch.Tensor:
        """The guided velocity of ``latents`` [1, F, C, H, W] at ``timestep``, which is the ``step``-th: float32."""
        options, fraction = self.options, step / self.options.steps
        identity, further, text = self._identity(fraction), self._further(fraction), self.differences[_NEGATIVE]
        guides = self.guided and options.levers.guides(fraction)
        text_is_due = guides and text.is_due(step)
        due = [name for name in further if self.differences[name].is_due(step)]
        whole = options.levers.guidance_every > 1 and (text_is_due or bool(due))
        call = partial(self._branches, latents=latents, timestep=timestep, step=step, fraction=fraction, whole=whole)
        self.tally.steps += 1
        scale = guidance_at(timestep, options)
        if text_is_due:
            negative, positive = call([_NEGATIVE, _POSITIVE], identity=identity).split(1)  # in the released order
            text.keep(positive - negative, step)
            guided = negative + scale * (positive - negative)
        else:
            positive = call([_POSITIVE], identity=identity)
            guided = positive + (scale - 1.0) * text.value if guides else positive
        for name in due:
            other = call([name], identity=identity if name == _SKIPPING else None)
            self.differences[name].keep(positive - other, step)
        for name, times in further.items():
            guided = guided + times * self.differences[name].value
        return guided

    def _further(self, fraction: float) -> dict[str, float]:
        """What guides besides the negative prompt: branch → how many times more of what it lacks is added."""
        options = self.options
        scales = {
            _WITHOUT_IDENTITY: 0.0 if self._identity(fraction) is None else options.identity_guidance,
            _NOBODY: 0.0 if self.conditions.identity is None else options.reference_guidance,
            _SKIPPING: options.skip_layers.scale if options.skip_layers.acts(fraction) else 0.0,
        }
        return {name: scale for name, scale in scales.items() if scale}

    def _identity(self, fraction: float) -> IdentityContext | PeopleContext | None:
        identity = self.conditions.identity
        return None if identity is None else identity.at(self.options.strength, fraction)

    def _branches(
        self, names: Sequence[str], *, identity: IdentityContext | PeopleContext | None, **where: Any
    ) -> torch.Tensor:
        """The velocities of the branches ``names``, [branches, F, C, H, W] float32: as one batch or one by one."""

        def velocities() -> torch.Tensor:
            at_once = self._at_once(names, self.ladder.preset)
            parts = [names[i : i + at_once] for i in range(0, len(names), at_once)]
            with rows_at_once(self.ladder.preset.rows):
                return torch.cat([self._in_windows(part, identity, **where) for part in parts])

        too_large = _too_large(processes_sharing(self.model))
        return self.ladder.run("transformer", velocities, partial(self._way, names), too_large)

    def _at_once(self, names: Sequence[str], preset: MemoryPreset) -> int:
        """Branches in one batch."""
        return 1 if "sequential" in (self.options.levers.negative, preset.negative) else len(names)

    def _way(self, names: Sequence[str], preset: MemoryPreset) -> Way:
        if processes_sharing(self.model) > 1:  # while one ran out of memory, the others wait for its tokens
            return Way()
        rows = min(preset.rows, self.conditions.positive.shape[1] + len(self.rotary[0]))
        return Way((self._at_once(names, preset), rows), preset.sampling)

    def _in_windows(
        self, names: Sequence[str], identity: IdentityContext | PeopleContext | None, latents: torch.Tensor, **when: Any
    ) -> torch.Tensor:
        if len(self.spans) == 1:
            return self._call(names, self.spans[0], identity, latents, **when).float()
        blended = torch.zeros(len(names), *latents.shape[1:], device=latents.device)
        for span, weight in zip(self.spans, self.weights, strict=True):
            here = None if identity is None else identity.in_frames(span, latents.shape[1])
            seen = self._call(names, span, here, latents[:, span], **when).float()
            blended[:, span] += weight[:, None, None, None] * seen
        return blended

    def _call(
        self,
        names: Sequence[str],
        span: slice,
        identity: IdentityContext | PeopleContext | None,
        latents: torch.Tensor,
        timestep: int,
        step: int,
        fraction: float,
        whole: bool,
    ) -> torch.Tensor:
        """One model call on a batch of branches, [B, f, C, H, W]; step caches keep a memory per branch and window.

        whole: no block is left out, because later steps take over what this one makes.
        """
        batch = len(names)
        texts = [self.conditions.negative if name == _NEGATIVE else self.conditions.positive for name in names]
        reference = self.conditions.reference[:, : latents.shape[1]]  # at the first frame of every window
        if _NOBODY in names:
            reference = torch.zeros_like(reference)
        noisy = torch.cat([latents, reference], dim=2)  # (1, f, 2C, H, W)
        stamp = None if identity is None else identity.stamp
        cache = self.cache and self.cache.call([(name, span.start) for name in names], step, fraction, stamp, whole)
        with self.model.cache_context(f"{'+'.join(names)} from {span.start}"):  # for diffusers' own step caches
            return self.model(
                hidden_states=noisy.expand(batch, -1, -1, -1, -1),
                encoder_hidden_states=torch.cat([text for text in texts if text is not None]),
                timestep=torch.full((batch,), timestep, device=latents.device),
                image_rotary_emb=self.rotary,
                return_dict=False,
                identity=identity,
                check=partial(self._before_block, batch),
                cache=cache,
                skip_attention=self.skipped if _SKIPPING in names else (),
            )[0]

    def _before_block(self, batch: int) -> None:
        if self.check is not None:
            self.check()
        self.tally.blocks += batch


class _Difference:
    """What a branch changes, computed in each ``every``-th step and taken over in the others."""

    def __init__(self, every: int) -> None:
        self.every, self.step = every, -1
        self._value: torch.Tensor | None = None

    @property
    def value(self) -> torch.Tensor:
        assert self._value is not None  # is_due says so before
        return self._value

    def is_due(self, step: int) -> bool:
        return self._value is None or step - self.step >= self.every

    def keep(self, value: torch.Tensor, step: int) -> None:
        self._value, self.step = value, step
