"""Second room: the 3D shape of the face, from the photograph or from a mesh file."""

from __future__ import annotations

from comfy_api.latest import io

from ..fantasyid_core.faces.face import Face
from ..fantasyid_core.geometry.extractors import EXTRACTORS, make_extractor
from ..fantasyid_core.geometry.geometry import FaceGeometry
from ..fantasyid_core.geometry.mesh_files import READABLE, WRITABLE, load_mesh, save_mesh
from ..fantasyid_core.geometry.render import overlay_mesh, render_mesh
from ..fantasyid_core.input_path import INPUT_PATHS, checked_input_path
from . import sockets
from .compat import schema
from .folders import MESH_FOLDER, SUBFOLDER, annotated_path, below_output, choices, models_directories, output_path
from .identity import file_is_there
from .pictures import image_from_picture
from .progress import show_text

RENDER_SIDE = 512  #: pixels of the studio picture
_OVERLAY_TIP = "The photograph with the mesh lying on it: eyes, nose, mouth and chin should fit."
_RENDER_TIP = "The mesh alone, lit in a studio, seen from the front, 512 × 512."


class ExtractGeometry(io.ComfyNode):
    """FantasyIDExtractGeometry."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        about = " ".join(f"'{name}': {backend.about}" for name, backend in EXTRACTORS.items())
        return schema(
            node_id="FantasyIDExtractGeometry",
            display_name="2 · Extract 3D Geometry",
            description="Find the 3D shape of the face and how the head stands before the camera. The default fits a "
            "licence-free head to 468 landmarks of the photograph.",
            search_aliases=["3d face", "face mesh", "flame", "deca", "3dmm", "fantasyid 2"],
            inputs=[
                sockets.Face.Input("face", tooltip="From Detect Faces."),
                io.Combo.Input("extractor", options=list(EXTRACTORS), default=next(iter(EXTRACTORS)), tooltip=about),
                io.Combo.Input(
                    "input_path",
                    options=list(INPUT_PATHS),
                    default=INPUT_PATHS[0],
                    tooltip="For flame-deca only: 'recommended' looks at the face and gives it a neutral pose and "
                    "expression; 'as released' squeezes the whole picture and keeps both, as the authors' script does.",
                ),
            ],
            outputs=[
                sockets.Geometry.Output(
                    "geometry", "geometry", tooltip="The mesh, for Augment Views and Fuse Features."
                ),
                io.Image.Output("overlay", "overlay", tooltip=_OVERLAY_TIP),
                io.Image.Output("render", "render", tooltip=_RENDER_TIP),
            ],
        )

    @classmethod
    def execute(cls, face: Face, extractor: str, input_path: str) -> io.NodeOutput:
        """Fit the mesh and draw it."""
        way = make_extractor(extractor, models_directories(), checked_input_path(input_path))
        return _geometry_output(way.extract(face), face)


class LoadMesh(io.ComfyNode):
    """FantasyIDLoadMesh."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDLoadMesh",
            display_name="Load Mesh",
            description="Use a face mesh from a file instead of extracting one. With a face connected, the mesh also "
            "gets its place in that photograph, which turned views need.",
            search_aliases=["mesh import", "glb", "obj", "ply", "3d file"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=choices(READABLE, (MESH_FOLDER, ".")),
                    tooltip="Mesh files in ComfyUI's input folder, in input/3d and in output/fantasyid. Press R after "
                    "adding one.",
                ),
                sockets.Face.Input(
                    "face",
                    optional=True,
                    tooltip="The face that this mesh shows, from Detect Faces: finds how the head stands in it.",
                ),
            ],
            outputs=[
                sockets.Geometry.Output(
                    "geometry", "geometry", tooltip="The mesh, for Augment Views and Fuse Features."
                ),
                io.Image.Output("overlay", "overlay", tooltip=f"{_OVERLAY_TIP} Without a face: the same as render."),
                io.Image.Output("render", "render", tooltip=_RENDER_TIP),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Refuse a file that is gone before anything runs."""
        return file_is_there(file)

    @classmethod
    def fingerprint_inputs(cls, file: str, face: Face | None = None) -> float:
        """Read again when the file changes."""
        return annotated_path(file).stat().st_mtime

    @classmethod
    def execute(cls, file: str, face: Face | None = None) -> io.NodeOutput:
        """Read it."""
        geometry = load_mesh(annotated_path(file), models_directories())
        if face is not None:
            from ..fantasyid_core.geometry.place import place_mesh

            geometry = place_mesh(geometry, face)
        return _geometry_output(geometry, face)


class SaveMesh(io.ComfyNode):
    """FantasyIDSaveMesh."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDSaveMesh",
            display_name="Save Mesh",
            description="Write the mesh into the output folder, for Blender or any other 3D program, and for core's "
            "Preview 3D node.",
            search_aliases=["mesh export", "glb", "obj", "ply"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                sockets.Geometry.Input("geometry", tooltip="From Extract 3D Geometry or Load Mesh."),
                io.String.Input(
                    "filename_prefix",
                    default=f"{SUBFOLDER}/head",
                    tooltip="Folder and beginning of the file's name in ComfyUI's output folder; a number follows.",
                ),
                io.Combo.Input(
                    "format",
                    options=[suffix.removeprefix(".") for suffix in WRITABLE],
                    default="glb",
                    tooltip="glb opens everywhere and in Preview 3D; ply keeps exact numbers; obj is plain text.",
                ),
            ],
            outputs=[
                io.String.Output("path", "path", tooltip="The file, relative to the output folder, for Preview 3D."),
            ],
        )

    @classmethod
    def execute(cls, geometry: FaceGeometry, filename_prefix: str, format: str) -> io.NodeOutput:
        """Write it."""
        path = save_mesh(output_path(filename_prefix, f".{format}"), geometry)
        show_text(cls, f"Saved as output/{below_output(path)}")
        return io.NodeOutput(below_output(path))


def _geometry_output(geometry: FaceGeometry, face: Face | None) -> io.NodeOutput:
    render = image_from_picture(render_mesh(geometry, RENDER_SIDE))
    if face is None or geometry.pose is None:
        return io.NodeOutput(geometry, render, render)
    return io.NodeOutput(geometry, image_from_picture(overlay_mesh(face.photograph, geometry)), render)


NODES: list[type[io.ComfyNode]] = [ExtractGeometry, LoadMesh, SaveMesh]
