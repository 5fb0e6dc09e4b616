"""What was found, drawn over the photograph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..arrays import FloatArray
from ..images import to_uint8
from .detect import chosen_index
from .face import Face

CHOSEN = (255, 176, 32)
OTHER = (96, 208, 255)
INK = (16, 18, 22)
_POINT_COLOURS = ((255, 92, 92), (92, 160, 255), (120, 235, 120), (255, 140, 220), (190, 150, 255))


def draw_faces(photograph: FloatArray, faces: Sequence[Face], chosen: int | None = None) -> FloatArray:
    """The photograph [H, W, 3] with each face's box, keypoints and number, the one to give to ``choose_face``.

    chosen: the number of the face to set off in amber; None sets off the largest. Returns [H, W, 3] RGB 0..1.
    """
    picture = Image.fromarray(to_uint8(photograph))
    draw = ImageDraw.Draw(picture)
    if faces and chosen is None:
        chosen = chosen_index(faces)
    order = sorted(range(len(faces)), key=lambda number: number == chosen)  # the chosen one is drawn last, on top
    for number in order:
        _draw_face(draw, faces[number], CHOSEN if number == chosen else OTHER, max(2, round(min(picture.size) / 200)))
    for number in order:
        _draw_number(draw, str(number), faces[number].box, CHOSEN if number == chosen else OTHER, picture.size)
    return np.asarray(picture, dtype=np.float32) / np.float32(255.0)


def draw_landmarks(photograph: FloatArray, landmarks: FloatArray, triangles: np.ndarray | None = None) -> FloatArray:
    """The photograph [H, W, 3] with dense ``landmarks`` [N, 2 or 3] as dots, over their mesh [F, 3] if it is given.

    With z, near points are warm and far ones cool. Returns [H, W, 3] RGB 0..1.
    """
    picture = Image.fromarray(to_uint8(photograph)).convert("RGBA")
    layer = Image.new("RGBA", picture.size)
    draw = ImageDraw.Draw(layer)
    extent = float(np.ptp(landmarks[:, :2], axis=0).max())
    points = [(float(x), float(y)) for x, y in landmarks[:, :2]]
    width = max(1, round(extent / 400))
    for a, b in _edges(triangles) if triangles is not None else ():
        draw.line([points[a], points[b]], (255, 255, 255, 90), width)
    radius = max(0.8, extent / 200)
    for (x, y), colour in zip(points, _depth_colours(landmarks), strict=True):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], colour)
    drawn = Image.alpha_composite(picture, layer).convert("RGB")
    return np.asarray(drawn, dtype=np.float32) / np.float32(255.0)


def _draw_face(draw: ImageDraw.ImageDraw, face: Face, colour: tuple[int, int, int], line: int) -> None:
    x0, y0, x1, y1 = (float(value) for value in face.box)
    draw.rectangle([x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)], outline=colour, width=line)
    radius = max(1.5, min(x1 - x0, y1 - y0) / 40)
    for (x, y), fill in zip(face.keypoints, _POINT_COLOURS, strict=True):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill, INK, max(1, round(radius / 4)))


def _draw_number(
    draw: ImageDraw.ImageDraw, text: str, box: FloatArray, colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    """A label that stands on the box, or hangs below it where the picture ends: never on the face if it can."""
    font = ImageFont.load_default(max(16, round(min(size) / 18)))
    left, top, right, bottom = font.getbbox(text)
    pad = (bottom - top) * 0.35
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    above, below = float(box[1]) - height, float(box[3])
    x = min(max(float(box[0]), 0.0), size[0] - width)
    y = above if above >= 0.0 else min(below, size[1] - height)
    draw.rectangle([x, y, x + width, y + height], colour)
    draw.text((x + pad - left, y + pad - top), text, INK, font)


def _edges(triangles: np.ndarray) -> list[tuple[int, int]]:
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return [(int(a), int(b)) for a, b in np.unique(pairs, axis=0)]


def _depth_colours(landmarks: FloatArray) -> list[tuple[int, int, int, int]]:
    depth = landmarks[:, 2] if landmarks.shape[1] > 2 else np.zeros(len(landmarks))
    nearness = ((depth - depth.min()) / max(float(np.ptp(depth)), 1e-6))[:, None]
    colours = np.array([64.0, 150.0, 255.0]) * (1 - nearness) + np.array([255.0, 190.0, 64.0]) * nearness
    return [(int(r), int(g), int(b), 255) for r, g, b in colours]
