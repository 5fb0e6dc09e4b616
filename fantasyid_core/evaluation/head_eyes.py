"""The metrics' eyes for synthetic heads: every frame is read whole, so the softest one has an identity and a pose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ..arrays import FloatArray
from .clips import Frame
from .head_network import HeadNetwork, as_pictures, shipped_head_network
from .watch import SeenFace

SYNTHETIC_HEADS = "synthetic-heads"  #: its name beside those of EMBEDDERS
ABOUT = (
    "It knows the drawn heads of `fantasyid train data`, framed as a video of the mini frames them, and nothing else: "
    "of real faces, or of a frame without a head, its numbers mean nothing."
)


@dataclass(frozen=True)
class HeadEyes:
    """network: which reads the frames. It finds no faces: every frame counts as one."""

    network: HeadNetwork = field(default_factory=shipped_head_network)

    def __str__(self) -> str:
        return SYNTHETIC_HEADS

    def see(self, frame: Frame, near: FloatArray | None = None) -> SeenFace:
        """The head of ``frame``, of which the square in the middle is read; ``near`` is not used. ``mouth`` is ARKit's
        jawOpen 0..1, and there is no ``still``."""
        height, width = frame.picture.shape[:2]
        picture = torch.from_numpy(np.array(frame.picture)).permute(2, 0, 1)[None]  # (1, 3, H, W)
        with torch.inference_mode():
            made = self.network(as_pictures(picture))
        yaw, pitch, roll = made.angles[0].tolist()
        return SeenFace(
            frame.time,
            np.array([0, 0, width, height], np.float32),
            made.identity[0].numpy(),
            (yaw, pitch, roll),
            None,
            mouth=float(made.expression[0, 0]),
            geometry=made.geometry[0].numpy(),
        )
