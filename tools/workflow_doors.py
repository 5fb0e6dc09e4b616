"""One workflow for every door: a crop, views, an identity from elsewhere, ComfyUI's own sampler, two guidances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from workflow_format import Group, Node
from workflow_parts import (
    AMBER,
    BLUE,
    FOR_THE_MINI,
    GREEN,
    GREY,
    GUIDANCE,
    HEAD,
    RED,
    TOP,
    VIOLET,
    Link,
    file_nodes,
    note,
    prompt_nodes,
    video_nodes,
)

PROMPT = "A woman in an orange space suit smiles and slowly turns her head to the left, bright studio light"
BOTTOM = 1250  #: of the groups
MODEL, FACE, GEOMETRY = ("model", "model"), ("faces", "face"), ("geometry", "geometry")
VIEWS, IDENTITY = ("views", "views"), ("identity", "identity")
#: x of the columns: the photograph with the prompt, three stages, the video
INPUT, FIRST, SECOND, VIDEO = 0, 400, 800, 1280
_LATER = VIDEO + 960  #: a second video beside the first

TEXTS = {
    "face_from_crop": (
        "A face that another node has found",
        "Here ComfyUI's own *ImageCrop* stands for any pack that finds or cuts out a face. *Face from Crop* takes its "
        "picture, and if you have one its mask, in place of *Detect Faces*; everything behind it is the same.",
    ),
    "views_from_images": (
        "Views without a mesh",
        "Three pictures of one person, as any pack may give them in a batch, become the views: no 3D shape is needed "
        "for them. The first one is the reference; *combine* is `mean`, so that all of them count.",
    ),
    "identity_file": (
        "An identity as a file",
        "The face is detected and fused once and kept with *Save Identity*; the card shows what the file holds. For "
        "later videos the right half is enough: select it, press Ctrl+M to switch it on, press R, choose your file.",
    ),
    "core_ksampler": (
        "ComfyUI's own sampler",
        "*Core Model* hands the model with the identity in it to *KSampler*. Put LoRA loaders and model patches in "
        "between. Sampler `euler` or `ddim` with scheduler `simple`.",
    ),
    "identity_guidance": (
        "Identity guidance, off and on",
        "The same seed twice: once as the checkpoint was released, once with *identity_guidance* at 2, which adds "
        "more of what the identity changes. One more model call per step. Compare the two videos.",
    ),
    "skip_layer_guidance": (
        "Skip-layer guidance, off and on",
        "The same seed twice: once as the model is, once with *skip_layer_guidance* at 0.7, away from what it makes "
        "when one layer does not look around. One more model call per step. Watch the faces in the turn.",
    ),
    "two_branches": (
        "2D alone, 3D alone, both",
        "What comes from the photograph (2D tokens) and what comes from the head's shape (3D tokens), and both as in "
        "the paper: the same seed three times. *branches* in *Fuse Features* chooses.",
    ),
}


def face_from_crop() -> dict[str, Node]:
    """All nodes by key."""
    nodes = _start("face_from_crop") | {
        "cut": Node("ImageCrop", (FIRST, TOP), (340, 150), _SQUARE | {"image": ("photo", "IMAGE")}, "Any other pack"),
        "faces": Node("FantasyIDFaceFromCrop", (FIRST, 210), (340, 80), {"image": ("cut", "IMAGE")}),
        "crop": Node("PreviewImage", (FIRST, 350), (340, 400), {"images": ("faces", "crop")}, "The aligned crop"),
    }
    return nodes | _stages() | video_nodes(VIDEO, identity=IDENTITY)


def views_from_images() -> dict[str, Node]:
    """All nodes by key."""
    more, seen = ("fantasyid_astronaut_close.jpg", "fantasyid_astronaut_warm.jpg"), {"images": ("views", "sheet")}
    batch = {"image1": ("photo", "IMAGE"), "image2": ("photo2", "IMAGE")}
    fused = {"model": MODEL, "views": VIEWS, "geometry": GEOMETRY, "combine": "mean"}
    nodes = _start("views_from_images") | {
        "photo2": Node("LoadImage", (FIRST, TOP), (340, 400), {"image": more[0]}, "A second picture"),
        "photo3": Node("LoadImage", (FIRST, 520), (340, 400), {"image": more[1]}, "A third picture"),
        "two": Node("ImageBatch", (FIRST, 1040), (340, 60), batch),
        "all": Node(
            "ImageBatch", (FIRST, 1160), (340, 60), {"image1": ("two", "IMAGE"), "image2": ("photo3", "IMAGE")}
        ),
        "views": Node("FantasyIDViewsFromImages", (SECOND, TOP), (420, 180), {"images": ("all", "IMAGE")}),
        "sheet": Node("PreviewImage", (SECOND, 240), (420, 260), seen, "All views"),
        "faces": Node("FantasyIDDetectFaces", (SECOND, 560), (420, 310), {"image": ("photo", "IMAGE")}),
        "geometry": Node("FantasyIDExtractGeometry", (SECOND, 930), (420, 160), {"face": FACE}),
        "identity": Node("FantasyIDFuseFeatures", (SECOND, 1150), (420, 200), fused),
    }
    return nodes | video_nodes(VIDEO, identity=IDENTITY)


def identity_file() -> dict[str, Node]:
    """All nodes by key; the right half is muted until there is a file."""
    nodes = (
        _start("identity_file")
        | _detected()
        | _stages()
        | {
            "kept": Node("FantasyIDSaveIdentity", (SECOND, 930), (420, 140), {"identity": IDENTITY}),
            "card": Node("FantasyIDIdentityCard", (FIRST, 830), (340, 240), {"identity": IDENTITY}),
            "shown": Node(
                "PreviewImage", (FIRST, 1130), (340, 320), {"images": ("card", "card")}, "What the file holds"
            ),
            **video_nodes(VIDEO, identity=IDENTITY),
        }
    )
    file = {"file": "fantasyid/identity_00001_.safetensors [output]"}
    loaded = {"loaded": Node("FantasyIDLoadIdentity", (_LATER, TOP), (420, 120), file)}
    later = {f"{key}_later": node for key, node in video_nodes(_LATER, identity=("loaded", "identity")).items()}
    moved = {key: _down(node, 180) for key, node in later.items()}
    return nodes | {key: replace(node, muted=True) for key, node in (loaded | moved).items()}


def core_ksampler() -> dict[str, Node]:
    """All nodes by key."""
    x, core = VIDEO, ("core", "core model")
    texts = {"positive": ("positive", "conditioning"), "negative": ("negative", "conditioning")}
    chosen = {"steps": 20, "cfg": GUIDANCE, "sampler_name": "euler", "scheduler": "simple"}
    sampled = {"model": core, "latent_image": ("core", "empty latent"), **texts, **chosen}
    return (
        _start("core_ksampler")
        | _detected()
        | _stages()
        | {
            "core": Node("FantasyIDCoreModel", (x, TOP), (420, 260), {"model": MODEL, "identity": IDENTITY}),
            "sampler": Node("KSampler", (x, 320), (420, 470), sampled),
            **file_nodes(x, ("sampler", "LATENT")),
        }
    )


def identity_guidance() -> dict[str, Node]:
    """All nodes by key."""
    nodes = _start("identity_guidance") | _detected() | _stages()
    for row, (strength, title) in enumerate(((0.0, "as released"), (2.0, "identity_guidance 2"))):
        nodes |= _compared(VIDEO + row * 480, f"{row}", title, IDENTITY, identity_guidance=strength)
    return nodes


def skip_layer_guidance() -> dict[str, Node]:
    """All nodes by key."""
    nodes = _start("skip_layer_guidance") | _detected() | _stages()
    for row, scale in enumerate((0.0, 0.7)):
        title = f"skip_layer_guidance {scale:g}"
        nodes |= _compared(VIDEO + row * 480, f"{row}", title, IDENTITY, skip_layer_guidance=scale)
    return nodes


def two_branches() -> dict[str, Node]:
    """All nodes by key."""
    nodes = _start("two_branches") | _detected() | _stages()
    for row, branches in enumerate(("2D + 3D", "2D only", "3D only")):
        who = IDENTITY
        if row:
            fused = {"model": MODEL, "views": VIEWS, "geometry": GEOMETRY, "branches": branches}
            key = f"identity{row}"
            nodes[key] = Node("FantasyIDFuseFeatures", (SECOND, 670 + row * 260), (420, 200), fused, branches)
            who = (key, "identity")
        nodes |= _compared(VIDEO + row * 480, f"{row}", branches, who)
    return nodes


def _start(name: str) -> dict[str, Node]:
    """The note, the photograph, the model and the prompts."""
    return {
        "note": note(*TEXTS[name]),
        "photo": Node("LoadImage", (INPUT, TOP), (340, 430), {"image": "fantasyid_astronaut.png"}, "Your photograph"),
        **prompt_nodes(PROMPT, [(INPUT, 490), (INPUT, 750), (INPUT, 1050)]),
    }


_SQUARE = {"width": 220, "height": 220, "x": 120, "y": 10}  #: around the astronaut's head


def _detected() -> dict[str, Node]:
    crop = {"images": ("faces", "crop")}
    return {
        "faces": Node("FantasyIDDetectFaces", (FIRST, TOP), (340, 310), {"image": ("photo", "IMAGE")}),
        "crop": Node("PreviewImage", (FIRST, 370), (340, 400), crop, "The aligned crop"),
    }


def _stages() -> dict[str, Node]:
    """Geometry, views and identity, one above the other."""
    seen = {"face": FACE, "geometry": GEOMETRY}
    fused = {"model": MODEL, "views": VIEWS, "geometry": GEOMETRY}
    return {
        "geometry": Node("FantasyIDExtractGeometry", (SECOND, TOP), (420, 160), {"face": FACE}),
        "views": Node("FantasyIDAugmentViews", (SECOND, 220), (420, 390), seen),
        "identity": Node("FantasyIDFuseFeatures", (SECOND, 670), (420, 200), fused),
    }


def _compared(left: int, key: str, title: str, who: Link, **widgets: float) -> dict[str, Node]:
    """A sampler, its decoder and its video in one column."""
    texts = {"positive": ("positive", "conditioning"), "negative": ("negative", "conditioning")}
    sampled = {"model": MODEL, "identity": who, **texts, **FOR_THE_MINI, **widgets}
    frames, video = f"frames{key}" if key != "0" else "frames", f"video{key}" if key != "0" else "video"
    save = f"save{key}" if key != "0" else "save"
    saved = {"video": (video, "VIDEO"), "filename_prefix": "fantasyid/compare"}
    decoded = {"model": MODEL, "latent": (f"sampler{key}", "latent")}
    made = {"images": (frames, "images"), "fps": (frames, "fps")}
    return {
        f"sampler{key}": Node("FantasyIDSampler", (left, TOP), (420, 780), sampled, title),
        frames: Node("FantasyIDDecode", (left, 850), (420, 110), decoded),
        video: Node("CreateVideo", (left, 1020), (420, 110), made),
        save: Node("SaveVideo", (left, 1190), (420, 460), saved, title),
    }


def _groups(last: str, width: int, below: int = BOTTOM) -> list[Group]:
    """Frames around the four columns; ``width`` of the last one."""
    top, height = TOP - HEAD, HEAD + below
    return [
        Group("Your photograph, your prompt", (INPUT - 20, top, 380, height), GREY),
        Group("The face", (FIRST - 20, top, 380, height), BLUE),
        Group("Shape, views, identity", (SECOND - 20, top, 460, height), GREEN),
        Group(last, (VIDEO - 20, top, width, height), RED),
    ]


def _file_groups() -> list[Group]:
    groups = _groups("The video", 880, 1570)
    box = (_LATER - 20, TOP - HEAD, 880, HEAD + 1570)
    return [*groups, Group("Later: from the file alone (Ctrl+M switches it on)", box, AMBER)]


def _down(node: Node, pixels: int) -> Node:
    """The same node lower, its links to the video nodes of the copy."""
    inputs = {
        name: (f"{value[0]}_later", value[1]) if isinstance(value, tuple) and value[0] in _COPIED else value
        for name, value in node.inputs.items()
    }
    return replace(node, position=(node.position[0], node.position[1] + pixels), inputs=inputs)


_COPIED = ("sampler", "frames", "video", "save")


def _pictures_groups() -> list[Group]:
    groups = _groups("The video", 880, 1370)
    return [groups[0], Group("More pictures of the same person", groups[1].box, VIOLET), *groups[2:]]


DOORS: dict[str, tuple[Callable[[], dict[str, Node]], Callable[[], list[Group]]]] = {
    "face_from_crop": (face_from_crop, lambda: _groups("The video", 880)),
    "views_from_images": (views_from_images, _pictures_groups),
    "identity_file": (identity_file, _file_groups),
    "core_ksampler": (core_ksampler, lambda: _groups("The video, by ComfyUI's own sampler", 880)),
    "identity_guidance": (identity_guidance, lambda: _groups("The same seed, off and on", 960, 1690)),
    "skip_layer_guidance": (skip_layer_guidance, lambda: _groups("The same seed, off and on", 960, 1690)),
    "two_branches": (two_branches, lambda: _groups("The same seed three times", 1440, 1690)),
}
