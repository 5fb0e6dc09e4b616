"""Smooth completion of pictures that are known only in part: the pull-push pyramid."""

from __future__ import annotations

import cv2
import numpy as np

from ..arrays import FloatArray

_TRUST = 4.0  # a coarser pixel counts as known as soon as a quarter of it is


def diffuse(values: FloatArray, weight: FloatArray) -> FloatArray:
    """[H, W, C] ``values`` where ``weight`` [H, W] is 1, and a smooth continuation of them where it is 0.

    Weights between 0 and 1 mix the two. Where nothing is known at all, the result is 0. Method: averages of what is
    known, down a pyramid until everything is known, and back up (Gortler et al. 1996, "push-pull").
    """
    weight = np.clip(weight, 0, 1).astype(np.float32)
    height, width = weight.shape
    if min(height, width) <= 2 or not (weight < 1).any():
        known = weight.sum()
        mean = (values * weight[..., None]).sum(axis=(0, 1)) / max(float(known), 1e-6)
        return (values * weight[..., None] + mean * (1 - weight[..., None])).astype(np.float32)
    below = np.asarray(cv2.pyrDown(weight), np.float32)
    sums = np.asarray(cv2.pyrDown(values * weight[..., None]), np.float32).reshape(*below.shape, -1)
    coarse = diffuse((sums / np.maximum(below, 1e-6)[..., None]).astype(np.float32), below * _TRUST)
    smooth = np.asarray(cv2.pyrUp(coarse, dstsize=(width, height)), np.float32).reshape(height, width, -1)
    return values * weight[..., None] + smooth * (1 - weight[..., None])


def smoothstep(low: float, high: float, values: FloatArray | float) -> FloatArray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def sample(image: FloatArray, xy: FloatArray) -> FloatArray:
    """[H, W, C] bicubic values of ``image`` at ``xy`` [H, W, 2] pixels; its border goes on for ever."""
    found = cv2.remap(image, xy[..., 0], xy[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32).clip(0, 1)
