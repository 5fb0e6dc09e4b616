"""Where a clip is filmed: background, light, clothes and camera, each drawn together with its words' key.

Nothing here belongs to a person. The words for every key are in captions.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from .paint import linear

Generator = np.random.Generator

#: sRGB of plain things by colour word
COLOURS: dict[str, tuple[float, float, float]] = {
    "white": (0.92, 0.92, 0.90), "grey": (0.52, 0.53, 0.54), "black": (0.07, 0.07, 0.08), "red": (0.75, 0.13, 0.13),
    "orange": (0.92, 0.46, 0.10), "yellow": (0.93, 0.80, 0.25), "green": (0.18, 0.52, 0.25), "blue": (0.15, 0.33, 0.72),
    "purple": (0.45, 0.22, 0.60), "pink": (0.92, 0.55, 0.66), "brown": (0.42, 0.27, 0.16), "beige": (0.83, 0.74, 0.60),
}  # fmt: skip
SCENES = ("park", "city night", "sea", "sunset", "room", "snow", "curtain", "dark")
LIGHTS = ("even", "daylight", "warm", "cold", "left", "right", "behind", "dim")
CLOTHES = ("shirt", "sweater", "jacket", "dress", "high collar")
SHOTS = ("still", "closer", "away")
PLAIN_SHARE = 0.5  # of backgrounds


@dataclass(frozen=True, eq=False)
class Light:
    """direction: [3] unit, towards the lamp (x right, y up, z towards the camera). key, fill, rim: [3] linear colours
    of the lamp, of the sky before the person, and of a lamp behind. exposure: factor."""

    name: str
    direction: FloatArray
    key: FloatArray
    fill: FloatArray
    rim: FloatArray
    exposure: float


@dataclass(frozen=True, eq=False)
class Camera:
    """scale: [T] pixels per metre of a picture of side 1; centre: [T, 2] where the eyes' middle falls, shares of the
    side; distance: metres to the head."""

    shot: str
    scale: FloatArray
    centre: FloatArray
    distance: float


@dataclass(frozen=True, eq=False)
class Clothes:
    """colour and second: [3] linear; collar: metres above or below the eyes at which cloth begins."""

    kind: str
    colour_name: str
    colour: FloatArray
    second: FloatArray
    collar: float


@dataclass(frozen=True, eq=False)
class Scene:
    """background: [B, B, 3] linear RGB, wider than the picture; background_name: a colour or one of SCENES."""

    background: FloatArray
    background_name: str
    light: Light
    clothes: Clothes


def draw_scene(generator: Generator, size: int) -> Scene:
    """A random place for pictures of ``size`` pixels."""
    light = draw_light(generator)
    name = draw_background_name(generator)
    return Scene(draw_background(generator, name, size, light), name, light, draw_clothes(generator))


def _unit(vector: npt.ArrayLike) -> FloatArray:
    array = np.asarray(vector, np.float32)
    return array / np.linalg.norm(array)


def draw_light(generator: Generator) -> Light:
    """One of LIGHTS, each a little different every time."""
    name = LIGHTS[generator.choice(len(LIGHTS), p=(0.22, 0.16, 0.13, 0.12, 0.11, 0.11, 0.07, 0.08))]
    aside = generator.uniform(-0.6, 0.6)
    height = generator.uniform(0.25, 0.8)
    contrast = generator.uniform(0.6, 1.4)  # hard or soft light
    key_power, fill_power, rim_power, front = 0.66 + 0.20 * contrast, 0.60 - 0.17 * contrast, 0.10, 0.8
    tint, sky = np.ones(3), np.ones(3)
    if name == "daylight":
        key_power, fill_power, sky, height = 0.92, 0.42, np.array([0.90, 1.0, 1.12]), generator.uniform(0.7, 1.2)
    elif name == "warm":
        tint, sky = np.array([1.16, 0.94, 0.66]), np.array([1.06, 0.95, 0.80])
    elif name == "cold":
        tint, sky = np.array([0.78, 0.96, 1.22]), np.array([0.82, 0.96, 1.18])
    elif name in ("left", "right"):
        aside = generator.uniform(0.9, 1.6) * (-1 if name == "left" else 1)
        key_power, fill_power, front = 1.0, 0.17, 0.45
    elif name == "behind":
        key_power, fill_power, rim_power = 0.12, 0.33, 1.0
    elif name == "dim":
        key_power, fill_power = 0.26, 0.13
    balance = 1 + generator.normal(0, 0.05, 3)  # of the camera
    tint, sky = tint * balance, sky * balance
    return Light(
        name,
        _unit([aside, height, front]),
        np.asarray(key_power * generator.uniform(0.88, 1.12) * tint, np.float32),
        np.asarray(fill_power * generator.uniform(0.88, 1.12) * sky, np.float32),
        np.asarray(rim_power * tint, np.float32),
        float(np.exp(generator.normal(0.06, 0.13))),
    )


def draw_clothes(generator: Generator) -> Clothes:
    """Cloth of any colour."""
    kind = CLOTHES[generator.choice(len(CLOTHES), p=(0.32, 0.22, 0.20, 0.12, 0.14))]
    name = tuple(COLOURS)[generator.integers(len(COLOURS))]
    colour = np.clip(np.array(COLOURS[name]) + generator.normal(0, 0.03, 3), 0.03, 0.95).astype(np.float32)
    second = np.array(COLOURS["white" if name != "white" else "blue"], np.float32)
    collar = {"high collar": -0.108, "dress": -0.165, "sweater": -0.130}.get(kind, -0.140)
    return Clothes(kind, name, linear(colour), linear(second), collar + generator.normal(0, 0.005))


def draw_background_name(generator: Generator) -> str:
    """A colour word (a plain wall) or one of SCENES."""
    names = tuple(COLOURS) if generator.random() < PLAIN_SHARE else SCENES
    return names[generator.integers(len(names))]


def draw_background(generator: Generator, name: str, size: int, light: Light) -> FloatArray:
    """[B, B, 3] linear RGB, B = size + size // 4: a wall with a gradient, or a blurred place."""
    side = size + size // 4
    coarse = 40  # everything is out of focus, so it is drawn small
    down, across = np.meshgrid(np.linspace(0, 1, coarse), np.linspace(-1, 1, coarse), indexing="ij")
    if name in COLOURS:
        colour = np.clip(np.array(COLOURS[name]) + generator.normal(0, 0.025, 3), 0.02, 0.97)
        fall = 1 - generator.uniform(0, 0.28) * (across * generator.choice([-1, 1]) + 1) / 2
        fall *= 1 - generator.uniform(0, 0.22) * np.hypot(across, 2 * down - 1) ** 2
        picture = np.square(colour)[None, None] * fall[..., None]
    else:
        picture = np.square(_PLACES[name](generator, down, across))
    glow = np.clip(0.35 + 0.65 * (0.6 * light.key + light.fill), 0.22, 1.15)
    large = cv2.resize((picture * glow).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(large, 0, 1.5).astype(np.float32)


def _blobs(generator: Generator, picture: npt.NDArray, count: int, radius: tuple[float, float], colours: list) -> None:
    """Discs out of focus on ``picture`` [H, W, 3] sRGB."""
    height, width = picture.shape[:2]
    row, column = np.mgrid[:height, :width]
    for _ in range(count):
        centre = generator.uniform(0, height, 2)
        size = generator.uniform(*radius) * height
        disc = np.clip(size - np.hypot(row - centre[0], column - centre[1]) + 0.5, 0, 1) * generator.uniform(0.4, 1)
        colour = np.clip(colours[generator.integers(len(colours))] + generator.normal(0, 0.04, 3), 0, 1)
        picture += (colour - picture) * disc[..., None]


def _sky(down: npt.NDArray, top: npt.ArrayLike, bottom: npt.ArrayLike) -> npt.NDArray:
    return np.asarray(top) + (np.asarray(bottom) - np.asarray(top)) * down[..., None]


def _park(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    picture = _sky(down, (0.45, 0.62, 0.42), (0.28, 0.46, 0.20))
    _blobs(
        generator,
        picture,
        34,
        (0.04, 0.16),
        [np.array(c) for c in ((0.2, 0.4, 0.14), (0.5, 0.66, 0.3), (0.3, 0.5, 0.2))],
    )
    return picture


def _city(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    picture = _sky(down, (0.05, 0.06, 0.13), (0.11, 0.09, 0.12))
    lamps = [np.array(c) for c in ((0.98, 0.75, 0.35), (0.9, 0.35, 0.25), (0.4, 0.6, 0.95), (0.95, 0.9, 0.75))]
    _blobs(generator, picture, 26, (0.02, 0.06), lamps)
    return picture


def _sea(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    horizon = generator.uniform(0.45, 0.65)
    sky = _sky(down, (0.42, 0.66, 0.92), (0.78, 0.88, 0.95))
    sea = _sky(down, (0.16, 0.45, 0.62), (0.10, 0.35, 0.50)) + 0.03 * np.sin(down * 60)[..., None]
    return np.where((down > horizon)[..., None], sea, sky)


def _sunset(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    picture = _sky(down, (0.42, 0.28, 0.48), (0.99, 0.60, 0.28))
    sun = np.hypot(across - generator.uniform(-0.9, 0.9), 2 * (down - generator.uniform(0.4, 0.7)))
    picture += (np.array([1, 0.88, 0.6]) - picture) * np.exp(-((sun / 0.28) ** 2))[..., None]
    return np.where((down > 0.85)[..., None], picture * 0.35, picture)


def _room(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    picture = _sky(down, (0.62, 0.52, 0.42), (0.48, 0.38, 0.30)) * np.ones_like(across)[..., None]
    books = np.array([(0.5, 0.15, 0.12), (0.15, 0.25, 0.4), (0.75, 0.65, 0.45), (0.2, 0.35, 0.25), (0.35, 0.22, 0.15)])
    edges = np.sort(generator.uniform(-1, 1, 16))
    chosen = books[generator.integers(len(books), size=(5, 17))]
    shelf = np.minimum((down * 5).astype(int), 4)
    picture = 0.35 * picture + 0.65 * chosen[shelf, np.searchsorted(edges, across)]
    plank = (down * 5) % 1 < 0.16
    return cv2.GaussianBlur(np.where(plank[..., None], (0.36, 0.24, 0.15), picture), (0, 0), 0.7)


def _snow(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    picture = _sky(down, (0.76, 0.82, 0.89), (0.93, 0.94, 0.97))
    _blobs(generator, picture, 8, (0.05, 0.13), [np.array((0.50, 0.58, 0.62)), np.array((0.66, 0.72, 0.77))])
    return picture


def _curtain(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    folds = 0.72 + 0.28 * np.sin(across * generator.uniform(14, 22) + generator.uniform(0, 6)) * (1 - 0.2 * down)
    return np.array([0.62, 0.10, 0.13]) * folds[..., None]


def _dark(generator: Generator, down: npt.NDArray, across: npt.NDArray) -> npt.NDArray:
    glow = np.exp(-(np.hypot(across - generator.uniform(-0.8, 0.8), down * 2 - 1) ** 2))
    return np.array([0.05, 0.05, 0.065]) + 0.08 * glow[..., None] * np.array([1, 0.9, 0.8])


_PLACES = {
    "park": _park, "city night": _city, "sea": _sea, "sunset": _sunset, "room": _room, "snow": _snow,
    "curtain": _curtain, "dark": _dark,
}  # fmt: skip


def draw_camera(generator: Generator, frames: int) -> Camera:
    """Head and shoulders: the face is some 40 of 64 pixels high; sometimes the camera moves closer or away.

    Framed nearly as an aligned reference crop is, so that what the model learns of it is the person and not its place.
    """
    shot = SHOTS[generator.choice(3, p=(0.7, 0.15, 0.15))]
    face = generator.uniform(0.58, 0.68)  # of the picture's side
    zoom = {"still": 0.0, "closer": 1.0, "away": -1.0}[shot] * generator.uniform(0.16, 0.26)
    share = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)
    sway = generator.normal(0, 0.006, 2) * np.sin(np.linspace(0, 3, frames) + generator.uniform(0, 6))[:, None]
    centre = np.array([0.5 + generator.normal(0, 0.015), 0.475 + generator.normal(0, 0.012)]) + sway
    scale = face / 0.178 * np.exp(zoom * share)
    return Camera(shot, scale.astype(np.float32), centre.astype(np.float32), float(generator.uniform(0.7, 2.5)))
