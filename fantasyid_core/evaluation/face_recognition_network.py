"""dlib's face recognition network (King, 2017, ResNet of 29 convolutions) in plain torch: a face chip → 128 numbers.

The numbers are in the public domain (CC0), in the 8 bits of face-api (MIT); tools/convert_face_recognition.py stored
them.
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

WEIGHTS_FILE = Path(__file__).parent.parent / "assets" / "face_recognition_128.safetensors"
CHIP_SIDE = 150
FEATURES = 256  #: numbers per face before the last, linear layer
DESCRIPTOR = 128
MEAN_RGB = (122.782, 117.001, 104.298)  # of the pictures it was trained on, 0..255
#: dlib divides by 256; face-api divides by 255 and so drifts a little from the network's own embeddings.
LEVELS = 256.0
_WIDTHS = (32, 32, 32, 64, 64, 64, 64, 128, 128, 128, 256, 256, 256, 256)  # a block whose width differs halves
_LAST_HALVES = 13  # and so does the last one


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut. Halving: the first has stride 2, the shortcut is averaged in 2×2 squares.

    Where the two then differ in size or width, the missing rows, columns and channels are zeros.
    """

    def __init__(self, width_in: int, width_out: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride=2 if halves else 1, padding=0 if halves else 1)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, width_in, h, w) → (N, width_out, h / 2, w / 2) if halved
        y = self.conv2(functional.relu(self.conv1(x)))
        shortcut = functional.avg_pool2d(x, 2) if self.halves else x
        rows, columns = (shortcut.shape[k] - y.shape[k] for k in (2, 3))
        y = functional.pad(y, (0, columns, 0, rows))
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, 0, y.shape[1] - shortcut.shape[1]))
        return functional.relu(y + shortcut)


class FaceRecognitionNetwork(nn.Module):
    """Face chips [N, 3, 150, 150] RGB 0..1 → descriptors [N, 128]; two of one person lie less than 0.6 apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        self.blocks = nn.Sequential(
            *(Block(a, b, a != b or i == _LAST_HALVES) for i, (a, b) in enumerate(pairwise((32, *_WIDTHS))))
        )
        self.output = nn.Linear(FEATURES, DESCRIPTOR, bias=False)

    def features(self, chips: torch.Tensor) -> torch.Tensor:  # (N, 3, 150, 150) → (N, 256)
        mean = torch.tensor(MEAN_RGB).view(3, 1, 1)
        x = functional.relu(self.stem((chips * 255.0 - mean) / LEVELS))  # (N, 32, 72, 72)
        x = functional.max_pool2d(x, 3, 2)  # (N, 32, 35, 35)
        return self.blocks(x).mean(dim=(2, 3))

    def forward(self, chips: torch.Tensor) -> torch.Tensor:  # (N, 3, 150, 150) → (N, 128)
        return self.output(self.features(chips))


@lru_cache(maxsize=1)
def load_face_recognition_network() -> FaceRecognitionNetwork:
    """The network with its numbers, on the CPU, for inference. Raises MissingFileError when the asset is absent."""
    if not WEIGHTS_FILE.is_file():
        raise MissingFileError(
            f"The face recognition network {WEIGHTS_FILE.name} (5.9 MB, CC0 and MIT) is missing from "
            f"{WEIGHTS_FILE.parent}; install the pack again."
        )
    with torch.device("meta"):
        network = FaceRecognitionNetwork()
    network.load_state_dict(_state_dict(load_file(WEIGHTS_FILE)), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _state_dict(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """8-bit numbers back to floats, each convolution's gain multiplied into its weight."""
    kept = {key: value for key, value in stored.items() if key.endswith((".weight", ".bias"))}
    state = {key: value.to(torch.float32, copy=True) for key, value in kept.items()}  # the file may be replaced
    for key in [key for key in state if key.endswith(".weight")]:
        name = key.removesuffix(".weight")
        if f"{name}.quantization" in stored:
            scale, minimum = stored[f"{name}.quantization"]
            state[key] = state[key] * scale + minimum
        if f"{name}.gain" in stored:
            state[key] = state[key] * stored[f"{name}.gain"].view(-1, 1, 1, 1)
    return state
