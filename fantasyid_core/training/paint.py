"""A person's skin map: colour and shine of every place of skin, lips, brows, beard and hair on the head."""

from __future__ import annotations

import numpy as np

from ..arrays import FloatArray
from .anatomy import EAR_PATCH, MAP, SkinMap, anatomy, smooth_step
from .people import Person

SKIN_GLOSS, LIP_GLOSS, HAIR_GLOSS = 0.10, 0.28, 0.16

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
    skin_map, generator = anatomy().skin_map, np.random.default_rng(person.seed)
    noise = _rolled(generator)
    colour = _skin(person, skin_map, noise, generator)
    gloss = np.full((MAP, MAP), SKIN_GLOSS * (0.3 + 1.2 * person.shine), np.float32)
    gloss *= 1 + 0.8 * skin_map["nose_line"] + 0.5 * skin_map["forehead"]
    _features(person, skin_map, noise, colour, gloss)
    _beard(person, skin_map, noise, colour, gloss)
    colour[:EAR_PATCH, :EAR_PATCH] = linear(person.skin) * (0.97, 0.90 - 0.08 * person.redness, 0.89)
    _hair(person, skin_map, noise, colour, gloss)
    return np.dstack([np.clip(colour, 0.004, 0.95), gloss]).astype(np.float32)


def _rolled(generator: np.random.Generator) -> dict[str, FloatArray]:
    """The noise pictures, shifted at random: every person has a skin of their own."""
    return {
        name: np.roll(picture, tuple(generator.integers(0, MAP, 2)), axis=(0, 1))
        for name, picture in anatomy().noise.items()
    }


def _blend(colour: FloatArray, other: FloatArray | tuple[float, ...], share: FloatArray) -> None:
    colour += (np.asarray(other, np.float32) - colour) * share[..., None]


def _skin(
    person: Person, skin_map: SkinMap, noise: dict[str, FloatArray], generator: np.random.Generator
) -> FloatArray:
    """[MAP, MAP, 3] bare skin: tone, blood, blotches, freckles, moles, wrinkles."""
    base = linear(person.skin)
    pale = 1 - 0.6 * person.melanin
    blood = 0.05 + 0.28 * person.redness * pale
    red = skin_map["cheek"] + 0.9 * skin_map["nose"] + 0.15 * noise["soft"] * person.blotches
    dark = 0.05 * noise["broad"] * (0.4 + person.blotches) + 0.022 * noise["fine"]
    dark -= 0.45 * person.under_eye * skin_map["under_eye"] + 0.10 * skin_map["socket"]
    dark -= person.wrinkles * (0.38 * skin_map["fold"] + 0.30 * skin_map["crow"] * np.abs(noise["strands"].T))
    dark -= 0.30 * person.wrinkles * _forehead_lines(skin_map) + 0.10 * skin_map["fold"] + 0.5 * skin_map["nostril"]
    shade = np.clip(1 + dark, 0.25, 1.3)
    colour = base * shade[..., None]
    colour *= 1 - blood * red[..., None] * np.array([0.05, 0.55, 0.50], np.float32)
    if person.freckles:
        spots = smooth_step(noise["fine"], 1.1, 1.7) * (skin_map["cheek"] + skin_map["nose"] + 0.25)
        colour *= 1 - 0.45 * person.freckles * spots[..., None] * np.array([0.5, 0.8, 1.0], np.float32)
    for _ in range(int(round(4 * person.moles))):
        _mole(skin_map, generator, colour)
    return colour


def _forehead_lines(skin_map: SkinMap) -> FloatArray:
    height = skin_map.position[..., 1]
    waves = np.cos(2 * np.pi * (height - 0.030) / 0.0085) * skin_map["forehead"]
    return np.clip(waves, 0, 1)


def _mole(skin_map: SkinMap, generator: np.random.Generator, colour: FloatArray) -> None:
    centre = np.array([generator.uniform(-0.05, 0.05), generator.uniform(-0.09, 0.04)], np.float32)
    away = np.hypot(skin_map.position[..., 0] - centre[0], skin_map.position[..., 1] - centre[1])
    spot = smooth_step(-away, -generator.uniform(0.0018, 0.0034), -0.001) * (skin_map.position[..., 2] > -0.02)
    colour *= 1 - 0.65 * spot[..., None]


