"""First room: find the faces of a photograph, choose one, align it."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..fantasyid_core.errors import InputError, NoFaceError
from ..fantasyid_core.faces.detect import (
    RULES,
    chosen_index,
    detect_faces,
    face_from_crop,
    whole_picture_face,
    with_mask,
)
from ..fantasyid_core.faces.detectors import DETECTORS, Detector, make_detector
from ..fantasyid_core.faces.draw import draw_faces
from ..fantasyid_core.faces.face import Face
from ..fantasyid_core.faces.insightface_detector import FaceAnalysisDetector
from ..fantasyid_core.faces.pose import is_profile
from ..fantasyid_core.images import as_photograph
from ..fantasyid_core.input_path import INPUT_PATHS
from . import sockets
from .compat import schema
from .folders import insightface_folder
from .pictures import image_from_picture, mask_from_levels
from .progress import show_text

STOP, WHOLE_PICTURE = "stop with a message", "use the whole picture"
RECOMMENDED, AS_RELEASED = INPUT_PATHS


class LoadDetector(io.ComfyNode):
    """FantasyIDLoadDetector."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        about = " ".join(f"{name}: {backend.about}" for name, backend in DETECTORS.items())
        return schema(
            node_id="FantasyIDLoadDetector",
            display_name="Load Face Detector",
            description="Choose what finds the faces. Without this node the face detection uses YuNet, which ships "
            "with the pack and may be used for anything.",
            search_aliases=["insightface", "yunet", "scrfd", "face analysis", "antelopev2"],
            inputs=[
                io.Combo.Input("backend", options=list(DETECTORS), default="yunet", tooltip=about),
                io.Float.Input(
                    "min_score",
                    default=0.7,
                    min=0.05,
                    max=0.99,
                    step=0.01,
                    tooltip="How sure the detector must be (0 to 1). Lower it when a real face is missed, raise it "
                    "when something else is taken for a face.",
                ),
                io.String.Input(
                    "insightface_pack",
                    default="antelopev2",
                    tooltip="For insightface only: the folder below models/insightface/models that holds the .onnx "
                    "files, for example antelopev2 or buffalo_l. For non-commercial research only.",
                ),
                io.Int.Input(
                    "insightface_size",
                    default=640,
                    min=128,
                    max=2048,
                    step=32,
                    tooltip="For insightface only: side of the square, in pixels, that the detector sees. Larger "
                    "finds smaller faces and misses very large ones.",
                ),
            ],
            outputs=[
                sockets.Detector.Output("detector", "detector", tooltip="Connect it to Detect Faces or Augment Views.")
            ],
        )

    @classmethod
    def execute(cls, backend: str, min_score: float, insightface_pack: str, insightface_size: int) -> io.NodeOutput:
        """Make the detector."""
        options: dict[str, Any] = {"min_score": min_score}
        if backend == "insightface":
            options |= {"models": insightface_folder(), "pack": insightface_pack, "det_size": insightface_size}
        return io.NodeOutput(make_detector(backend, **options))


