"""insightface's SCRFD detector from the user's own model folder, and any FaceAnalysis-like object of another pack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import CheckpointError, InputError, MissingFileError, MissingLibraryError
from ..images import to_uint8
from ..libraries import clash
from .face import Detection

LICENCE = "for non-commercial research only"
WHERE = "insightface's releases page (antelopev2 361 MB, buffalo_l 326 MB)"
#: What broken binary packages raise while they load: missing DLLs, another NumPy, another protobuf …
_IMPORT_FAILURES = (ImportError, OSError, AttributeError, RuntimeError, TypeError, ValueError, SystemError)


class FaceAnalysisLike(Protocol):
    """What insightface's FaceAnalysis and its relatives in other packs can do."""

    def get(self, img: npt.NDArray[np.uint8]) -> list[Any]:
        """[H, W, 3] **BGR** bytes → faces with ``bbox`` [4], ``kps`` [5, 2] (image-left first) and ``det_score``."""
        ...


@dataclass(frozen=True, eq=False)
class FaceAnalysisDetector:
    """The door for other packs: their FaceAnalysis object as a detector of ours."""

    analysis: FaceAnalysisLike
    name: str = "FaceAnalysis"

    def __str__(self) -> str:
        return self.name

    def detect(self, photograph: FloatArray) -> list[Detection]:
        """Every face of ``photograph`` [H, W, 3] RGB 0..1, best first. Raises InputError without keypoints."""
        pixels = np.ascontiguousarray(to_uint8(photograph)[..., ::-1])
        height, width = photograph.shape[:2]
        found = [_detection(face, width, height) for face in self.analysis.get(pixels)]
        return sorted((face for face in found if face), key=lambda face: -face.score)


class InsightFaceDetector(FaceAnalysisDetector):
    """insightface's FaceAnalysis on a local folder; nothing is downloaded.

    models: the folder that holds the packs (ComfyUI's ``models/insightface/models``), or the pack's own folder.
    pack: its name, e.g. "antelopev2", "buffalo_l"; "" when ``models`` is the pack itself.
    det_size: side of the square that the detector sees, in pixels.
    """

    def __init__(
        self, models: str | Path, pack: str = "antelopev2", det_size: int = 640, min_score: float = 0.5
    ) -> None:
        folder = _pack_folder(Path(models), pack)
        analysis = _open_pack(folder)
        analysis.prepare(ctx_id=0, det_thresh=min_score, det_size=(det_size, det_size))
        super().__init__(analysis, f"insightface {folder.name} at {det_size} px, score {min_score:g} or more")


def _pack_folder(models: Path, pack: str) -> Path:
    """Where the pack's .onnx files are: ``models/pack``, a folder of the same name or one level deeper."""
    for folder in (models / pack, models / pack / pack, models / "models" / pack):
        if any(folder.glob("*.onnx")):
            return folder.resolve()
    raise MissingFileError(
        f"The insightface pack '{pack}' is missing: put its .onnx files into {models / pack} "
        f"({LICENCE}; from {WHERE}), or choose the detector 'yunet', which ships with this pack."
    )


def _open_pack(folder: Path) -> Any:
    try:
        from insightface.app import FaceAnalysis
    except _IMPORT_FAILURES as error:
        mend = clash("onnxruntime") or "install them"
        raise MissingLibraryError(
            "The insightface detector needs the packages insightface and onnxruntime, and they do not load here "
            f"({type(error).__name__}: {error}); {mend}, or choose the detector 'yunet', which needs neither."
        ) from error
    try:
        return FaceAnalysis(name=str(folder), root=str(folder.parent), allowed_modules=["detection"])
    except _broken_pack_errors() as error:
        raise CheckpointError(
            f"insightface finds no working detector in {folder} ({type(error).__name__}); unpack the pack again."
        ) from error


def _broken_pack_errors() -> tuple[type[Exception], ...]:
    """What insightface raises on a bad pack, and onnxruntime's own exceptions, which share no base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (AssertionError, OSError, RuntimeError, ValueError, *own)


def _detection(face: Any, width: int, height: int) -> Detection | None:
    if getattr(face, "kps", None) is None:
        raise InputError("This face detector gives no keypoints, which alignment needs; choose another detector.")
    box = np.asarray(face.bbox, dtype=np.float64).clip(0, [width, height, width, height])
    if box[2] <= box[0] or box[3] <= box[1]:
        return None
    return Detection(box.astype(np.float32), face.kps, float(np.clip(face.det_score, 0.0, 1.0)))
