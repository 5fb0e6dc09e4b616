"""The room's one door: views and geometry of a person → the identity that the video model attends to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import InputError
from ..geometry.geometry import FaceGeometry
from ..input_path import REFERENCE_FIT, InputPath, checked_input_path
from ..progress import ProgressCallback, silent
from ..views.views import FaceViews
from .branches import Branches, checked_branches
from .encoder import IdentityEncoder
from .fusions import EncodeView, fusion
from .identity import Identity


@torch.no_grad()
def fuse_features(
    views: FaceViews,
    geometry: FaceGeometry,
    encoder: IdentityEncoder,
    *,
    combine: str = "reference",
    branches: Branches = "2D + 3D",
    input_path: InputPath = "recommended",
    progress: ProgressCallback = silent,
) -> Identity:
    """Identity tokens of one person, on the CPU in float32, computed where ``encoder`` lies.

    ``combine`` is a name of FUSIONS: "reference" encodes view 0 alone, what the release does and its checkpoint was
    trained for; "mean" averages the views' 2D tokens by weight, "norm average" their directions; "concat" lists all
    of them, more tokens than the checkpoint saw in training. ``branches`` leaves the 2D or the 3D tokens away; the
    geometry is then not looked at (2D only), or the views are not encoded and only give the reference crop (3D
    only). ``input_path`` says how the reference crop will be placed in the video's frame. ``progress`` is called
    after every encoded view and at the end.

    Raises InputError for an unknown name or a mesh of another topology, MissingFileError without a mesh hierarchy.
    """
    method, branches = fusion(combine), checked_branches(branches)
    if branches != "2D only":
        check_topology(geometry, encoder)
    total = len(views.crops) + 1
    parts = []
    face_tokens = None
    if branches != "3D only":
        face_tokens = method.fuse(_view_encoder(views, encoder, progress), views.weights)
        parts.append(face_tokens)
    if branches != "2D only":
        parts.append(_vertex_tokens(geometry, encoder, face_tokens))
    progress(total, total, None)
    notes = _provenance(views, geometry, combine, branches) | {"input path": input_path}
    notes["tokens"] = _token_counts(parts, branches)
    fit = REFERENCE_FIT[checked_input_path(input_path)]
    return Identity(torch.cat(parts).float(), views.crops[0], encoder.model_id, fit, notes)


def check_topology(geometry: FaceGeometry, encoder: IdentityEncoder) -> None:
    """Raises InputError, in one sentence, when this model cannot read ``geometry``."""
    wanted = encoder.config.vertex_net
    if geometry.topology != wanted.topology or len(geometry.vertices) != wanted.level_sizes[0]:
        raise InputError(
            f"This model reads {wanted.topology} meshes of {wanted.level_sizes[0]} vertices, but this geometry is a "
            f"{geometry.topology} mesh of {len(geometry.vertices)}; extract the geometry with this model, or set "
            "branches to '2D only'."
        )


def _view_encoder(views: FaceViews, encoder: IdentityEncoder, progress: ProgressCallback) -> EncodeView:
    """``encode(i)`` → [T2, C], one view at a time to keep memory low, each reported."""
    done = 0

    def encode(view: int) -> torch.Tensor:  # → [T2, C]
        nonlocal done
        crop = torch.from_numpy(np.array(views.crops[view])).permute(2, 0, 1).unsqueeze(0)
        tokens = encoder.face_tokens(crop.to(encoder.device)).squeeze(0)
        done += 1
        progress(done, len(views.crops) + 1, None)
        return tokens

    return encode


def _vertex_tokens(
    geometry: FaceGeometry,
    encoder: IdentityEncoder,
    face_tokens: torch.Tensor | None,  # [k · T2, C]
) -> torch.Tensor:  # [T3, C]
    """The 3D tokens; of several views' 2D tokens the 3D branch reads the first view's."""
    vertices = torch.from_numpy(np.array(geometry.vertices)).unsqueeze(0).to(encoder.device)
    per_view = encoder.config.face_abstractor.tokens
    read = None if face_tokens is None else face_tokens[:per_view].unsqueeze(0)
    return encoder.vertex_tokens(vertices, read).squeeze(0)


def _token_counts(parts: Sequence[torch.Tensor], branches: Branches) -> str:
    """For instance "36 2D + 79 3D"."""
    names = {"2D only": ("2D",), "3D only": ("3D",)}.get(branches, ("2D", "3D"))
    return " + ".join(f"{len(part)} {name}" for name, part in zip(names, parts, strict=True))


def _provenance(views: FaceViews, geometry: FaceGeometry, combine: str, branches: Branches) -> dict[str, str]:
    shown = [
        f"{source} ({weight:.2f})" for source, weight in zip(views.sources, views.weights, strict=True)
    ]  # fmt: skip
    notes = {"branches": branches, "reference view": views.sources[0]}
    if branches != "3D only":
        notes["fusion"] = combine
        notes["views"] = views.sources[0] if combine == "reference" else ", ".join(shown)
    if branches != "2D only":
        notes["geometry"] = geometry.source or "not said"
        notes["topology"] = geometry.topology
    return notes
