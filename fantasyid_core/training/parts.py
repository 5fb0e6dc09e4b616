"""What a head wears: hanging hair, buns, glasses, ear rings and a torso, as small meshes in the head's frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from .anatomy import CENTRE, follows_head, smooth_step
from .paint import linear
from .people import Person

#: What a triangle is made of; decides how its pixels are coloured.
SKIN, EYE, PLAIN, CLOTH = 0, 1, 2, 3
_CURTAIN_COLUMNS, _CURTAIN_ROWS = 46, 11
_BEND = 2.2  # of glasses, metres back per metre² aside
_TORSO_COLUMNS = 40
#: metres: height, half width, half depth and depth of the middle of the torso's rings; the upper ones lie in the bust
_TORSO = (
    (-0.150, 0.050, 0.030, -0.090), (-0.162, 0.110, 0.038, -0.096), (-0.170, 0.150, 0.045, -0.100),
    (-0.182, 0.176, 0.056, -0.100), (-0.202, 0.194, 0.072, -0.098), (-0.232, 0.206, 0.090, -0.096),
    (-0.270, 0.213, 0.104, -0.092), (-0.340, 0.220, 0.114, -0.088), (-0.440, 0.226, 0.120, -0.086),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Part:
    """vertices: [V, 3] metres; triangles: [F, 3]; values: [V, 3] linear RGB (PLAIN) or the place at rest (CLOTH);
    gloss, follow, openness: [V] as in Figure; material of all triangles; two_sided when its back shows."""

    vertices: FloatArray
    triangles: IntArray
    values: FloatArray
    gloss: FloatArray
    follow: FloatArray
    openness: FloatArray
    material: int
    two_sided: bool


def grid_triangles(rows: int, columns: int, closed: bool = False) -> IntArray:
    """[F, 3] of a grid of rows × columns vertices, counter-clockwise where columns run right and rows run down."""
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    right = np.roll(index, -1, axis=1) if closed else index[:, 1:]
    left = index if closed else index[:, :-1]
    quads = (left[:-1], left[1:], right[1:], right[:-1])  # upper left, lower left, lower right, upper right
    a, b, c, d = (corner.ravel() for corner in quads)
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)


def _plain(
    vertices: FloatArray, triangles: IntArray, colour: FloatArray, gloss: float, two_sided: bool, follow: float = 1.0
) -> Part:
    count = len(vertices)
    values = np.broadcast_to(np.asarray(colour, np.float32), (count, 3)).copy()
    ones = np.ones(count, np.float32)
    return Part(
        vertices.astype(np.float32), triangles, values, ones * gloss, ones * follow, ones * 0.95, PLAIN, two_sided
    )


def worn_parts(person: Person, skin: FloatArray, eyes: FloatArray) -> list[Part]:
    """All parts of a person. skin: [N, 3] metres, the head's skin at rest; eyes: [2, 3] centres, right then left."""
    generator = np.random.default_rng([person.seed, 1])
    parts = [_torso()]
    if person.hair_style in ("bob", "long", "wavy", "ponytail"):
        parts.append(_curtain(person, skin, generator))
    if person.hat == "cap":
        parts.append(_brim(person, skin))
    if person.hair_style in ("bun", "ponytail") and person.hat == "none":
        parts.append(_bun(person, skin))
    if person.glasses != "none":
        parts += _glasses(person, skin, eyes)
    if person.ear_rings and person.hair_style not in ("bob", "long", "wavy"):
        parts += _ear_rings(person, skin)
    return parts


def _widths(skin: FloatArray) -> tuple[float, float, float]:
    """How far the head reaches to the side (without ears), up, and back, in metres."""
    above = skin[skin[:, 1] > 0.03]
    return float(np.abs(above[:, 0]).max()), float(skin[:, 1].max()), float(-above[:, 2].min())


