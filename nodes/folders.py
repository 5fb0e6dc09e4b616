"""Where files lie in a ComfyUI installation: models, examples, saved identities and meshes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

import folder_paths

from ..fantasyid_core.errors import InputError, MissingFileError
from ..fantasyid_core.weights.catalog import entry
from ..fantasyid_core.weights.checkpoint import TRANSFORMER_FOLDERS

PACK = Path(__file__).resolve().parent.parent
SUBFOLDER = "fantasyid"  #: of models/, and of output/ for what the nodes save
MESH_FOLDER = "3d"  #: of input/, where ComfyUI keeps 3D files
#: shipped file → its place below ComfyUI's input folder, so that the example workflows run at once
EXAMPLES = {
    "fantasyid_core/assets/astronaut.png": "fantasyid_astronaut.png",
    "workflows/files/astronaut_close.jpg": "fantasyid_astronaut_close.jpg",
    "workflows/files/astronaut_warm.jpg": "fantasyid_astronaut_warm.jpg",
    "workflows/files/somebody.jpg": "fantasyid_somebody.jpg",
    "workflows/files/head.glb": f"{MESH_FOLDER}/fantasyid_head.glb",
}


def register_folders() -> None:
    """Make ``models/fantasyid`` known to ComfyUI, so that extra_model_paths.yaml can name it too."""
    folder_paths.add_model_folder_path("fantasyid", str(Path(folder_paths.models_dir) / SUBFOLDER))


def share_examples() -> None:
    """Put the example photographs and mesh into ComfyUI's input folder, unless something of that name is there."""
    inputs = Path(folder_paths.get_input_directory())
    for source, name in EXAMPLES.items():
        try:
            if (PACK / source).is_file() and not (inputs / name).exists():
                (inputs / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PACK / source, inputs / name)
        except OSError as error:
            logging.warning("FantasyID could not put its example %s into the input folder: %s", name, error)


def models_directories() -> list[Path]:
    """ComfyUI's models folder, and every other folder in which the user keeps this pack's models."""
    extra = [Path(path) for path in folder_paths.get_folder_paths("fantasyid")]
    return list(dict.fromkeys([Path(folder_paths.models_dir), *(path.parent for path in extra)]))


def model_names() -> list[str]:
    """What lies in models/fantasyid and may be a model: single files, and folders that hold a transformer."""
    return sorted({child.name for root in _model_roots() for child in _children(root) if _may_be_model(child)})


def model_path(name: str) -> Path:
    """Where one of ``model_names`` lies. MissingFileError when it is gone."""
    for root in _model_roots():
        if (root / name).exists():
            return root / name
    raise MissingFileError(
        f"There is no model {name} in models/{SUBFOLDER}; put it there, or choose another one and press R. "
        f"If it is the public checkpoint: {entry('transformer').missing_message()}"
    )


def insightface_folder() -> Path:
    """Where every pack keeps insightface's models."""
    return Path(folder_paths.models_dir) / "insightface" / "models"


def choices(suffixes: Iterable[str], input_folders: Iterable[str]) -> list[str]:
    """Files of these types in ``input_folders`` of input/ and in output/fantasyid, as ComfyUI writes their places.

    Those of the output folder end in " [output]", which ``annotated_path`` understands.
    """
    wanted = tuple(suffixes)
    inputs, outputs = Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory())
    found = [path.relative_to(inputs).as_posix() for name in input_folders for path in _files(inputs / name, wanted)]
    found += [f"{path.relative_to(outputs).as_posix()} [output]" for path in _files(outputs / SUBFOLDER, wanted)]
    return list(dict.fromkeys(found))


def annotated_path(name: str) -> Path:
    """The file behind one of ``choices``, or behind a path below the input folder. InputError when it is not there."""
    path = Path(folder_paths.get_annotated_filepath(name))
    if not path.is_file():
        raise InputError(f"There is no file {name}; put it into ComfyUI's input folder and choose it again.")
    return path


def output_path(filename_prefix: str, suffix: str) -> Path:
    """The next free ``<prefix>_00001_<suffix>`` in the output folder.

    InputError when the prefix leads out of that folder, or the folder cannot be written.
    """
    root = Path(folder_paths.get_output_directory()).resolve()
    if not (root / filename_prefix).resolve().is_relative_to(root):
        raise InputError(f"'{filename_prefix}' leads out of ComfyUI's output folder; write a name without '..'.")
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, str(root))
    except OSError as error:
        raise InputError(
            f"Nothing can be written to {filename_prefix} in ComfyUI's output folder ({error.strerror}); choose "
            "another filename_prefix."
        ) from error
    return Path(folder) / f"{name}_{counter:05}_{suffix}"


def below_output(path: Path) -> str:
    """``path`` relative to the output folder, with forward slashes, as Preview 3D wants it."""
    return path.relative_to(Path(folder_paths.get_output_directory()).resolve()).as_posix()


def _model_roots() -> list[Path]:
    return [Path(path) for path in folder_paths.get_folder_paths("fantasyid")]


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _may_be_model(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".safetensors"
    # one folder too many is the most reported mistake, and the loader forgives it
    return any((path / depth / name).is_dir() for depth in (".", path.name) for name in TRANSFORMER_FOLDERS)


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in suffixes)
