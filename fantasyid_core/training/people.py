"""Who a synthetic person is: the shape of the head and some forty numbers and choices of how it looks.

Nothing here changes from clip to clip of one person (clothes, light and background do). The shape comes from the
head's own prior; looks are drawn so that they go with it loosely (beards mostly on male shapes, grey mostly on old
ones, skin by the race weights plus wide noise) but never follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..geometry.head import HeadModel
from .anatomy import anatomy
from .palettes import DYED, FRAMES, GREY, HAIR, HATS, IRIS, LIPSTICK, RED_HAIR, SKIN, WHITE

Generator = np.random.Generator

HAIR_STYLES = (
    "bald", "balding", "shaved", "crop", "short", "quiff", "curly", "afro", "bob", "long", "wavy", "bun", "ponytail",
)  # fmt: skip
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "short beard", "full beard")
HAT_STYLES = ("none", "beanie", "cap")
GLASSES_STYLES = ("none", "round", "square", "wide", "dark")
BALD_STYLES = ("bald", "balding", "shaved")
HANGING_STYLES = ("bob", "long", "wavy", "ponytail")


@dataclass(frozen=True, eq=False)
class Person:
    """shape: [S] coefficients of the head. The rest are 0..1 unless said otherwise; colours [3] are sRGB.

    hair_volume, beard_length: metres. fringe: how far the hair covers the forehead. parting: −1..1, where it falls
    apart. recession: how far the hairline has gone back. seed: of moles, freckles and strands.
    """

    shape: FloatArray
    woman: bool
    age: float
    melanin: float
    skin: FloatArray
    redness: float
    blotches: float
    freckles: float
    moles: float
    under_eye: float
    wrinkles: float
    shine: float
    iris: FloatArray
    iris_size: float
    lashes: float
    brow: FloatArray
    brow_thickness: float
    brow_density: float
    brow_arch: float
    brow_length: float
    lips: FloatArray
    lip_strength: float
    eye_shadow: float
    hair_style: str
    hair: FloatArray
    hair_volume: float
    hair_length: float
    fringe: float
    parting: float
    recession: float
    hair_shine: float
    beard_style: str
    beard: FloatArray
    beard_length: float
    beard_density: float
    glasses: str
    frame: FloatArray
    frame_thickness: float
    frame_size: float
    ear_rings: float
    hat: str
    hat_colour: FloatArray
    seed: int

    def vector(self) -> FloatArray:
        """[I] shape, then every look in the order of ``identity_names``; choices are one number per style, 0 or 1."""
        parts: list[npt.NDArray[np.float32]] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "seed":
                continue
            if isinstance(value, str):
                parts.append(np.array([value == style for style in _CHOICES[field.name]], np.float32))
            else:
                parts.append(np.atleast_1d(np.asarray(value, np.float32)))
        return np.concatenate(parts)


_CHOICES = {"hat": HAT_STYLES, "hair_style": HAIR_STYLES, "beard_style": BEARD_STYLES, "glasses": GLASSES_STYLES}


@lru_cache(maxsize=1)
def identity_names() -> tuple[str, ...]:
    """What each number of ``Person.vector`` is."""
    person = draw_person(np.random.default_rng(0))
    names: list[str] = []
    for field in fields(Person):
        value = getattr(person, field.name)
        if isinstance(value, str):
            names += [f"{field.name}: {style}" for style in _CHOICES[field.name]]
        elif field.name != "seed":
            size = np.size(value)
            names += [field.name] if size == 1 else [f"{field.name} {n}" for n in range(size)]
    return tuple(names)


def draw_person(generator: Generator) -> Person:
    """A random person; the same generator state, the same person."""
    head = anatomy().head
    shape = head.random_shape(generator, float(generator.uniform(0.85, 1.25)))
    macro = _macro_weights(head, shape)
    woman = bool(generator.random() < 1 / (1 + np.exp(-6 * _difference(head, macro, "-female", "-male"))))
    age = float(np.clip(0.42 + 0.45 * _difference(head, macro, "old", "young") + generator.normal(0, 0.15), 0, 1))
    melanin = _melanin(generator, head, macro)
    hair = _hair_colour(generator, melanin, age)
    looks = _skin_looks(generator, melanin, age, woman) | _eye_looks(generator, melanin, hair, woman)
    return Person(
        shape=shape,
        woman=woman,
        age=age,
        melanin=melanin,
        **looks,
        **_hair_looks(generator, hair, melanin, age, woman),
        **_beard_looks(generator, hair, woman),
        **_glasses_looks(generator),
        ear_rings=float(generator.random() < (0.35 if woman else 0.04)),
        hat=HAT_STYLES[generator.choice(3, p=(0.90, 0.05, 0.05))],
        hat_colour=_near(generator, HATS[generator.integers(len(HATS))], 0.02),
        seed=int(generator.integers(2**31)),
    )


def _macro_weights(head: HeadModel, shape: FloatArray) -> FloatArray:
    """[M] the race × sex × age weights that a shape looks like (least squares)."""
    return _macro_inverse() @ shape + np.float32(1 / len(head.macro_names))


@lru_cache(maxsize=1)
def _macro_inverse() -> FloatArray:
    head = anatomy().head
    return np.linalg.pinv(head.projection[:, len(head.target_names) :].astype(np.float64)).astype(np.float32)


def _difference(head: HeadModel, macro: FloatArray, more: str, less: str) -> float:
    signs = [(more in name) - (less in name and more not in name) for name in head.macro_names]
    return float(macro @ np.array(signs, np.float32))


def _melanin(generator: Generator, head: HeadModel, macro: FloatArray) -> float:
    if generator.random() < 0.15:
        return float(generator.random())  # any skin on any face
    means = {"african": 0.72, "asian": 0.34, "caucasian": 0.20}
    share = np.clip(macro, 0, None) + 0.02
    mean = sum(share[n] * means[name.split("-")[0]] for n, name in enumerate(head.macro_names)) / share.sum()
    stretched = 0.38 + 1.5 * (mean - 0.38)
    return float(np.clip(stretched + generator.normal(0, 0.15), 0, 1))


def _between(colours: tuple[tuple[float, ...], ...], position: float) -> FloatArray:
    """[3] the colour at ``position`` 0..1 along a list."""
    places = np.linspace(0, 1, len(colours))
    return np.array([np.interp(position, places, channel) for channel in np.array(colours).T], np.float32)


def _near(generator: Generator, colour: npt.ArrayLike, spread: float) -> FloatArray:
    return np.clip(np.asarray(colour) + generator.normal(0, spread, 3), 0.02, 0.98).astype(np.float32)


def _hair_colour(generator: Generator, melanin: float, age: float) -> FloatArray:
    kind = generator.random()
    if kind < 0.04:
        return _near(generator, DYED[generator.integers(len(DYED))], 0.05)
    if kind < 0.10 and melanin < 0.4:
        return _near(generator, RED_HAIR, 0.05)
    if generator.random() < 1.3 * (age - 0.45):
        return _near(generator, _between((GREY, WHITE), generator.random()), 0.02)
    lightness = generator.beta(1.0, 1.4) if melanin < 0.35 else generator.beta(1.0, 6.0)
    return _near(generator, _between(HAIR, lightness), 0.015)


def _skin_looks(generator: Generator, melanin: float, age: float, woman: bool) -> dict[str, Any]:
    skin = _between(SKIN, melanin)
    undertone = generator.normal(0, 1) * np.array([0.012, 0, -0.030]) + generator.normal(0, 1) * np.array(
        [0, -0.018, 0]
    )
    skin = np.clip(skin * (1 + undertone + generator.normal(0, 0.012, 3)), 0.05, 0.98).astype(np.float32)
    painted = woman and generator.random() < 0.55
    natural = skin * np.array([0.90, 0.66, 0.66]) + np.array([0.0, -0.01, 0.0])
    lips = LIPSTICK[generator.integers(len(LIPSTICK))] if painted else natural
    return {
        "skin": skin,
        "redness": float(generator.beta(2, 3)),
        "blotches": float(generator.beta(1.5, 4)),
        "freckles": float(generator.random() if melanin < 0.4 and generator.random() < 0.2 else 0),
        "moles": float(generator.random() ** 2),
        "under_eye": float(np.clip(generator.beta(2, 4) + 0.3 * (age - 0.4), 0, 1)),
        "wrinkles": float(np.clip(1.6 * (age - 0.42) + generator.normal(0, 0.12), 0, 1)),
        "shine": float(generator.beta(2, 3)),
        "lips": _near(generator, lips, 0.02),
        "lip_strength": float(generator.uniform(0.75, 1.0) if painted else generator.uniform(0.5, 0.9)),
        "eye_shadow": float(generator.random() if woman and generator.random() < 0.4 else 0.0),
    }


def _eye_looks(generator: Generator, melanin: float, hair: FloatArray, woman: bool) -> dict[str, Any]:
    light = generator.random() if melanin < 0.35 else generator.beta(1, 7)
    # brows follow the hair, but white or dyed hair keeps darker ones
    natural = hair * generator.uniform(0.45, 0.9) if hair.mean() < 0.7 else hair * generator.uniform(0.55, 0.95)
    return {
        "iris": _near(generator, _between(IRIS, light), 0.02),
        "iris_size": float(generator.random()),
        "lashes": float(generator.uniform(0.5, 1.0) if woman else generator.uniform(0.1, 0.6)),
        "brow": np.clip(natural, 0.03, 0.9).astype(np.float32),
        "brow_thickness": float(generator.beta(2, 3) if woman else generator.beta(3, 2)),
        "brow_density": float(generator.beta(4, 2)),
        "brow_arch": float(generator.random()),
        "brow_length": float(generator.random()),
    }


def _hair_looks(generator: Generator, hair: FloatArray, melanin: float, age: float, woman: bool) -> dict[str, Any]:
    men = (0.07, 0.05 + 0.12 * age, 0.10, 0.17, 0.24, 0.14, 0.08, 0.04, 0.02, 0.03, 0.01, 0.02, 0.01)
    women = (0.01, 0.00, 0.02, 0.03, 0.08, 0.03, 0.08, 0.05, 0.18, 0.20, 0.17, 0.08, 0.07)
    odds = np.array(women if woman else men)
    odds[[6, 7]] *= 0.6 + 3.5 * melanin**2
    style = HAIR_STYLES[generator.choice(len(HAIR_STYLES), p=odds / odds.sum())]
    low, high = {
        "bald": (0, 0), "balding": (0.004, 0.009), "shaved": (0.001, 0.002), "crop": (0.004, 0.010),
        "short": (0.009, 0.019), "quiff": (0.012, 0.022), "curly": (0.018, 0.036), "afro": (0.034, 0.062),
        "bun": (0.005, 0.011), "ponytail": (0.006, 0.012),
    }.get(style, (0.008, 0.020))  # fmt: skip
    fringe = generator.random() if generator.random() < (0.45 if style in ("bob", "long", "short") else 0.1) else 0.0
    return {
        "hair_style": style,
        "hair": hair,
        "hair_volume": float(generator.uniform(low, high)),
        "hair_length": float(generator.random()),
        "fringe": float(fringe),
        "parting": float(np.clip(generator.normal(0, 0.6), -1, 1)),
        "recession": float(generator.beta(1, 3) * (0.4 if woman else 0.5 + 0.8 * age)),
        "hair_shine": float(generator.random()),
    }


def _beard_looks(generator: Generator, hair: FloatArray, woman: bool) -> dict[str, Any]:
    odds = (1, 0, 0, 0, 0, 0) if woman else (0.42, 0.17, 0.08, 0.09, 0.14, 0.10)
    style = BEARD_STYLES[generator.choice(len(BEARD_STYLES), p=odds)]
    low, high = {"full beard": (0.008, 0.022), "short beard": (0.002, 0.005)}.get(style, (0.001, 0.005))
    return {
        "beard_style": style,
        "beard": np.clip(hair * generator.uniform(0.7, 1.05) + generator.normal(0, 0.015, 3), 0.03, 0.95).astype(
            np.float32
        ),
        "beard_length": float(generator.uniform(low, high)),
        "beard_density": float(generator.uniform(0.55, 1.0)),
    }


def _glasses_looks(generator: Generator) -> dict[str, Any]:
    style = GLASSES_STYLES[generator.choice(len(GLASSES_STYLES), p=(0.66, 0.11, 0.11, 0.08, 0.04))]
    return {
        "glasses": style,
        "frame": _near(generator, FRAMES[generator.integers(len(FRAMES))], 0.02),
        "frame_thickness": float(generator.random()),
        "frame_size": float(generator.random()),
    }
