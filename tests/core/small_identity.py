"""A whole identity encoder at a size for tests, on a made-up mesh; nothing is trained, everything is computed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from fantasyid_core.config import RELEASE, EvaConfig, FaceAbstractorConfig, ModelConfig, VertexNetConfig
from fantasyid_core.geometry.geometry import FaceGeometry
from fantasyid_core.geometry.hierarchy import MeshHierarchy
from fantasyid_core.identity.encoder import IdentityEncoder
from fantasyid_core.identity.initialise import initialise_
from fantasyid_core.views.views import FaceViews

LEVELS = (200, 50, 13)
SMALL: ModelConfig = replace(
    RELEASE,
    family="mini",
    identity_width=64,
    eva=EvaConfig(image_size=48, patch_size=8, width=32, layers=2, heads=2, mlp_hidden=48),
    face_abstractor=FaceAbstractorConfig(width=32, hidden=16, blocks_per_stage=2, pooled_grid=3),
    vertex_net=VertexNetConfig(
        topology="made-up-200",
        level_sizes=LEVELS,
        width=16,
        layers=2,
        heads=2,
        mlp_hidden=32,
        reducer_widths=(16, 24, 32, 64),
    ),
)


def made_up_hierarchy() -> MeshHierarchy:
    """Three levels with random but valid indices; no surface is needed to compute."""
    rng = np.random.default_rng(5)
    steps = tuple(pairwise(LEVELS))
    return MeshHierarchy(
        "made-up-200",
        spirals=tuple(rng.integers(0, fine, (fine, 9)).astype(np.int32) for fine, _ in steps),
        down=tuple(rng.choice(fine, coarse, replace=False).astype(np.int32) for fine, coarse in steps),
        up_index=tuple(rng.integers(0, coarse, (fine, 3)).astype(np.int32) for fine, coarse in steps),
        up_weight=tuple(rng.dirichlet([1.0, 1.0, 1.0], fine).astype(np.float32) for fine, _ in steps),
    )


def small_encoder(seed: int = 0) -> IdentityEncoder:
    encoder = IdentityEncoder(SMALL, made_up_hierarchy())
    initialise_(encoder, seed)
    return encoder.eval()


def random_crops(count: int, seed: int = 1) -> torch.Tensor:  # [count, 3, 64, 64]
    return torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(seed))


def random_vertices(count: int, seed: int = 2) -> torch.Tensor:  # [count, 200, 3]
    return 0.1 * torch.randn((count, LEVELS[0], 3), generator=torch.Generator().manual_seed(seed))


def random_views(weights: tuple[float, ...] = (1.0,), seed: int = 3) -> FaceViews:
    n = len(weights)
    crops = np.random.default_rng(seed).random((n, 512, 512, 3), dtype=np.float32)
    sources = ("photograph", *(f"rendered yaw +{10 * i}" for i in range(1, n)))
    return FaceViews(crops, np.array(weights), np.zeros((n, 3)), np.ones(n), sources)


def random_geometry(topology: str = "made-up-200", count: int = LEVELS[0], seed: int = 4) -> FaceGeometry:
    vertices = 0.1 * np.random.default_rng(seed).standard_normal((count, 3))
    return FaceGeometry(vertices, np.array([[0, 1, 2]]), topology, source="a made-up head")


def is_one_sentence(error: BaseException) -> bool:
    """Whether a user can read it at once: one line, one full stop at its end."""
    text = str(error)
    return text.endswith(".") and "\n" not in text and ". " not in text and text[0].isupper()
