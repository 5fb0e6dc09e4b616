"""Cut the bust out of MakeHuman's base mesh, label its regions and put its vertices in order (for convert_head.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: Regions in the order of their number. The first four are the geometry that FaceGeometry carries.
REGIONS = (
    "skin",
    "lips",
    "eyes",
    "mouth closure",
    "bust",
    "mouth lining",
    "eye sockets",
    "upper teeth",
    "lower teeth",
    "tongue",
    "lashes",
    "hair",
)
GEOMETRY_REGIONS = 4
NECK_SLOPE, NECK_HEIGHT = 0.4, 6.12  # decimetres: the head ends where y + slope · z < height, along the neck's loops
BUST_HEIGHT, BUST_WIDTH, HAIR_HEIGHT = 5.0, 1.9, 4.6  # decimetres
HEAD_CENTRE = np.array([0.0, 7.3, 0.35])  # decimetres: the middle of the skull


@dataclass(frozen=True)
class Bust:
    """source: [V] vertices of the base mesh. triangles: [F, 3]. region: [F] numbers into REGIONS. uv: [F, 3, 2].

    right_eye, left_eye: vertices of the eyeballs. The first ``geometry_vertices`` and ``geometry_triangles`` are the
    mesh that FaceGeometry carries.
    """

    source: Array
    triangles: Array
    region: Array
    uv: Array
    right_eye: Array
    left_eye: Array
    geometry_vertices: int
    geometry_triangles: int


def eye_centre(bust: Bust, values: Array) -> Array:
    """[N, 3] the point (or movement) half way between the eyeballs' middles, of ``values`` [N, V, 3]."""
    return np.asarray((values[:, bust.right_eye].mean(axis=1) + values[:, bust.left_eye].mean(axis=1)) / 2)


