"""How a synthetic head moves: one action of the head, one of the face, and what every living face does besides.

An action is a key; its words are in captions.py. "Left" and "right" are the picture's, as the viewer sees them: a head
that turns left points its nose to the picture's left (yaw below 0). Curves are minimum-jerk, as people move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import FloatArray
from .anatomy import anatomy

Generator = np.random.Generator

FPS = 8.0  #: frames per second of every clip
HEAD_ACTIONS = (
    "still", "turn left", "turn right", "look up", "look down", "tilt left", "tilt right", "nod", "shake",
)  # fmt: skip
_HEAD_ODDS = (0.16, 0.17, 0.17, 0.09, 0.09, 0.06, 0.06, 0.10, 0.10)
FACE_ACTIONS = (
    "calm", "smile", "laugh", "open mouth", "speak", "raise brows", "frown", "surprise", "close eyes", "pucker", "sad",
    "glance left", "glance right",
)  # fmt: skip
_FACE_ODDS = (0.13, 0.16, 0.08, 0.12, 0.15, 0.06, 0.06, 0.06, 0.06, 0.04, 0.04, 0.02, 0.02)
SPEEDS = ("slowly", "", "quickly")
MAX_YAW, MAX_PITCH, MAX_ROLL = 60.0, 30.0, 22.0

#: ARKit weights of a face that does it fully; "*" stands for Left and Right
_FACES: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile*": 0.85, "cheekSquint*": 0.5, "eyeSquint*": 0.3, "mouthDimple*": 0.25, "mouthUpperUp*": 0.15},
    "laugh": {"mouthSmile*": 0.9, "jawOpen": 0.42, "cheekSquint*": 0.7, "eyeSquint*": 0.5, "mouthUpperUp*": 0.45,
              "mouthLowerDown*": 0.3},
    "open mouth": {"jawOpen": 0.75, "mouthLowerDown*": 0.2, "mouthUpperUp*": 0.1},
    "raise brows": {"browInnerUp": 0.9, "browOuterUp*": 0.9, "eyeWide*": 0.35},
    "frown": {"browDown*": 0.95, "eyeSquint*": 0.45, "mouthFrown*": 0.4, "noseSneer*": 0.3, "mouthPress*": 0.3},
    "surprise": {"browInnerUp": 0.8, "browOuterUp*": 0.9, "eyeWide*": 0.9, "jawOpen": 0.5, "mouthFunnel": 0.3},
    "close eyes": {"eyeBlink*": 1.0},
    "pucker": {"mouthPucker": 0.95, "mouthFunnel": 0.25, "cheekPuff": 0.1},
    "sad": {"browInnerUp": 0.8, "mouthFrown*": 0.75, "mouthShrugLower": 0.5, "eyeLookDown*": 0.25, "eyeSquint*": 0.2},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Motion:
    """head_action, face_action, speed: keys. angles: [T, 3] yaw, pitch, roll in degrees (signs: HeadPose); shoulders:
    [T, 3] of the body; expression: [T, 52] ARKit weights 0..1."""

    head_action: str
    face_action: str
    speed: str
    angles: FloatArray
    shoulders: FloatArray
    expression: FloatArray


def draw_motion(
    generator: Generator, frames: int, head_action: str | None = None, face_action: str | None = None
) -> Motion:
    """What a person does for ``frames`` frames; the actions are drawn where they are not given."""
    head = head_action or HEAD_ACTIONS[generator.choice(len(HEAD_ACTIONS), p=_HEAD_ODDS)]
    face = face_action or FACE_ACTIONS[generator.choice(len(FACE_ACTIONS), p=_FACE_ODDS)]
    speed = SPEEDS[generator.choice(3, p=(0.30, 0.55, 0.15))]
    seconds = np.arange(frames) / FPS
    angles = _head_angles(generator, seconds, head, speed)
    expression = _expression(generator, seconds, face, angles)
    body = 0.25 * (angles - angles[:1]) * np.array([1, 0.1, 0.2]) + generator.normal(0, (8, 0, 1.5))
    return Motion(head, face, speed, angles.astype(np.float32), body.astype(np.float32), expression)


def draw_views(generator: Generator, count: int) -> Motion:
    """``count`` single pictures of a person from sides that differ, with faces as they happen to be."""
    spread = np.linspace(-1, 1, count) if count > 1 else np.zeros(1)
    yaw = 42 * generator.permutation(spread) + generator.normal(0, 9, count)
    angles = np.column_stack([yaw, generator.normal(0, 9, count), generator.normal(0, 6, count)])
    faces = [
        _expression(
            generator,
            np.arange(9) / FPS,
            _posing(generator),
            np.zeros((9, 3)),
            blinks=False,
        )[generator.integers(9)]
        for _ in range(count)
    ]
    body = 0.35 * angles * np.array([1, 0, 0])
    return Motion(
        "still",
        "calm",
        "",
        _limited(angles).astype(np.float32),
        body.astype(np.float32),
        np.stack(faces).astype(np.float32),
    )


def _posing(generator: Generator) -> str:
    """For photographs people smile more than they do else."""
    if generator.random() < 0.3:
        return "laugh" if generator.random() < 0.5 else "smile"
    return FACE_ACTIONS[generator.choice(len(FACE_ACTIONS), p=_FACE_ODDS)]


def _limited(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    limit = np.array([MAX_YAW, MAX_PITCH, MAX_ROLL])
    return np.clip(angles, -limit, limit)


def _ease(seconds: npt.NDArray, start: float, length: float) -> npt.NDArray[np.float64]:
    """0 before ``start``, 1 from ``start + length`` on, minimum jerk between."""
    share = np.clip((seconds - start) / max(length, 1e-3), 0, 1)
    return share**3 * (10 - 15 * share + 6 * share**2)


def _wander(generator: Generator, seconds: npt.NDArray, size: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """[T, n] slow drift of standard deviation ``size`` [n] degrees: nobody holds quite still."""
    size = np.atleast_1d(np.asarray(size, float))
    total = np.zeros((len(seconds), len(size)))
    for frequency in (0.17, 0.41, 0.83):
        phase = generator.uniform(0, 2 * np.pi, len(size))
        weight = generator.normal(0, 1, len(size)) / (1 + 2 * frequency)
        total += weight * np.sin(2 * np.pi * frequency * seconds[:, None] + phase)
    return total * size


def _head_angles(generator: Generator, seconds: npt.NDArray, action: str, speed: str) -> npt.NDArray[np.float64]:
    base = generator.normal(0, (9, 4, 3))
    length = {"slowly": 1.9, "": 1.5, "quickly": 0.9}[speed] * generator.uniform(0.9, 1.1)
    start = generator.uniform(0, max(min(0.6, seconds[-1] - length), 0.02)) if len(seconds) > 1 else 0.0
    move = _ease(seconds, start, length)[:, None]
    turn = generator.uniform(18, 34)
    delta = np.zeros((len(seconds), 3))
    if action in ("turn left", "turn right"):
        sign = -1 if action == "turn left" else 1
        base[0] -= sign * generator.uniform(0, 10)  # room to turn
        delta = move * np.array([sign * turn, 0, 0]) + move * generator.normal(0, (0, 3, 2))
    elif action in ("look up", "look down"):
        delta = move * np.array([0, (1 if action == "look up" else -1) * generator.uniform(12, 22), 0])
    elif action in ("tilt left", "tilt right"):
        delta = move * np.array([0, 0, (-1 if action == "tilt left" else 1) * generator.uniform(10, 18)])
    elif action in ("nod", "shake"):
        rate = {"slowly": 0.5, "": 0.8, "quickly": 1.3}[speed]
        swing = np.sin(2 * np.pi * rate * np.clip(seconds - start, 0, None)) * _ease(seconds, start, 0.5)
        axis = np.array([0, 9, 0]) if action == "nod" else np.array([13, 0, 0])
        delta = swing[:, None] * axis * generator.uniform(0.7, 1.25)
    return _limited(base + delta + _wander(generator, seconds, (1.2, 0.8, 0.6)))


def _columns(name: str) -> list[int]:
    names = anatomy().head.expression_names
    sides = ("Left", "Right") if name.endswith("*") else ("",)
    return [names.index(name.rstrip("*") + side) for side in sides]


def _expression(
    generator: Generator, seconds: npt.NDArray, action: str, angles: npt.NDArray[np.float64], blinks: bool = True
) -> FloatArray:
    """[T, 52] the action, and under it a resting face, blinks, and eyes that look where they will."""
    weights = _resting(generator, seconds)
    if action == "speak":
        _speak(generator, seconds, weights)
    elif action in _FACES:
        strength = generator.uniform(0.75, 1.1)
        length, start = generator.uniform(0.5, 1.1), generator.uniform(0, 0.55)
        if generator.random() < 0.25:
            start, length = -1.0, 0.5  # it does so from the beginning
        curve = _ease(seconds, start, length) * strength
        for name, weight in _FACES[action].items():
            for column in _columns(name):
                weights[:, column] = weights[:, column] * (1 - 0.6 * np.clip(curve, 0, 1)) + weight * curve
    if blinks and action != "close eyes":
        _blink(generator, seconds, weights)
    _look(generator, seconds, action, angles, weights)
    return np.clip(weights, 0, 1).astype(np.float32)


def _resting(generator: Generator, seconds: npt.NDArray) -> npt.NDArray[np.float64]:
    """[T, 52] small weights of a calm face, a little different on its two sides."""
    weights = np.zeros((len(seconds), len(anatomy().head.expression_names)))
    habits = (
        ("mouthSmile*", 0.14), ("browInnerUp", 0.10), ("browDown*", 0.12), ("eyeSquint*", 0.15), ("mouthPress*", 0.12),
        ("browOuterUp*", 0.10), ("jawOpen", 0.03), ("mouthFrown*", 0.06), ("mouthShrugLower", 0.08),
    )  # fmt: skip
    for name, size in habits:
        level = abs(generator.normal(0, size))
        for column in _columns(name):
            drift = 1 + 0.3 * _wander(generator, seconds, 1.0)[:, 0]
            weights[:, column] = level * generator.uniform(0.7, 1.2) * drift
    return np.clip(weights, 0, 0.5)


def _speak(generator: Generator, seconds: npt.NDArray, weights: npt.NDArray[np.float64]) -> None:
    """Syllables at some two a second, each with a mouth shape of its own."""
    moment = generator.uniform(0, 0.15)
    while moment < seconds[-1] + 0.3:
        length = generator.uniform(0.32, 0.56)
        pulse = np.exp(-(((seconds - moment - length / 2) / (0.36 * length)) ** 2))
        size = generator.uniform(0.35, 1.0)
        weights[:, _columns("jawOpen")[0]] += 0.48 * size * pulse
        shape = ("mouthFunnel", "mouthPucker", "mouthStretch*", "mouthLowerDown*", "mouthUpperUp*", "mouthRollLower")
        for column in _columns(shape[generator.integers(len(shape))]):
            weights[:, column] += generator.uniform(0.25, 0.65) * pulse
        moment += length * generator.uniform(0.85, 1.5)
    weights[:, _columns("browInnerUp")[0]] += 0.25 * np.clip(_wander(generator, seconds, 1.0)[:, 0], 0, 1)


def _blink(generator: Generator, seconds: npt.NDArray, weights: npt.NDArray[np.float64]) -> None:
    """About one in three seconds; 0.3 s long."""
    moment = generator.exponential(2.6) - 0.2
    while moment < seconds[-1] + 0.15:
        shut = np.clip(1.35 - np.abs(seconds - moment) / 0.14, 0, 1)
        for column in _columns("eyeBlink*"):
            weights[:, column] = np.maximum(weights[:, column], shut)
        moment += 0.5 + generator.exponential(2.6)


def _look(
    generator: Generator, seconds: npt.NDArray, action: str, angles: npt.NDArray[np.float64], weights: npt.NDArray
) -> None:
    """Gaze: mostly at the camera for as long as the eyes reach, else with the head; jumps now and then."""
    hold = generator.uniform(0.1, 0.9)
    aim = np.cumsum(generator.normal(0, 5, (len(seconds), 2)) * (generator.random((len(seconds), 1)) < 0.10), axis=0)
    aim[:, 0] -= hold * np.clip(angles[:, 0], -28, 28)
    aim[:, 1] -= hold * np.clip(angles[:, 1], -18, 18)
    if action in ("glance left", "glance right"):
        move = _ease(seconds, generator.uniform(0.1, 0.6), 0.25)
        aim[:, 0] = aim[:, 0] * (1 - move) + (-30 if action == "glance left" else 30) * move
    across, up = np.clip(aim[:, 0] / 32, -1, 1), np.clip(aim[:, 1] / 25, -1, 1)
    for name, value in (
        ("eyeLookOutLeft", across), ("eyeLookInRight", across), ("eyeLookInLeft", -across),
        ("eyeLookOutRight", -across),
    ):  # fmt: skip
        weights[:, _columns(name)[0]] = np.clip(value, 0, 1)
    for name, value in (("eyeLookUp*", up), ("eyeLookDown*", -up)):
        for column in _columns(name):
            weights[:, column] = np.clip(np.maximum(weights[:, column], value), 0, 1)
