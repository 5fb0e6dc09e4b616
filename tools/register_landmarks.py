"""Find where MediaPipe's 468 landmarks lie on our head (for convert_head.py).

The canonical face mesh is registered to the mean head non-rigidly, pulled by evidence: random heads are drawn in many
poses, the landmark network looks at the pictures, and each landmark it sees is carried back through the rasteriser to
the point of the head that it was seen at. What the network never sees well (the cheeks' far edges) follows the
canonical mesh's shape. Left and right are made alike, and the points are put on the nearest skin.

The network's points do not lie on the skin: its relief is flatter than a head's, and its outline slides inwards. How
far each point lies beside the skin on average, in the head frame, is measured on the same pictures and kept too.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from fantasyid_core.faces.face import Face
from fantasyid_core.faces.landmarks import canonical_face, detect_landmarks_with_score
from fantasyid_core.geometry.geometry import HeadPose, rotation_from_angles
from fantasyid_core.geometry.head import HeadModel, load_head
from fantasyid_core.geometry.rasterise import Raster, rasterise

Array = npt.NDArray[Any]
Sight = tuple[Array, HeadPose, Array]  # vertices [V, 3], pose, landmarks [468, 3] that the network saw
SIDE = 384  # pixels of a drawn picture
YAWS, PITCHES = (-50.0, -35.0, -20.0, 0.0, 20.0, 35.0, 50.0), (-15.0, 0.0, 15.0)
PEOPLE = 24
FACING = 0.3  # cosine to the line of sight below which a surface point is not evidence
STIFFNESS = 3.0  # weight of the canonical mesh's shape against the evidence
SKIN = np.array([[0.86, 0.67, 0.57], [0.62, 0.43, 0.32], [0.93, 0.78, 0.70]])


def register() -> tuple[Array, Array, Array]:
    """Triangle [468] and barycentric weights [468, 3] of every landmark on the head's skin; offset [468, 3] metres
    from there to where the network sees it."""
    torch.set_num_threads(1)  # with OMP_NUM_THREADS=1, the same bytes each time
    head = load_head()
    canonical = canonical_face()
    evidence, weight, sights = gather_evidence(head, vertex_normals(canonical.vertices, canonical.triangles))
    pairs = mirror_pairs(canonical.vertices)
    evidence, weight = make_symmetric(evidence, weight, pairs)
    target = bend_canonical(canonical.vertices / 100.0, canonical.triangles, evidence, weight)
    skin = np.flatnonzero(np.isin(head.region, [head.region_names.index(name) for name in ("skin", "lips")]))
    nearest, weights = nearest_on_mesh(target, head.base.astype(np.float64)[head.triangles[skin]])
    moved = np.linalg.norm(target - np.einsum("lk,lkd->ld", weights, head.base[head.triangles[skin[nearest]]]), axis=1)
    print(f"seen: {np.mean(weight > 1):.0%} of the landmarks; pulled to the skin by {moved.mean() * 1000:.2f} mm")
    triangle = skin[nearest].astype(np.int32)
    registered = replace(head, landmark_triangle=triangle, landmark_weight=weights.astype(np.float32))
    offset = mean_offset(registered, sights)
    offset = (offset + offset[pairs] * [-1, 1, 1]) / 2
    return triangle.astype(np.uint16), weights.astype(np.float32), offset.astype(np.float32)


def mean_offset(head: HeadModel, sights: list[Sight]) -> Array:
    """[468, 3] metres, head frame: median way from the landmarks on the skin to those the network saw.

    The zero of the network's depth is its own: each sight is first shifted in depth to agree in the median.
    """
    offset = np.zeros((468, 3))
    for _ in range(5):
        ways = []
        for vertices, pose, landmarks in sights:
            camera = (landmarks - [*pose.translation, 0.0]) * [1, -1, 1] / pose.scale
            on_skin = head.landmarks(vertices)
            camera[:, 2] -= np.median(camera[:, 2] - (on_skin + offset) @ pose.rotation[2])
            ways.append(camera @ pose.rotation - on_skin)
        offset = np.median(ways, axis=0)
    return offset


def gather_evidence(head: HeadModel, normals: Array) -> tuple[Array, Array, list[Sight]]:
    """[468, 3] metres on the mean head: the median of where each landmark was seen; [468] how often and how well;
    and every sight. normals: [468, 3] of the canonical mesh.

    Of each landmark only sights from its own side count (else the far cheek is found on the nose before it), and of
    those the third that faced it best: at the outline of a face the network's points slide along the cheek.
    """
    generator = np.random.default_rng(468)
    seen: list[list[Array]] = [[] for _ in range(468)]
    sights: list[Sight] = []
    for person in range(PEOPLE):
        vertices = head.vertices(head.random_shape(generator, 0.7))
        for yaw in YAWS:
            pitch, roll = generator.choice(PITCHES), generator.uniform(-8, 8)
            pose = HeadPose(rotation_from_angles(yaw, pitch, roll), SIDE * 3.0, np.array([SIDE / 2, SIDE * 0.42]))
            picture, raster, normal_z = draw(head, vertices, pose, SKIN[person % len(SKIN)], generator)
            landmarks, score = look(head, vertices, pose, picture)
            if score > 0.9:
                collect(head, landmarks, normals @ pose.rotation[2] > FACING, raster, normal_z, seen)
                sights.append((vertices, pose, landmarks))
    found, weight = np.zeros((468, 3)), np.zeros(468)
    for number, points in enumerate(seen):
        best = sorted(points, key=lambda point: -point[3])[: max(len(points) // 3, 1)]
        if best:
            found[number] = np.median(best, axis=0)[:3]
            weight[number] = sum(point[3] for point in best)
    return found, weight, sights


def draw(
    head: HeadModel, vertices: Array, pose: HeadPose, skin: Array, generator: np.random.Generator
) -> tuple[Array, Raster, Array]:
    """A picture [H, W, 3], its z-buffer, and the z part of the surface normal [H, W]."""
    raster = rasterise(pose.project(vertices), head.triangles, SIDE, SIDE)
    normals = vertex_normals(vertices, head.triangles)
    values = np.concatenate([head.base, normals @ pose.rotation.T], axis=1)
    image = raster.interpolate(head.triangles, values.astype(np.float32))
    rest, normal = image[..., :3], image[..., 3:]
    normal = normal / np.maximum(np.linalg.norm(normal, axis=2, keepdims=True), 1e-12)
    light = np.array([generator.uniform(-0.6, 0.6), 0.4, 0.8])
    shade = 0.45 + 0.6 * np.clip(normal @ (light / np.linalg.norm(light)), 0, 1)
    region = np.where(raster.covered, head.region[raster.triangle_index], -1)
    picture = paint(rest, region, head, skin) * shade[..., None]
    picture[region < 0] = generator.uniform(0.3, 0.8, 3)
    return np.clip(picture, 0, 1).astype(np.float32), raster, normal[..., 2]


def vertex_normals(vertices: Array, triangles: Array) -> Array:
    """[V, 3] unit normals."""
    corners = vertices[triangles].astype(np.float64)
    facets = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(normals, triangles[:, k], facets)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))


def paint(rest: Array, region: Array, head: HeadModel, skin: Array) -> Array:
    """Colours [H, W, 3] by region and by rest position: skin, lips, brows, eye white, iris, pupil, dark hair."""
    names = head.region_names
    picture = np.broadcast_to(skin, rest.shape).copy()
    picture[region == names.index("lips")] = skin * [0.85, 0.55, 0.55]
    picture[region == names.index("mouth closure")] = [0.15, 0.05, 0.05]
    x, y, z = np.moveaxis(rest, 2, 0)
    brow = np.abs(y - 0.0175 - 0.10 * (np.abs(x) - 0.03)) < 0.0035
    picture[brow & (np.abs(x) > 0.012) & (np.abs(x) < 0.05) & (z > 0)] *= 0.35
    picture[(y > 0.085) | ((z < -0.07) & (y > -0.02))] *= 0.25
    eyes = region == names.index("eyes")
    picture[eyes] = [0.95, 0.95, 0.95]
    middle = head.base[-72:].mean(axis=0)  # the left eyeball; the right one mirrors it
    from_axis = np.hypot(np.abs(x) - middle[0], y - middle[1])
    front = eyes & (z > middle[2])
    picture[front & (from_axis < 0.0058)] = [0.35, 0.22, 0.12]
    picture[front & (from_axis < 0.0025)] = [0.03, 0.03, 0.03]
    return picture


def look(head: HeadModel, vertices: Array, pose: HeadPose, picture: Array) -> tuple[Array, float]:
    """The network's landmarks [468, 3] and score; the first square is placed by the head's own keypoints."""
    lips = np.unique(head.triangles[head.region == head.region_names.index("lips")])
    by_x = lips[np.argsort(head.base[lips, 0])]
    points = [vertices[-144:-72].mean(0), vertices[-72:].mean(0), vertices[np.argmax(head.base[:, 2])]]
    points += [vertices[by_x[0]], vertices[by_x[-1]]]
    keypoints = pose.project(np.array(points))[:, :2]
    crop = np.zeros((512, 512, 3), np.float32)
    face = Face(picture, np.array([0, 0, SIDE, SIDE]), keypoints, 1.0, crop, np.eye(2, 3, dtype=np.float32))
    return detect_landmarks_with_score(face)


def collect(
    head: HeadModel, landmarks: Array, near: Array, raster: Raster, normal_z: Array, seen: list[list[Array]]
) -> None:
    """Append to ``seen`` x, y, z of the mean head under each of the landmarks [468, 3], and how it faced the camera."""
    column, row = np.round(landmarks[:, 0]).astype(int), np.round(landmarks[:, 1]).astype(int)
    for number in np.flatnonzero(near):
        r, c = row[number], column[number]
        if not (0 <= r < SIDE and 0 <= c < SIDE) or normal_z[r, c] < FACING or raster.triangle_index[r, c] < 0:
            continue
        triangle = raster.triangle_index[r, c]
        if head.region_names[head.region[triangle]] in ("skin", "lips", "eyes", "mouth closure"):
            point = raster.barycentric[r, c] @ head.base[head.triangles[triangle]]
            seen[number].append(np.append(point, normal_z[r, c]))


def mirror_pairs(vertices: Array) -> Array:
    """[468] the number of each landmark's mirror image."""
    distance = np.linalg.norm((vertices * [-1, 1, 1])[:, None] - vertices[None], axis=2)
    return np.asarray(distance.argmin(axis=1))


