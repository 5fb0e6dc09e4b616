"""Videos longer than the model was trained on: windows over time that overlap and are blended.

In every step the model sees one window after the other, each as long as a video it was trained on and at the positions
it was trained at; where windows overlap, their velocities are blended by smooth weights. Noise, sampler, text and
identity are one and the same for all of them.

The reference picture stands at the first latent frame of every window, as it did in every training clip. A
CogVideoX latent's first frame stands for a single picture and the others for four, so in later windows the first frame
is not one of the video's: its weight is 0 and the window before decides there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi

import torch

from ..config import ModelConfig
from ..errors import InputError


@dataclass(frozen=True)
class Window:
    """frames: latent frames that the model sees at once. overlap: how many of them two neighbours share at least."""

    frames: int
    overlap: int

    def __post_init__(self) -> None:
        if not 2 <= self.overlap < self.frames:
            raise InputError(
                f"Windows of {self.frames} latent frames must overlap by 2 to {self.frames - 1} of them, "
                f"not by {self.overlap}."
            )

    def spans(self, frames: int) -> tuple[slice, ...]:
        """Windows over ``frames`` latent frames, evenly spread; one over all of them where they fit into one."""
        if frames <= self.frames:
            return (slice(0, frames),)
        count = -(-(frames - self.overlap) // (self.frames - self.overlap))
        starts = (round(k * (frames - self.frames) / (count - 1)) for k in range(count))
        return tuple(slice(start, start + self.frames) for start in starts)

    def weights(self, frames: int) -> tuple[torch.Tensor, ...]:
        """One [f] per span; over all spans they add up to 1 at every latent frame."""
        spans = self.spans(frames)
        raised = [torch.ones(span.stop - span.start) for span in spans]
        for left, right in pairwise(range(len(spans))):
            shared = spans[left].stop - spans[right].start
            rise = torch.tensor([0.5 - 0.5 * cos(pi * k / shared) for k in range(shared)])  # from 0, never quite 1
            raised[right][:shared] = torch.minimum(raised[right][:shared], rise)
            raised[left][-shared:] = torch.minimum(raised[left][-shared:], 1.0 - rise)
        total = torch.zeros(frames)
        for span, weight in zip(spans, raised, strict=True):
            total[span] += weight
        return tuple(weight / total[span] for span, weight in zip(spans, raised, strict=True))


def trained_latent_frames(config: ModelConfig) -> int:
    """How many latent frames the model was trained on: 13 for 49 frames."""
    dit = config.transformer
    return (dit.sample_frames - 1) // dit.temporal_compression + 1


def window_for(config: ModelConfig, frames: int, overlap: int | None = None) -> Window | None:
    """The window of a video of ``frames`` frames (in pixels): None when the model makes it at once.

    overlap: in latent frames, None = a third of the window. Raises InputError for an overlap that is none.
    """
    trained = trained_latent_frames(config)
    if frames <= config.transformer.sample_frames or trained < 3:
        return None
    return Window(trained, max(2, round(trained / 3)) if overlap is None else overlap)


def check_window(config: ModelConfig, window: Window) -> None:
    """Raise InputError when the model's learned positions have another length than ``window``."""
    trained = trained_latent_frames(config)
    if config.transformer.learned_positions and window.frames != trained:
        raise InputError(
            f"This checkpoint has learned positions for {trained} latent frames; make the windows as long, "
            f"not {window.frames}."
        )