def build_bust(vertices: Array, quads: Array, uv: Array, groups: Array, lips: Array, cavities: Array) -> Bust:
    """vertices [V, 3] dm, quads [Q, 4], uv [Q, 4, 2], groups [Q] names, lips [Q], cavities: vertex indices."""
    region = label_quads(vertices, quads, groups, lips, cavities)
    kept = np.flatnonzero(region >= 0)
    triangles = quads[kept][:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
    corners_uv = uv[kept][:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2)
    labels = np.repeat(region[kept], 2)
    closure = close_mouth(vertices, triangles[labels < GEOMETRY_REGIONS])
    triangles = np.concatenate([triangles, closure])
    corners_uv = np.concatenate([corners_uv, np.zeros((len(closure), 3, 2))])
    labels = np.concatenate([labels, np.full(len(closure), REGIONS.index("mouth closure"))])
    order = np.argsort(labels, kind="stable")
    triangles, corners_uv, labels = triangles[order], corners_uv[order], labels[order]
    source, geometry_vertices = order_vertices(vertices, triangles, labels)
    lookup = np.full(len(vertices), -1)
    lookup[source] = np.arange(len(source))
    right_eye, left_eye = (lookup[np.unique(quads[groups == f"helper-{side}-eye"])] for side in "rl")
    in_geometry = int((labels < GEOMETRY_REGIONS).sum())
    return Bust(source, lookup[triangles], labels, corners_uv, right_eye, left_eye, geometry_vertices, in_geometry)


def label_quads(vertices: Array, quads: Array, groups: Array, lips: Array, cavities: Array) -> Array:
    """[Q] each quad's region, −1 for what is left out (the rest of the body, MakeHuman's fitting helpers)."""
    label = {name: number for number, name in enumerate(REGIONS)}
    region = np.full(len(quads), -1)
    corners = vertices[quads]  # [Q, 4, 3]
    body = groups == "body"
    head = body & (corners[..., 1] + NECK_SLOPE * corners[..., 2] > NECK_HEIGHT).all(axis=1)
    inside = np.zeros(len(vertices), bool)
    inside[cavities] = True
    deep = inside[quads].all(axis=1)  # quads with a vertex outside form the rim: the lips' and lids' thickness
    near = (corners[..., 1] > BUST_HEIGHT).all(axis=1) & (np.abs(corners[..., 0]) < BUST_WIDTH).all(axis=1)
    region[body & near] = label["bust"]
    region[head] = label["skin"]
    region[head & lips] = label["lips"]
    region[head & deep] = label["mouth lining"]
    region[head & deep & (corners[..., 1].mean(axis=1) > 7.0)] = label["eye sockets"]
    for group, name in (("upper-teeth", "upper teeth"), ("lower-teeth", "lower teeth"), ("tongue", "tongue")):
        region[groups == f"helper-{group}"] = label[name]
    region[np.char.find(groups, "-eyelashes-") >= 0] = label["lashes"]
    region[np.isin(groups, ["helper-l-eye", "helper-r-eye"])] = label["eyes"]
    region[(groups == "helper-hair") & (corners[..., 1] > HAIR_HEIGHT).all(axis=1)] = label["hair"]
    return region


def boundary_loops(triangles: Array) -> list[list[int]]:
    """The open borders, as vertex loops in the direction that their triangles run."""
    edges = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    present = {(int(a), int(b)) for a, b in edges}
    following = {a: b for a, b in present if (b, a) not in present}
    loops = []
    while following:
        start, vertex = following.popitem()
        loop = [start]
        while vertex != start:
            loop.append(vertex)
            vertex = following.pop(vertex)
        loops.append(loop)
    return loops


def close_mouth(vertices: Array, triangles: Array) -> Array:
    """[N, 3] triangles that span the opening between the lips: a strip from corner to corner, so that no photograph's
    teeth fall through. They are almost flat when the mouth is shut."""
    loops = boundary_loops(triangles)
    mouth = min(loops, key=lambda loop: float(np.abs(vertices[loop].mean(axis=0) - [0, 6.7, 1.3]).sum()))
    mouth = mouth[::-1]  # the new triangles run the other way along the border
    x = vertices[mouth, 0]
    start = int(np.argmin(x))
    mouth = mouth[start:] + mouth[:start]
    end = int(np.argmax(vertices[mouth, 0]))
    there, back = mouth[: end + 1], [mouth[0], *mouth[:end:-1], mouth[end]]
    return zip_strip(vertices, there, back)


def zip_strip(vertices: Array, there: list[int], back: list[int]) -> Array:
    """Triangles between two chains that share both ends; each step advances the chain that lags behind in x."""
    strip, i, j = [], 0, 0
    while i < len(there) - 1 or j < len(back) - 1:
        a, b = there[i], back[j]
        advance_there = j == len(back) - 1 or (
            i < len(there) - 1 and vertices[there[i + 1], 0] <= vertices[back[j + 1], 0]
        )
        if advance_there:
            strip.append([a, there[i + 1], b])
            i += 1
        else:
            strip.append([a, back[j + 1], b])
            j += 1
    return np.array([triangle for triangle in strip if len(set(triangle)) == 3])


def order_vertices(vertices: Array, triangles: Array, labels: Array) -> tuple[Array, int]:
    """Vertices of the base mesh in our order, and how many of them the geometry has.

    Skin first, along a Hilbert curve over the head unrolled around the line of sight, so that neighbours in the list
    are neighbours on the head; then the right eyeball and the left; then everything that the geometry leaves out.
    """
    curve = hilbert_index(unroll(vertices))
    groups = [
        triangles[(labels < GEOMETRY_REGIONS) & (labels != REGIONS.index("eyes"))],
        *(
            eyes[vertices[eyes[:, 0], 0] < 0 if side == "right" else vertices[eyes[:, 0], 0] > 0]
            for eyes in [triangles[labels == REGIONS.index("eyes")]]
            for side in ("right", "left")
        ),
        *(triangles[labels == number] for number in range(GEOMETRY_REGIONS, len(REGIONS))),
    ]
    order: list[int] = []
    seen: set[int] = set()
    geometry = 0
    for number, members in enumerate(groups):
        fresh = np.setdiff1d(np.unique(members), list(seen))
        order += list(fresh[np.argsort(curve[fresh], kind="stable")])
        seen.update(fresh.tolist())
        geometry = len(order) if number == 2 else geometry
    return np.array(order), geometry


def unroll(vertices: Array) -> Array:
    """[V, 2] 0..1: azimuthal equidistant projection from the skull's middle, the nose in the centre."""
    direction = vertices - HEAD_CENTRE
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    angle = np.arccos(np.clip(direction[:, 2], -1, 1))  # 0 straight ahead, π straight behind
    around = np.arctan2(direction[:, 1], direction[:, 0])
    return np.stack([np.cos(around), np.sin(around)], axis=1) * (angle / np.pi)[:, None] * 0.5 + 0.5


def hilbert_index(points: Array, order: int = 12) -> Array:
    """[V] position along the Hilbert curve of 2^order × 2^order cells, of points [V, 2] in 0..1."""
    side = 1 << order
    x, y = np.clip((points.T * side).astype(np.int64), 0, side - 1)
    distance = np.zeros(len(points), np.int64)
    step = side >> 1
    while step:
        right, top = (x & step) > 0, (y & step) > 0
        distance += step * step * ((3 * right) ^ top)
        flip = ~top & right
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(~top, y, x), np.where(~top, x, y)
        step >>= 1
    return distance
