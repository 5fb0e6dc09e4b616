"""What a clip shows of its head, token by token: the truth that drawn clips have and photographs do not.

For every cell of the latent grid: how much of it the head covers, which spot of the head is seen there, and how far
that spot lies from the mean head's, by who it is and by the face that is made. On request (``--surface``) the tokens
halfway through the layers must tell it (video_objective.py): an image alone hardly rewards looking at the head's shape.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from ..geometry.head import load_head
from .clips import Clip, keypoints
from .draw_frames import PIVOT, project, rotate
from .frame_rasterise import rasterise_frames

COVER, WHERE, SHAPE, EXPRESSION = slice(0, 1), slice(1, 4), slice(4, 7), slice(7, 10)
CHANNELS = 10
_PER_CELL = 2  # points per cell and side that are looked at
LATENT_FRAME = 4  #: frames that a latent frame holds, behind the first one's
_UNITS = (0.08, 0.004, 0.0015)  #: metres that count as 1: where, shape, expression
_DISTANCE = 1.3  # metres to the camera; clips do not tell theirs, and a cell is far larger than the difference


def surface_map(clip: Clip, matrix: npt.NDArray[np.float64], cells: int) -> npt.NDArray[np.float16]:
    """[F, 10, cells, cells] of a clip of 4(F − 1) + 1 frames, on the grid of its latents.

    matrix: [2, 3] the clip's pixels → those that are encoded, moved and zoomed alone (clips.close_up_matrix). Channels:
    cover 0..1; then the means over what is covered, in the head's own axes and _UNITS: place on the mean head, what
    the shape adds, what the expression adds. 0 where there is no head. The neck is taken to turn with the head.
    """
    head, frames = load_head(), len(clip.frames)
    shape = np.tensordot(clip.shape, head.shape_basis, 1)[:, None]  # (V, 1, 3)
    face = np.einsum("te,evd->vtd", clip.expression, head.expression_basis, optimize=True)  # (V, T, 3)
    place = np.broadcast_to(head.base[:, None], face.shape)
    posed = rotate(clip.angles, (place + shape + face - PIVOT).transpose(2, 0, 1)) + PIVOT[:, None, None]
    affine = _filmed(posed, clip.keypoints, matrix, cells * _PER_CELL / clip.frames.shape[1])
    points = project(posed, affine, np.full(frames, _DISTANCE, np.float32))
    one_sided = np.zeros(len(head.triangles), np.bool_)
    seen = rasterise_frames(points, head.triangles, one_sided, cells * _PER_CELL)
    values = [part / unit for part, unit in zip((place, np.broadcast_to(shape, face.shape), face), _UNITS, strict=True)]
    stacked = np.concatenate(values, axis=2, dtype=np.float32).reshape(-1, CHANNELS - 1)  # (V·T, 9)
    canvas = np.zeros((frames * (cells * _PER_CELL) ** 2, CHANNELS), np.float32)
    canvas[seen.pixel, 0] = 1
    canvas[seen.pixel, 1:] = seen.interpolate(stacked)
    return _averaged(canvas.reshape(frames, cells, _PER_CELL, cells, _PER_CELL, CHANNELS).mean(axis=(2, 4)))


def _filmed(posed: FloatArray, points: FloatArray, matrix: npt.NDArray[np.float64], finer: float) -> FloatArray:
    """[T, 2, 3] metres before the camera → pixels of the fine grid: the upright camera that saw ``points``."""
    frames = len(points)
    metres = np.tile(np.eye(2, 3, dtype=np.float32), (frames, 1, 1))
    flat = keypoints(posed, metres, np.full(frames, _DISTANCE, np.float32))
    flat_mean, mean = flat.mean(axis=1, keepdims=True), points.mean(axis=1, keepdims=True)
    scale = ((flat - flat_mean) * (points - mean)).sum(axis=(1, 2)) / np.square(flat - flat_mean).sum(axis=(1, 2))
    shift = mean[:, 0] - scale[:, None] * flat_mean[:, 0]
    affine = np.zeros((frames, 2, 3), np.float32)
    affine[:, 0, 0] = affine[:, 1, 1] = scale * matrix[0, 0] * finer
    affine[:, :, 2] = (shift * matrix[0, 0] + matrix[:, 2] + 0.5) * finer - 0.5
    return affine


def _averaged(cells: FloatArray) -> npt.NDArray[np.float16]:
    """[T, H, W, 10] sums over a frame's cells → [F, 10, H, W]: latent frames, values as means over what is covered."""
    frames = np.concatenate([cells[:1], cells[1:].reshape(-1, LATENT_FRAME, *cells.shape[1:]).mean(axis=1)])
    frames[..., 1:] /= np.maximum(frames[..., :1], 1e-6)
    return frames.transpose(0, 3, 1, 2).astype(np.float16)
