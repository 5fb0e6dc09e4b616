"""Pictures of a posed figure: pose and light the vertices, find what every pixel shows, colour it, lay it on the wall.

Light is worked out at the vertices (there are about as many as pixels) and colour at the pixels, at twice the
picture's resolution; the average of the four is what is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..geometry.geometry import rotation_from_angles
from .anatomy import anatomy, smooth_step
from .figure import Figure
from .frame_rasterise import Fragments, rasterise_frames
from .parts import CLOTH, EYE, PLAIN, SKIN
from .people import Person
from .scene import Clothes, Light, Scene

SUPERSAMPLING = 2
PIVOT = np.array([0.0, -0.062, -0.072], np.float32)  #: metres: where the skull sits on the neck
_FRAMES_AT_ONCE = 5  # fits the cache
_WRAP = np.array([0.42, 0.24, 0.18], np.float32)  # blood scatters red light round the edge of a shadow


@dataclass(frozen=True, eq=False)
class Stage:
    """How T pictures are taken. affine: [T, 2, 3] the camera plane (metres, y down, eyes' middle at 0) → picture pixels;
    distance: [T] metres to the camera; scenes: T of them; shifts: [T, 2] pixels by which the background is moved."""

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
    """[T, V, 3] metres in the camera's axes: x right, y up, z towards the camera, origin between the eyes at rest.

    expression: [T, 52]. angles: [T, 3] yaw, pitch, roll of the head in degrees; shoulders: [T, 3] of the body.
    """
    count = anatomy().vertices
    used = np.flatnonzero(np.abs(expression).max(axis=0) > 1e-3)
    basis = anatomy().head.expression_basis[used, :count].reshape(len(used), -1)
    vertices = np.repeat(figure.vertices[None], len(angles), axis=0)
    vertices[:, :count] += (expression[:, used] @ basis).reshape(len(angles), count, 3)
    head = np.stack([rotation_from_angles(*row) for row in angles])
    body = np.stack([rotation_from_angles(*row) for row in shoulders])
    arm = vertices - PIVOT
    follow = figure.follow[None, :, None]
    turned = np.einsum("tij,tvj->tvi", head, arm) * follow + np.einsum("tij,tvj->tvi", body, arm) * (1 - follow)
    return (turned + PIVOT).astype(np.float32)


def project(vertices: FloatArray, affine: FloatArray, distance: FloatArray) -> FloatArray:
    """[T, V, 3] picture pixels (y down) and depth of posed ``vertices`` [T, V, 3]; see Stage."""
    magnified = distance[:, None] / (distance[:, None] - vertices[..., 2])
    plane = np.stack([vertices[..., 0] * magnified, -vertices[..., 1] * magnified], axis=-1)
    flat = plane @ affine[:, :, :2].transpose(0, 2, 1) + affine[:, None, :, 2]
    scale = np.sqrt(np.abs(np.linalg.det(affine[:, :, :2])))[:, None]
    return np.concatenate([flat, (vertices[..., 2] * scale)[..., None]], axis=-1).astype(np.float32)


def draw(figure: Figure, posed: FloatArray, stage: Stage, size: int) -> Pictures:
    """The pictures of ``size`` × ``size`` pixels of vertices ``posed`` [T, V, 3] by ``pose_vertices``."""
    fine = size * SUPERSAMPLING
    points = project(posed, stage.affine, stage.distance)
    points[..., :2] = points[..., :2] * SUPERSAMPLING + (SUPERSAMPLING - 1) / 2
    points[..., 2] *= SUPERSAMPLING
    light = np.empty((*posed.shape[:2], 4), np.float32)
    for frame in range(len(posed)):
        light[frame] = light_vertices(figure, posed[frame], stage.scenes[frame].light)
    layers = []
    for start in range(0, len(posed), _FRAMES_AT_ONCE):
        part = slice(start, start + _FRAMES_AT_ONCE)
        fragments = rasterise_frames(points[part], figure.triangles, figure.two_sided, fine)
        colour = colour_fragments(figure, fragments, light[part], stage.scenes[part], fine)
        layers.append(_averaged(fragments, colour, len(points[part]), size))
    return _finish(np.concatenate(layers), stage)


def light_vertices(figure: Figure, vertices: FloatArray, light: Light) -> FloatArray:
    """[V, 4] linear light that falls on every vertex, and the highlight it sends to the camera."""
    normals = _normals(figure, vertices)
    facing = (normals @ light.direction)[:, None]
    open_ = figure.openness[:, None]
    key = np.clip((facing + _WRAP) / (1 + _WRAP), 0, 1) * open_
    sky = (0.58 + 0.42 * normals[:, 1:2]) * open_**1.5
    behind = np.clip(1 - np.abs(normals[:, 2:3]), 0, 1) ** 3 * np.clip(0.4 + normals[:, 1:2], 0, 1)
    half = light.direction + np.array([0, 0, 1], np.float32)
    half /= np.linalg.norm(half)
    facing_half = np.clip(normals @ half, 0, 1)
    spark = facing_half**18 * float(light.key.mean()) * 1.4 + 0.25 * float(light.fill.mean()) * facing_half**4
    lit = (key * light.key + sky * light.fill + behind * light.rim) * light.exposure
    return np.concatenate([lit, (spark * open_[:, 0] * light.exposure)[:, None]], axis=1)


def _normals(figure: Figure, vertices: FloatArray) -> FloatArray:
    """[V, 3] smooth unit normals."""
    corners = vertices[figure.triangles]
    b, c = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    faces = np.empty_like(b)
    for axis, (one, two) in enumerate(((1, 2), (2, 0), (0, 1))):
        faces[:, axis] = b[:, one] * c[:, two] - b[:, two] * c[:, one]
    total = figure.gather @ faces
    return (total / np.maximum(np.sqrt((total * total).sum(axis=1, keepdims=True)), 1e-12)).astype(np.float32)


def colour_fragments(
    figure: Figure, fragments: Fragments, light: FloatArray, scenes: tuple[Scene, ...], fine: int
) -> FloatArray:
    """[P, 3] linear RGB of every visible point; light: [T, V, 4]."""
    lit = fragments.interpolate(light.reshape(-1, 4))
    place = fragments.interpolate_corners(figure.values)
    material = figure.material[fragments.triangle]
    frame = fragments.pixel // (fine * fine)
    surface = np.empty((len(place), 4), np.float32)  # linear RGB and gloss
    skin = np.flatnonzero(material == SKIN)
    surface[skin] = _sampled(figure.skin_map, place[skin, :2])
    plain = np.flatnonzero(material == PLAIN)
    surface[plain, :3] = place[plain]
    surface[plain, 3] = figure.plain_gloss[fragments.triangle[plain]]
    eye = np.flatnonzero(material == EYE)
    surface[eye] = _eye(place[eye], figure.person)
    cloth = np.flatnonzero(material == CLOTH)
    surface[cloth] = _cloth(place[cloth], frame[cloth], figure, scenes)
    return surface[:, :3] * lit[:, :3] + (surface[:, 3] * lit[:, 3])[:, None]


def _sampled(skin_map: FloatArray, place: FloatArray) -> FloatArray:
    """[P, 4] the map at pixel positions [P, 2], bilinear."""
    columns = 512  # remap takes pictures of less than 32768 pixels a side
    rows = -(-max(len(place), 1) // columns)
    padded = np.zeros((rows * columns, 2), np.float32)
    padded[: len(place)] = place
    grid = padded.reshape(rows, columns, 2)
    picked = cv2.remap(skin_map, grid, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picked.reshape(-1, 4)[: len(place)], np.float32)


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
    surface = np.empty((len(place), 4), np.float32)
    skin = np.append(np.square(figure.person.skin) * 0.93, 0.08)
    for number, scene in enumerate(scenes):
        here = np.flatnonzero(frame == number)
        surface[here] = _dressed(place[here], scene.clothes, skin.astype(np.float32))
    return surface


def _dressed(place: FloatArray, clothes: Clothes, skin: FloatArray) -> FloatArray:
    x, y, z = place.T
    opening = clothes.collar + 0.35 * np.clip(-0.075 - z, -0.03, 0.06)  # lower in front than behind
    if clothes.kind in ("jacket", "dress"):  # open in a V
        opening = np.where(z > -0.10, np.minimum(opening, clothes.collar - 0.075 + 1.2 * np.abs(x)), opening)
    depth = opening - y  # metres below the collar's edge
    colour = np.broadcast_to(clothes.colour, (len(place), 3)).copy()
    if clothes.stripes:
        colour = np.where((np.sin(y * 2 * np.pi / 0.024) > 0.2)[:, None], clothes.second, colour)
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
    margin = (len(background) - size) / 2
    x, y = np.clip(margin - shift, 0, 2 * margin)
    matrix = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    return np.asarray(cv2.warpAffine(background, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE), np.float32)
