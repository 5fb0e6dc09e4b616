"""Between ComfyUI's IMAGE and MASK tensors and the NumPy pictures of the core."""

from __future__ import annotations

import numpy as np
import torch

from ..fantasyid_core.arrays import FloatArray


def image_from_picture(picture: FloatArray) -> torch.Tensor:
    """[H, W, 3] RGB 0..1 → IMAGE [1, H, W, 3]."""
    return torch.from_numpy(np.array(picture, dtype=np.float32))[None]


def image_from_pictures(pictures: FloatArray) -> torch.Tensor:
    """[N, H, W, 3] RGB 0..1 → IMAGE [N, H, W, 3]."""
    return torch.from_numpy(np.array(pictures, dtype=np.float32))


def mask_from_levels(levels: FloatArray) -> torch.Tensor:
    """[H, W] 0..1 → MASK [1, H, W]."""
    return torch.from_numpy(np.array(levels, dtype=np.float32))[None]
