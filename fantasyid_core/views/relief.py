"""The relief: hair, neck, shoulders and background of a photograph as one sheet that hangs on the head.

A head mesh has no hair and no surroundings, and a mask that floats on a frozen picture looks like one. So the whole
crop becomes an elastic sheet in depth: on the head it lies on the mesh, around it it falls back to the depth of the
head's outline, nowhere too steeply; it turns with the head where hair is, less and less further away, and not at all
in the background. Nothing needs to be cut out, so nothing can be cut out wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray, IntArray
from ..geometry.geometry import HeadPose
from ..geometry.rasterise import Raster
from .fill import smoothstep

_NODES = 129  # of the sheet, along each side
_STEEPEST = 1.6  # depth per pixel: a sheet that falls more steeply is torn into streaks when it turns


@dataclass(frozen=True, eq=False)
class Relief:
    """xy: [G, 2] where the photograph shows each node, wide-crop pixels. depth: [G] towards the camera, pixels.
    turning: [G] 1 where the node turns with the head, 0 where it stays. triangles: [T, 3]. G is a square grid."""

    xy: FloatArray
    depth: FloatArray
    turning: FloatArray
    triangles: IntArray

    def depth_at(self, xy: FloatArray) -> FloatArray:
        """[V] the sheet's depth at ``xy`` [V, 2] wide-crop pixels."""
        side = round(len(self.depth) ** 0.5)
        node = xy / (self.xy.max() / (side - 1))
        return _sampled(self.depth.reshape(side, side), node.astype(np.float32))


def make_relief(
    raster: Raster, surface: FloatArray, pose: HeadPose, pivot: FloatArray, keypoints: FloatArray
) -> Relief:
    """The sheet of a wide crop.

    raster: the posed mesh in it [H, H]. surface: [H, H, 3] head-frame position of what it shows. pose: of the head in
    it. pivot: [3] the skull's centre, head frame. keypoints: [5, 3] head frame.
    """
    unit = abs(float(keypoints[:2, 1].mean() - keypoints[3:, 1].mean()))  # metres from eyes to mouth
    chin = keypoints[3:, 1].mean() - 0.75 * unit
    head = raster.covered & (surface[..., 1] > chin)
    size = unit * pose.scale
    back = float(pose.project(pivot[None])[0, 2])
    xy, triangles = _grid(raster.depth.shape[0])
    depth = _sampled(_joined_depth(raster, back, size), xy).reshape(_NODES, _NODES)
    depth = _not_steeper(depth, _STEEPEST * float(xy[1, 0]))
    return Relief(xy, depth.ravel(), _sampled(_turning(head, size), xy), triangles)


def _joined_depth(raster: Raster, back: float, size: float) -> FloatArray:
    """[H, W] the mesh's depth where it is, ``back`` elsewhere, joined smoothly along the outline."""
    depth = np.where(raster.covered, raster.depth, back).astype(np.float32)
    soft = np.asarray(cv2.GaussianBlur(depth, (0, 0), 0.10 * size), np.float32)
    inside = np.asarray(cv2.distanceTransform(raster.covered.astype(np.uint8), cv2.DIST_L2, 5), np.float32)
    trust = smoothstep(0, 0.25 * size, inside)
    return soft + trust * (depth - soft)


def _not_steeper(depth: FloatArray, step: float) -> FloatArray:
    """[N, N] ``depth``, raised wherever a neighbour is nearer by more than ``step`` (diagonally √2 × step)."""
    straight = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    around = np.ones((3, 3), np.uint8)
    for _ in range(depth.shape[0]):
        raised = np.maximum(cv2.dilate(depth, straight) - step, cv2.dilate(depth, around) - step * np.sqrt(2))
        if not (raised > depth + 1e-3).any():
            break
        depth = np.maximum(depth, raised).astype(np.float32)
    return depth


def _turning(head: npt.NDArray[np.bool_], size: float) -> FloatArray:
    """[H, W] 1 on the head and the hair around it, down to 0 in the background."""
    away = np.asarray(cv2.distanceTransform((~head).astype(np.uint8), cv2.DIST_L2, 5), np.float32)
    return 1 - smoothstep(0.1 * size, 1.9 * size, away)


def _sampled(image: FloatArray, xy: FloatArray) -> FloatArray:
    """[G] bilinear values of ``image`` [H, W] at ``xy`` [G, 2], its border going on for ever."""
    x, y = xy[None, :, 0], xy[None, :, 1]
    found = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found[0], np.float32)


def _grid(side: int) -> tuple[FloatArray, IntArray]:
    """Nodes [G, 2] x, y from border to border, and two triangles per cell."""
    line = np.linspace(0, side - 1, _NODES)
    xy = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype(np.float32)
    number = np.arange(len(xy)).reshape(_NODES, _NODES)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    triangles = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, c, b), (b, c, d))])
    return xy, triangles.astype(np.int32)