def _features(
    person: Person, skin_map: SkinMap, noise: dict[str, FloatArray], colour: FloatArray, gloss: FloatArray
) -> None:
    """Lips, eye make-up, the lash line and brows."""
    lip = skin_map["lips"]
    _blend(colour, linear(person.lips), np.clip(lip * person.lip_strength, 0, 1))
    gloss += lip * (LIP_GLOSS - gloss) * person.lip_strength
    shadow = np.clip(linear(person.lips) * 0.35 + 0.3 * linear(person.skin) * (0.4, 0.35, 0.5), 0, 1)
    _blend(colour, shadow, 0.75 * person.eye_shadow * skin_map["lid"])
    line = np.clip(skin_map["eye_line"] * (0.35 + 0.6 * person.lashes), 0, 0.95)
    _blend(colour, linear(person.brow) * 0.35, line)
    _blend(colour, linear(person.brow), _brows(person, skin_map, noise))


def _brows(person: Person, skin_map: SkinMap, noise: dict[str, FloatArray]) -> FloatArray:
    """[MAP, MAP] 0..1: a strip along the brow that thins towards the temple."""
    along = skin_map.brow_along
    end = 0.95 + 0.25 * person.brow_length
    middle = 0.0025 + (0.0045 * person.brow_arch - 0.001) * np.sin(np.pi * np.clip(along * 0.85, 0, 1))
    half = (0.0021 + 0.0042 * person.brow_thickness) * (1 - 0.65 * np.clip(along, 0, 1.2) ** 1.5)
    inside = smooth_step(half - np.abs(skin_map.brow_across - middle), -0.0011, 0.0011)
    ends = smooth_step(along, -0.10, 0.06) * smooth_step(-along, -end, 0.12 - end)
    hairs = 1 + 0.15 * noise["fine"]
    return np.clip(inside * ends * hairs * (0.45 + 0.55 * person.brow_density), 0, 0.97)


def _beard(
    person: Person, skin_map: SkinMap, noise: dict[str, FloatArray], colour: FloatArray, gloss: FloatArray
) -> None:
    cover = beard_cover(person, skin_map.masks)
    if person.beard_style == "none":
        if not person.woman:  # the shadow of a shaven beard
            _blend(colour, linear(person.beard) * 0.8 + 0.03, 0.10 * np.maximum(skin_map["beard"], cover))
        return
    density = 0.35 * person.beard_density if person.beard_style == "stubble" else person.beard_density
    ragged = smooth_step(cover + 0.07 * noise["soft"], 0.25, 0.80)
    strands = linear(person.beard) * (1 + 0.30 * noise["fine"] + 0.18 * noise["strands"])[..., None]
    gloss += np.clip(ragged * density, 0, 1) * (0.03 - gloss)
    _blend(colour, np.clip(strands, 0.003, 1), np.clip(ragged * density * (1 + 0.12 * noise["fine"]), 0, 0.97))


def _hair(
    person: Person, skin_map: SkinMap, noise: dict[str, FloatArray], colour: FloatArray, gloss: FloatArray
) -> None:
    ragged = skin_map.position[..., 1] + 0.0022 * noise["soft"]
    cover = hair_cover(person, skin_map.azimuth, ragged)
    cover[:EAR_PATCH, :EAR_PATCH] = 0
    density = 0.62 if person.hair_style == "shaved" else 0.97
    strands = noise["curls"] if person.hair_style in ("curly", "afro") else noise["strands"]
    shade = 1 + 0.17 * strands + 0.12 * noise["fine"]
    part = skin_map.position[..., 0] - 0.035 * person.parting
    groove = np.exp(-((part / 0.0035) ** 2)) * (skin_map.position[..., 1] > 0.07)
    if person.hair_style in ("short", "bob", "long", "wavy"):
        shade -= 0.55 * groove
    gloss += cover * (HAIR_GLOSS * (0.15 + person.hair_shine) - gloss) * (person.hair_style != "shaved")
    strand = np.clip(linear(person.hair) * np.clip(shade, 0.3, 1.8)[..., None], 0.003, 1)
    _blend(colour, strand, cover * density)