def _curtain(person: Person, skin: FloatArray, generator: np.random.Generator) -> Part:
    """Hair that hangs from the sides and the back: a tube, open in front."""
    style, volume = person.hair_style, person.hair_volume
    side, _, back = _widths(skin)
    start = {"bob": 52, "ponytail": 150}.get(style, 56) + 16 * (1 - person.hair_length)
    bottom = {"bob": -0.055 - 0.055 * person.hair_length, "ponytail": -0.22}.get(
        style, -0.14 - 0.10 * person.hair_length
    )
    turn = np.radians(np.linspace(start, 360 - start, _CURTAIN_COLUMNS))[None, :]
    down = np.linspace(0, 1, _CURTAIN_ROWS)[:, None]
    strand = generator.standard_normal(_CURTAIN_COLUMNS)
    strand = np.convolve(strand, [0.25, 0.5, 0.25], mode="same")[None, :]
    end = bottom + 0.008 * strand - 0.02 * np.clip(-np.cos(turn), 0, 1) * (style != "bob")
    top = 0.070 + 0.012 * np.clip(-np.cos(turn), 0, 1)
    height = top + down * (end - top)
    middle = np.clip((0.09 - back) / 2 + CENTRE[2] / 2, -0.08, -0.05)
    flare = 0.80 + 0.20 * smooth_step(down, 0.0, 0.22)  # the upper end hides inside the cap
    spread = smooth_step(down, 0.2, 1.0) * (0.016 * person.hair_length + 0.5 * volume)
    if style == "bob":
        spread = spread - 0.014 * smooth_step(down, 0.75, 1.0)
    wave = {"wavy": 0.0075}.get(style, 0.0015) * np.sin(2 * np.pi * (height / 0.052 + 0.06 * strand) + 0.5 * strand)
    out = 0.010 + 0.55 * volume + spread + wave + 0.0022 * strand * down
    wide, deep = (side + out) * flare, (back + middle + out * 0.8) * flare
    x, z = wide * np.sin(turn), middle + deep * np.cos(turn)
    vertices = np.stack(np.broadcast_arrays(x, height, z), axis=-1).reshape(-1, 3).astype(np.float32)
    shade = np.clip(1 + 0.30 * strand + 0.12 * generator.standard_normal(height.shape), 0.35, 1.7)
    shade *= 0.78 + 0.22 * smooth_step(down, 0.0, 0.4)
    values = (linear(person.hair) * shade[..., None]).reshape(-1, 3).astype(np.float32)
    gloss = np.full(len(vertices), 0.07 * (0.15 + person.hair_shine), np.float32)
    follow = np.maximum(follows_head(vertices), smooth_step(vertices[:, 1], -0.24, -0.06))
    openness = np.full(len(vertices), 0.9, np.float32)
    triangles = grid_triangles(_CURTAIN_ROWS, _CURTAIN_COLUMNS)
    return Part(vertices, triangles, values, gloss, follow, openness, PLAIN, True)


def _ball(
    centre: npt.ArrayLike, radius: npt.ArrayLike, columns: int = 12, rows: int = 8
) -> tuple[FloatArray, IntArray]:
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None, :]
    tilt = np.linspace(0.02, np.pi - 0.02, rows)[:, None]
    around = np.stack([np.sin(tilt) * np.sin(turn), np.cos(tilt) + 0 * turn, np.sin(tilt) * np.cos(turn)], -1)
    points = np.asarray(centre) + around.reshape(-1, 3) * np.asarray(radius)
    return points.astype(np.float32), grid_triangles(rows, columns, closed=True)


def _bun(person: Person, skin: FloatArray) -> Part:
    _, up, back = _widths(skin)
    low = person.hair_style == "ponytail"
    radius = 0.022 + 0.020 * person.hair_length
    centre = (0, 0.05, -back - 0.012) if low else (0, up + radius * 0.55, -0.055 - 0.05 * person.fringe)
    vertices, triangles = _ball(centre, (radius * 1.15, radius, radius))
    generator = np.random.default_rng([person.seed, 2])
    shade = 1 + 0.25 * generator.standard_normal((len(vertices), 1))
    colour = linear(person.hair) * np.clip(shade, 0.4, 1.6)
    return _plain(vertices, triangles, colour, 0.10, False)


def _brim(person: Person, skin: FloatArray) -> Part:
    """The shade of a cap, out from the forehead."""
    turn = np.radians(np.linspace(-62, 62, 15))[None, :]
    out = np.linspace(-0.004, 1.0, 4)[:, None]
    forehead = skin[(np.abs(skin[:, 0]) < 0.01) & (np.abs(skin[:, 1] - 0.055) < 0.006), 2].max()
    side = _widths(skin)[0]
    reach = 0.062 * np.cos(turn * 0.9) * out
    x = (side + 0.004) * np.sin(turn) * (1 + 0.08 * out)
    z = CENTRE[2] + (forehead - CENTRE[2] + 0.006) * np.cos(turn) + reach
    y = 0.058 - 0.012 * np.sin(turn) ** 2 - 0.016 * out * np.cos(turn)
    vertices = np.stack(np.broadcast_arrays(x, y, z), axis=-1).reshape(-1, 3)
    return _plain(vertices, grid_triangles(4, 15), linear(person.hat_colour) * 0.8, 0.05, True)


def _ear_rings(person: Person, skin: FloatArray) -> list[Part]:
    parts = []
    for sign in (-1, 1):
        ear = skin[(skin[:, 0] * sign > 0.06) & (np.abs(skin[:, 1] + 0.045) < 0.012)]
        if len(ear):
            lobe = ear[np.argmin(ear[:, 1])] + np.array([sign * 0.002, -0.006, 0.002], np.float32)
            vertices, triangles = _ball(lobe, 0.0055, 8, 6)
            parts.append(_plain(vertices, triangles, linear(np.array([0.90, 0.80, 0.45], np.float32)), 0.8, False))
    return parts


