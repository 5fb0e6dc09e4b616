"""How like the person, and how lively, one video is: the metrics of a single clip, and a picture of them over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..arrays import FloatArray
from ..drawing import AMBER, BLUE, CARD, FAINT, INK, PAGE, TRACK, Colour, finished, font, wrap
from ..errors import InputError
from ..progress import ProgressCallback, silent
from .clips import Frame, at_rate
from .embedders import EMBEDDERS
from .metrics import ClipMetrics, measure_clip
from .report import written
from .watch import Eyes, Person, watch

WIDTH, HEIGHT = 960, 620  #: of the plot, pixels
_LEFT, _RIGHT = 84, WIDTH - 28


@dataclass(frozen=True, eq=False)
class Score:
    """One video against one photograph. seconds: of each frame looked at, [n]; yaw: degrees, NaN without a face, [n].

    embedder: a name of EMBEDDERS.
    """

    metrics: ClipMetrics
    seconds: FloatArray
    yaw: FloatArray
    embedder: str

    def text(self) -> str:
        """The numbers, and what they were measured with, one line each."""
        m = self.metrics
        lines = [
            f"likeness (RS) {m.rs:.3f}, worst frame {m.rs_lowest:.3f}",
            f"steadiness (IFS) {written('{:.3f}', m.ifs)}",
            f"face motion (FM) {written('{:.2f}', m.fm)}, flicker {written('{:.4f}', m.flicker)}",
            f"head turns from {m.yaw_low:.0f}° to {m.yaw_high:.0f}°",
            f"a face in {m.faces} of {m.frames} frames",
            f"measured with: {EMBEDDERS[self.embedder].about}",
        ]
        return "\n".join(lines)


def score_video(
    pictures: FloatArray,
    fps: float,
    person: Person,
    eyes: Eyes,
    embedder: str = "dlib",
    progress: ProgressCallback = silent,
) -> Score:
    """The score of ``pictures`` [F, H, W, 3] RGB 0..1, ``fps`` of them a second, against ``person`` (see_person).

    eyes: what person was seen with, with the embedder called ``embedder``. progress: called after every frame. Raises
    InputError for an impossible rate or an empty video, NoFaceError when no frame shows a face.
    """
    if not fps > 0:
        raise InputError(f"A video has more than 0 frames per second, not {fps:g}; give the rate it was made for.")
    if len(pictures) == 0:
        raise InputError("This video has no frames; connect the images of Decode Video.")

    if not np.isfinite(pictures).all():
        raise InputError("The frames of this video hold NaN or infinity; make the video again.")
    frames = list(at_rate(Frame(index / fps, np.ascontiguousarray(p)) for index, p in enumerate(pictures)))
    seen = watch(_reported(frames, progress), eyes)
    yaw = np.array([np.nan if face is None else face.yaw_pitch_roll[0] for face in seen], np.float32)
    seconds = np.array([frame.time for frame in frames], np.float32)
    return Score(measure_clip("this video", seen, [person]), seconds, yaw, embedder)


def _reported(frames: Sequence[Frame], progress: ProgressCallback) -> Iterator[Frame]:
    for done, frame in enumerate(frames, start=1):
        yield frame
        progress(done, len(frames), None)


def draw_score(score: Score) -> FloatArray:
    """[HEIGHT, WIDTH, 3] RGB 0..1: likeness and head turn of every frame over the seconds, the numbers above."""
    page = Image.new("RGB", (WIDTH, HEIGHT), PAGE)
    draw = ImageDraw.Draw(page)
    m = score.metrics
    facts = (
        ("likeness, RS", f"{m.rs:.3f}"),
        ("worst frame", f"{m.rs_lowest:.3f}"),
        ("steadiness, IFS", written("{:.3f}", m.ifs)),
        ("face motion, FM", written("{:.2f}", m.fm)),
        ("flicker", written("{:.4f}", m.flicker)),
        ("faces", f"{m.faces} of {m.frames}"),
    )
    for number, (name, value) in enumerate(facts):
        x = 28 + number * (WIDTH - 56) // len(facts)
        draw.text((x, 22), value, INK, font(28))
        draw.text((x, 58), name, FAINT, font(15))
    same = EMBEDDERS[score.embedder].same_person
    likeness = np.array([np.nan if value is None else value for value in m.per_frame], np.float32)
    _curve(draw, (100, 330), "likeness to the photograph", score.seconds, likeness, (0.0, 1.0, 0.25), AMBER, same)
    most = max(30.0, 15.0 * np.ceil(float(np.nanmax(np.abs(score.yaw))) / 15.0))
    _curve(draw, (362, 560), "turn of the head, degrees", score.seconds, score.yaw, (-most, most, most / 2), BLUE, 0.0)
    about = wrap(EMBEDDERS[score.embedder].about, font(15), WIDTH - 56)[0]
    draw.text((28, HEIGHT - 26), about, FAINT, font(15))
    return finished(page)


def draw_no_score(reason: str) -> FloatArray:
    """The same page with nothing on it but why there is no score."""
    page = Image.new("RGB", (WIDTH, HEIGHT), PAGE)
    draw = ImageDraw.Draw(page)
    draw.rounded_rectangle((16, 100, WIDTH - 16, 560), 14, CARD)
    for number, line in enumerate(wrap(reason, font(24), WIDTH - 160)):
        draw.text((WIDTH / 2, 290 + 34 * number), line, INK, font(24), "ma")
    return finished(page)


def _curve(
    draw: ImageDraw.ImageDraw,
    rows: tuple[int, int],
    title: str,
    seconds: FloatArray,
    values: FloatArray,
    scale: tuple[float, float, float],
    colour: Colour,
    marked: float | None,
) -> None:
    """One graph between two rows of pixels. scale: lowest, highest, step. marked: where a brighter line lies."""
    top, bottom = rows
    low, high, step = scale
    draw.rounded_rectangle((16, top, WIDTH - 16, bottom), 14, CARD)
    draw.text((_LEFT, top + 10), title, INK, font(17))
    above, below = top + 44, bottom - 34
    end = max(float(seconds[-1]), 1e-3)

    def x(second: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * second / end

    def y(value: float) -> float:
        return below - (below - above) * (min(max(value, low), high) - low) / (high - low)

    for value in np.arange(low, high + step / 2, step):
        draw.line((_LEFT, y(value), _RIGHT, y(value)), TRACK, 1)
        draw.text((_LEFT - 10, y(value)), f"{value:g}", FAINT, font(14), "rm")
    if marked is not None:
        draw.line((_LEFT, y(marked), _RIGHT, y(marked)), FAINT, 1)
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        draw.text((x(share * end), below + 8), f"{share * end:.1f} s", FAINT, font(14), anchor)
    for index, (second, value) in enumerate(zip(seconds, values, strict=True)):
        if np.isnan(value):
            continue
        at = (x(float(second)), y(float(value)))
        if index and not np.isnan(values[index - 1]):
            draw.line((x(float(seconds[index - 1])), y(float(values[index - 1])), *at), colour, 3)
        draw.ellipse((at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4), colour)
