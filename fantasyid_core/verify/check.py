"""One comparison with a golden number: how far off, how far off it may be, and the verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Verdict = Literal["pass", "FAIL", "input"]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """How far a key may be off. absolute: every value. relative: ‖ours − golden‖ / ‖golden‖, None where the absolute
    one is enough. share: the share of values that may break ``absolute``, but never by more than ``at_most``.
    """

    absolute: float
    relative: float | None = None
    share: float = 0.0
    at_most: float = 0.0

    def __str__(self) -> str:
        parts = [f"{self.absolute:.1e}"]
        if self.relative is not None:
            parts.append(f"{self.relative:.2%} rel")
        if self.share:
            parts.append(f"{self.share:.0%} to {self.at_most:g}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Check:
    """One golden key. difference: largest absolute one; relative: ‖difference‖ / ‖golden‖; both None when nothing was
    computed. note: why it failed, or what was done.
    """

    file: str
    key: str
    verdict: Verdict
    difference: float | None = None
    relative: float | None = None
    tolerance: Tolerance | None = None
    note: str = ""

    @property
    def failed(self) -> bool:
        return self.verdict == "FAIL"

    def line(self) -> str:
        """One line of the printed table."""
        if self.difference is None:
            return f"{self.verdict:5} {self.file:32} {self.key:52} {self.note}"
        numbers = f"max {self.difference:8.2e}  rel {self.relative or 0:8.2e}  tolerance {self.tolerance}"
        return f"{self.verdict:5} {self.file:32} {self.key:52} {numbers}{'  ' + self.note if self.note else ''}"


#: (file pattern, key pattern, tolerance): the first row that matches counts. Source: golden/README.md; the outputs
#: have a standard deviation of about 1 (EVA hidden states 6.4) and the numbers spread by up to 2.5e-5 (EVA) and 1.7e-5
#: (pipeline) between runs of the release itself on one and two threads.
TOLERANCES: tuple[tuple[str, str, Tolerance], ...] = (
    (r"layer_attention", r"output_bfloat16", Tolerance(1.5e-2, 0.0084)),
    (r"transformer", r".*bfloat16", Tolerance(0.05, 0.013)),
    (r"layer_attention", r".*", Tolerance(1e-5)),
    (r"transformer", r"rope_.*", Tolerance(1e-6)),
    (r"transformer", r".*(block\d+\.hidden|vertex_tokens)", Tolerance(5e-5)),
    (r"transformer", r".*", Tolerance(2e-5)),
    (r"rope_full", r".*", Tolerance(1e-6)),
    (r"face_abstractor", r".*", Tolerance(1e-5)),
    (r"vertex_spiral_net", r".*(coarse_vertices|depth_embedding)", Tolerance(1e-6)),
    (r"vertex_spiral_net", r".*", Tolerance(5e-5)),
    (r"eva_visual", r"rope_.*", Tolerance(1e-6)),
    (r"eva_visual", r"hidden_.*", Tolerance(1e-4)),
    (r"eva_visual", r".*", Tolerance(2e-5)),
    (r"face_preprocess", r"affine", Tolerance(1e-4)),
    (r"face_preprocess", r"crop_bgr", Tolerance(0, None, 0.05, 2)),
    (r"face_preprocess", r"eva_input_sum", Tolerance(1.0)),
    (r"face_preprocess", r"template", Tolerance(1e-9)),
    (r"face_preprocess", r".*", Tolerance(1e-5)),
    (r"deca", r"encoder_.*", Tolerance(1e-4)),
    (r"deca", r".*", Tolerance(1e-5)),
    (r"pipeline", r"alphas_cumprod|image_uint8|preprocessed_image|draw.*", Tolerance(1e-6)),
    (r"pipeline", r".*", Tolerance(1e-4)),
    (r"mesh_hierarchy", r".*", Tolerance(0)),
    (r"vertices", r".*", Tolerance(0)),
)


def tolerance_of(file: str, key: str) -> Tolerance:
    """The tolerance of a golden key; 1e-4 where the table has no row."""
    for file_pattern, key_pattern, tolerance in TOLERANCES:
        if file.startswith(file_pattern) and re.fullmatch(key_pattern, key):
            return tolerance
    return Tolerance(1e-4)


def compare(file: str, key: str, ours: Array | None, golden: Array, note: str = "") -> Check:
    """Compare one array with its golden one; None (nothing computes this key) fails.

    Axes of length 1 in front may differ; anything else in the shape must agree.
    """
    if ours is None:
        return Check(file, key, "FAIL", note=note or "not computed: no rule of this version makes this key")
    if squeezed(ours.shape) != squeezed(golden.shape):
        return Check(file, key, "FAIL", note=f"ours has the shape {list(ours.shape)}, the golden {list(golden.shape)}")
    tolerance = tolerance_of(file, key)
    ours64, golden64 = (a.astype(np.float64).reshape(golden.shape) for a in (ours, golden))
    difference = np.abs(ours64 - golden64)
    worst = float(difference.max(initial=0.0))
    relative = float(np.linalg.norm(difference)) / max(float(np.linalg.norm(golden64)), 1e-30)
    good = bool(np.isfinite(difference).all()) and _within(difference, relative, tolerance)
    return Check(file, key, "pass" if good else "FAIL", worst, relative, tolerance, note)


def exact(file: str, key: str, same: bool, note: str) -> Check:
    """A check of names, shapes or digests, where only equality counts."""
    return Check(file, key, "pass" if same else "FAIL", note=note)


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without leading axes of length 1."""
    first = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[first:])


def _within(difference: Array, relative: float, tolerance: Tolerance) -> bool:
    if tolerance.relative is not None and relative > tolerance.relative:
        return False
    beyond = difference > tolerance.absolute
    if not beyond.any():
        return True
    return float(beyond.mean()) <= tolerance.share and float(difference.max()) <= tolerance.at_most
