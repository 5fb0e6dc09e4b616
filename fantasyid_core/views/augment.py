"""The room's door: from one photograph of a face and its geometry to several views of the person.

The paper's multi-view augmentation (part "multi-view collection") is for training, from a clip (see collect.py). With
one photograph, views are rendered from it; with several, they are simply used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import InputError, NoFaceError
from ..faces.detect import choose_face, detect_faces, face_from_crop
from ..faces.detectors import Detector
from ..faces.face import Face
from ..geometry.geometry import FaceGeometry
from ..progress import ProgressCallback, silent
from .makers import VIEW_MAKERS, Extractor, View, ViewRequest, ViewWeights, stack_views
from .photometric import change_light
from .poses import crop_pose
from .views import FaceViews

DEFAULT_ANGLES = ((-30.0, 0.0), (30.0, 0.0), (0.0, 15.0), (0.0, -15.0))  #: yaw, pitch in degrees


def augment_views(
    face: Face,
    geometry: FaceGeometry | None,
    *,
    angles: Sequence[tuple[float, float]] = DEFAULT_ANGLES,
    mirror: bool = False,
    photometric: float = 0.0,
    photographs: Sequence[Face] = (),
    geometries: Sequence[FaceGeometry | None] = (),
    extractor: Extractor | None = None,
    weights: ViewWeights | None = None,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> FaceViews:
    """Views of the person on ``face``: the photograph (view 0), rendered angles, its mirror image, more photographs.

    geometry: of ``face``, posed; None, or without a pose, allows no ``angles``. angles: yaw, pitch of the head in
    degrees, absolute (0, 0 looks at the camera), each at most 75. mirror: add the mirrored crop. photometric: 0..1, how
    strongly the light of made views is changed, drawn from ``seed``. photographs: further faces of the same person;
    their poses come from ``geometries`` (one each), else from ``extractor``, else they are estimated from keypoints.
    progress: called after each rendered view. Raises InputError for what cannot be done, before anything is rendered
    where possible.
    """
    if extractor is not None and not geometries:
        geometries = [extractor(other) for other in photographs]
    request = ViewRequest(face, geometry, tuple(angles), photographs, geometries, weights or ViewWeights(), progress)
    kinds = ["reference", "photographs", "rendered", *(["mirrored"] if mirror else [])]
    made = {kind: VIEW_MAKERS[kind].make(request) for kind in kinds}
    order = [view for kind in ("reference", "rendered", "mirrored", "photographs") for view in made.get(kind, [])]
    return stack_views(_with_light(order, photometric, seed))


def views_from_images(
    images: Any, detector: Detector, *, whole_picture: bool = False, weights: Sequence[float] | None = None
) -> FaceViews:
    """The door for other packs: a batch of images [N, H, W, 3] (NumPy or torch, 0..1) or a list of them as views.

    The largest face of each is aligned; the first one is the reference; poses are estimated from keypoints. An image
    without a face is left out, or used uncut with ``whole_picture``. weights: one per image, default 1. Raises
    NoFaceError when no image has a face, InputError for an empty batch or a wrong number of weights.
    """
    if len(images) == 0:
        raise InputError("The image batch is empty; connect at least one picture.")
    shares = [1.0] * len(images) if weights is None else [float(weight) for weight in weights]
    if len(shares) != len(images):
        raise InputError(f"{len(images)} images need {len(images)} weights, but {len(shares)} were given.")
    views = []
    for number, (image, weight) in enumerate(zip(images, shares, strict=True), start=1):
        face = _largest_face(image, detector, whole_picture)
        if face is not None:
            views.append(View(face.crop, weight, crop_pose(face, None), 1.0, f"image {number} of {len(images)}"))
    if not views:
        raise NoFaceError(
            f"None of the {len(images)} images shows a face that {detector} finds; use clearer pictures of the face, "
            "or let whole pictures be used."
        )
    return stack_views(views)


def _largest_face(image: Any, detector: Detector, whole_picture: bool) -> Face | None:
    """The largest face of ``image``, aligned; without one, the whole picture if that is wanted, else None."""
    whole = face_from_crop(image)
    try:
        return choose_face(detect_faces(whole.photograph, detector))
    except NoFaceError:
        return whole if whole_picture else None


def _with_light(views: Sequence[View], strength: float, seed: int) -> list[View]:
    """The made views under changed light; every view has its own draw, whatever the others are."""
    return [
        replace(view, crop=change_light(view.crop, strength, np.random.default_rng([seed, index])))
        if view.made and strength != 0
        else view
        for index, view in enumerate(views)
    ]
