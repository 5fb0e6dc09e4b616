"""A small network that reads drawn heads: who it is, the head's shape alone, the pose and three expressions.

It is trained on the synthetic talking heads of training/clips.py and knows nothing else: real faces it cannot tell
apart. Most of it sees a grey picture of unit contrast. The colours go a way of their own and join for the identity
only, so that the shape cannot be guessed from them. training/train_embedder.py trains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import MissingFileError
from ..weights.network_file import NetworkFile

WEIGHTS_FILE = Path(__file__).parent.parent / "assets" / "synthetic_heads.safetensors"
NETWORK_FILE = NetworkFile(
    "fantasyid synthetic heads 1",
    "network for synthetic heads",
    missing="check the folder and the name",
    damaged="install the pack again or train it again",
    made_by="fantasyid train embedder",
)
SIDE = 64  #: pixels of the pictures it reads
COLOUR_SIDE = 16  #: of the picture that keeps its colours
IDENTITY = 128  #: numbers of an identity embedding
SHAPE = 40  #: leading shape coefficients of load_head() that are read: 94 % of what vertices vary by
ANGLE = 30.0  #: degrees that are 1 inside the network
EXPRESSIONS = ("jawOpen", "mouthSmile", "eyeBlink")  #: ARKit weights that are read; of pairs the mean of both sides
LUMA = (0.299, 0.587, 0.114)
_WIDTHS = (24, 48, 96)
_DEEP = 144


@dataclass(frozen=True, eq=False)
class HeadReading:
    """What N pictures show. identity: [N, 128], geometry: [N, 40], both of length 1 (see embedders.similarity); the
    latter compares with HeadNetwork.geometry_of known heads. shape: [N, 40] the leading shape coefficients, standard
    deviations. angles: [N, 3] yaw, pitch, roll in degrees (signs: HeadPose). expression: [N, 3] ARKit weights of
    EXPRESSIONS, about 0..1."""

    identity: torch.Tensor
    geometry: torch.Tensor
    shape: torch.Tensor
    angles: torch.Tensor
    expression: torch.Tensor


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut; [N, C, h, w] → the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, width), nn.GroupNorm(8, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(hidden)))


class HeadNetwork(nn.Module):
    """Pictures [N, 3, 64, 64] RGB 0..1, framed as aligned crops about are → HeadReading."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _WIDTHS
        self.trunk = nn.Sequential(
            nn.Conv2d(1, first, 5, 2, 2),
            nn.GroupNorm(8, first),
            nn.SiLU(),
            nn.Conv2d(first, second, 3, 2, 1),
            nn.Conv2d(second, third, 3, 2, 1),
            Residual(third),
            Residual(third),
        )  # (N, 96, 8, 8)
        self.form = _head(third, 256)
        self.shape_out, self.motion_out = nn.Linear(256, SHAPE), nn.Linear(256, 3 + len(EXPRESSIONS))
        self.whitening = nn.Linear(SHAPE, SHAPE, bias=False)
        nn.init.eye_(self.whitening.weight)
        self.colours = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.GroupNorm(8, 32)
        )  # (N, 32, 8, 8)
        self.looks = _head(third + 32, 256)
        self.identity_out = nn.Linear(256, IDENTITY)

    def forward(self, pictures: torch.Tensor) -> HeadReading:
        luma = torch.tensor(LUMA, device=pictures.device).view(3, 1, 1)
        return self.read((pictures * luma).sum(dim=1, keepdim=True), small_colours(pictures))

    def read(self, grey: torch.Tensor, colour: torch.Tensor) -> HeadReading:
        """Grey pictures [N, 1, 64, 64] of any brightness and contrast, and colours [N, 3, 16, 16] RGB 0..1."""
        seen = self.trunk(_unit_contrast(grey))
        form = self.form(seen)
        shape, motion = self.shape_out(form), self.motion_out(form)
        looks = self.looks(torch.cat([seen, self.colours(colour - 0.5)], dim=1))
        return HeadReading(
            F.normalize(self.identity_out(looks), dim=1),
            self.geometry_of(shape),
            shape,
            motion[:, :3] * ANGLE,
            motion[:, 3:],
        )

    def geometry_of(self, shape: torch.Tensor) -> torch.Tensor:
        """[N, 40 or more] shape coefficients of known heads → [N, 40] as HeadReading.geometry."""
        return F.normalize(self.whitening(shape[:, :SHAPE]), dim=1)


def small_colours(pictures: torch.Tensor) -> torch.Tensor:
    """[N, 3, 64, 64] → [N, 3, 16, 16], means of squares."""
    return F.avg_pool2d(pictures, SIDE // COLOUR_SIDE)


def as_pictures(pictures: torch.Tensor) -> torch.Tensor:
    """[N, 3, H, W] RGB 0..1 → [N, 3, 64, 64]: the square in the middle, made smaller without aliasing."""
    height, width = pictures.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pictures[:, :, top : top + side, left : left + side]
    if side == SIDE:
        return square
    return F.interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


@lru_cache(maxsize=1)
def shipped_head_network() -> HeadNetwork:
    """The network that ships with the pack, on the CPU, for inference."""
    if not WEIGHTS_FILE.is_file():
        raise MissingFileError(
            f"The network for synthetic heads, {WEIGHTS_FILE.name} (Apache-2.0), is missing from {WEIGHTS_FILE.parent};"
            " install the pack again."
        )
    return load_head_network(WEIGHTS_FILE)


def load_head_network(path: Path) -> HeadNetwork:
    """The network that :func:`save_head_network` wrote to ``path``, for inference. Raises MissingFileError where there
    is none, CheckpointError for a damaged file or another one."""
    network = HeadNetwork()
    NETWORK_FILE.fill(network, NETWORK_FILE.read(path), path)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def save_head_network(network: HeadNetwork, path: Path) -> None:
    """Write it in halves, beside its place first."""
    NETWORK_FILE.save(network, path)


def _head(width: int, features: int) -> nn.Sequential:
    """[N, width, 8, 8] → [N, features]; where things lie is kept up to the last layer."""
    return nn.Sequential(
        nn.Conv2d(width, _DEEP, 3, 2, 1),
        Residual(_DEEP) if width == _WIDTHS[2] else nn.Identity(),
        nn.GroupNorm(8, _DEEP),
        nn.SiLU(),
        nn.Conv2d(_DEEP, 32, 1),
        nn.Flatten(),
        nn.Linear(32 * 16, features),
        nn.SiLU(),
    )


def _unit_contrast(grey: torch.Tensor) -> torch.Tensor:
    centred = grey - grey.mean(dim=(2, 3), keepdim=True)
    return centred / centred.square().mean(dim=(2, 3), keepdim=True).add(1e-6).sqrt()