class DetectFaces(io.ComfyNode):
    """FantasyIDDetectFaces."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDDetectFaces",
            display_name="1 · Detect Faces",
            description="Find the faces of a photograph, choose one of them and align it. The preview numbers the "
            "faces from left to right, so that you can choose one by its number.",
            search_aliases=["face crop", "face align", "face detector", "fantasyid 1"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input(
                    "image", tooltip="One photograph. The face is best from the front, sharp, 200 px or more."
                ),
                io.Combo.Input(
                    "choose",
                    options=list(RULES),
                    default="largest",
                    tooltip="Which face to take when there are several. 'index' takes the face with the number below.",
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=255,
                    tooltip="Number of the face as the preview shows it, counted from 0. Used when choose is 'index'.",
                ),
                io.Int.Input(
                    "min_size",
                    default=20,
                    min=1,
                    max=4096,
                    tooltip="Faces whose shorter side is below this many pixels are passed over.",
                ),
                io.Float.Input(
                    "padding",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much more to show around the face, as a part of the crop's side. 0 is what the model "
                    "was trained on.",
                ),
                io.Combo.Input(
                    "on_no_face",
                    options=[STOP, WHOLE_PICTURE],
                    default=STOP,
                    tooltip="What to do when no face is found: stop and say what was tried, or go on as if the whole "
                    "picture were the face (for drawings, statues, animals).",
                ),
                io.Combo.Input(
                    "input_path",
                    options=[RECOMMENDED, AS_RELEASED],
                    default=RECOMMENDED,
                    tooltip="'recommended' keeps every pixel of the photograph and shrinks large faces smoothly. 'as "
                    "released' first reduces the photograph to 1024 px, exactly as the authors' own script does.",
                ),
                sockets.AnyDetector.Input(
                    "detector",
                    optional=True,
                    tooltip="A detector from Load Face Detector, or another pack's face analysis (InsightFace). "
                    "Without it YuNet is used.",
                ),
            ],
            outputs=[
                sockets.Face.Output("face", "face", tooltip="The chosen face: where it is, and its aligned crop."),
                io.Image.Output("crop", "crop", tooltip="The aligned crop, 512 × 512."),
                io.Mask.Output("mask", "mask", tooltip="White where the chosen face is, as large as the photograph."),
                io.Image.Output(
                    "preview", "preview", tooltip="The photograph with every face's box, points and number."
                ),
                io.Int.Output("count", "count", tooltip="How many faces were found (0: the whole picture was used)."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        choose: str,
        index: int,
        min_size: int,
        padding: float,
        on_no_face: str,
        input_path: str,
        detector: Any = None,
    ) -> io.NodeOutput:
        """image: [1, H, W, 3 or 4]."""
        photograph = as_photograph(image)
        try:
            faces = detect_faces(
                photograph,
                as_detector(detector),
                min_size=min_size,
                padding=padding,
                as_released=input_path == AS_RELEASED,
            )
        except NoFaceError:
            if on_no_face == STOP:
                raise
            return _face_output(whole_picture_face(photograph), image_from_picture(photograph), 0)
        number = chosen_index(faces, choose, index)
        if is_profile(faces[number]):
            show_text(cls, "This face is turned far to the side: the likeness will be poor.")
        preview = image_from_picture(draw_faces(faces[0].photograph, faces, number))
        return _face_output(with_mask(faces[number]), preview, len(faces))


class FaceFromCrop(io.ComfyNode):
    """FantasyIDFaceFromCrop."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDFaceFromCrop",
            display_name="Face from Crop",
            description="Use a face that another pack has already found and cropped. With a mask the face is placed "
            "where the mask is; without one the whole picture is taken as the face.",
            search_aliases=["face import", "face from image", "face mask"],
            inputs=[
                io.Image.Input("image", tooltip="A picture that shows one upright face."),
                io.Mask.Input("mask", optional=True, tooltip="White on the face, as large as the picture."),
            ],
            outputs=[
                sockets.Face.Output("face", "face", tooltip="The face, ready for Extract 3D Geometry."),
                io.Image.Output("crop", "crop", tooltip="The crop that the model will see, 512 × 512."),
            ],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, mask: torch.Tensor | None = None) -> io.NodeOutput:
        """image: [1, H, W, 3 or 4]; mask: [1, H, W]."""
        face = face_from_crop(image, mask)
        return io.NodeOutput(face, image_from_picture(face.crop))


def as_detector(detector: Any) -> Detector:
    """A detector of ours, or another pack's face-analysis object as one; YuNet when there is none."""
    if detector is None:
        return make_detector()
    if hasattr(detector, "detect"):
        return detector
    if hasattr(detector, "get"):
        return FaceAnalysisDetector(detector)
    raise InputError(
        "This face analysis object can neither detect() nor get() faces; connect Load Face Detector or an InsightFace "
        "loader instead."
    )


def _face_output(face: Face, preview: torch.Tensor, count: int) -> io.NodeOutput:
    assert face.mask is not None  # every way here adds one
    return io.NodeOutput(face, image_from_picture(face.crop), mask_from_levels(face.mask), preview, count)


NODES: list[type[io.ComfyNode]] = [LoadDetector, DetectFaces, FaceFromCrop]
