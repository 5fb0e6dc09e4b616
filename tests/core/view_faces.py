"""Photographs of a painted egg-shaped head whose true look from every side is known."""

from __future__ import annotations

import numpy as np

from fantasyid_core.faces.align import alignment_matrix, warp_crop
from fantasyid_core.faces.face import Face
from fantasyid_core.geometry.geometry import FaceGeometry, HeadPose, rotation_from_angles
from fantasyid_core.geometry.rasterise import rasterise

SIDE = 420
BACKGROUND = np.array([0.55, 0.6, 0.7], np.float32)
RADII = np.array([0.075, 0.105, 0.09])


def egg() -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] metres and triangles [F, 3] of the head."""
    columns, rows = 96, 65
    angle, tilt = np.meshgrid(np.linspace(0, 2 * np.pi, columns, endpoint=False), np.linspace(0, np.pi, rows))
    ball = np.stack([np.cos(angle) * np.sin(tilt), np.cos(tilt), np.sin(angle) * np.sin(tilt)], axis=-1)
    grid = np.arange(columns * rows).reshape(rows, columns)
    a, b, c, d = grid[:-1], np.roll(grid, -1, 1)[:-1], grid[1:], np.roll(grid, -1, 1)[1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (b, d, c))])
    return (ball.reshape(-1, 3) * RADII).astype(np.float32), triangles.astype(np.int32)


def paint(vertices: np.ndarray, symmetric: bool) -> np.ndarray:
    """[V, 3] colours: soft stripes; without symmetry one half is much redder than the other."""
    x = np.abs(vertices[:, 0]) if symmetric else vertices[:, 0]
    red = 0.55 + 0.25 * np.sin(60 * vertices[:, 1]) + (0 if symmetric else 2.0) * x
    green = 0.45 + 0.25 * np.sin(90 * x + 1)
    blue = 0.40 + 0.20 * np.cos(50 * vertices[:, 1] + 40 * x)
    return np.stack([red, green, blue], axis=1).clip(0, 1).astype(np.float32)


def draw(pose: HeadPose, side: int, symmetric: bool = True) -> np.ndarray:
    """[S, S, 3] the head as it truly looks under ``pose``."""
    vertices, triangles = egg()
    raster = rasterise(pose.project(vertices), triangles, side, side)
    colours = raster.interpolate(triangles, paint(vertices, symmetric))
    return np.where(raster.covered[..., None], colours, BACKGROUND)


def keypoints() -> np.ndarray:
    """[5, 3] eyes, nose, mouth corners on the head, image-left first, head frame."""
    xy = np.array([[-0.032, 0.028], [0.032, 0.028], [0, -0.008], [-0.025, -0.04], [0.025, -0.04]])
    z = RADII[2] * np.sqrt(1 - (xy[:, 0] / RADII[0]) ** 2 - (xy[:, 1] / RADII[1]) ** 2)
    return np.column_stack([xy, z]).astype(np.float32)


def photographed(
    yaw: float = 0, pitch: float = 0, roll: float = 0, symmetric: bool = True
) -> tuple[Face, FaceGeometry]:
    """A photograph of the head under these angles, and the exact geometry."""
    vertices, triangles = egg()
    pose = HeadPose(rotation_from_angles(yaw, pitch, roll), 1500.0, np.array([205.0, 215.0]))
    photograph = draw(pose, SIDE, symmetric)
    points = pose.project(keypoints())[:, :2]
    matrix = alignment_matrix(points)
    box = np.array([90, 60, 320, 370], np.float32)
    face = Face(photograph, box, points, 1.0, warp_crop(photograph, matrix), matrix.astype(np.float32))
    return face, FaceGeometry(vertices, triangles, "free", pose)
