"""Write workflows/*.json from the descriptions below, with the node definitions of the real ComfyUI.

Run it in `.venv-comfyui` after a node got another socket: `python tools/build_workflows.py`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comfyui_client import Client
from comfyui_env import ROOT
from comfyui_server import running_server
from workflow_doors import DOORS
from workflow_format import Group, Node, build_workflow
from workflow_keep_best import keep_best, keep_best_groups
from workflow_parts import AMBER, BLUE, GREEN, GREY, HEAD, RED, TOP, VIOLET, note, prompt_nodes, video_nodes
from workflow_two_people import identity_mix, identity_mix_groups, two_people, two_people_groups

WORKFLOWS = ROOT / "workflows"
PROMPT = "A woman in an orange space suit smiles and slowly turns her head to the left, bright studio light"
BOTTOM = 1250  #: y of the groups' lower edge
X = {"input": 0, "faces": 400, "geometry": 800, "views": 1200, "identity": 1680, "video": 2080, "file": 2560}

TEXTS = {
    "five_stages": (
        "One photograph, five stages",
        "Your photograph walks from left to right: its face is found, its 3D shape fitted, the face turned to other "
        "sides, everything fused into one identity, and that person put into a video.",
    ),
    "five_stages_mesh_file": (
        "The same with a mesh from a file",
        "The second stage takes a mesh that you made or saved elsewhere instead of fitting one. Put yours into "
        "`input/3d` and choose it in *Load Mesh*.",
    ),
    "layer_strength": (
        "Layer strength",
        "*Layer Strength* says how strongly each layer of the model takes the identity, and in which part of the "
        "steps; the heat map below shows it. Try the presets, or draw your own with `custom`.",
    ),
    "five_stages_more_photographs": (
        "The same with two further photographs",
        "Two more pictures of the same person join the views, and *combine* is `mean`, so that all of them count. The "
        "two shipped ones are only stand-ins made of the same photograph: replace them by your own.",
    ),
    "five_stages_faster": (
        "The same in a third of the work",
        "*Speed Options* says what may be left out: here `fast`, half the steps and the "
        "negative prompt in few of them. It also has the settings for videos that are longer than the model knows.",
    ),
}


def _input_nodes(name: str) -> dict[str, Node]:
    x = X["input"]
    return {
        "note": note(*TEXTS[name]),
        "photo": Node("LoadImage", (x, TOP), (340, 430), {"image": "fantasyid_astronaut.png"}, "Your photograph"),
        **prompt_nodes(PROMPT, [(x, 490), (x, 750), (x, 1050)]),
    }


def _face_nodes() -> dict[str, Node]:
    x = X["faces"]
    return {
        "faces": Node("FantasyIDDetectFaces", (x, TOP), (340, 310), {"image": ("photo", "IMAGE")}),
        "found": Node("PreviewImage", (x, 370), (340, 400), {"images": ("faces", "preview")}, "Faces, numbered"),
        "crop": Node("PreviewImage", (x, 830), (340, 400), {"images": ("faces", "crop")}, "The aligned crop"),
    }


def _geometry_nodes() -> dict[str, Node]:
    x = X["geometry"]
    return {
        "geometry": Node("FantasyIDExtractGeometry", (x, TOP), (340, 160), {"face": ("faces", "face")}),
        **_mesh_pictures("overlay"),
    }


def _mesh_file_nodes() -> dict[str, Node]:
    x = X["geometry"]
    inputs = {"file": "3d/fantasyid_head.glb", "face": ("faces", "face")}
    return {"geometry": Node("FantasyIDLoadMesh", (x, TOP), (340, 160), inputs), **_mesh_pictures("overlay")}


def _mesh_pictures(output: str) -> dict[str, Node]:
    x = X["geometry"]
    title = "The mesh on the photograph"
    saved = {"geometry": ("geometry", "geometry")}
    return {
        "overlay": Node("PreviewImage", (x, 220), (340, 370), {"images": ("geometry", output)}, title),
        "mesh": Node("FantasyIDSaveMesh", (x, 650), (340, 140), saved),
        "turn": Node("Preview3D", (x, 850), (340, 380), {"model_file": ("mesh", "path")}, "Turn it with the mouse"),
    }


def _view_nodes(**inputs: Any) -> dict[str, Node]:
    x = X["views"]
    face = {"face": ("faces", "face"), "geometry": ("geometry", "geometry")}
    return {
        "views": Node("FantasyIDAugmentViews", (x, TOP), (420, 370), face | inputs),
        "sheet": Node("PreviewImage", (x, 430), (420, 480), {"images": ("views", "sheet")}, "All views"),
    }


def _identity_nodes(combine: str) -> dict[str, Node]:
    x = X["identity"]
    model, views, geometry = ("model", "model"), ("views", "views"), ("geometry", "geometry")
    fused = {"model": model, "views": views, "geometry": geometry, "combine": combine}
    return {
        "identity": Node("FantasyIDFuseFeatures", (x, TOP), (340, 200), fused),
        "kept": Node("FantasyIDSaveIdentity", (x, 260), (340, 140), {"identity": ("identity", "identity")}),
        "reference": Node(
            "PreviewImage", (x, 460), (340, 400), {"images": ("identity", "reference")}, "The reference crop"
        ),
    }


def _groups(bottom: int = BOTTOM) -> list[Group]:
    return [
        Group("Your photograph, your prompt", _box("input", 340, bottom), GREY),
        Group("1 · Find the face", _box("faces", 340, bottom), BLUE),
        Group("2 · Its 3D shape", _box("geometry", 340, bottom), GREEN),
        Group("3 · Other views", _box("views", 420, bottom), VIOLET),
        Group("4 · The identity", _box("identity", 340, bottom), AMBER),
        Group("5 · The video", (X["video"] - 20, TOP - HEAD, X["file"] + 360 - X["video"] + 40, bottom + HEAD), RED),
    ]


def _box(column: str, width: int, bottom: int) -> tuple[int, int, int, int]:
    return X[column] - 20, TOP - HEAD, width + 40, bottom + HEAD


def _five_stages() -> dict[str, Node]:
    nodes = _input_nodes("five_stages") | _face_nodes() | _geometry_nodes() | _view_nodes()
    return nodes | _identity_nodes("reference") | video_nodes(X["video"], identity=("identity", "identity"))


def _mesh_file() -> dict[str, Node]:
    nodes = _input_nodes("five_stages_mesh_file") | _face_nodes() | _mesh_file_nodes() | _view_nodes()
    return nodes | _identity_nodes("reference") | video_nodes(X["video"], identity=("identity", "identity"))


def _more_photographs() -> dict[str, Node]:
    nodes = _input_nodes("five_stages_more_photographs") | _face_nodes() | _geometry_nodes()
    x, y = X["input"], BOTTOM + HEAD + 20
    nodes |= {
        "photo2": Node("LoadImage", (x, y), (340, 430), {"image": "fantasyid_astronaut_close.jpg"}, "A second one"),
        "photo3": Node("LoadImage", (x + 400, y), (340, 430), {"image": "fantasyid_astronaut_warm.jpg"}, "A third one"),
        "batch": Node(
            "ImageBatch", (x + 800, y), (340, 60), {"image1": ("photo2", "IMAGE"), "image2": ("photo3", "IMAGE")}
        ),
    }
    nodes |= _view_nodes(photographs=("batch", "IMAGE"))
    return nodes | _identity_nodes("mean") | video_nodes(X["video"], identity=("identity", "identity"))


def _more_photographs_groups() -> list[Group]:
    more = Group("Further photographs of the same person", (-20, BOTTOM + 20, 1180, HEAD + 450), GREY)
    return [*_groups(), more]


def _layer_strength() -> dict[str, Node]:
    nodes = _input_nodes("layer_strength") | _face_nodes() | _geometry_nodes() | _view_nodes()
    x, y, made = X["geometry"], BOTTOM + HEAD + 20, ("strength", "strength")
    drawn = {"strength": made, "model": ("model", "model")}
    nodes |= {
        "strength": Node("FantasyIDLayerStrength", (x, y), (400, 360), {"preset": "motion first"}),
        "plot": Node("FantasyIDPlotStrength", (x + 460, y), (340, 150), drawn),
        "map": Node("PreviewImage", (x + 860, y), (700, 520), {"images": ("plot", "image")}, "Layers × steps"),
    }
    identity = {"identity": ("identity", "identity"), "strength": made}
    return nodes | _identity_nodes("reference") | video_nodes(X["video"], **identity)


def _layer_strength_groups() -> list[Group]:
    box = (X["geometry"] - 20, BOTTOM + 20, 1600, HEAD + 540)
    return [*_groups(), Group("Which layer takes how much of the identity, and when", box, AMBER)]


def _faster() -> dict[str, Node]:
    nodes = _input_nodes("five_stages_faster") | _face_nodes() | _geometry_nodes() | _view_nodes()
    speed = Node("FantasyIDSpeedOptions", (X["file"], 750), (360, 600), {"preset": "fast"})
    links = {"identity": ("identity", "identity"), "speed": ("speed", "speed")}
    return nodes | _identity_nodes("reference") | {"speed": speed} | video_nodes(X["video"], **links)


WORKFLOW_NODES = {
    "five_stages": _five_stages,
    "five_stages_mesh_file": _mesh_file,
    "five_stages_more_photographs": _more_photographs,
    "layer_strength": _layer_strength,
    "two_people": two_people,
    "identity_mix": identity_mix,
    "keep_best": keep_best,
    "five_stages_faster": _faster,
    **{name: nodes for name, (nodes, _) in DOORS.items()},
}
GROUPS: dict[str, Callable[[], list[Group]]] = {
    "five_stages_more_photographs": _more_photographs_groups,
    "layer_strength": _layer_strength_groups,
    "two_people": two_people_groups,
    "identity_mix": identity_mix_groups,
    "keep_best": keep_best_groups,
    "five_stages_faster": lambda: _groups(BOTTOM + 190),
    **{name: groups for name, (_, groups) in DOORS.items()},
}  #: of the workflows that are not framed as the five stages


def build(name: str, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The workflow of that name."""
    groups = GROUPS.get(name, _groups)()
    return build_workflow(name, WORKFLOW_NODES[name](), groups, definitions)


def main() -> None:
    """Write them all."""
    with tempfile.TemporaryDirectory() as base, running_server(Path(base)) as server:
        definitions = Client(server.address).get("/object_info")
    for name in WORKFLOW_NODES:
        text = json.dumps(build(name, definitions), indent=1, ensure_ascii=False)
        (WORKFLOWS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"workflows/{name}.json")


if __name__ == "__main__":
    main()
