"""A person as one mesh that can be posed: head, hair, glasses and torso with everything the renderer needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..geometry.head import load_head
from .anatomy import CENTRE, EAR_PATCH, Anatomy, anatomy, smooth_step
from .paint import beard_cover, hair_cover, hat_cover, paint
from .parts import CLOTH, EYE, PLAIN, SKIN, Part, worn_parts
from .people import Person

_FULL_HEAD = {"afro": 1.0, "curly": 0.7}
#: linear RGB, gloss and openness of the regions that have one colour
_PLAIN_REGIONS = {
    "mouth lining": ((0.20, 0.045, 0.04), 0.10, 0.30),
    "upper teeth": ((0.74, 0.70, 0.62), 0.25, 0.85),
    "lower teeth": ((0.70, 0.66, 0.58), 0.25, 0.65),
    "tongue": ((0.42, 0.12, 0.11), 0.20, 0.55),
    "lashes": ((0.02, 0.015, 0.012), 0.0, 0.9),
}


@dataclass(frozen=True, eq=False)
class Figure:
    """V vertices, F triangles.

    vertices: [V, 3] metres at rest, hair included. triangles: [F, 3]. values: [F, 3, 3] per corner: skin map pixels
    (SKIN), the direction from the eyeball's centre at rest (EYE), linear RGB (PLAIN), the place at rest (CLOTH);
    the second and third corner's as differences from the first's.
    material: [F]. two_sided: [F]. plain_gloss: [F] of PLAIN ones. openness, follow: [V]. skin_map: [MAP, MAP, 4].
    gather: sparse [V, F], sums what the triangles round a vertex have. The first
    ``anatomy().vertices`` vertices move with expressions. neutral: [3202, 3] the bare head of HEAD_TOPOLOGY.
    """

    person: Person
    neutral: FloatArray
    vertices: FloatArray
    triangles: IntArray
    values: FloatArray
    material: npt.NDArray[np.uint8]
    two_sided: npt.NDArray[np.bool_]
    plain_gloss: FloatArray
    openness: FloatArray
    follow: FloatArray
    gather: Any
    skin_map: FloatArray


def build_figure(person: Person) -> Figure:
    """The mesh and the skin map of a person."""
    body = anatomy()
    bare = body.head.vertices(person.shape)[: body.vertices]
    vertices = bare + _growth(person, body, bare)
    eyes = np.stack([bare[body.eye == sign].mean(axis=0) for sign in (-1, 1)])
    skin = bare[: len(load_head().base)][body.eye[: len(load_head().base)] == 0]
    parts = worn_parts(person, skin, eyes)
    starts = np.cumsum([body.vertices, *(len(part.vertices) for part in parts)])
    material, values, gloss, openness = _body_surface(person, body)
    bare.flags.writeable = False
    triangles = np.concatenate(
        [body.triangles, *(part.triangles + start for part, start in zip(parts, starts, strict=False))]
    ).astype(np.int32)
    vertices = np.concatenate([vertices, *(part.vertices for part in parts)])
    return Figure(
        person=person,
        neutral=bare[: len(load_head().base)],
        vertices=vertices,
        triangles=triangles,
        values=_differences(np.concatenate([values, *(part.values[part.triangles] for part in parts)])),
        material=np.concatenate([material, *(_filled(part, part.material) for part in parts)]).astype(np.uint8),
        two_sided=np.concatenate([_two_sided(body), *(_filled(part, part.two_sided) for part in parts)]).astype(bool),
        plain_gloss=np.concatenate([gloss, *(part.gloss for part in parts)])[triangles[:, 0]],
        openness=np.concatenate([openness, *(part.openness for part in parts)]),
        follow=np.concatenate([body.follow, *(part.follow for part in parts)]),
        gather=_gather(len(vertices), triangles),
        skin_map=paint(person),
    )


def _differences(values: FloatArray) -> FloatArray:
    values = values.astype(np.float32)
    values[:, 1:] -= values[:, :1]
    return values


def _gather(vertices: int, triangles: IntArray) -> Any:
    from scipy.sparse import csr_matrix

    row, column = triangles.ravel(), np.repeat(np.arange(len(triangles)), 3)
    return csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(vertices, len(triangles)))


def _filled(part: Part, value: int | bool) -> npt.NDArray[np.int32]:
    return np.full(len(part.triangles), value, np.int32)


def _two_sided(body: Anatomy) -> npt.NDArray[np.bool_]:
    return body.region_of == body.region.index("lashes")


def _body_surface(person: Person, body: Anatomy) -> tuple[npt.NDArray[np.uint8], FloatArray, FloatArray, FloatArray]:
    """material [F], values [F, 3, 3], gloss [V] and openness [V] of the bust itself."""
    base = body.head.base[: body.vertices]
    material = np.full(len(body.triangles), SKIN, np.uint8)
    values = np.zeros((len(body.triangles), 3, 3), np.float32)
    values[..., :2] = body.uv[body.triangles]
    values[body.ear[body.triangles].all(axis=1), :, :2] = EAR_PATCH / 2
    gloss, openness = np.zeros(body.vertices, np.float32), body.openness.copy()
    for name, (colour, shine, open_) in _PLAIN_REGIONS.items():
        chosen = body.region_of == body.region.index(name)
        material[chosen], values[chosen] = PLAIN, colour
        inside = np.unique(body.triangles[chosen])
        gloss[inside], openness[inside] = shine, open_
    eyes = body.region_of == body.region.index("eyes")
    centres = np.stack([base[body.eye == sign].mean(axis=0) for sign in (-1, 1)])
    ray = base - centres[(body.eye > 0).astype(int)]
    ray /= np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-9)
    material[eyes], values[eyes] = EYE, ray[body.triangles[eyes]]
    openness[body.eye != 0] = 0.82
    neck = (body.region_of == body.region.index("skin")) & (body.follow[body.triangles].max(axis=1) < 0.75)
    chest = neck | (body.region_of == body.region.index("bust"))
    material[chest], values[chest] = CLOTH, base[body.triangles[chest]]
    return material, values, gloss, openness


def _growth(person: Person, body: Anatomy, bare: FloatArray) -> FloatArray:
    """[V, 3] metres by which hair and beard stand off the skin."""
    base = body.head.base[: body.vertices]
    skin = (body.eye == 0) & ~body.ear & (body.openness > 0.3) & (base[:, 1] > -0.14)
    behind = 0.009 + 0.12 * person.hair_volume  # hair rises where the map is hair already, or skin would rise with it
    cover = hair_cover(person, body.azimuth, base[:, 1] - behind, 0.009) * skin
    cover *= smooth_step(body.ear_distance, 0.003, 0.004 + 0.6 * min(person.hair_volume, 0.025))
    thickness = cover * _hair_thickness(person, base, body.azimuth)
    up = bare - (CENTRE + np.array([0, 0.02, 0], np.float32))
    outward = up / np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-9)
    thickness = np.where(person.hat == "none", thickness, np.minimum(thickness, 0.012))
    hat = hat_cover(person, body.azimuth, base[:, 1] - 0.008, 0.006) * skin
    tall = smooth_step(base[:, 1], 0.06, 0.10) * (0.016 if person.hat == "cap" else 0.008)
    thickness = thickness * (1 - hat) + (np.maximum(thickness, 0.007) + 0.004 + tall) * hat
    growth = outward * thickness[:, None]
    if person.beard_style in ("short beard", "full beard", "goatee", "moustache"):
        growth += _beard_growth(person, body, bare, base) * skin[:, None]
    return growth.astype(np.float32)


def _hair_thickness(person: Person, base: FloatArray, azimuth: FloatArray) -> FloatArray:
    """[V] metres by style, over the whole scalp."""
    style, volume = person.hair_style, person.hair_volume
    generator = np.random.default_rng([person.seed, 3])
    thickness = np.full(len(base), volume, np.float32)
    crown = smooth_step(base[:, 1], 0.03, 0.095)
    if style in _FULL_HEAD:
        lumps = sum(np.sin(base @ generator.normal(0, 220, 3) + generator.uniform(0, 6.3)) for _ in range(4))
        low = smooth_step(base[:, 1], -0.07, 0.045)
        rough = 1 + 0.065 * _FULL_HEAD[style] * np.asarray(lumps)
        return np.asarray(thickness * (0.30 + 0.70 * low) * rough, np.float32)
    if style in ("short", "quiff", "crop"):
        thickness *= 0.30 + 0.70 * crown
    if style == "quiff":
        front = smooth_step(base[:, 2], -0.06, 0.0) * crown
        thickness += (0.012 + 0.022 * person.hair_length) * front
    if style in ("bob", "long", "wavy"):  # stands off the temples, where it begins to hang
        thickness += 0.009 * smooth_step(-base[:, 1], -0.085, -0.03)
    if style in ("short", "bob", "long", "wavy"):
        side = base[:, 0] - 0.035 * person.parting
        thickness *= 1 - 0.45 * np.exp(-((side / 0.008) ** 2)) * crown
        thickness += 0.004 * np.sign(person.parting) * np.sign(-side) * crown * (np.abs(side) > 0.004)
    waves = np.sin(base @ generator.normal(0, 130, 3) + generator.uniform(0, 6.3))
    return np.clip(thickness * (1 + 0.12 * waves), 0, None).astype(np.float32)


def _beard_growth(person: Person, body: Anatomy, bare: FloatArray, base: FloatArray) -> FloatArray:
    """[V, 3] metres, forwards and down, most at the chin."""
    column, row = np.rint(body.uv).astype(int).T
    masks = {name: body.skin_map[name][row, column] for name in ("moustache", "goatee", "beard")}
    cover = beard_cover(person, masks)
    chin = 0.45 + 0.9 * smooth_step(-base[:, 1], 0.06, 0.105) * smooth_step(-np.abs(base[:, 0]), -0.05, -0.015)
    down = np.clip(-(base[:, 1] + 0.055) / 0.05, 0, 1.2)
    away = np.column_stack([base[:, 0] * 9, -0.75 * down, 0.55 + 0 * down])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    amount = person.beard_length * cover * chin
    return (away * amount[:, None]).astype(np.float32)
