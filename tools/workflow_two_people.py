"""The workflows with two people: the five stages twice, then one video of both, or of somebody between them."""

from __future__ import annotations

from workflow_format import Group, Node
from workflow_parts import AMBER, BLUE, GREEN, GREY, HEAD, RED, TOP, note, prompt_nodes, video_nodes

PROMPT = (
    "On the left a woman in an orange space suit smiles, on the right a person with round glasses and a brown sweater "
    "looks at her, bright studio light"
)
TEXT = (
    "Each person has a photograph, a 3D shape and an identity. *Add Person* gives each of them a part of the frame: "
    "`auto` shares it from left to right, or paint a mask. The second face is a drawn one, made for this example."
)
ROW = 780  #: from one person to the next
PEOPLE = {"a": ("fantasyid_astronaut.png", "The first person"), "b": ("fantasyid_somebody.jpg", "The second person")}


def two_people() -> dict[str, Node]:
    """All nodes by key."""
    nodes = {"note": note("Two people in one video", TEXT)}
    for row, key in enumerate(PEOPLE):
        nodes |= _person(key, TOP + row * ROW)
    y = TOP + 2 * ROW + HEAD
    nodes |= prompt_nodes(PROMPT, [(0, y), (400, y), (800, y)])
    nodes |= {
        "first": Node("FantasyIDAddPerson", (2080, TOP), (380, 240), {"identity": ("identity_a", "identity")}),
        "people": Node(
            "FantasyIDAddPerson",
            (2080, ROW),
            (380, 240),
            {"identity": ("identity_b", "identity"), "others": ("first", "people")},
        ),
        "places": Node(
            "PreviewImage", (2080, 2 * ROW + HEAD), (380, 300), {"images": ("people", "picture")}, "Who stands where"
        ),
    }
    return nodes | video_nodes(2540, people=("people", "people"))


def two_people_groups() -> list[Group]:
    """The frames around them."""
    bottom = TOP + 2 * ROW
    rows = [
        Group(title, (-20, TOP + row * ROW - HEAD, 2060, ROW - 20), colour)
        for row, ((_, title), colour) in enumerate(zip(PEOPLE.values(), (BLUE, GREEN), strict=True))
    ]
    return [
        *rows,
        Group("The model and the prompt", (-20, bottom, 1200, HEAD + 260), GREY),
        Group("Who stands where", (2060, TOP - HEAD, 420, 2 * ROW + 3 * HEAD + 230), AMBER),
        Group("The video", (2520, TOP - HEAD, 900, HEAD + 980), RED),
    ]


def _person(key: str, y: int) -> dict[str, Node]:
    """One row: photograph, face, geometry, views, identity."""
    image, title = PEOPLE[key]
    face, geometry = (f"faces_{key}", "face"), (f"geometry_{key}", "geometry")
    seen = {"face": face, "geometry": geometry}
    fused = {"model": ("model", "model"), "views": (f"views_{key}", "views"), "geometry": geometry}
    overlay, reference = ({"images": (f"{name}_{key}", name_of)} for name, name_of in _PICTURES)
    return {
        f"photo_{key}": Node("LoadImage", (0, y), (340, 430), {"image": image}, title),
        f"faces_{key}": Node("FantasyIDDetectFaces", (400, y), (340, 310), {"image": (f"photo_{key}", "IMAGE")}),
        f"geometry_{key}": Node("FantasyIDExtractGeometry", (800, y), (340, 160), {"face": face}),
        f"overlay_{key}": Node("PreviewImage", (800, y + 220), (340, 290), overlay, "The mesh"),
        f"views_{key}": Node("FantasyIDAugmentViews", (1200, y), (420, 370), seen),
        f"identity_{key}": Node("FantasyIDFuseFeatures", (1680, y), (340, 200), fused),
        f"reference_{key}": Node("PreviewImage", (1680, y + 250), (340, 270), reference, "The reference crop"),
    }


MIX_TEXT = (
    "Two photographs become two identities, and *Mix Identities* makes one of them: `ratio` says how much of the "
    "second person is in it. *Identity Card* shows what came out. The second face is a drawn one."
)
MIX_PROMPT = "A person smiles and slowly turns the head to the left, bright studio light"


def identity_mix() -> dict[str, Node]:
    """All nodes by key."""
    nodes = {"note": note("Somebody between two people", MIX_TEXT)}
    for row, key in enumerate(PEOPLE):
        nodes |= _person(key, TOP + row * ROW)
    y = TOP + 2 * ROW + HEAD
    nodes |= prompt_nodes(MIX_PROMPT, [(0, y), (400, y), (800, y)])
    mixed = {"a": ("identity_a", "identity"), "b": ("identity_b", "identity"), "reference": "blended"}
    nodes |= {
        "mix": Node("FantasyIDMixIdentities", (2080, TOP), (520, 220), mixed),
        "card": Node(
            "FantasyIDIdentityCard", (2080, 280), (520, 330), {"identity": ("mix", "identity"), "name": "Both of them"}
        ),
        "picture": Node("PreviewImage", (2080, 680), (520, 520), {"images": ("card", "card")}, "What the mix holds"),
    }
    return nodes | video_nodes(2680, identity=("mix", "identity"))


def identity_mix_groups() -> list[Group]:
    """The frames around them."""
    *rows, prompt, _, _ = two_people_groups()
    height = 2 * ROW + HEAD - 20
    return [
        *rows,
        prompt,
        Group("One identity of two", (2060, TOP - HEAD, 560, height), AMBER),
        Group("The video", (2660, TOP - HEAD, 900, HEAD + 980), RED),
    ]


_PICTURES = (("geometry", "overlay"), ("identity", "reference"))