def _glasses(person: Person, skin: FloatArray, eyes: FloatArray) -> list[Part]:
    """Two rims with a bridge and temples; dark ones have lenses."""
    size = 0.0195 + 0.0055 * person.frame_size
    roundness, wide, high = {"round": (2.0, 1.0, 0.98), "wide": (3.2, 1.28, 0.80)}.get(
        person.glasses, (3.6, 1.14, 0.86)
    )
    wide = min(wide, (eyes[1, 0] * 1.03 - 0.005) / size)  # rims must not meet
    thick = 0.0016 + 0.0036 * person.frame_thickness**1.5
    x, y, z = skin.T
    under = (np.abs(x) > 0.010) & (np.abs(x) < 0.055) & (np.abs(y - eyes[:, 1].mean()) < size * high + 0.003)
    plane = float((z + _BEND * x**2)[under].max()) + 0.0025  # before brows and cheeks
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    unit = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    unit = np.sign(unit) * np.abs(unit) ** (2 / roundness)
    colour, parts = linear(person.frame), []
    for eye in eyes:
        middle = np.array([eye[0] * 1.03, eye[1] - 0.002, plane], np.float32)
        rings = [_bent(middle, unit * (size * wide + grow, size * high + grow)) for grow in (thick, 0.0)]
        if person.glasses == "dark":
            disc = np.concatenate([rings[1], middle[None]])
            fan = np.stack([np.arange(28), np.roll(np.arange(28), -1), np.full(28, 28)], axis=1).astype(np.int32)
            parts.append(_plain(disc, fan, np.array([0.012, 0.012, 0.014]), 0.9, True))
        parts.append(_plain(np.concatenate(rings), grid_triangles(2, 28, closed=True), colour, 0.35, True))
    parts.append(_strip(eyes, size * wide, plane, thick, colour))
    parts += [_temple(eyes[n], sign, size * wide + thick, plane, thick, skin, colour) for n, sign in ((0, -1), (1, 1))]
    return parts


def _bent(middle: FloatArray, offset: FloatArray) -> FloatArray:
    """[N, 3] points around ``middle``, bent back towards the temples as glasses are."""
    points = np.column_stack([middle[0] + offset[:, 0], middle[1] + offset[:, 1], np.full(len(offset), middle[2])])
    points[:, 2] -= _BEND * points[:, 0] ** 2
    return points.astype(np.float32)


def _strip(eyes: FloatArray, half: float, plane: float, thick: float, colour: FloatArray) -> Part:
    inner = eyes[1, 0] * 1.03 - half
    x = np.linspace(-inner, inner, 5)
    arch = 0.003 * (1 - (x / max(inner, 1e-4)) ** 2) + eyes[:, 1].mean() + 0.002
    rows = [np.column_stack([x, arch + shift, np.full(5, plane)]) for shift in (thick * 0.6, -thick * 0.6)]
    return _plain(np.concatenate(rows), grid_triangles(2, 5), colour, 0.35, True)


def _temple(
    eye: FloatArray, sign: int, half: float, plane: float, thick: float, skin: FloatArray, colour: FloatArray
) -> Part:
    outer = abs(eye[0]) * 1.03 + half
    level = skin[np.abs(skin[:, 1] - eye[1]) < 0.015]
    ear = max(float(np.abs(level[:, 0]).max()) - 0.004, outer)
    z = np.linspace(plane - _BEND * outer**2, -0.065, 5)
    x = sign * np.linspace(outer, ear, 5)
    rows = [np.column_stack([x, np.full(5, eye[1] + 0.004 + shift), z]) for shift in (thick * 0.9, -thick * 0.9)]
    return _plain(np.concatenate(rows), grid_triangles(2, 5), colour, 0.35, True)


def _torso() -> Part:
    """A clothed chest and shoulders around the bust; its values are places, coloured per clip."""
    turn = np.linspace(0, 2 * np.pi, _TORSO_COLUMNS, endpoint=False)[None, :]
    height, wide, deep, middle = np.array(_TORSO).T[:, :, None]
    square = 0.78  # between an ellipse (1) and a box
    x = wide * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** square
    z = middle + deep * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** square
    vertices = np.stack(np.broadcast_arrays(x, height, z), axis=-1).reshape(-1, 3).astype(np.float32)
    triangles = grid_triangles(len(_TORSO), _TORSO_COLUMNS, closed=True)
    ones = np.ones(len(vertices), np.float32)
    return Part(vertices, triangles, vertices, ones * 0.02, ones * 0, ones * 0.95, CLOTH, False)
