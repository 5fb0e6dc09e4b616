"""The face mesh network (Kartynnik et al., 2019, arXiv 1907.06724) in plain torch: a 192×192 face → 468 points in 3D.

The numbers are Google's MediaPipe model (Apache-2.0), stored by tools/convert_face_mesh.py; of the original graph only
the head that refines eye and mouth contours is left out.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from ..errors import MissingFileError

WEIGHTS_FILE = Path(__file__).parent.parent / "assets" / "face_mesh_468.safetensors"
INPUT_SIDE = 192
LANDMARKS = 468
_TRUNK_WIDTHS = (16, 32, 64, 128, 128)  # each after the first opens with a block that halves the picture


class Block(nn.Module):
    """Depthwise 3×3, pointwise, shortcut, PReLU. Stride 2 halves the shortcut by max pooling, zeros widen it."""

    def __init__(self, width_in: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.widen = width_out - width_in
        self.depthwise = nn.Conv2d(width_in, width_in, 3, stride, padding=2 - stride, groups=width_in, bias=False)
        self.pointwise = nn.Conv2d(width_in, width_out, 1)
        self.activation = nn.PReLU(width_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, width_in, h, w) → (N, width_out, h / stride, w / stride)
        shortcut = functional.max_pool2d(x, 2) if self.stride == 2 else x
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, self.widen))
        return self.activation(shortcut + self.pointwise(self.depthwise(_pad_for_stride(x, self.stride))))


class Head(nn.Module):
    """One output of the network: from the trunk's 6×6 map to 3×3, then all of it at once to ``outputs`` numbers."""

    def __init__(self, blocks: int, outputs: int) -> None:
        super().__init__()
        width = _TRUNK_WIDTHS[-1]
        self.blocks = nn.Sequential(Block(width, width, stride=2), *(Block(width, width) for _ in range(blocks)))
        self.squeeze = nn.Sequential(nn.Conv2d(width, 32, 1), nn.PReLU(32), Block(32, 32))
        self.output = nn.Conv2d(32, outputs, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, 128, 6, 6) → (N, outputs)
        return self.output(self.squeeze(self.blocks(x))).flatten(1)


class FaceMeshNetwork(nn.Module):
    """Face pictures [N, 3, 192, 192] RGB 0..1 → landmarks [N, 468, 3] in input pixels, and a score [N] 0..1.

    x right, y down, z **away** from the camera, in the same pixels; the score says whether there is a face at all.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = _TRUNK_WIDTHS
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, stride=2), nn.PReLU(widths[0]))
        stages = [Block(widths[0], widths[0]), Block(widths[0], widths[0])]
        for narrow, wide in pairwise(widths):
            stages += [Block(narrow, wide, stride=2), Block(wide, wide), Block(wide, wide)]
        self.trunk = nn.Sequential(*stages)
        self.landmarks = Head(blocks=2, outputs=3 * LANDMARKS)
        self.score = Head(blocks=0, outputs=1)

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(_pad_for_stride(pictures, 2))  # (N, 16, 96, 96)
        x = self.trunk(x)  # (N, 128, 6, 6)
        return self.landmarks(x).unflatten(1, (LANDMARKS, 3)), self.score(x)[:, 0].sigmoid()


@lru_cache(maxsize=1)
def load_face_mesh_network() -> FaceMeshNetwork:
    """The network with its numbers, on the CPU, for inference. Raises MissingFileError when the asset is absent."""
    if not WEIGHTS_FILE.is_file():
        raise MissingFileError(
            f"The face mesh network {WEIGHTS_FILE.name} (1.2 MB, Apache-2.0) is missing from {WEIGHTS_FILE.parent}; "
            "install the pack again."
        )
    with torch.device("meta"):
        network = FaceMeshNetwork()
    weights = {key: value.float() for key, value in load_file(WEIGHTS_FILE).items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _pad_for_stride(x: torch.Tensor, stride: int) -> torch.Tensor:
    """The original pads an even picture on the right and below only when it halves it."""
    return functional.pad(x, (0, 1, 0, 1)) if stride == 2 else x
