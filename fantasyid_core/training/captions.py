"""What a clip's caption says: a small grammar with synonyms, of everything but who the person is.

    caption  := [shot] SUBJECT [CLOTHES] ACTIONS [, PLACE] [, LIGHT] [, CAMERA]
    ACTIONS  := FACE "and" HEAD | HEAD "and" FACE | FACE | HEAD

"Left" and "right" are the picture's, as the viewer sees them. A caption has at most ``MAX_TOKENS`` tokens as the mini's
text encoder counts (words and punctuation marks); the least important parts are left out first.
"""

from __future__ import annotations

import re

import numpy as np

from .motion import Motion
from .scene import COLOURS, Scene

Generator = np.random.Generator
Choices = tuple[str, ...]

MAX_TOKENS = 30  #: the mini reads 32, one of them the end
_TOKEN = re.compile(r"\w+|[^\w\s]")

OPENINGS: Choices = (
    "a video of", "a portrait of", "a close-up of", "a cinematic shot of", "a high quality video of", "footage of",
)  # fmt: skip
ANYONE: Choices = ("a person", "someone", "the person", "a person", "somebody")
WOMAN: Choices = ("a woman", "the woman", "a lady", "a young woman")
MAN: Choices = ("a man", "the man", "a guy", "a young man")
CLOTHING: dict[str, Choices] = {
    "shirt": ("shirt", "t-shirt", "top"),
    "sweater": ("sweater", "pullover", "hoodie"),
    "jacket": ("jacket", "suit", "coat"),
    "dress": ("dress", "blouse"),
    "high collar": ("turtleneck", "scarf", "space suit", "uniform"),
}
WEARING: Choices = ("in a {}", "wearing a {}", "dressed in a {}", "in {}")
HEAD: dict[str, Choices] = {
    "still": ("keeps the head still", "holds still", "faces the camera", ""),
    "turn left": ("turns {} head to the left", "turns to the left", "turns left", "looks over to the left",
                  "rotates {} head left"),
    "turn right": ("turns {} head to the right", "turns to the right", "turns right", "looks over to the right",
                   "rotates {} head right"),
    "look up": ("looks up", "raises {} head", "lifts {} head", "looks upward", "tilts {} head up"),
    "look down": ("looks down", "lowers {} head", "bows {} head", "looks downward", "tilts {} head down"),
    "tilt left": ("tilts {} head to the left", "leans {} head left"),
    "tilt right": ("tilts {} head to the right", "leans {} head right"),
    "nod": ("nods", "nods {} head", "is nodding"),
    "shake": ("shakes {} head", "is shaking {} head", "turns {} head from side to side"),
}  # fmt: skip
FACE: dict[str, Choices] = {
    "calm": ("looks calm", "has a neutral expression", "stays serious", ""),
    "smile": ("smiles", "is smiling", "starts to smile", "gives a smile", "looks happy"),
    "laugh": ("laughs", "is laughing", "grins widely", "bursts out laughing"),
    "open mouth": ("opens the mouth", "opens {} mouth", "opens {} mouth wide"),
    "speak": ("speaks", "talks", "is talking", "is speaking", "says something", "talks to the camera"),
    "raise brows": ("raises {} eyebrows", "lifts {} eyebrows", "raises the brows"),
    "frown": ("frowns", "is frowning", "looks angry", "scowls"),
    "surprise": ("looks surprised", "is surprised", "looks astonished", "gasps"),
    "close eyes": ("closes {} eyes", "closes the eyes", "shuts {} eyes"),
    "pucker": ("puckers {} lips", "purses the lips", "blows a kiss"),
    "sad": ("looks sad", "is sad", "looks unhappy"),
    "glance left": ("glances to the left", "looks left with the eyes"),
    "glance right": ("glances to the right", "looks right with the eyes"),
}
PLACE: dict[str, Choices] = {
    "park": ("in a park", "in a green garden", "in the forest", "outdoors among trees", "in nature"),
    "city night": ("in a city at night", "on a street at night", "city lights in the background",
                   "in front of night lights"),
    "sea": ("at the sea", "on the beach", "by the ocean", "in front of the sea"),
    "sunset": ("at sunset", "in front of a sunset", "in the golden hour", "against an evening sky"),
    "room": ("in a library", "in front of a bookshelf", "in a room with books", "indoors", "in an office"),
    "snow": ("in the snow", "on a snowy day", "in a snowy landscape", "in winter"),
    "curtain": ("in front of a red curtain", "on a stage", "in a theatre"),
    "dark": ("in a dark room", "in the dark", "in front of a dark background"),
}  # fmt: skip
WALL: Choices = ("in front of a {} wall", "{} background", "on a {} background", "against a {} backdrop")
LIGHT: dict[str, Choices] = {
    "even": ("soft light", "studio light", "bright studio light", "even lighting"),
    "daylight": ("daylight", "bright daylight", "in the sunlight", "natural light"),
    "warm": ("warm light", "golden light", "candle light", "warm lamp light"),
    "cold": ("cold light", "blue light", "cool bluish light"),
    "left": ("light from the left", "lit from the left", "side light from the left"),
    "right": ("light from the right", "lit from the right", "side light from the right"),
    "behind": ("backlit", "light from behind", "rim light"),
    "dim": ("dim light", "low light", "dark and moody light"),
}
CAMERA: dict[str, Choices] = {
    "still": ("",),
    "closer": ("the camera moves closer", "zooming in", "slow zoom in"),
    "away": ("the camera moves away", "zooming out", "slow zoom out"),
}


