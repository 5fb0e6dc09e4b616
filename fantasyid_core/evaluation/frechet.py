"""FID: the Fréchet distance between two sets of faces (Heusel et al., 2017), on features of a face network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import InputError
from .chip import face_chip

MIN_FACES = 2  #: a covariance needs two


def fid_features(photograph: FloatArray, landmarks: FloatArray) -> FloatArray:
    """[256] of the face with ``landmarks`` [468, 3] in ``photograph`` [H, W, 3]: what the recognition network that
    ships with the pack pools over the face chip, before its last, linear layer."""
    import torch

    from .face_recognition_network import load_face_recognition_network

    chip = torch.from_numpy(face_chip(photograph, landmarks)).permute(2, 0, 1)[None]  # (1, 3, 150, 150)
    with torch.inference_mode():
        return np.asarray(load_face_recognition_network().features(chip)[0].numpy())


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """‖μa - μb‖² + tr(Ca + Cb - 2·√(Ca·Cb)) of the sets ``a`` [N, D] and ``b`` [M, D], N and M at least 2.

    The root's trace is the sum of the singular values of Xa·Xbᵀ, X being the centred sets: exact also where there are
    fewer faces than features. Few faces make the distance too large (bias of order 1 / N); compare equal numbers only.
    """
    first, second = (np.asarray(x, np.float64) for x in (a, b))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise InputError("FID compares two sets of features of the same width.")
    if min(len(first), len(second)) < MIN_FACES:
        raise InputError(f"FID needs at least {MIN_FACES} faces on each side, not {len(first)} and {len(second)}.")
    shift = first.mean(axis=0) - second.mean(axis=0)
    x, y = ((s - s.mean(axis=0)) / np.sqrt(len(s) - 1) for s in (first, second))
    cross = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max((shift**2).sum() + (x**2).sum() + (y**2).sum() - 2 * cross, 0.0))
