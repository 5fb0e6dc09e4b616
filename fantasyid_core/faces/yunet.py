"""YuNet (Wu et al., 2023), the small face detector that ships with the pack, run by OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..errors import MissingFileError
from ..images import to_uint8
from .face import Detection

MODEL_FILE = Path(__file__).parent.parent / "assets" / "yunet_2023mar.onnx"
_PRECISE = (64.0, 256.0)  # face widths at which the keypoints are steady to 1–1.5 % of the face (16 px: 5 %)
_NMS_OVERLAP = 0.3
_NESTED = 0.6  # a box that lies this far inside a better one is a part of the same face
_TOP_K = 5000
_DOUBT = 0.6  # finds down to this × min_score are listened to, to confirm others
_SELF_EVIDENT = 48.0  # px; a wider find must show at another size of the picture too, else it is a fold or a shadow

Rows = npt.NDArray[np.float64]  # [n, 16]: x, y, width, height, five keypoints, score, face width when it was found


@dataclass(frozen=True)
class YuNetDetector:
    """Looks at several sizes of the photograph; the network finds faces of about 10 to 300 pixels at each of them.

    min_score: 0..1, below which a find is not believed. long_edges: the sizes looked at, in pixels of the long edge;
    the photograph is never enlarged.
    """

    min_score: float = 0.7
    long_edges: tuple[int, ...] = (160, 320, 640, 1280, 1920)

    def __str__(self) -> str:
        return f"YuNet at {min(self.long_edges)} to {max(self.long_edges)} px, score {self.min_score:g} or more"

    def detect(self, photograph: FloatArray) -> list[Detection]:
        """Every face of ``photograph`` [H, W, 3] RGB 0..1, best first. Raises MissingFileError without its model."""
        height, width = photograph.shape[:2]
        native = max(height, width)
        edges = sorted({min(edge, native) for edge in self.long_edges}, reverse=True)
        pixels = _shrunk(photograph, edges[0])
        pixels = np.ascontiguousarray(to_uint8(pixels)[..., ::-1])  # OpenCV's BGR
        with _quiet_opencv():
            network = _network(self.min_score * _DOUBT)
            rows = np.concatenate([_look(network, _shrunk(pixels, edge), native) for edge in edges])
        faces = [finds[0] for finds in _grouped(rows) if self._believed(finds, len(edges))]
        return [detection for row in faces if (detection := _detection(row, width, height))]

    def _believed(self, finds: list[Rows], sizes_looked_at: int) -> bool:
        confirmed = len(finds) > 1 or sizes_looked_at == 1 or finds[0][15] < _SELF_EVIDENT
        return confirmed and bool(max(row[14] for row in finds) >= self.min_score)


def _network(min_score: float) -> Any:
    """A fresh detector (2 ms), from memory because OpenCV cannot open every path on Windows."""
    if not MODEL_FILE.is_file():
        raise MissingFileError(
            f"The face detector {MODEL_FILE.name} (230 kB, MIT) is missing from {MODEL_FILE.parent}; "
            "install the pack again."
        )
    model = np.fromfile(MODEL_FILE, dtype=np.uint8)
    nothing = np.zeros(0, dtype=np.uint8)
    return cv2.FaceDetectorYN.create("onnx", model, nothing, (320, 320), min_score, _NMS_OVERLAP, _TOP_K)


def _look(network: Any, pixels: npt.NDArray[Any], native: int) -> Rows:
    """The finds in one size of the picture [h, w, 3] BGR bytes, in pixels of the photograph, long edge ``native``."""
    height, width = pixels.shape[:2]
    network.setInputSize((width, height))
    found = network.detect(pixels)[1]
    if found is None:
        return np.zeros((0, 16))
    rows = np.concatenate([found, found[:, 2:3]], axis=1).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 2:4] > 0).all(axis=1)]  # OpenCV 4 lets overflowed boxes pass
    rows[:, :14] *= native / max(height, width)
    return rows


def _grouped(rows: Rows) -> list[list[Rows]]:
    """The finds of each face, which shows at several sizes of the picture: the most exact of the sure ones first."""
    low, high = _PRECISE
    width = rows[:, 15]
    distance = np.log2(np.maximum(low / width, 1.0)) + np.log2(np.maximum(width / high, 1.0))
    groups: list[list[Rows]] = []
    for row in rows[np.argsort(distance * 0.05 - rows[:, 14], kind="stable")]:
        group = next((finds for finds in groups if _same_face(row, finds[0])), None)
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    return groups


def _same_face(a: Rows, b: Rows) -> bool:
    shared = np.minimum(a[:2] + a[2:4], b[:2] + b[2:4]) - np.maximum(a[:2], b[:2])
    if (shared <= 0).any():
        return False
    area_a, area_b, both = float(a[2] * a[3]), float(b[2] * b[3]), float(shared[0] * shared[1])
    return both > _NMS_OVERLAP * (area_a + area_b - both) or both > _NESTED * min(area_a, area_b)


def _detection(row: Rows, width: int, height: int) -> Detection | None:
    x0, y0 = np.maximum(row[:2], 0.0)
    x1, y1 = np.minimum(row[:2] + row[2:4], [width, height])
    if x1 <= x0 or y1 <= y0:
        return None
    box, keypoints = np.array([x0, y0, x1, y1], np.float32), row[4:14].reshape(5, 2).astype(np.float32)
    return Detection(box, keypoints, float(np.clip(row[14], 0.0, 1.0)))


def _shrunk(pixels: npt.NDArray[Any], long_edge: int) -> npt.NDArray[Any]:
    """``pixels`` [H, W, 3] with that long edge, averaged; the same array when it has it already."""
    height, width = pixels.shape[:2]
    scale = long_edge / max(height, width)
    if scale >= 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV 5 writes a harmless warning for each network it opens; errors still show. OpenCV 4 is quiet."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(level)
