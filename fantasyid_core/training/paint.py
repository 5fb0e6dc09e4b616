"""A person's skin map: colour and shine of every place of skin, lips, brows, beard and hair on the head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..arrays import FloatArray
from .anatomy import EAR_PATCH, MAP, SkinMap, anatomy, smooth_step
from .people import Person

FACE = slice(int(0.20 * MAP), int(0.80 * MAP))  #: rows and columns of the map with all that faces have
SKIN_GLOSS, LIP_GLOSS, HAIR_GLOSS = 0.10, 0.28, 0.10

_AZIMUTHS = np.array([0, 12, 25, 38, 50, 60, 67, 73, 80, 88, 100, 120, 150, 180], np.float32)
#: metres above the eyes at which hair begins, in front of the ear a sideburn
_HAIRLINE = np.array(
    [0.064, 0.065, 0.065, 0.060, 0.048, 0.033, 0.012, -0.012, -0.012, 0.016, -0.005, -0.055, -0.078, -0.082], np.float32
)


def linear(colour: FloatArray) -> FloatArray:
    """sRGB → linear light, as the renderer's tone curve takes it back."""
    return np.square(colour, dtype=np.float32)


def hair_cover(person: Person, azimuth: FloatArray, height: FloatArray, softness: float = 0.004) -> FloatArray:
    """[...] 0..1, where hair grows on the scalp: ``azimuth`` degrees, ``height`` metres above the eyes."""
    if person.hair_style == "bald":
        return np.zeros_like(height)
    line = _HAIRLINE.copy()
    line[:5] += 0.030 * person.recession * np.array([0.5, 0.8, 1.3, 1.2, 0.5], np.float32)
    line[[6, 7, 8]] += 0.028 * (person.woman or person.hair_style == "balding")  # no sideburns
    if person.hair_style in ("bob", "long", "wavy"):  # falls over the temples
        line[3:9] = np.minimum(line[3:9], [0.056, 0.036, 0.010, -0.005, -0.01, -0.01])
    start = np.interp(np.abs(azimuth), _AZIMUTHS, line).astype(np.float32)
    if person.fringe:
        start = np.minimum(start, _fringe_line(person, azimuth))
    cover = smooth_step(height - start, -softness, softness)
    if person.hair_style == "balding":
        cover *= np.maximum(smooth_step(np.abs(azimuth), 55, 75) * smooth_step(-height, -0.085, -0.060), 0)
    return cover


def _fringe_line(person: Person, azimuth: FloatArray) -> FloatArray:
    """[...] metres: the lower edge of hair that falls over the forehead, lower on one side of the parting."""
    swept = np.clip((azimuth - 40 * person.parting) / 60, -1, 1) * np.sign(person.parting or 1)
    edge = 0.060 - 0.030 * person.fringe - 0.010 * swept
    return np.where(np.abs(azimuth) < 62, edge, 1.0).astype(np.float32)


def hat_cover(person: Person, azimuth: FloatArray, height: FloatArray, softness: float = 0.0015) -> FloatArray:
    """[...] 0..1, where a hat covers the head: lower behind than in front."""
    if person.hat == "none":
        return np.zeros_like(height)
    edge = np.interp(np.abs(azimuth), [0, 60, 100, 180], [0.052, 0.040, 0.022, 0.0]).astype(np.float32)
    return smooth_step(height - edge, -softness, softness)


def beard_cover(person: Person, masks: dict[str, FloatArray]) -> FloatArray:
    """[...] 0..1 where the beard grows; masks: "moustache", "goatee" and "beard" of the skin map."""
    moustache, goatee, beard = masks["moustache"], masks["goatee"], masks["beard"]
    return {
        "none": np.zeros_like(beard),
        "moustache": moustache,
        "goatee": np.maximum(moustache, goatee),
    }.get(person.beard_style, np.maximum(np.maximum(moustache, goatee), beard))


