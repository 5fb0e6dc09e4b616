"""What leaves the second room: the 3D shape of a face and how it stood before the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import FloatArray, IntArray, checked_array
from ..errors import InputError

FLAME_TOPOLOGY = "flame-5023"  #: FLAME's 5023 vertices and 9976 triangles; what the release checkpoint reads
FREE_TOPOLOGY = "free"  #: a mesh of unknown topology: it can be shown and rendered, not fed to a model


@dataclass(frozen=True, eq=False)
class HeadPose:
    """Weak-perspective camera: where head-frame vertices (metres) fall in the photograph (pixels).

    rotation: [3, 3] proper rotation, head frame → camera frame (x right in the image, y up, z towards the camera).
    scale: pixels per metre. translation: [2] pixel position of the head frame's origin.
    """

    rotation: FloatArray
    scale: float
    translation: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotation", checked_array("The head rotation", self.rotation, (3, 3)))
        object.__setattr__(self, "translation", checked_array("The head translation", self.translation, (2,)))
        if not (self.scale > 0 and np.isfinite(self.scale)):
            raise InputError(f"The head pose needs a scale above 0 pixels per metre, not {self.scale:g}.")

    def project(self, vertices: FloatArray) -> FloatArray:
        """[V, 3] head-frame metres → [V, 3]: x right, y **down**, both in pixels; z towards the camera, in pixels."""
        camera = vertices @ self.rotation.T * np.float32(self.scale)
        return np.stack(
            [camera[:, 0] + self.translation[0], self.translation[1] - camera[:, 1], camera[:, 2]], axis=1
        ).astype(np.float32)

    @property
    def yaw_pitch_roll(self) -> tuple[float, float, float]:
        """Degrees. Yaw > 0: the nose points to the image's right; pitch > 0: up; roll > 0: clockwise in the image."""
        r = self.rotation.astype(np.float64)
        yaw = np.degrees(np.arctan2(r[0, 2], r[2, 2]))
        pitch = np.degrees(np.arcsin(np.clip(r[1, 2], -1.0, 1.0)))
        roll = np.degrees(np.arctan2(-r[1, 0], r[1, 1]))
        return float(yaw), float(pitch), float(roll)


def rotation_from_angles(yaw: float, pitch: float, roll: float) -> FloatArray:
    """[3, 3] rotation whose ``HeadPose.yaw_pitch_roll`` is the given degrees (|pitch| < 90).

    The nose (0, 0, 1) goes to (sin yaw · cos pitch, sin pitch, cos yaw · cos pitch): yaw about the vertical after
    pitch about the ear axis, after roll about the line of sight.
    """
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), np.sin(r), 0], [-np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (about_y @ about_x @ about_z).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FaceGeometry:
    """A face mesh.

    vertices: [V, 3] metres, head frame: +x towards the image's right when the face looks at the camera (the person's
    left), +y up, +z out of the face. triangles: [F, 3] vertex indices, counter-clockwise seen from outside.
    topology: "flame-5023", a topology of ours, or "free". pose: how the head stood in the photograph, None when there
    is no photograph. shape, expression: coefficients [S], [E] of the head model that made it, None when unknown.
    source: one phrase for the user, e.g. "licence-free head fitted to 468 landmarks".
    """

    vertices: FloatArray
    triangles: IntArray
    topology: str
    pose: HeadPose | None = None
    shape: FloatArray | None = None
    expression: FloatArray | None = None
    source: str = ""

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "vertices", checked_array("The mesh's vertices", self.vertices, (None, 3)))
        set_(self, "triangles", checked_array("The mesh's triangles", self.triangles, (None, 3), np.int32))
        if self.triangles.min() < 0 or self.triangles.max() >= len(self.vertices):
            raise InputError("The mesh's triangles point at vertices that do not exist; export the mesh again.")
        for name in ("shape", "expression"):
            value = getattr(self, name)
            if value is not None:
                set_(self, name, checked_array(f"The {name} coefficients", value, (None,)))
