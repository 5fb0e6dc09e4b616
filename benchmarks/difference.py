"""How far two videos are from each other, picture by picture."""

from __future__ import annotations

import cv2
import numpy as np

from fantasyid_core.arrays import FloatArray

_STEADY = (0.01**2, 0.03**2)  # what keeps SSIM's two fractions steady, for levels 0..1 (Wang et al. 2004)


def psnr(frames: FloatArray, others: FloatArray) -> float:
    """Peak signal-to-noise ratio in dB of two videos [F, H, W, 3] 0..1; infinite when they are the same."""
    error = float(np.mean((frames.astype(np.float64) - others) ** 2))
    return float("inf") if error == 0.0 else -10.0 * float(np.log10(error))


def structure(frames: FloatArray, others: FloatArray) -> float:
    """SSIM on grey levels, Gaussian windows of width 1.5, the mean over all pixels and frames: 1 = the same."""
    return float(np.mean([_ssim(_grey(a), _grey(b)) for a, b in zip(frames, others, strict=True)]))


def _ssim(a: FloatArray, b: FloatArray) -> float:
    mean_a, mean_b = _smooth(a), _smooth(b)
    var_a, var_b = _smooth(a * a) - mean_a**2, _smooth(b * b) - mean_b**2
    both = _smooth(a * b) - mean_a * mean_b
    steady_light, steady_contrast = _STEADY
    light = (2 * mean_a * mean_b + steady_light) / (mean_a**2 + mean_b**2 + steady_light)
    return float((light * (2 * both + steady_contrast) / (var_a + var_b + steady_contrast)).mean())


def _smooth(x: FloatArray) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT))


def _grey(picture: FloatArray) -> FloatArray:
    return np.asarray(picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114]))
