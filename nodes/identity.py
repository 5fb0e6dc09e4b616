"""Fourth room: 2D and 3D features of the views, fused into the identity of one person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..fantasyid_core.errors import InputError
from ..fantasyid_core.geometry.adapt import for_model
from ..fantasyid_core.identity.branches import BRANCHES, checked_branches
from ..fantasyid_core.identity.fuse import fuse_features
from ..fantasyid_core.identity.fusions import FUSIONS
from ..fantasyid_core.identity.identity_file import load_identity, save_identity
from ..fantasyid_core.input_path import INPUT_PATHS, checked_input_path
from . import sockets
from .compat import schema
from .folders import SUBFOLDER, annotated_path, below_output, choices, output_path
from .memory import on_device, video_device
from .pictures import image_from_picture
from .progress import node_progress, show_text

if TYPE_CHECKING:
    from ..fantasyid_core.geometry.geometry import FaceGeometry
    from ..fantasyid_core.identity.identity import Identity
    from ..fantasyid_core.model import FantasyIDModel
    from ..fantasyid_core.views.views import FaceViews

_REFERENCE_TIP = "The crop that also conditions the video's first frame, 512 × 512."


class FuseFeatures(io.ComfyNode):
    """FantasyIDFuseFeatures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDFuseFeatures",
            display_name="4 · Fuse Features",
            description="Look at the views (2D branch) and at the mesh (3D branch), and fuse both into the identity "
            "that the video model attends to in every layer.",
            search_aliases=["face embeds", "identity encoder", "face tokens", "fantasyid 4"],
            inputs=[
                sockets.Model.Input("model", tooltip="From Load FantasyID Model: its identity encoder is used."),
                sockets.Views.Input("views", tooltip="From Augment Views. The first view is the reference."),
                sockets.Geometry.Input("geometry", tooltip="The face's mesh, from Extract 3D Geometry or Load Mesh."),
                io.Combo.Input(
                    "combine",
                    options=list(FUSIONS),
                    default="reference",
                    tooltip="How several views become one identity. 'reference': the first view alone, what the public "
                    "checkpoint was trained for. 'mean': the weighted mean of all views, 'norm average' the mean of "
                    "their directions. 'concat': all views side by side, more tokens than the checkpoint saw in "
                    "training.",
                ),
                io.Combo.Input(
                    "branches",
                    options=list(BRANCHES),
                    default="2D + 3D",
                    tooltip="Which features to use. '2D only' needs no fitting mesh; '3D only' keeps the shape of "
                    "face and leaves its look to the prompt.",
                ),
                io.Combo.Input(
                    "input_path",
                    options=list(INPUT_PATHS),
                    default=INPUT_PATHS[0],
                    tooltip="'recommended' gives the 3D branch the face without its expression and keeps the shape of "
                    "the reference crop (letterboxed); 'as released' keeps the expression and stretches the crop to "
                    "the video's frame, as the authors' script does.",
                ),
            ],
            outputs=[
                sockets.Identity.Output("identity", "identity", tooltip="The identity, for the sampler or to save."),
                io.Image.Output("reference", "reference", tooltip=_REFERENCE_TIP),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: FantasyIDModel,
        views: FaceViews,
        geometry: FaceGeometry,
        combine: str,
        branches: str,
        input_path: str,
    ) -> io.NodeOutput:
        """Encode and fuse on the device that ComfyUI gives."""
        on_device(model.identity_encoder, video_device())
        topology, path = model.config.vertex_net.topology, checked_input_path(input_path)
        identity = fuse_features(
            views,
            for_model(geometry, topology, path, model.folders),
            model.identity_encoder,
            combine=combine,
            branches=checked_branches(branches),
            input_path=path,
            progress=node_progress(len(views.crops) + 1),
        )
        return io.NodeOutput(identity, image_from_picture(identity.reference))


class SaveIdentity(io.ComfyNode):
    """FantasyIDSaveIdentity."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDSaveIdentity",
            display_name="Save Identity",
            description="Keep an identity as one small .safetensors file in the output folder, to make once and use "
            "in many videos. It holds the tokens, the reference crop and notes on how it was made.",
            search_aliases=["save face embeds", "face model save"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                sockets.Identity.Input("identity", tooltip="From Fuse Features."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{SUBFOLDER}/identity",
                    tooltip="Folder and beginning of the file's name in ComfyUI's output folder; a number follows.",
                ),
            ],
            outputs=[
                io.String.Output("path", "path", tooltip="The file, relative to the output folder."),
            ],
        )

    @classmethod
    def execute(cls, identity: Identity, filename_prefix: str) -> io.NodeOutput:
        """Write the file."""
        path = below_output(save_identity(identity, output_path(filename_prefix, ".safetensors")))
        show_text(cls, f"Saved as output/{path}")
        return io.NodeOutput(path)


class LoadIdentity(io.ComfyNode):
    """FantasyIDLoadIdentity."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDLoadIdentity",
            display_name="Load Identity",
            description="Use an identity that Save Identity kept. It works with the model that made it; the sampler "
            "says so when it is another one.",
            search_aliases=["load face embeds", "face model load"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=choices((".safetensors",), (".", SUBFOLDER)),
                    tooltip="Identity files in ComfyUI's input folder and in output/fantasyid. Press R after saving a "
                    "new one.",
                ),
            ],
            outputs=[
                sockets.Identity.Output("identity", "identity", tooltip="The identity, for the sampler."),
                io.Image.Output("reference", "reference", tooltip=_REFERENCE_TIP),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Refuse a file that is gone before anything runs."""
        return file_is_there(file)

    @classmethod
    def fingerprint_inputs(cls, file: str) -> float:
        """Read again when the file changes."""
        return annotated_path(file).stat().st_mtime

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Read the file."""
        identity = load_identity(annotated_path(file))
        show_text(cls, "\n".join(f"{name}: {note}" for name, note in identity.provenance.items()))
        return io.NodeOutput(identity, image_from_picture(identity.reference))


def file_is_there(name: str) -> bool | str:
    """True, or the sentence that says what to do."""
    try:
        return Path(annotated_path(name)).is_file()
    except InputError as error:
        return str(error)


NODES: list[type[io.ComfyNode]] = [FuseFeatures, SaveIdentity, LoadIdentity]
