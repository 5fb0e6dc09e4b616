"""The workflow that makes several videos and keeps the best: five stages in short, three seeds, a score, a choice."""

from __future__ import annotations

from workflow_format import Group, Node
from workflow_parts import AMBER, BLUE, FOR_THE_MINI, GREY, HEAD, RED, TOP, note, prompt_nodes

PROMPT = "A woman in an orange space suit smiles and slowly turns her head to the left, bright studio light"
TEXT = (
    "*Several Seeds* makes everything behind it run once per seed. *Score* says how like the photograph each video is, "
    "and *Keep Best* lets only the best one through. Connect `motion` instead of `likeness` to keep the liveliest."
)
BOTTOM = 1140


def keep_best() -> dict[str, Node]:
    """All nodes by key."""
    model, photo, fps = ("model", "model"), ("photo", "IMAGE"), ("frames", "fps")
    seen = {"face": ("faces", "face"), "geometry": ("geometry", "geometry")}
    fused = {"model": model, "views": ("views", "views"), "geometry": ("geometry", "geometry")}
    texts = {"positive": ("positive", "conditioning"), "negative": ("negative", "conditioning")}
    sampled = {"model": model, **texts, "seed": ("seeds", "seed"), "identity": ("identity", "identity")}
    sampled |= FOR_THE_MINI
    frames, best = ("frames", "images"), ("best", "best_images")
    scored = {"images": frames, "photograph": photo, "fps": fps}
    chosen = {"images": frames, "score": ("score", "likeness"), "seeds": ("seeds", "seed")}
    saved = {"video": ("video", "VIDEO"), "filename_prefix": "fantasyid/best"}
    return {
        "note": note("The best of three", TEXT),
        "photo": Node("LoadImage", (0, TOP), (340, 430), {"image": "fantasyid_astronaut.png"}, "Your photograph"),
        "faces": Node("FantasyIDDetectFaces", (400, TOP), (340, 310), {"image": photo}),
        "geometry": Node("FantasyIDExtractGeometry", (400, 370), (340, 160), {"face": ("faces", "face")}),
        "views": Node("FantasyIDAugmentViews", (800, TOP), (420, 370), seen),
        "identity": Node("FantasyIDFuseFeatures", (800, 430), (420, 200), fused),
        **prompt_nodes(PROMPT, [(0, 560), (400, 560), (0, 820)]),
        "seeds": Node("FantasyIDSeeds", (1320, TOP), (420, 120), {"count": 3}),
        "sampler": Node("FantasyIDSampler", (1320, 170), (420, 780), sampled),
        "frames": Node("FantasyIDDecode", (1320, 1010), (420, 110), {"model": model, "latent": ("sampler", "latent")}),
        "score": Node("FantasyIDScore", (1840, TOP), (420, 260), scored),
        "plot": Node("PreviewImage", (1840, 320), (420, 320), {"images": ("score", "plot")}, "How each one did"),
        "best": Node("FantasyIDKeepBest", (1840, 700), (420, 160), chosen),
        "video": Node("CreateVideo", (2360, TOP), (360, 110), {"images": best, "fps": 8.0}),
        "save": Node("SaveVideo", (2360, 170), (360, 480), saved),
    }


def keep_best_groups() -> list[Group]:
    """The frames around them."""
    height = BOTTOM + HEAD
    return [
        Group("The photograph, the prompt, the identity", (-20, TOP - HEAD, 1260, height), BLUE),
        Group("A video for every seed", (1300, TOP - HEAD, 460, height), GREY),
        Group("How good is each", (1820, TOP - HEAD, 460, height), AMBER),
        Group("The best one", (2340, TOP - HEAD, 400, height), RED),
    ]
