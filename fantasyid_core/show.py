"""What a generation leaves in a folder: every stage as a file that a person can open, and one sheet that shows all."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .arrays import FloatArray
from .contact_sheet import Section, draw_contact_sheet, token_picture
from .errors import InputError
from .faces.draw import draw_faces
from .generate import Generation
from .geometry.mesh_files import save_mesh
from .geometry.render import overlay_mesh, render_mesh
from .identity.identity_file import save_identity
from .images import save_image
from .video.files import write_mp4, write_webp
from .views.sheet import draw_view_sheet

SHEET_FRAMES = 9  #: frames of the video on the contact sheet


def save_generation(made: Generation, folder: Path, prompt: str, notice: str, fps: float) -> list[Path]:
    """Write every stage of ``made`` into ``folder`` and return the files in the order of the stages.

    Raises InputError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be made ({error.strerror}); choose another output folder."
        ) from error
    pictures = {
        "1_faces.png": draw_faces(made.face.photograph, made.faces, made.chosen),
        "1_crop.png": made.face.crop,
        "2_geometry.png": render_mesh(made.geometry, 768),
        "2_overlay.png": overlay_mesh(made.face.photograph, made.geometry),
        "3_views.png": draw_view_sheet(made.views, columns=min(5, len(made.views.crops))),
    }
    sheet = draw_generation(made, pictures, prompt, notice)
    return [
        *(save_image(folder / name, picture) for name, picture in pictures.items()),
        save_mesh(folder / "2_face.glb", made.geometry),
        save_mesh(folder / "2_face.ply", made.geometry),
        save_identity(made.identity, folder / "4_identity.safetensors"),
        write_mp4(folder / "5_video.mp4", made.frames, fps),
        write_webp(folder / "5_video.webp", made.frames, fps),
        save_image(folder / "contact_sheet.png", sheet),
    ]


def draw_generation(made: Generation, pictures: dict[str, FloatArray], prompt: str, notice: str) -> FloatArray:
    """The contact sheet of a generation, [H, 1600, 3] RGB 0..1, from the stages' own pictures."""
    yaw, pitch, roll = made.geometry.pose.yaw_pitch_roll if made.geometry.pose else (0.0, 0.0, 0.0)
    tokens, width = made.identity.tokens.shape
    side_views = [render_mesh(made.geometry, 512, yaw=angle) for angle in (-45.0, 45.0)]
    frames = made.frames[np.linspace(0, len(made.frames) - 1, min(SHEET_FRAMES, len(made.frames))).round().astype(int)]
    sections = [
        Section(
            "1 · Faces",
            f"{len(made.faces)} found, score {made.face.score:.2f}; the chosen one aligned to 512 by 512 pixels",
            [pictures["1_faces.png"], pictures["1_crop.png"]],
        ),
        Section(
            "2 · Geometry",
            f"{made.geometry.source}; head pose yaw {yaw:+.0f}°, pitch {pitch:+.0f}°, roll {roll:+.0f}°",
            [pictures["2_overlay.png"], pictures["2_geometry.png"], *side_views],
        ),
        Section("3 · Views", f"{len(made.views.crops)} views of the same face", [pictures["3_views.png"]], height=460),
        Section(
            "4 · Identity",
            f"{tokens} tokens of width {width}, one column each: 2D tokens first, then 3D ({made.identity.model})",
            [token_picture(made.identity.tokens.numpy())],
            height=200,
        ),
        Section("5 · Video", f"“{prompt}”", list(frames), height=190),
    ]
    return draw_contact_sheet("FantasyID: from a photograph to a video", sections, notice)
