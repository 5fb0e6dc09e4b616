"""Where further views of a person come from. A new way is one class with ``make`` and one line in VIEW_MAKERS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..arrays import FloatArray
from ..errors import InputError
from ..faces.face import Face
from ..geometry.geometry import FaceGeometry
from ..progress import ProgressCallback, silent
from .poses import Angles, crop_pose
from .views import FaceViews


@dataclass(frozen=True, eq=False)
class View:
    """One view, fields as in FaceViews. made: the program drew it, the photograph did not."""

    crop: FloatArray
    weight: float
    pose: Angles
    coverage: float
    source: str
    made: bool = False


@dataclass(frozen=True)
class ViewWeights:
    """How much each kind of view counts in the fusion, ≥ 0. A rendered view's weight is × its coverage."""

    reference: float = 1.0
    rendered: float = 0.5
    mirrored: float = 0.25
    photographs: float = 1.0

    def __post_init__(self) -> None:
        for name in ("reference", "rendered", "mirrored", "photographs"):
            if not (0 <= getattr(self, name) < float("inf")):
                raise InputError(f"The weight of {name} views must be 0 or more, not {getattr(self, name):g}.")


@dataclass(frozen=True, eq=False)
class ViewRequest:
    """What is known of the person, and what is wanted.

    face, geometry: the reference and its mesh (None: no view can be rendered). angles: yaw, pitch in degrees of the
    views to render. photographs: further faces, geometries: theirs, None where unknown.
    """

    face: Face
    geometry: FaceGeometry | None = None
    angles: Sequence[tuple[float, float]] = ()
    photographs: Sequence[Face] = ()
    geometries: Sequence[FaceGeometry | None] = ()
    weights: ViewWeights = field(default_factory=ViewWeights)
    progress: ProgressCallback = silent


class ViewMaker(Protocol):
    """One way to get views of a person."""

    def make(self, request: ViewRequest) -> list[View]:
        """The views, in order; none when the request asks for none of this kind."""
        ...


class ReferenceView:
    """The photograph's own aligned crop."""

    def make(self, request: ViewRequest) -> list[View]:
        pose = crop_pose(request.face, request.geometry)
        return [View(request.face.crop, request.weights.reference, pose, 1.0, "photograph")]


class RenderedViews:
    """The photograph's texture on its mesh, seen from the asked angles."""

    def make(self, request: ViewRequest) -> list[View]:
        if not request.angles:
            return []
        from .scene import make_scene
        from .turn import render_view

        if request.geometry is None:
            raise InputError("Rendered views need the face's 3D geometry; connect it, or ask for no rendered angles.")
        scene, views = make_scene(request.face, request.geometry), []
        for yaw, pitch in request.angles:
            shown = render_view(scene, float(yaw), float(pitch))
            weight = request.weights.rendered * shown.coverage
            views.append(
                View(shown.crop, weight, shown.pose.yaw_pitch_roll, shown.coverage, _angle_text(yaw, pitch), made=True)
            )
            request.progress(len(views), len(request.angles), None)
        return views


class MirroredView:
    """The reference crop, left and right exchanged: the head turns to the other side. People aren't symmetric."""

    def make(self, request: ViewRequest) -> list[View]:
        yaw, pitch, roll = crop_pose(request.face, request.geometry)
        crop = np.ascontiguousarray(request.face.crop[:, ::-1])
        return [View(crop, request.weights.mirrored, (-yaw, pitch, -roll), 1.0, "mirrored", made=True)]


class PhotographViews:
    """Further photographs of the same person."""

    def make(self, request: ViewRequest) -> list[View]:
        known = list(request.geometries) or [None] * len(request.photographs)
        if len(known) != len(request.photographs):
            raise InputError(
                f"{len(request.photographs)} further photographs came with {len(known)} geometries; give one for each "
                "or none at all."
            )
        return [
            View(face.crop, request.weights.photographs, crop_pose(face, geometry), 1.0, f"photograph {number}")
            for number, (face, geometry) in enumerate(zip(request.photographs, known, strict=True), start=2)
        ]


VIEW_MAKERS: Mapping[str, ViewMaker] = {
    "reference": ReferenceView(),
    "rendered": RenderedViews(),
    "mirrored": MirroredView(),
    "photographs": PhotographViews(),
}

Extractor = Callable[[Face], FaceGeometry]  #: makes a face's posed geometry


def stack_views(views: Sequence[View]) -> FaceViews:
    """``views`` as one FaceViews, the first one the reference. Raises InputError when there is none."""
    if not views:
        raise InputError("There is no view to collect; give at least one photograph.")
    return FaceViews(
        crops=np.stack([view.crop for view in views]),
        weights=np.array([view.weight for view in views], np.float32),
        poses=np.array([view.pose for view in views], np.float32),
        coverage=np.array([view.coverage for view in views], np.float32),
        sources=tuple(view.source for view in views),
    )


def _angle_text(yaw: float, pitch: float) -> str:
    """For instance "rendered yaw +30" or "rendered yaw -20, pitch +10"."""
    parts = [f"{name} {angle:+.0f}" for name, angle in (("yaw", yaw), ("pitch", pitch)) if angle]
    return "rendered " + (", ".join(parts) or "frontal")
