"""Third room: one face seen from several sides."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..fantasyid_core.errors import InputError, NoFaceError
from ..fantasyid_core.faces.detect import choose_face, detect_faces
from ..fantasyid_core.faces.detectors import Detector
from ..fantasyid_core.faces.face import Face
from ..fantasyid_core.geometry.geometry import FaceGeometry
from ..fantasyid_core.images import as_photograph
from ..fantasyid_core.views.augment import augment_views, views_from_images
from ..fantasyid_core.views.makers import ViewWeights
from ..fantasyid_core.views.sheet import draw_view_sheet
from ..fantasyid_core.views.views import FaceViews
from . import sockets
from .compat import schema
from .faces import WHOLE_PICTURE, as_detector
from .pictures import image_from_picture, image_from_pictures
from .progress import node_progress, show_text

LEAVE_OUT = "leave it out"


class AugmentViews(io.ComfyNode):
    """FantasyIDAugmentViews."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDAugmentViews",
            display_name="3 · Augment Views",
            description="Make several views of the face: the photograph's own texture turned to other angles on the "
            "mesh, its mirror image, changed light, and further photographs if you have some. Every view says how much "
            "of it the photograph really shows.",
            search_aliases=["multi view", "face views", "novel view", "face rotation", "fantasyid 3"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                sockets.Face.Input("face", tooltip="The face from Detect Faces; its crop is the first view."),
                sockets.Geometry.Input(
                    "geometry",
                    optional=True,
                    tooltip="The face's mesh, from Extract 3D Geometry. Needed for turned views only.",
                ),
                io.String.Input(
                    "yaw_angles",
                    default="-30, 30",
                    tooltip="Views turned to the side, in degrees, separated by commas: above 0 the nose points to the "
                    "picture's right. Up to 75; beyond 45 the photograph shows little. Empty for none.",
                ),
                io.String.Input(
                    "pitch_angles",
                    default="-15, 15",
                    tooltip="Views turned up (above 0) or down, in degrees, separated by commas. Empty for none.",
                ),
                io.Boolean.Input(
                    "mirror",
                    default=False,
                    tooltip="Add the mirrored photograph. Faces are not symmetric, so it counts little.",
                ),
                io.Float.Input(
                    "photometric",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How strongly the light of turned and mirrored views is changed: 0 not at all, 1 as "
                    "another camera would see it.",
                ),
                _weight("rendered_weight", ViewWeights.rendered, "turned views (times what they really show)"),
                _weight("mirrored_weight", ViewWeights.mirrored, "the mirrored view"),
                _weight("photograph_weight", ViewWeights.photographs, "each further photograph"),
                io.Int.Input(
                    "light_seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    tooltip="Decides which changes of light are drawn. The same seed gives the same views.",
                ),
                io.Image.Input(
                    "photographs",
                    optional=True,
                    tooltip="Further photographs of the same person, as one batch (core Batch Images). The largest "
                    "face of each is used.",
                ),
                sockets.AnyDetector.Input(
                    "detector",
                    optional=True,
                    tooltip="What finds the faces of the further photographs. Without it YuNet is used.",
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls,
        face: Face,
        yaw_angles: str,
        pitch_angles: str,
        mirror: bool,
        photometric: float,
        rendered_weight: float,
        mirrored_weight: float,
        photograph_weight: float,
        light_seed: int,
        geometry: FaceGeometry | None = None,
        photographs: torch.Tensor | None = None,
        detector: Any = None,
    ) -> io.NodeOutput:
        """photographs: [N, H, W, 3 or 4]."""
        angles = [(yaw, 0.0) for yaw in _numbers("yaw_angles", yaw_angles)]
        angles += [(0.0, pitch) for pitch in _numbers("pitch_angles", pitch_angles)]
        faces, missed = _faces_of(photographs, as_detector(detector))
        views = augment_views(
            face,
            geometry,
            angles=angles,
            mirror=mirror,
            photometric=photometric,
            photographs=faces,
            weights=ViewWeights(1.0, rendered_weight, mirrored_weight, photograph_weight),
            seed=light_seed,
            progress=node_progress(max(len(angles), 1)),
        )
        if missed:
            show_text(cls, f"No face was found in further photograph {', '.join(map(str, missed))}; it was left out.")
        return _views_output(views)


class ViewsFromImages(io.ComfyNode):
    """FantasyIDViewsFromImages."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDViewsFromImages",
            display_name="Views from Images",
            description="Use pictures of one person as views, without any mesh: several photographs, frames of a clip, "
            "or views that another pack rendered. The first one is the reference.",
            search_aliases=["multi view import", "several photos", "face batch"],
            inputs=[
                io.Image.Input("images", tooltip="Pictures of one person, as one batch; the first is the reference."),
                io.Combo.Input(
                    "on_no_face",
                    options=[LEAVE_OUT, WHOLE_PICTURE],
                    default=LEAVE_OUT,
                    tooltip="What to do with a picture in which no face is found.",
                ),
                io.String.Input(
                    "weights",
                    default="",
                    tooltip="How much each picture counts, separated by commas, for example 1, 0.5. Empty: all alike.",
                ),
                sockets.AnyDetector.Input(
                    "detector", optional=True, tooltip="What finds the faces. Without it YuNet is used."
                ),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(cls, images: torch.Tensor, on_no_face: str, weights: str, detector: Any = None) -> io.NodeOutput:
        """images: [N, H, W, 3 or 4]."""
        shares = _numbers("weights", weights) or None
        views = views_from_images(
            images, as_detector(detector), whole_picture=on_no_face == WHOLE_PICTURE, weights=shares
        )
        return _views_output(views)


def _outputs() -> list[io.Output]:
    return [
        sockets.Views.Output("views", "views", tooltip="The views, for Fuse Features."),
        io.Image.Output("crops", "crops", tooltip="Every view's aligned crop, 512 × 512, as one batch."),
        io.Image.Output("sheet", "sheet", tooltip="All views on one sheet with angle, weight and coverage."),
        io.Int.Output("count", "count", tooltip="How many views there are."),
    ]


def _views_output(views: FaceViews) -> io.NodeOutput:
    sheet = image_from_picture(draw_view_sheet(views))
    return io.NodeOutput(views, image_from_pictures(views.crops), sheet, len(views.crops))


def _weight(name: str, default: float, what: str) -> io.Float.Input:
    tooltip = f"The weight of {what} in Fuse Features; the photograph itself counts 1. Used when combine is 'mean'."
    return io.Float.Input(name, default=default, min=0.0, max=10.0, step=0.05, round=0.001, tooltip=tooltip)


def _numbers(name: str, text: str) -> list[float]:
    """The numbers of a comma-separated text. InputError names the widget."""
    try:
        return [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError as error:
        raise InputError(
            f"'{text}' in {name} is not a list of numbers; write them with commas, as in -30, 30."
        ) from error


def _faces_of(photographs: torch.Tensor | None, detector: Detector) -> tuple[list[Face], list[int]]:
    """The largest face of each photograph [N, H, W, C], and the numbers (from 1) of those without one."""
    faces, missed = [], []
    for number, image in enumerate(() if photographs is None else photographs, start=1):
        try:
            faces.append(choose_face(detect_faces(as_photograph(image), detector)))
        except NoFaceError:
            missed.append(number)
    return faces, missed


NODES: list[type[io.ComfyNode]] = [AugmentViews, ViewsFromImages]