def write_caption(generator: Generator, woman: bool, motion: Motion, scene: Scene, shot: str) -> str:
    """One sentence or heap of phrases about a clip; some parts are left unsaid at random."""
    subject, own = _subject(generator, woman)
    parts = {
        "opening": _pick(generator, OPENINGS) if generator.random() < 0.35 else "",
        "subject": subject,
        "clothes": _clothes(generator, scene) if generator.random() < 0.4 else "",
        "actions": _actions(generator, motion, own),
        "place": _place(generator, scene.background_name) if generator.random() < 0.85 else "",
        "light": _pick(generator, LIGHT[scene.light.name]) if generator.random() < 0.75 else "",
        "camera": _pick(generator, CAMERA[shot]),
    }
    for least in ("opening", "clothes", "camera", "light", "place"):
        if len(_TOKEN.findall(_joined(parts))) <= MAX_TOKENS:
            break
        parts[least] = ""
    text = _joined(parts)
    return text if generator.random() < 0.5 else text[:1].upper() + text[1:]


def _pick(generator: Generator, choices: Choices) -> str:
    return choices[generator.integers(len(choices))]


def _subject(generator: Generator, woman: bool) -> tuple[str, str]:
    """Who, without saying who; and the pronoun that goes with it."""
    if generator.random() < 0.6:
        return _pick(generator, ANYONE), _pick(generator, ("the", "their", "the"))
    return (_pick(generator, WOMAN), "her") if woman else (_pick(generator, MAN), "his")


def _clothes(generator: Generator, scene: Scene) -> str:
    cloth = f"{scene.clothes.colour_name} {_pick(generator, CLOTHING[scene.clothes.kind])}"
    article = "an" if cloth[0] in "aeiou" else "a"
    return _pick(generator, WEARING).replace("a {}", f"{article} {cloth}").replace("{}", scene.clothes.colour_name)


def _actions(generator: Generator, motion: Motion, own: str) -> str:
    """ "smiles and slowly turns her head to the left"; a still head and a calm face may go without words."""
    head = _pick(generator, HEAD[motion.head_action]).replace("{}", own)
    face = _pick(generator, FACE[motion.face_action]).replace("{}", own)
    if head and motion.speed and motion.head_action != "still":
        head = f"{motion.speed} {head}" if generator.random() < 0.6 else f"{head} {motion.speed}"
    said = [phrase for phrase in ((face, head) if generator.random() < 0.5 else (head, face)) if phrase]
    return _pick(generator, (" and ", " and ", ", ")).join(said)


def _place(generator: Generator, name: str) -> str:
    if name not in COLOURS:
        return _pick(generator, PLACE[name])
    colour = "gray" if name == "grey" and generator.random() < 0.5 else name
    return (
        _pick(generator, WALL)
        .replace("a {}", "an orange" if colour == "orange" else f"a {colour}")
        .replace("{}", colour)
    )


def _joined(parts: dict[str, str]) -> str:
    sentence = " ".join(parts[name] for name in ("opening", "subject", "clothes", "actions") if parts[name])
    return ", ".join(part for part in (sentence, parts["place"], parts["light"], parts["camera"]) if part)
