"""What the rooms before the sampler find on the two test photographs, and how long each takes.

    python benchmarks/photographs.py [PHOTO ...]

Prints one markdown table per photograph; times are the median of five runs after one warm-up.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fantasyid_core.faces.detect import choose_face, detect_faces
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.landmarks import detect_landmarks_with_score
from fantasyid_core.geometry.fit import fit_head, reprojection_error
from fantasyid_core.geometry.render import render_mesh
from fantasyid_core.images import load_photograph
from fantasyid_core.views.augment import augment_views
from fantasyid_core.weights.catalog import ASSETS

T = TypeVar("T")
RUNS = 5


def main(names: list[str]) -> None:
    """Measure every photograph named, or the two test photographs."""
    for path in [Path(name) for name in names] or test_photographs():
        sys.stdout.write("\n".join(table(path)) + "\n\n")


def test_photographs() -> list[Path]:
    """The shipped astronaut, and Grace Hopper out of matplotlib's wheel."""
    import matplotlib

    return [ASSETS / "astronaut.png", Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"]


def table(path: Path) -> list[str]:
    """One markdown table for one photograph."""
    photograph, detector = load_photograph(path), make_detector()
    faces, detection = timed(lambda: detect_faces(photograph, detector))
    face = choose_face(faces)
    (landmarks, score), looking = timed(lambda: detect_landmarks_with_score(face))
    geometry, fitting = timed(lambda: fit_head(landmarks))
    _, rendering = timed(lambda: render_mesh(geometry, 512))
    views, turning = timed(lambda: augment_views(face, geometry))
    yaw, pitch, roll = geometry.pose.yaw_pitch_roll if geometry.pose else (0.0, 0.0, 0.0)
    turned = [f"{source} {cover:.0%}" for source, cover in zip(views.sources[1:], views.coverage[1:], strict=True)]
    rows = [
        ("faces", f"{len(faces)}, score {face.score:.2f}, {face.box[2] - face.box[0]:.0f} px wide", detection),
        ("468 landmarks", f"score {score:.2f}", looking),
        ("head fitted", f"{reprojection_error(geometry, landmarks):.1%} of the inter-ocular distance off", fitting),
        ("head pose", f"yaw {yaw:+.0f}°, pitch {pitch:+.0f}°, roll {roll:+.0f}°", None),
        ("mesh preview 512²", f"{len(geometry.vertices)} vertices", rendering),
        (f"{len(turned)} rendered views", "seen: " + ", ".join(turned), turning),
    ]
    head = [
        f"**{path.name}** ({photograph.shape[1]}×{photograph.shape[0]})",
        "",
        "| stage | result | time |",
        "|---|---|---|",
    ]
    return head + [f"| {name} | {result} | {'' if t is None else f'{1000 * t:.0f} ms'} |" for name, result, t in rows]


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` gives, and its median seconds."""
    result, seconds = work(), []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return result, statistics.median(seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
