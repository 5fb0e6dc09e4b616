"""What the example workflows have in common: colours, the note, the model with its prompts, the way to a file."""

from __future__ import annotations

from collections.abc import Sequence

from workflow_format import Node

BLUE, GREEN, VIOLET, AMBER, RED, GREY = "#3f789e", "#3f7a5a", "#6a5a9e", "#9a7a3a", "#9e4f4f", "#555b66"
TOP = 0  #: y of the first row of nodes
HEAD = 90  #: what a group's title takes above its nodes

NOTE = """## {title}

{text}

**Run** it as it is: the example photograph and the built-in mini model come with the pack, so nothing is downloaded.
The mini makes small videos (64×64) in seconds and learned from drawn heads alone: good for trying what a node does.
For a likeness put the public checkpoint into `models/fantasyid`, choose it in *Load FantasyID Model*, and raise
the guidance from the mini's 3 to 6, with *reference_guidance* and *skip_layer_guidance* at 0.
"""

GUIDANCE = 3.0  #: above it the mini's colours and features coarsen
FOR_THE_MINI = {
    "guidance_scale": GUIDANCE,
    "reference_guidance": 1.0,
    "skip_layer_guidance": 0.7,
}  #: of the Layer-Adaptive Sampler


Link = tuple[str, str]  #: node key, output name


def note(title: str, text: str) -> Node:
    """The note above the workflow."""
    return Node("MarkdownNote", (0, -350), (760, 220), {"text": NOTE.format(title=title, text=text)}, "Read me")


def prompt_nodes(prompt: str, corners: Sequence[tuple[int, int]]) -> dict[str, Node]:
    """``model``, ``positive`` and ``negative`` at three places."""
    model = ("model", "model")
    encoded = {"model": model, "text": prompt}
    return {
        "model": Node("FantasyIDLoadModel", corners[0], (340, 200), {}),
        "positive": Node("FantasyIDTextEncode", corners[1], (340, 240), encoded, "What happens"),
        "negative": Node("FantasyIDTextEncode", corners[2], (340, 180), {"model": model}, "What must not happen"),
    }


def video_nodes(left: int, **inputs: Link) -> dict[str, Node]:
    """``sampler`` with these further inputs, decoder and file, 840 wide and 900 high."""
    model = ("model", "model")
    texts = {"positive": ("positive", "conditioning"), "negative": ("negative", "conditioning")}
    sampled = {"model": model, **inputs, **texts, **FOR_THE_MINI}
    return {
        "sampler": Node("FantasyIDSampler", (left, TOP), (420, 780), sampled),
        **file_nodes(left, ("sampler", "latent")),
    }


def file_nodes(left: int, latent: Link) -> dict[str, Node]:
    """``frames``, ``video`` and ``save``, below and to the right of a sampler at ``left``."""
    decoded = {"model": ("model", "model"), "latent": latent}
    made = {"images": ("frames", "images"), "fps": ("frames", "fps")}
    saved = {"video": ("video", "VIDEO"), "filename_prefix": "fantasyid/video"}
    return {
        "frames": Node("FantasyIDDecode", (left, 850), (420, 110), decoded),
        "video": Node("CreateVideo", (left + 480, TOP), (360, 110), made),
        "save": Node("SaveVideo", (left + 480, 170), (360, 480), saved),
    }
