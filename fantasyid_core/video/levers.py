"""Fewer and cheaper steps: every lever by itself, and three presets of them. docs/speed.md has what each one costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..errors import InputError

AS_SET = "the sampler's own"  #: of the solver
CACHES = ("off", "first block", "interval", "magnitude")
NEGATIVE = ("batched", "sequential")
MOST_ORDER = 2  #: of the extrapolation; three remembered steps


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"The {what} cannot be '{value}'; choose one of: {', '.join(choices)}.")


def _within(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InputError(f"The {what} must lie between {least:g} and {most:g}, not {value:g}.")


def _range(what: str, start: float, end: float) -> None:
    if not 0.0 <= start <= end <= 1.0:
        raise InputError(f"The {what} must run from a smaller to a larger fraction within 0 to 1, not {start}–{end}.")


@dataclass(frozen=True)
class Levers:
    """What may be left out of a sampling. The defaults leave nothing out: bit for bit the plain sampling.

    solver: AS_SET, or one of schedule.SAMPLERS instead of the sampler's own. step_share: of the steps that were asked
    for, 0..1; "dpm2m" with 0.5 is the second-order solver with half the steps.

    cache: how a step is chosen whose blocks are not run; what they added last time stands in for them (step_cache.py).
    "first block": the first block, which is always run, changes its input nearly as it did (relative difference below
    ``cache_threshold``). "interval": one step is computed, the next ``cache_most`` are not. "magnitude": by how fast
    the size of what the blocks add has been changing, the error should still be below ``cache_threshold``.
    cache_most: how many steps in a row may be skipped. cache_order: 0 reuses what was added as it is, 1 and 2
    extrapolate it over the steps (Taylor). cache_start, cache_end: fractions of the steps within which any are skipped.

    guidance_start, guidance_end: fractions of the steps within which the negative prompt counts; outside, guidance is
    1 and its branch is not run. guidance_every: of these steps each k-th runs the negative branch; the others take the
    difference it made last time (the same holds for identity guidance).
    negative: both branches as one batch, or one after the other in half the memory, the same but for rounding.

    attention: "auto" leaves the model's backend as it is; or one of attention_choice.ATTENTIONS that runs here.
    compile_blocks: torch.compile of the repeated block; worth its minute on a graphics card with many steps.
    """

    solver: str = AS_SET
    step_share: float = 1.0
    cache: str = "off"
    cache_threshold: float = 0.1
    cache_most: int = 2
    cache_order: int = 0
    cache_start: float = 0.1
    cache_end: float = 0.95
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    guidance_every: int = 1
    negative: str = "batched"
    attention: str = "auto"
    compile_blocks: bool = False

    def __post_init__(self) -> None:
        _one_of("cache", self.cache, CACHES)
        _one_of("negative branch", self.negative, NEGATIVE)
        _within("share of the steps", self.step_share, 0.01, 1.0)
        _within("threshold of the cache", self.cache_threshold, 0.0, 10.0)
        _within("number of steps that the cache may skip in a row", self.cache_most, 1, 100)
        _within("order of the cache's extrapolation", self.cache_order, 0, MOST_ORDER)
        _within("number of steps per negative branch", self.guidance_every, 1, 100)
        _range("part of the steps with a cache", self.cache_start, self.cache_end)
        _range("part of the steps with guidance", self.guidance_start, self.guidance_end)

    def steps(self, asked: int) -> int:
        """How many of the ``asked`` steps are taken: at least 1."""
        return max(1, round(asked * self.step_share))

    def branches(self, asked: int) -> int:
        """Model calls of a guided sampling of ``asked`` steps, one per branch: 2 × asked or fewer.

        A cache leaves out blocks within them, so the work can only become less.
        """
        steps, last = self.steps(asked), -self.guidance_every
        negative = 0
        for step in range(steps):
            if self.guides(step / steps) and step - last >= self.guidance_every:
                negative, last = negative + 1, step
        return steps + negative

    def guides(self, fraction: float) -> bool:
        """Whether the negative prompt counts at ``fraction`` (step / steps, 0 ≤ fraction < 1)."""
        return self.guidance_start <= fraction < self.guidance_end

    def may_skip(self, fraction: float) -> bool:
        """Whether the blocks of the step at ``fraction`` may be left out."""
        return self.cache != "off" and self.cache_start <= fraction < self.cache_end


EXACT = Levers()

#: By name: "balanced" runs half as many blocks as "exact" or fewer, "fast" a third. Which levers are worth it on a
#: checkpoint is measured, not known: `python -m benchmarks.levers` prints what each of them costs (docs/speed.md).
PRESETS: Mapping[str, Levers] = MappingProxyType(
    {
        "exact": EXACT,
        "balanced": Levers(step_share=0.5),
        "fast": Levers(step_share=0.5, guidance_every=3, guidance_end=0.8),
    }
)


def in_words(levers: Levers, asked: int = 50) -> str:
    """What ``levers`` leave out of a guided sampling of ``asked`` steps, for people."""
    if levers == EXACT:
        return "Nothing is left out."
    parts = []
    if levers.step_share < 1:
        parts.append(f"{levers.steps(asked)} of {asked} steps")
    if levers.solver != AS_SET:
        parts.append(f"solver {levers.solver}")
    if (levers.guidance_start, levers.guidance_end) != (0.0, 1.0):
        parts.append(f"guidance from {levers.guidance_start:.0%} to {levers.guidance_end:.0%} of the steps")
    if levers.guidance_every > 1:
        parts.append(f"the negative prompt in one of {levers.guidance_every} steps")
    if levers.cache != "off":
        parts.append(f"blocks skipped by the rule '{levers.cache}', at most {levers.cache_most} steps in a row")
    parts += ["one branch after the other"] if levers.negative == "sequential" else []
    parts += [f"attention {levers.attention}"] if levers.attention != "auto" else []
    parts += ["compiled blocks"] if levers.compile_blocks else []
    share = levers.branches(asked) / (2 * asked)
    most = "" if levers.cache == "off" else "at most "
    return f"{_capital('; '.join(parts))}. {_capital(f'{most}{share:.0%}')} of the work of an exact sampling."


def preset(name: str) -> Levers:
    """The preset ``name``. Raises InputError, naming them all."""
    if name not in PRESETS:
        raise InputError(f"There is no speed preset '{name}'; choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]
