"""Inputs that the Layer-Adaptive Sampler and Core Model have in common, in the same words."""

from __future__ import annotations

from comfy_api.latest import io

from . import sockets


def size_inputs() -> list[io.Input]:
    """``frames``, ``width`` and ``height`` of a video; 0 stands for the model's own (see ``sampling.asked_size``)."""
    return [
        io.Int.Input(
            "frames",
            default=0,
            min=0,
            max=1025,
            step=1,
            tooltip="Number of frames: a multiple of 8, plus 1 (17, 49 …). 0 takes the model's own: 49 for the "
            "public checkpoint, about 6 seconds at 8 per second.",
        ),
        _side("width", "Width", 720),
        _side("height", "Height", 480),
    ]


def who_inputs() -> list[io.Input]:
    """Sockets ``identity``, ``people`` and ``strength``: who is in the video, and how strongly."""
    return [
        sockets.Identity.Input(
            "identity",
            optional=True,
            tooltip="Who it is, from Fuse Features or Load Identity. Without it: plain text-to-video.",
        ),
        sockets.People.Input(
            "people",
            optional=True,
            tooltip="Several people with a region each, from the last Add Person, in place of one identity.",
        ),
        sockets.Strength.Input(
            "strength",
            optional=True,
            tooltip="From Layer Strength: strength per layer and part of the steps, times identity_strength.",
        ),
    ]


def _side(name: str, title: str, released: int) -> io.Int.Input:
    tooltip = (
        f"{title} in pixels, divisible by 16. 0 takes the model's own: {released} for the public checkpoint, which "
        "makes no other."
    )
    return io.Int.Input(name, default=0, min=0, max=4096, step=16, tooltip=tooltip)
