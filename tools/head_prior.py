"""The statistical prior of the head: principal components of a stated distribution over targets (for convert_head.py).

The distribution, not a sample of it, is decomposed, so the result is exact and the same on every machine:
face targets are normal with deviation 0.18 (0.25 for a pair of opposites together), those of skull, forehead and ears
0.12, left and right alike (correlation 0.85; lopsided targets 0.06); the twelve race × sex × age weights are
Dirichlet(0.5) around their mean, which the base mesh already holds. Wider spreads gave caricatures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tools.head_mesh import GEOMETRY_REGIONS, Bust

Array = npt.NDArray[Any]
TARGET_DEVIATION = 0.18
SKULL_DEVIATION = 0.12
SKULL = ("head-", "forehead-", "l-ear-", "r-ear-", "neck-")
LOPSIDED_DEVIATION = 0.06
LOPSIDED = (
    *("head-angle-", "head-trans-in", "head-trans-out"),
    *("mouth-trans-in", "mouth-trans-out", "nose-trans-in", "nose-trans-out"),
)
LEFT_RIGHT_CORRELATION = 0.85
DIRICHLET = 0.5
COMPONENTS = 120


def target_covariance(names: list[str]) -> Array:
    """[T, T] covariance of the face targets' weights."""
    deviation = np.full(len(names), TARGET_DEVIATION)
    deviation[[name.startswith(SKULL) for name in names]] = SKULL_DEVIATION
    deviation[[name.startswith(LOPSIDED) for name in names]] = LOPSIDED_DEVIATION
    correlation = np.eye(len(names))
    for i, name in enumerate(names):
        if name.startswith("l-"):
            j = names.index(f"r-{name[2:]}")
            correlation[i, j] = correlation[j, i] = LEFT_RIGHT_CORRELATION
    return np.asarray(correlation * deviation[:, None] * deviation[None])


def macro_covariance(count: int) -> Array:
    """[M, M] covariance of Dirichlet(0.5, …) weights."""
    mean = 1 / count
    return np.asarray((np.eye(count) * mean - mean * mean) / (count * DIRICHLET + 1))


def vertex_weights(bust: Bust, base: Array) -> Array:
    """[V] how much a vertex counts: the geometry's area around it, the face fully, ears, back and neck by a fifth."""
    triangles = bust.triangles[bust.region < GEOMETRY_REGIONS]
    corners = base[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    weights = np.zeros(len(base))
    for k in range(3):
        np.add.at(weights, triangles[:, k], area)
    face = (base[:, 2] > -0.05) & (base[:, 1] > -0.13) & (base[:, 1] < 0.07)  # metres, from between the eyes
    return np.asarray(weights * np.where(face, 1.0, 0.2) / weights.sum())


def principal_components(
    bust: Bust, names: dict[str, list[str]], targets: dict[str, Array], base: Array
) -> tuple[Array, Array]:
    """mixture [K, T + M]: the target weights that one deviation of each principal component is made of, and
    projection [K, T + M]: the coefficients of the components that are nearest to one unit of each target.

    targets: "shape" [T, V, 3] and "macro" [M, V, 3], base [V, 3], in metres.
    """
    deltas = np.concatenate([targets["shape"], targets["macro"]])
    count = len(names["shape"])
    covariance = np.zeros((len(deltas), len(deltas)))
    covariance[:count, :count] = target_covariance(names["shape"])
    covariance[count:, count:] = macro_covariance(len(names["macro"]))
    weighted = (deltas * np.sqrt(vertex_weights(bust, base))[:, None]).reshape(len(deltas), -1)
    gram = weighted @ weighted.T
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))  # root @ root.T = covariance
    spectrum, turn = np.linalg.eigh(root.T @ gram @ root)
    spectrum, turn = spectrum[::-1], turn[:, ::-1][:, :COMPONENTS]
    turn = turn * np.sign(turn[np.abs(turn).argmax(axis=0), np.arange(turn.shape[1])])  # one sign on every machine
    print(f"{COMPONENTS} components hold {spectrum[:COMPONENTS].sum() / spectrum.sum():.4%} of the variance")
    mixture = (root @ turn).T
    projection = mixture @ gram / spectrum[:COMPONENTS, None]
    return mixture.astype(np.float32), projection.astype(np.float32)