def paint(person: Person) -> FloatArray:
    """[MAP, MAP, 4] linear RGB and gloss 0..1 of the person's skin map."""
    generator = np.random.default_rng(person.seed)
    noise = _rolled(generator)
    layers = np.empty((4, MAP, MAP), np.float32)  # red, green, blue, gloss
    shade = 1 + 0.05 * (0.4 + person.blotches) * noise["broad"] + 0.022 * noise["fine"]
    for channel, tone in enumerate(linear(person.skin)):
        layers[channel] = shade * tone
    layers[3] = SKIN_GLOSS * (0.3 + 1.2 * person.shine)
    face = _Window(layers[:, FACE, FACE], _face_map(), {name: picture[FACE, FACE] for name, picture in noise.items()})
    _skin(person, face, generator)
    _features(person, face)
    _beard(person, face)
    ear = linear(person.skin) * np.array([0.97, 0.90 - 0.08 * person.redness, 0.89], np.float32)
    layers[:3, :EAR_PATCH, :EAR_PATCH] = ear[:, None, None]
    whole = _Window(layers, anatomy().skin_map, noise)
    _hair(person, whole)
    _hat(person, whole)
    return np.ascontiguousarray(np.clip(layers, 0.004, 0.95).transpose(1, 2, 0))


@dataclass(frozen=True, eq=False)
class _Window:
    """A part of the map: layers [4, H, W] to paint on, its anatomy and its noise."""

    layers: FloatArray
    skin: SkinMap
    noise: dict[str, FloatArray]

    def blend(self, colour: FloatArray, share: FloatArray) -> None:
        """Cover ``share`` [H, W] of what is there with ``colour`` [3] or [3, H, W]."""
        for layer, tone in zip(self.layers[:3], colour, strict=True):
            layer += (tone - layer) * share

    def darken(self, by: FloatArray, tint: tuple[float, float, float] = (1, 1, 1)) -> None:
        """Take the share ``by`` [H, W] of the light away, more or less in each channel."""
        for layer, weight in zip(self.layers[:3], tint, strict=True):
            layer *= 1 - by * np.float32(weight)


@lru_cache(maxsize=1)
def _face_map() -> SkinMap:
    whole = anatomy().skin_map
    return SkinMap(
        whole.position[FACE, FACE],
        whole.azimuth[FACE, FACE],
        whole.brow_across[FACE, FACE],
        whole.brow_along[FACE, FACE],
        {name: mask[FACE, FACE] for name, mask in whole.masks.items()},
    )


def _rolled(generator: np.random.Generator) -> dict[str, FloatArray]:
    """The noise pictures, shifted at random: every person has a skin of their own."""
    return {
        name: np.roll(picture, tuple(generator.integers(0, MAP, 2)), axis=(0, 1))
        for name, picture in anatomy().noise.items()
    }


def _skin(person: Person, face: _Window, generator: np.random.Generator) -> None:
    """What bare skin shows: blood, shadows, wrinkles, freckles, moles."""
    skin, noise = face.skin, face.noise
    dark = 0.45 * person.under_eye * skin["under_eye"] + 0.10 * skin["socket"] + 0.10 * skin["fold"]
    dark += 0.5 * skin["nostril"]
    if person.wrinkles:
        lines = np.cos(2 * np.pi * (skin.position[..., 1] - 0.030) / 0.0085) * skin["forehead"]
        dark += person.wrinkles * (0.38 * skin["fold"] + 0.30 * skin["crow"] * np.abs(noise["strands"].T))
        dark += 0.30 * person.wrinkles * np.clip(lines, 0, 1)
    face.darken(np.clip(dark, 0, 0.75))
    blood = (0.05 + 0.28 * person.redness) * (1 - 0.6 * person.melanin)
    red = skin["cheek"] + 0.9 * skin["nose"] + 0.15 * person.blotches * noise["soft"]
    face.darken(np.float32(blood) * red, (0.05, 0.55, 0.50))
    if person.freckles:
        spots = smooth_step(noise["fine"], 1.1, 1.7) * (skin["cheek"] + skin["nose"] + 0.25)
        face.darken(np.float32(0.45 * person.freckles) * spots, (0.5, 0.8, 1.0))
    for _ in range(round(4 * person.moles)):
        _mole(face, generator)
    face.layers[3] *= 1 + 0.8 * skin["nose_line"] + 0.5 * skin["forehead"]


def _mole(face: _Window, generator: np.random.Generator) -> None:
    x, y = generator.uniform(-0.05, 0.05), generator.uniform(-0.09, 0.04)
    position = face.skin.position
    away = np.hypot(position[..., 0] - np.float32(x), position[..., 1] - np.float32(y))
    size = generator.uniform(0.0018, 0.0034)
    face.darken(0.65 * smooth_step(-away, -size, -0.001) * (position[..., 2] > -0.02))


