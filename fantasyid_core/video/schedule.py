"""The ways to walk from noise to a clean latent video, all with one signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch

from ..errors import InputError

#: The noise schedule of CogVideoX-5B-I2V, which the release was trained on (release.md, sampling loop).
NOISE_SCHEDULE: Mapping[str, Any] = MappingProxyType(
    {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
        "snr_shift_scale": 1.0,
        "set_alpha_to_one": True,
        "clip_sample": False,
    }
)


class Sampler(Protocol):
    """One denoising run. ``timesteps`` [steps], from noise to clean."""

    timesteps: torch.Tensor

    def step(
        self, velocity: torch.Tensor, index: int, latents: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocity and latents [1, F, C, H, W] at step ``index`` → the next latents, and the clean ones' estimate."""
        ...


class DpmSampler:
    """CogVideoX's second-order stochastic DPM-Solver++, as released.

    The order of the random draws is diffusers' own: one noise in the first and the last step, two in the others, the
    first of which is thrown away. Without the thrown-away draw seeds would stop matching the release's.
    """

    def __init__(self, steps: int, schedule: Mapping[str, Any] = NOISE_SCHEDULE) -> None:
        from diffusers import CogVideoXDPMScheduler

        self._scheduler = CogVideoXDPMScheduler.from_config(dict(schedule))
        self._scheduler.set_timesteps(steps)
        self.timesteps: torch.Tensor = self._scheduler.timesteps
        self._previous_clean: torch.Tensor | None = None  # float32, whatever the latents are

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """The schedule: how much of the clean video is left at each of the 1000 timesteps."""
        return self._scheduler.alphas_cumprod

    def step(
        self, velocity: torch.Tensor, index: int, latents: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Sampler`."""
        back = self.timesteps[index - 1] if index else None
        latents, clean = self._scheduler.step(
            velocity, self._previous_clean, self.timesteps[index], back, latents, generator=generator
        )
        self._previous_clean = clean
        return latents, clean


class DdimSampler:
    """DDIM on the same schedule: first order, no noise but the first, so a video hardly changes with the steps."""

    def __init__(self, steps: int, schedule: Mapping[str, Any] = NOISE_SCHEDULE) -> None:
        from diffusers import CogVideoXDDIMScheduler

        self._scheduler = CogVideoXDDIMScheduler.from_config(dict(schedule))
        self._scheduler.set_timesteps(steps)
        self.timesteps: torch.Tensor = self._scheduler.timesteps

    def step(
        self, velocity: torch.Tensor, index: int, latents: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Sampler`."""
        result = self._scheduler.step(velocity, self.timesteps[index], latents, generator=generator)
        return result.prev_sample, result.pred_original_sample


class Dpm2mSampler:
    """DPM-Solver++(2M) on the same schedule: second order and without noise, so half the steps go as far.

    A step is the exact solution for a clean estimate that moves linearly in the log of the signal-to-noise ratio
    (Lu et al. 2022, data prediction). From pure noise, whose ratio is 0, the estimate cannot be extrapolated, nor
    towards the clean end; those steps are first order, as is the one after the first.
    """

    def __init__(self, steps: int, schedule: Mapping[str, Any] = NOISE_SCHEDULE) -> None:
        from diffusers import CogVideoXDDIMScheduler

        scheduler = CogVideoXDDIMScheduler.from_config(dict(schedule))
        scheduler.set_timesteps(steps)
        self.timesteps: torch.Tensor = scheduler.timesteps
        kept = scheduler.alphas_cumprod.double()
        #: how much of the clean video is left [steps + 1], at each step and behind the last, where all of it is there
        self._kept = torch.cat([kept[self.timesteps], torch.ones(1, dtype=torch.float64)])
        self._log_ratio = 0.5 * (torch.log(self._kept) - torch.log1p(-self._kept))  # from -inf to inf
        self._previous_clean: torch.Tensor | None = None

    def step(
        self, velocity: torch.Tensor, index: int, latents: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`Sampler`. Draws nothing from ``generator``."""
        signal, noise = float(self._kept[index].sqrt()), float((1.0 - self._kept[index]).sqrt())
        next_signal, next_noise = float(self._kept[index + 1].sqrt()), float((1.0 - self._kept[index + 1]).sqrt())
        clean = signal * latents.float() - noise * velocity.float()  # [1, F, C, H, W]
        ahead = clean
        if self._previous_clean is not None:
            ahead = clean + self._slope(index) * (clean - self._previous_clean)
        self._previous_clean = clean
        left = signal * next_noise / (noise * next_signal)  # exp(-h) of the textbook
        return next_noise / noise * latents.float() + next_signal * (1.0 - left) * ahead, clean

    def _slope(self, index: int) -> float:
        """How far beyond the newest estimate to aim, in units of its last change: h / 2h', 0 at both ends."""
        before, here, behind = (float(ratio) for ratio in self._log_ratio[index - 1 : index + 2])
        return (behind - here) / (2.0 * (here - before)) if behind < float("inf") else 0.0


SAMPLERS: dict[str, Callable[[int, Mapping[str, Any]], Sampler]] = {
    "dpm": DpmSampler,
    "ddim": DdimSampler,
    "dpm2m": Dpm2mSampler,
}


def make_sampler(name: str, steps: int, schedule: Mapping[str, Any] = NOISE_SCHEDULE) -> Sampler:
    """The sampler ``name`` of SAMPLERS for ``steps`` steps; ``schedule`` as in a checkpoint's scheduler_config.json."""
    if name not in SAMPLERS:
        raise InputError(f"There is no sampler '{name}'; choose one of: {', '.join(SAMPLERS)}.")
    most = int(schedule["num_train_timesteps"])
    if not 1 <= steps <= most:
        raise InputError(f"The number of steps must lie between 1 and {most}, not {steps}.")
    return SAMPLERS[name](steps, schedule)
