"""ArcFace (Deng et al., 2019), the paper's embedder for RS and IFS, from the user's own insightface folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import CheckpointError, MissingFileError, MissingLibraryError
from ..faces.align import warp_square
from ..faces.face import Face
from ..libraries import clash
from .chip import similarity

LICENCE = "for non-commercial research only"
#: The recognition network's file in insightface's packs: antelopev2, buffalo_l / buffalo_m, buffalo_s / buffalo_sc.
FILES = ("glintr100.onnx", "w600k_r50.onnx", "w600k_mbf.onnx")
SIDE = 112
#: Where the five keypoints of a face lie in the network's 112×112 input, pixels, image-left first.
TEMPLATE: npt.NDArray[np.float64] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
#: What a broken onnxruntime raises while it loads.
_IMPORT_FAILURES = (ImportError, OSError, AttributeError, RuntimeError, TypeError, ValueError, SystemError)


class ArcFaceEmbedder:
    """One of insightface's recognition networks on the CPU; only onnxruntime is needed, nothing is downloaded.

    models: the folder that holds the packs (ComfyUI's ``models/insightface/models``) or one pack's own folder.
    pack: its name, e.g. "antelopev2", "buffalo_l"; "" when ``models`` is the pack itself.
    """

    def __init__(self, models: str | Path, pack: str = "antelopev2") -> None:
        self._session = _open(_recognition_file(Path(models), pack))

    def embed(self, face: Face, landmarks: FloatArray) -> FloatArray:
        """[512], length 1, from ``face``'s five keypoints; ``landmarks`` are not used."""
        picture = warp_square(face.photograph, similarity(face.keypoints, TEMPLATE), SIDE)  # (112, 112, 3)
        levels = (picture * 2.0 - 1.0).transpose(2, 0, 1)[None].astype(np.float32)  # (1, 3, 112, 112) RGB -1..1
        (vector,) = self._session.run(None, {self._session.get_inputs()[0].name: levels})
        flat = np.asarray(vector, np.float32).ravel()
        return flat / np.float32(max(float(np.linalg.norm(flat)), 1e-12))


def _recognition_file(models: Path, pack: str) -> Path:
    """The pack's recognition network: in ``models/pack``, a folder of the same name, or one level deeper."""
    for folder in (models / pack, models / pack / pack, models / "models" / pack):
        for name in FILES:
            if (folder / name).is_file():
                return folder / name
    raise MissingFileError(
        f"The insightface pack '{pack}' has no recognition network in {models / pack} (looked for {', '.join(FILES)}): "
        f"put the pack there ({LICENCE}), or choose the embedder 'dlib', which ships with this pack."
    )


def _open(path: Path) -> Any:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except _IMPORT_FAILURES as error:
        mend = clash("onnxruntime") or "install it"
        raise MissingLibraryError(
            f"ArcFace needs the package onnxruntime, which does not load here ({type(error).__name__}: {error}); "
            f"{mend}, or choose the embedder 'dlib', which does not need it."
        ) from error
    broken = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except tuple(broken) as error:
        raise CheckpointError(f"{path.name} is not a network that can be read; unpack its pack again.") from error
    shape = session.get_inputs()[0].shape
    if list(shape[1:]) != [3, SIDE, SIDE]:
        raise CheckpointError(f"{path.name} reads pictures of {shape}, not of 3×{SIDE}×{SIDE} as ArcFace does.")
    return session