def make_symmetric(evidence: Array, weight: Array, pairs: Array) -> tuple[Array, Array]:
    """The mean of each point and its mirrored partner, weighted by how often each was seen."""
    other = evidence[pairs] * [-1, 1, 1]
    total = weight + weight[pairs]
    mean = (evidence * weight[:, None] + other * weight[pairs, None]) / np.maximum(total, 1e-9)[:, None]
    return mean, total / 2


def bend_canonical(canonical: Array, triangles: Array, evidence: Array, weight: Array) -> Array:
    """[468, 3] the canonical mesh bent to the evidence: least squares of distance and of change of edges."""
    trust = np.minimum(weight / (0.25 * weight.max()), 1.0)
    with_one = np.column_stack([canonical, np.ones(len(canonical))])
    affine = np.linalg.lstsq(with_one * trust[:, None], evidence * trust[:, None], rcond=None)[0]
    start = with_one @ affine
    edges = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    laplacian = np.zeros((len(canonical), len(canonical)))
    for a, b in edges:
        stiffness = 0.01 / np.linalg.norm(start[a] - start[b])
        laplacian[[a, b, a, b], [a, b, b, a]] += [stiffness, stiffness, -stiffness, -stiffness]
    system = np.diag(trust) + STIFFNESS * 0.05 * (laplacian @ laplacian)
    return start + np.linalg.solve(system, trust[:, None] * (evidence - start))


