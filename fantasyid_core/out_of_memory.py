"""What a device says when its memory is full, and the one ladder down which a generation then goes on."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import torch

from .errors import InputError

if TYPE_CHECKING:
    from .video.memory_presets import MemoryPreset

T = TypeVar("T")
Part = Literal["text encoder", "identity encoder", "transformer", "VAE"]

#: What MPS and the CPU say, which have no exception of their own.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that a device's memory is full (CUDA, ROCm, MPS or main memory)."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def release_unused() -> None:
    """Give back what nobody holds any more. Call it outside the ``except`` block: the error holds its tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


class Way(NamedTuple):
    """How a preset has a work done. size: compared number by number, a smaller one takes less memory. words: it."""

    size: tuple[int, ...] = ()
    words: str = ""


def the_only_way(preset: MemoryPreset) -> Way:
    """Of a work that is the same under every preset."""
    return Way()


class Ladder:
    """Memory presets, from the one that counts down to the smallest; whenever the memory is full, the next one counts.

    One for a whole generation: what was too much for the sampler is not tried again by the decoder. Here every part
    stays where it lies; video/placement.py also moves them. note: told a sentence at each step down.
    """

    def __init__(self, presets: Sequence[MemoryPreset], note: Callable[[str], object] = lambda sentence: None) -> None:
        self._presets, self._note = tuple(presets), note

    @property
    def preset(self) -> MemoryPreset:
        """The one that counts now."""
        return self._presets[0]

    def run(
        self,
        part: Part,
        work: Callable[[], T],
        way: Callable[[MemoryPreset], Way] = the_only_way,
        too_small: str = "",
    ) -> T:
        """What ``work`` of ``part`` gives; it is tried again as often as a preset below does it in a smaller ``way``.

        Presets that make no difference to it are passed over. Raises InputError, with the sentence ``too_small``, when
        none is left; other errors pass through.
        """
        while True:
            try:
                self._arrange(part)
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                below = self._below(part, way)
                if not below:
                    raise InputError(too_small or _too_small(part)) from error
            release_unused()  # here, because the error held what the work had made
            self._presets = below
            self._note(
                f"Too little memory: went on as on a card of {self.preset.name} GB: "
                f"{self._way(part, self.preset, way).words}."
            )

    def _below(self, part: Part, way: Callable[[MemoryPreset], Way]) -> tuple[MemoryPreset, ...]:
        now = self._way(part, self.preset, way).size
        smaller = (i for i, preset in enumerate(self._presets) if self._way(part, preset, way).size < now)
        return self._presets[next(smaller, len(self._presets)) :]

    def _arrange(self, part: Part) -> None:
        """Have ``part`` ready for work, as the preset says."""

    def _way(self, part: Part, preset: MemoryPreset, way: Callable[[MemoryPreset], Way]) -> Way:
        return way(preset)


def _too_small(part: Part) -> str:
    return f"The memory is too small for this model's {part}; close what else uses it, or choose a smaller model."
