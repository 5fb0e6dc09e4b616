"""An evaluation as a table for people (text, Markdown) and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from .evaluate import SETTINGS, Evaluation
from .head_eyes import ABOUT, SYNTHETIC_HEADS
from .metrics import ClipMetrics

#: Heading, name of the number, and how it is written. ↑: more is better; FM and yaw say how much moves.
COLUMNS = (
    ("RS ↑", "rs", "{:.3f}"),
    ("lowest", "rs_lowest", "{:.3f}"),
    ("IFS ↑", "ifs", "{:.3f}"),
    ("FM", "fm", "{:.2f}"),
    ("flicker ↓", "flicker", "{:.4f}"),
    ("yaw range", "yaw_range", "{:.0f}°"),
    ("rank-1 ↑", "rank1", "{:.0%}"),
    ("copy-paste ↓", "copy_paste", "{:+.2f}"),
)
GEOMETRY = ("rank-1 shape ↑", "rank1_geometry", "{:.0%}")  #: a column where the eyes can tell the head's shape
FEW_FACES = 256  #: fewer faces than features: FID is then far too large


def as_text(evaluation: Evaluation) -> str:
    """The table in columns, with what must be known to read it below."""
    rows = _rows(evaluation)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(_placed(row[k], widths[k], k) for k in range(len(row))).rstrip() for row in rows]
    return "\n".join([*lines, "", *_remarks(evaluation)])


def as_markdown(evaluation: Evaluation) -> str:
    """The table in Markdown, with what must be known to read it below."""
    head, *body = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in _rows(evaluation))
    rule = "|---|" + "---:|" * (len(_columns(evaluation)) + 1)
    return "\n".join([head, rule, *body, "", *(f"- {remark}" for remark in _remarks(evaluation))])


def as_json(evaluation: Evaluation) -> str:
    """Everything that was measured, with its settings, as indented JSON; null where a number is not known."""
    means = {name: evaluation.mean(name) for _, name, _ in (*COLUMNS, GEOMETRY)}
    clips = [asdict(clip) | {"yaw_range": clip.yaw_range} for clip in evaluation.clips]
    return json.dumps(
        asdict(evaluation) | {"clips": clips, "mean": means, "settings": dict(SETTINGS)},
        indent=2,
        ensure_ascii=False,
        allow_nan=False,
    )


def _columns(evaluation: Evaluation) -> tuple[tuple[str, str, str], ...]:
    return COLUMNS if evaluation.mean(GEOMETRY[1]) is None else (*COLUMNS, GEOMETRY)


def _rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    columns = _columns(evaluation)
    rows: list[tuple[str, ...]] = [("clip", "faces", *(heading for heading, _, _ in columns))]
    for clip in evaluation.clips:
        cells = (written(pattern, getattr(clip, name)) for _, name, pattern in columns)
        rows.append((clip.name, f"{clip.faces}/{clip.frames}", *cells))
    if len(evaluation.clips) > 1:
        total = [sum(getattr(clip, name) for clip in evaluation.clips) for name in ("faces", "frames")]
        means = (written(pattern, evaluation.mean(name)) for _, name, pattern in columns)
        rows.append(("mean", f"{total[0]}/{total[1]}", *means))
    return rows


def written(pattern: str, value: float | None) -> str:
    """``value`` in the form of ``pattern``, a dash where it is not known."""
    return "–" if value is None else pattern.format(value)


def _placed(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _remarks(evaluation: Evaluation) -> list[str]:
    remarks = [_yaw_remark(evaluation.clips)] if evaluation.clips else []
    if evaluation.people > 1:
        remarks.append(f"rank-1 among {evaluation.people} people (chance {1 / evaluation.people:.0%}).")
    if evaluation.fid is not None:
        made, real = evaluation.fid_faces
        few = "; so few faces make it far too large" if min(made, real) < FEW_FACES else ""
        remarks.append(f"FID {evaluation.fid:.4f} of {made} faces against {real} real ones{few}.")
    missing = sum(clip.frames - clip.faces for clip in evaluation.clips)
    if missing:
        remarks.append(f"{missing} frames show no face and count in no mean.")
    remarks.append(
        f"Similarity by '{evaluation.embedder}': 1 the same picture, about 0 strangers. See docs/metrics.md."
    )
    if evaluation.embedder == SYNTHETIC_HEADS:
        remarks.append(ABOUT)
    return [*remarks, *evaluation.failures]


def _yaw_remark(clips: Sequence[ClipMetrics]) -> str:
    """RS told apart by how far the head is turned, over all frames of all clips."""
    parts = []
    for bins in zip(*(clip.rs_by_yaw for clip in clips), strict=True):
        frames = sum(one.frames for one in bins)
        if frames:
            rs = sum(one.frames * one.rs for one in bins if one.rs is not None) / frames
            parts.append(f"{bins[0].low:.0f}–{bins[0].high:.0f}°: {rs:.3f} ({frames})")
    return "RS by yaw to either side (frames): " + ", ".join(parts) + "."