def nearest_on_mesh(points: Array, corners: Array) -> tuple[Array, Array]:
    """Triangle [P] and barycentric weights [P, 3] of the surface point nearest to each of ``points`` [P, 3];
    corners: [F, 3, 3]."""
    triangle, weights = [], []
    for point in points:
        candidates = np.argsort(np.linalg.norm(corners.mean(axis=1) - point, axis=1))[:64]
        on = np.array([closest_weights(point, *corners[c]) for c in candidates])
        distance = np.linalg.norm(np.einsum("ck,ckd->cd", on, corners[candidates]) - point, axis=1)
        triangle.append(candidates[distance.argmin()])
        weights.append(on[distance.argmin()])
    return np.array(triangle), np.array(weights)


def closest_weights(point: Array, a: Array, b: Array, c: Array) -> Array:
    """[3] barycentric weights of the point of triangle a b c nearest to ``point``: inside, else on the nearest edge."""
    edges = np.stack([b - a, c - a], axis=1)
    inside = np.linalg.lstsq(edges, point - a, rcond=None)[0]
    if (inside >= 0).all() and inside.sum() <= 1:
        return np.array([1 - inside.sum(), *inside])
    best, weights = np.inf, np.zeros(3)
    corners = np.stack([a, b, c])
    for i, j in ((0, 1), (1, 2), (2, 0)):
        along = corners[j] - corners[i]
        t = float(np.clip((point - corners[i]) @ along / max(float(along @ along), 1e-18), 0, 1))
        distance = float(np.linalg.norm(corners[i] + t * along - point))
        if distance < best:
            best, weights = distance, np.zeros(3)
            weights[i], weights[j] = 1 - t, t
    return weights
