"""Textures of skin, cloth and hair: noise of some bands of frequencies, the same in every run."""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray


def noise_pictures(side: int) -> dict[str, FloatArray]:
    """[side, side] each, wrapping round, mean 0, deviation 1: "fine", "soft", "broad", "curls", "strands" (upright)."""
    generator = np.random.default_rng(20_250_213)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    across, down = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))
    bands = {
        "fine": np.exp(-((frequency / 0.25) ** 2)),
        "soft": np.exp(-((frequency / 0.06) ** 2)),
        "broad": np.exp(-((frequency / 0.018) ** 2)),
        "curls": np.exp(-(((frequency - 0.055) / 0.02) ** 2)),
        "strands": np.exp(-((down / 0.012) ** 2) - (((np.abs(across) - 0.09) / 0.06) ** 2)),
    }
    made = {}
    for name, band in bands.items():
        white = np.fft.fft2(generator.standard_normal((side, side)))
        picture = np.fft.ifft2(white * band).real
        made[name] = ((picture - picture.mean()) / picture.std()).astype(np.float32)
    return made