def _features(person: Person, face: _Window) -> None:
    """Lips, eye make-up, the lash line and brows."""
    lip, gloss = face.skin["lips"] * np.float32(person.lip_strength), face.layers[3]
    face.blend(linear(person.lips), lip)
    gloss += lip * (LIP_GLOSS - gloss)
    if person.eye_shadow:
        shadow = linear(person.lips) * 0.35 + 0.3 * linear(person.skin) * np.array([0.4, 0.35, 0.5], np.float32)
        face.blend(shadow, np.float32(0.75 * person.eye_shadow) * face.skin["lid"])
    line = np.clip(face.skin["eye_line"] * np.float32(0.35 + 0.6 * person.lashes), 0, 0.95)
    face.blend(linear(person.brow) * 0.35, line)
    face.blend(linear(person.brow), _brows(person, face))


def _brows(person: Person, face: _Window) -> FloatArray:
    """[H, W] 0..1: a strip along the brow that thins towards the temple."""
    along = face.skin.brow_along
    end = 0.95 + 0.25 * person.brow_length
    middle = 0.0025 + (0.0045 * person.brow_arch - 0.001) * np.sin(np.pi * np.clip(along * 0.85, 0, 1))
    taper = np.clip(along, 0, 1.2)
    half = np.float32(0.0021 + 0.0042 * person.brow_thickness) * (1 - 0.65 * taper * np.sqrt(taper))
    inside = smooth_step(half - np.abs(face.skin.brow_across - middle), -0.0011, 0.0011)
    ends = smooth_step(along, -0.10, 0.06) * smooth_step(-along, -end, 0.12 - end)
    hairs = 1 + 0.15 * face.noise["fine"]
    return np.clip(inside * ends * hairs * np.float32(0.45 + 0.55 * person.brow_density), 0, 0.97)


def _beard(person: Person, face: _Window) -> None:
    if person.beard_style == "none":
        if not person.woman:  # the shadow of a shaven beard
            shadow = np.maximum(face.skin["beard"], np.maximum(face.skin["moustache"], face.skin["goatee"]))
            face.blend(linear(person.beard) * 0.8 + 0.03, np.float32(0.10) * shadow)
        return
    cover, noise, gloss = beard_cover(person, face.skin.masks), face.noise, face.layers[3]
    density = 0.35 * person.beard_density if person.beard_style == "stubble" else person.beard_density
    ragged = smooth_step(cover + 0.07 * noise["soft"], 0.25, 0.80) * np.float32(density)
    gloss += ragged * (0.03 - gloss)
    strands = linear(person.beard)[:, None, None] * (1 + 0.30 * noise["fine"] + 0.18 * noise["strands"])
    face.blend(np.clip(strands, 0.003, 1), np.clip(ragged * (1 + 0.12 * noise["fine"]), 0, 0.97))


def _hair(person: Person, whole: _Window) -> None:
    if person.hair_style == "bald":
        return
    position, noise, gloss = whole.skin.position, whole.noise, whole.layers[3]
    cover = hair_cover(person, whole.skin.azimuth, position[..., 1] + 0.0022 * noise["soft"])
    cover[:EAR_PATCH, :EAR_PATCH] = 0
    strands = noise["curls"] if person.hair_style in ("curly", "afro") else noise["strands"]
    shade = 1 + 0.17 * strands + 0.12 * noise["fine"]
    if person.hair_style in ("short", "bob", "long", "wavy"):
        part = (position[..., 0] - np.float32(0.035 * person.parting)) / np.float32(0.0035)
        shade -= 0.55 * np.exp(-(part * part)) * (position[..., 1] > 0.07)
    if person.hair_style != "shaved":
        gloss += cover * (HAIR_GLOSS * (0.15 + person.hair_shine) - gloss)
    colour = linear(person.hair)[:, None, None] * np.clip(shade, 0.3, 1.8)
    whole.blend(colour, cover * np.float32(0.62 if person.hair_style == "shaved" else 0.97))


def _hat(person: Person, whole: _Window) -> None:
    if person.hat == "none":
        return
    height = whole.skin.position[..., 1]
    cover = hat_cover(person, whole.skin.azimuth, height)
    cover[:EAR_PATCH, :EAR_PATCH] = 0
    band = hat_cover(person, whole.skin.azimuth, height - 0.014)  # the lower edge is folded or sewn
    knit = 0.12 * whole.noise["strands"] if person.hat == "beanie" else 0.03 * whole.noise["fine"]
    whole.blend(linear(person.hat_colour)[:, None, None] * np.clip(0.72 + 0.28 * band + knit, 0.2, 1.5), cover)
    whole.layers[3] *= 1 - 0.8 * cover
