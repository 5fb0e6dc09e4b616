"""Pictures of a posed figure: pose and light the vertices, find what every pixel shows, colour it, lay it on the wall.

Light is worked out at the vertices (there are about as many as pixels) and colour at the pixels, at twice the
picture's resolution; the average of the four is what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..geometry.geometry import rotation_from_angles
from .anatomy import MAP, anatomy, smooth_step
from .figure import Figure
from .frame_rasterise import Fragments, rasterise_frames
from .parts import CLOTH, EYE, PLAIN, SKIN
from .people import Person
from .scene import Clothes, Light, Scene

SUPERSAMPLING = 2
PIVOT = np.array([0.0, -0.062, -0.072], np.float32)  #: metres: where the skull sits on the neck
_FRAMES_AT_ONCE = 6  # fits the cache
_WRAP = np.array([0.42, 0.24, 0.18], np.float32)  # blood scatters red light round the edge of a shadow


@dataclass(frozen=True, eq=False)
class Stage:
    """How T pictures are taken.

    affine: [T, 2, 3] the camera plane (metres, y down, eyes' middle at 0) → picture pixels; distance: [T]
    metres to the camera; scenes: T of them; shifts: [T, 2] pixels by which the background is moved.
    """

    affine: FloatArray
    distance: FloatArray
    scenes: tuple[Scene, ...]
    shifts: FloatArray


@dataclass(frozen=True, eq=False)
class Pictures:
    """frames: [T, S, S, 3] uint8 sRGB; cover: [T, S, S] uint8, 255 where the person is."""

    frames: npt.NDArray[np.uint8]
    cover: npt.NDArray[np.uint8]


def pose_vertices(figure: Figure, expression: FloatArray, angles: FloatArray, shoulders: FloatArray) -> FloatArray:
    """[3, V, T] metres in the camera's axes: x right, y up, z towards the camera, origin between the eyes at rest.

    expression: [T, 52]. angles: [T, 3] yaw, pitch, roll of the head in degrees; shoulders: [T, 3] of the body.
    """
    body, frames = anatomy(), len(angles)
    used = np.flatnonzero(np.abs(expression).max(axis=0, initial=0) > 1e-3)
    vertices = np.repeat((figure.vertices - PIVOT).T[:, :, None], frames, axis=2)
    moved = body.expressions[used].reshape(len(used), -1).T @ np.ascontiguousarray(expression[:, used].T)
    vertices[:, : body.vertices] += moved.reshape(3, body.vertices, frames)
    low = np.flatnonzero(figure.follow < 1)  # all others turn with the head alone
    turned = rotate(angles, vertices)
    share = figure.follow[low, None]
    turned[:, low] = turned[:, low] * share + rotate(shoulders, vertices[:, low]) * (1 - share)
    return np.asarray(turned + PIVOT[:, None, None], np.float32)


def rotate(angles: FloatArray, vectors: FloatArray) -> FloatArray:
    """[3, V, T] ``vectors`` [3, V, T] turned by yaw, pitch and roll [T, 3] in degrees (signs: HeadPose)."""
    rotations = np.stack([rotation_from_angles(*row) for row in angles], axis=-1)  # (3, 3, T)
    x, y, z = vectors
    return np.stack([row[0] * x + row[1] * y + row[2] * z for row in rotations])


def project(vertices: FloatArray, affine: FloatArray, distance: FloatArray) -> FloatArray:
    """[3, V, T] picture pixels (y down) and depth of posed ``vertices`` [3, V, T]; see Stage."""
    magnified = distance / (distance - vertices[2])
    x, y = vertices[0] * magnified, -vertices[1] * magnified
    flat = [affine[:, row, 0] * x + affine[:, row, 1] * y + affine[:, row, 2] for row in range(2)]
    scale = np.sqrt(np.abs(np.linalg.det(affine[:, :, :2])))
    return np.stack([*flat, vertices[2] * scale]).astype(np.float32)


def draw(figure: Figure, posed: FloatArray, stage: Stage, size: int) -> Pictures:
    """The pictures of ``size`` × ``size`` pixels of vertices ``posed`` [3, V, T] by ``pose_vertices``."""
    fine = size * SUPERSAMPLING
    layers = []
    for start in range(0, len(stage.scenes), _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        vertices, scenes = np.ascontiguousarray(posed[:, :, part]), stage.scenes[part]
        points = project(vertices, stage.affine[part], stage.distance[part])
        points[:2] = points[:2] * SUPERSAMPLING + np.float32((SUPERSAMPLING - 1) / 2)
        fragments = rasterise_frames(points, figure.triangles, figure.two_sided, fine)
        light = light_vertices(figure, vertices, [scene.light for scene in scenes])
        colour = colour_fragments(figure, fragments, light, scenes, fine)
        layers.append(_averaged(fragments, colour, len(scenes), size))
    return _finish(np.concatenate(layers), stage)


def light_vertices(figure: Figure, vertices: FloatArray, lights: list[Light]) -> FloatArray:
    """[V·T, 4] linear light that falls on every vertex of [3, V, T], and the highlight it sends to the camera."""
    x, y, z = _normals(figure, vertices)  # each [V, T]
    exposure = np.array([light.exposure for light in lights], np.float32)
    direction = np.array([light.direction for light in lights], np.float32).T  # [3, T]
    key, fill, rim = (
        np.array([getattr(light, name) for light in lights], np.float32).T * exposure for name in ("key", "fill", "rim")
    )
    open_ = figure.openness[:, None]
    facing = x * direction[0] + y * direction[1] + z * direction[2]
    sky = (np.float32(0.58) + np.float32(0.42) * y) * (open_ * np.sqrt(open_))
    edge = np.float32(1) - np.abs(z)
    behind = edge * edge * edge * np.clip(np.float32(0.4) + y, 0, 1)
    lit = np.empty((*x.shape, 4), np.float32)
    for channel, wrap in enumerate(_WRAP):
        from_lamp = np.maximum((facing + wrap) * np.float32(1 / (1 + wrap)), 0) * open_
        lit[..., channel] = from_lamp * key[channel] + sky * fill[channel] + behind * rim[channel]
    half = direction + np.array([[0], [0], [1]], np.float32)
    half /= np.linalg.norm(half, axis=0)
    towards = np.maximum(x * half[0] + y * half[1] + z * half[2], 0)
    fourth = np.square(np.square(towards))
    sharp = np.square(np.square(fourth))  # Blinn's highlight, to the power of 16
    lit[..., 3] = (
        sharp * (np.float32(1.4) * key.mean(axis=0)) + fourth * (np.float32(0.25) * fill.mean(axis=0))
    ) * open_
    return lit.reshape(-1, 4)


def _normals(figure: Figure, vertices: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Smooth unit normals of [3, V, T], by axis [V, T]."""
    a, b, c = figure.triangles.T
    first = [np.take(axis, a, axis=0) for axis in vertices]
    bx, by, bz = (np.take(axis, b, axis=0) - start for axis, start in zip(vertices, first, strict=True))
    cx, cy, cz = (np.take(axis, c, axis=0) - start for axis, start in zip(vertices, first, strict=True))
    x = figure.gather @ (by * cz - bz * cy)
    y = figure.gather @ (bz * cx - bx * cz)
    z = figure.gather @ (bx * cy - by * cx)
    per = np.float32(1) / np.maximum(np.sqrt(x * x + y * y + z * z), np.float32(1e-12))
    return x * per, y * per, z * per


def colour_fragments(
    figure: Figure, fragments: Fragments, light: FloatArray, scenes: tuple[Scene, ...], fine: int
) -> FloatArray:
    """[P, 3] linear RGB of every visible point; light: [V·T, 4]."""
    lit = fragments.interpolate(light)
    place = fragments.interpolate_corners(figure.values)
    material = np.take(figure.material, fragments.triangle)
    surface = np.empty((len(place), 4), np.float32)  # linear RGB and gloss
    skin = np.flatnonzero(material == SKIN)
    surface[skin] = _sampled(figure.skin_map, np.take(place, skin, axis=0)[:, :2])
    plain = np.flatnonzero(material == PLAIN)
    surface[plain, :3] = place[plain]
    surface[plain, 3] = figure.plain_gloss[fragments.triangle[plain]]
    eye = np.flatnonzero(material == EYE)
    surface[eye] = _eye(place[eye], figure.person)
    cloth = np.flatnonzero(material == CLOTH)
    surface[cloth] = _cloth(place[cloth], fragments.pixel[cloth] // (fine * fine), figure, scenes)
    surface *= lit
    return surface[:, :3] + surface[:, 3:]


def _sampled(skin_map: FloatArray, place: FloatArray) -> FloatArray:
    """[P, 4] the map at pixel positions [P, 2], bilinear."""
    # by hand: on one thread, OpenCV 5.0's remap of four channels gave other numbers from call to call
    place = np.clip(place, 0, MAP - 1.01)
    corner = place.astype(np.intp)
    across, down = (place - corner).T[:, :, None]
    index, flat = corner[:, 1] * MAP + corner[:, 0], skin_map.reshape(-1, 4)
    upper, right, lower, last = (np.take(flat, index + step, axis=0) for step in (0, 1, MAP, MAP + 1))
    upper += (right - upper) * across
    lower += (last - lower) * across
    return np.asarray(upper + (lower - upper) * down, np.float32)


def _eye(ray: FloatArray, person: Person) -> FloatArray:
    """[P, 4] eyeball: white, iris with a dark rim, pupil, and a catch light that stays where the lamp is."""
    away = np.hypot(ray[:, 0], ray[:, 1]) / np.maximum(np.linalg.norm(ray, axis=1), 1e-6)
    front = ray[:, 2] > 0
    radius = 0.47 + 0.07 * person.iris_size
    white = np.array([0.74, 0.70, 0.68], np.float32)
    iris = np.square(person.iris) * 1.3
    ring = smooth_step(away, 0.72 * radius, 1.02 * radius)[:, None]
    inner = iris * (1.15 - 0.85 * ring)
    colour = np.where((away < radius)[:, None], inner, white)
    edge = smooth_step(away, radius - 0.03, radius + 0.05)[:, None]
    colour = inner * (1 - edge) + white * edge
    pupil = smooth_step(-away, -0.25, -0.17)[:, None]
    colour = np.where(front[:, None], colour * (1 - pupil) + 0.008 * pupil, white)
    glint = np.exp(-(((ray[:, 0] + 0.16) ** 2 + (ray[:, 1] - 0.20) ** 2) / 0.014)) * front
    return np.column_stack([colour + 0.9 * glint[:, None], np.full(len(ray), 0.25)]).astype(np.float32)


def _cloth(place: FloatArray, frame: npt.NDArray[np.intp], figure: Figure, scenes: tuple[Scene, ...]) -> FloatArray:
    """[P, 4] skin above the collar, cloth below it."""
    skin = np.append(np.square(figure.person.skin) * 0.93, 0.08).astype(np.float32)
    if all(scene is scenes[0] for scene in scenes):
        return _dressed(place, scenes[0].clothes, skin)
    surface = np.empty((len(place), 4), np.float32)
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(frame == number)
        surface[here] = _dressed(place[here], scene.clothes, skin)
    return surface


def _dressed(place: FloatArray, clothes: Clothes, skin: FloatArray) -> FloatArray:
    x, y, z = place.T
    opening = clothes.collar + 0.35 * np.clip(-0.075 - z, -0.03, 0.06)  # lower in front than behind
    if clothes.kind in ("jacket", "dress"):  # open in a V
        opening = np.where(z > -0.10, np.minimum(opening, clothes.collar - 0.075 + 1.2 * np.abs(x)), opening)
    depth = opening - y  # metres below the collar's edge
    colour = np.broadcast_to(clothes.colour, (len(place), 3)).copy()
    colour *= (1 - 0.25 * smooth_step(-np.abs(depth - 0.006), -0.003, -0.001))[:, None]
    if clothes.kind == "jacket":  # a shirt below it
        colour = np.where((depth < 0.022)[:, None] & (np.abs(x) < 0.09)[:, None], clothes.second, colour)
    covered = smooth_step(depth, -0.001, 0.001)[:, None]
    dressed = np.column_stack([colour, np.full(len(place), 0.02)])
    return (skin + (dressed - skin) * covered).astype(np.float32)


def _averaged(fragments: Fragments, colour: FloatArray, frames: int, size: int) -> FloatArray:
    """[T, S, S, 4] linear RGB times cover, and cover."""
    canvas = np.zeros((frames * (size * SUPERSAMPLING) ** 2, 4), np.float32)
    canvas[fragments.pixel, :3] = colour
    canvas[fragments.pixel, 3] = 1
    grid = canvas.reshape(frames, size, SUPERSAMPLING, size, SUPERSAMPLING * 4)
    rows = grid[:, :, 0] + grid[:, :, 1]
    return (rows[..., :4] + rows[..., 4:]) * np.float32(0.25)


def _finish(layers: FloatArray, stage: Stage) -> Pictures:
    """Lay the person on the background and turn light into sRGB bytes."""
    size = layers.shape[1]
    picture = layers[..., :3]
    for number, scene in enumerate(stage.scenes):
        wall = _shifted(scene.background, stage.shifts[number], size)
        picture[number] += wall * (1 - layers[number, ..., 3:])
    toned = np.sqrt(np.clip(picture / (1 + np.float32(0.18) * picture) * np.float32(1.18), 0, 1))
    cover = np.rint(layers[..., 3] * 255).astype(np.uint8)
    return Pictures(np.rint(toned * 255).astype(np.uint8), cover)


def _shifted(background: FloatArray, shift: FloatArray, size: int) -> FloatArray:
    """[S, S, 3] the part of the background that the moving camera sees, bilinear."""
    margin = len(background) - size
    place = np.clip(margin / 2 - shift, 0, margin - 0.01)
    x, y = place.astype(int)
    across, down = (place - (x, y)).astype(np.float32)
    rows = background[y : y + size + 1]
    blended = rows[:-1] * (1 - down) + rows[1:] * down
    return blended[:, x : x + size] * (1 - across) + blended[:, x + 1 : x + size + 1] * across
