"""Write web/docs/images: the pictures of the nodes' help pages, each a real result of the stage it explains.

Made of the example photograph (public domain, NASA), of a drawn person, and of the mini's own videos. Run it in
`.venv` after something that is drawn has changed (a minute on a CPU): `python tools/build_help_pictures.py`. Two exist
only in the editor: tools/browser_bars.mjs takes the picture of Layer Strength's bars and tools/browser_core_model.mjs
that of Core Model's wiring; `--bars FILE` and `--core-model FILE` put them here.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from build_examples import FILES, PHOTOGRAPH, PROMPT
from PIL import Image

from fantasyid_core.arrays import FloatArray
from fantasyid_core.evaluation.embedders import make_embedder
from fantasyid_core.evaluation.score import draw_score, score_video
from fantasyid_core.evaluation.watch import Eyes, see_person
from fantasyid_core.faces.detect import face_from_crop
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.draw import draw_faces
from fantasyid_core.generate import GenerateOptions, Identified, identify, make_video, video_size
from fantasyid_core.geometry.render import overlay_mesh, render_mesh
from fantasyid_core.identity.card import draw_identity_card
from fantasyid_core.identity.identity import Identity
from fantasyid_core.identity.mix import mix_identities
from fantasyid_core.images import load_photograph, to_uint8
from fantasyid_core.model import MINI, FantasyIDModel, load_model
from fantasyid_core.training.clips import ClipOptions, make_clip
from fantasyid_core.video.levers import preset
from fantasyid_core.video.people import People, Person
from fantasyid_core.video.people_picture import draw_people
from fantasyid_core.video.skip_layers import OFF
from fantasyid_core.video.strength import PRESETS, parse_strength
from fantasyid_core.video.strength_picture import draw_strength
from fantasyid_core.views.augment import augment_views, views_from_images
from fantasyid_core.views.sheet import draw_view_sheet

IMAGES = Path(__file__).resolve().parent.parent / "web" / "docs" / "images"
WIDTH, GAP = 560, 6  #: pixels; a help page is about 400 wide
PAGE = (22, 24, 29)
AROUND = np.s_[10:230, 120:340]  #: the astronaut's head
ANOTHER_PROMPT = "A woman wearing a blue sweater looks up, in the snow, soft light"


def main() -> None:
    """Write them all."""
    parser = argparse.ArgumentParser(description="The pictures of the help pages.")
    parser.add_argument("--bars", type=Path, help="a picture of the Layer Strength node, by browser_bars.mjs")
    parser.add_argument("--core-model", type=Path, help="a picture of Core Model's wiring, by browser_core_model.mjs")
    from_editor = vars(parser.parse_args())
    IMAGES.mkdir(exist_ok=True)
    for name, path in from_editor.items():
        if path is not None:
            _write(name, [[load_photograph(path)]])
    mini = load_model(MINI)
    options = GenerateOptions(PROMPT, seed=3)
    woman, somebody = (identify(load_photograph(path), mini, options) for path in (PHOTOGRAPH, FILES / "somebody.jpg"))
    _write_stages(woman)
    _write_identities(woman, somebody)
    _write_videos(mini, woman, options)
    _write_score()
    _write("strength", [[draw_strength(parse_strength(str(PRESETS["motion first"])), 12, 20)]])


def _write_stages(found: Identified) -> None:
    """Faces, geometry and views."""
    photograph, geometry = found.face.photograph, found.geometry
    _write("faces", [[draw_faces(photograph, found.faces, found.chosen), found.face.crop]])
    cut = photograph[AROUND]
    _write("crop", [[photograph, cut, face_from_crop(cut).crop]])
    _write("geometry", [[overlay_mesh(photograph, geometry)[AROUND], render_mesh(geometry, 512)]])
    _write("mesh", [[render_mesh(geometry, 384, yaw=yaw) for yaw in (-50, -15, 15, 50)]])
    _write("views", [[draw_view_sheet(augment_views(found.face, geometry, mirror=True), columns=3)]])
    names = ("astronaut_close.jpg", "astronaut_warm.jpg")
    pictures = [photograph, *(load_photograph(FILES / name) for name in names)]
    _write("views_from_images", [[draw_view_sheet(views_from_images(pictures, make_detector()), columns=3)]])


def _write_identities(woman: Identified, somebody: Identified) -> None:
    """The card, a mix in five steps, two people in one frame."""
    _write("card", [[draw_identity_card(woman.identity, "The astronaut")]])
    a, b = woman.identity, somebody.identity
    mixed = [mix_identities(a, b, ratio, reference="blended").reference for ratio in (0.0, 0.25, 0.5, 0.75, 1.0)]
    _write("mix", [mixed])
    _write("people", [[draw_people(People((Person(a), Person(b))))]])


def _write_videos(mini: FantasyIDModel, found: Identified, options: GenerateOptions) -> None:
    """Rows of frames; what differs between the rows is what the page is about."""
    plain = _frames(mini, found.identity, options)
    _write("video", [plain])
    other = _frames(mini, found.identity, replace(options, prompt=ANOTHER_PROMPT))
    _write("prompts", [plain, other])
    guided = _frames(mini, found.identity, replace(options, identity_guidance=2.0))
    _write("identity_guidance", [plain, guided])
    _write("skip_layer_guidance", [_frames(mini, found.identity, replace(options, skip_layers=OFF)), plain])
    _write("speed", [plain, _frames(mini, found.identity, replace(options, levers=preset("fast")))])
    _write("seeds", [plain, *(_frames(mini, found.identity, replace(options, seed=seed)) for seed in (4, 5))])


def _frames(mini: FantasyIDModel, identity: Identity, options: GenerateOptions) -> list[FloatArray]:
    """Five frames of the video."""
    return list(make_video(mini, identity, options, video_size(mini, options))[[0, 4, 8, 12, 16]])


def _write_score() -> None:
    """The page of the Score node, of a drawn clip: in the mini's own videos no face is found."""
    clip = make_clip(ClipOptions(seed=11, size=192, frames=17, references=1), 22)
    eyes = Eyes(make_embedder())
    reference = clip.references[0].astype(np.float32) / np.float32(255)
    frames = clip.frames.astype(np.float32) / np.float32(255)
    _write("score", [[draw_score(score_video(frames, 8.0, see_person("drawn", reference, eyes), eyes))]])


def _write(name: str, rows: list[list[FloatArray]]) -> None:
    """Rows of pictures, every row as wide as the page and its pictures alike in height, as images/<name>.jpg."""
    drawn = [_row([Image.fromarray(to_uint8(np.asarray(picture))) for picture in row]) for row in rows]
    page = Image.new("RGB", (WIDTH, sum(row.height for row in drawn) + GAP * (len(drawn) - 1)), PAGE)
    top = 0
    for row in drawn:
        page.paste(row, (0, top))
        top += row.height + GAP
    path = IMAGES / f"{name}.jpg"
    page.save(path, quality=84, optimize=True)
    print(f"web/docs/images/{path.name}: {page.width} × {page.height}, {path.stat().st_size / 1000:.0f} kB")


def _row(pictures: list[Image.Image]) -> Image.Image:
    height = (WIDTH - GAP * (len(pictures) - 1)) / sum(picture.width / picture.height for picture in pictures)
    row = Image.new("RGB", (WIDTH, round(height)), PAGE)
    left = 0.0
    for picture in pictures:
        width = picture.width / picture.height * height
        row.paste(picture.resize((round(width), round(height)), Image.Resampling.LANCZOS), (round(left), 0))
        left += width + GAP
    return row


if __name__ == "__main__":
    main()
