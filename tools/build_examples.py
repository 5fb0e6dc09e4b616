"""Write what the example workflows need, made of the example photograph (public domain, NASA) and of a drawn person.

workflows/files: the head fitted to it, as a mesh file, two stand-ins for further photographs, and somebody else.
workflows/*.jpg: the pictures of the template browser, from the stages' own results. Run it in `.venv` after the
head has changed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from fantasyid_core.arrays import FloatArray
from fantasyid_core.evaluation.embedders import make_embedder
from fantasyid_core.evaluation.score import draw_score, score_video
from fantasyid_core.evaluation.watch import Eyes, see_person
from fantasyid_core.faces.detect import choose_face, detect_faces, face_from_crop
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.draw import draw_faces
from fantasyid_core.faces.face import Face
from fantasyid_core.generate import GenerateOptions, identify, make_video, video_size
from fantasyid_core.geometry.adapt import for_model
from fantasyid_core.geometry.extractors import make_extractor
from fantasyid_core.geometry.geometry import FaceGeometry
from fantasyid_core.geometry.head import load_head
from fantasyid_core.geometry.mesh_files import save_mesh
from fantasyid_core.geometry.render import overlay_mesh, render_mesh
from fantasyid_core.identity.card import draw_identity_card
from fantasyid_core.identity.fuse import fuse_features
from fantasyid_core.identity.identity import Identity
from fantasyid_core.images import load_photograph, to_uint8
from fantasyid_core.model import MINI, FantasyIDModel, load_model
from fantasyid_core.training.clips import Clip, ClipOptions, make_clip
from fantasyid_core.video.skip_layers import OFF
from fantasyid_core.video.strength import PRESETS, parse_strength
from fantasyid_core.video.strength_picture import MAP, draw_strength
from fantasyid_core.views.augment import augment_views

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH = ROOT / "fantasyid_core" / "assets" / "astronaut.png"
FILES = ROOT / "workflows" / "files"
TILE, GAP = 256, 6
PROMPT = "A woman in an orange space suit smiles and slowly turns her head to the left, bright studio light"
PAGE = (22, 24, 29)


def main() -> None:
    """Write the files, then one picture per workflow: six tiles that show what is special about it."""
    _write_photographs(Image.open(PHOTOGRAPH).convert("RGB"))
    _write_somebody()
    face = _face(PHOTOGRAPH)
    others = [_face(FILES / name) for name in ("astronaut_close.jpg", "astronaut_warm.jpg")]
    geometry = make_extractor().extract(face)
    save_mesh(FILES / "head.glb", load_head().geometry(geometry.shape))
    turned = augment_views(face, geometry, angles=((-30, 0), (30, 0))).crops
    found, overlay = draw_faces(face.photograph, [face], 0), _around(face, overlay_mesh(face.photograph, geometry))
    heads = [render_mesh(geometry, TILE, yaw=yaw) for yaw in (-35, 0, 35)]
    _write("five_stages", [found, face.crop, overlay, heads[1], turned[1], turned[2]])
    _write("five_stages_mesh_file", [heads[0], heads[1], heads[2], overlay, turned[1], turned[2]])
    _write("five_stages_faster", [face.photograph, overlay, face.crop, turned[1], heads[2], turned[2]])
    crops = [other.crop for other in others]
    _write("five_stages_more_photographs", [face.photograph, *(o.photograph for o in others), face.crop, *crops])
    somebody = _face(FILES / "somebody.jpg")
    second = make_extractor().extract(somebody)
    rows = [(face, geometry), (somebody, second)]
    texts = [str(PRESETS[name]) for name in ("balanced", "motion first", "early layers", "late layers")]
    maps = [_heat_map(text) for text in (*texts, "0.2 0.4 0.7 1 1 0.7 0.4 0.2", "1 0.5 @ 0-60%; 0.5 1.5 @ 60-100%")]
    _write("layer_strength", maps)
    _write("two_people", [picture for who, mesh in rows for picture in _portraits(who, mesh)])
    clip = make_clip(ClipOptions(seed=11, size=192, frames=9, references=1), 22)
    _write("keep_best", [*(f.astype(np.float32) / 255 for f in clip.frames[[0, 4, 8]]), *_plots(clip)])
    _write_doors(face, others)
    shares = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    _write("identity_mix", [(1 - share) * face.crop + share * somebody.crop for share in shares])


def _write_doors(face: Face, others: list[Face]) -> None:
    """What tools/workflow_doors.py shows; the videos are the mini's own."""
    mini = load_model(MINI)
    options = GenerateOptions(PROMPT, seed=3)
    made = identify(face.photograph, mini, options)
    video = _frames(mini, made.identity, options)
    cut = face.photograph[10:230, 120:340]
    _write("core_ksampler", [face.photograph, face.crop, *video])
    _write("face_from_crop", [face.photograph, cut, face_from_crop(cut).crop, *video[:3]])
    _write("views_from_images", [face.photograph, *(other.photograph for other in others), *video[:3]])
    card = draw_identity_card(made.identity)
    _write("identity_file", [face.photograph, card[:, : card.shape[1] // 2], card[:, card.shape[1] // 2 :], *video[:3]])
    guided = _frames(mini, made.identity, replace(options, identity_guidance=2.0))
    _write("identity_guidance", [*video[::2], video[3], *guided[::2], guided[3]])
    soft = _frames(mini, made.identity, replace(options, skip_layers=OFF))
    _write("skip_layer_guidance", [*soft[::2], soft[3], *video[::2], video[3]])
    alone: list[FloatArray] = []
    for branches in ("2D only", "3D only"):
        geometry = for_model(made.geometry, mini.config.vertex_net.topology, options.input_path, mini.folders)
        identity = fuse_features(made.views, geometry, mini.identity_encoder, branches=branches)
        alone += _frames(mini, identity, options)[1:3]
    _write("two_branches", [*video[1:3], *alone])


def _frames(mini: FantasyIDModel, identity: Identity, options: GenerateOptions) -> list[FloatArray]:
    """Four frames of the video."""
    return list(make_video(mini, identity, options, video_size(mini, options))[[0, 5, 10, 16]])


def _write_photographs(photograph: Image.Image) -> None:
    """The same person closer and darker, and mirrored, tilted, in warmer light."""
    side = Image.Resampling.LANCZOS
    close = photograph.crop((96, 0, 352, 256)).resize((512, 512), side)
    ImageEnhance.Brightness(close).enhance(0.9).save(FILES / "astronaut_close.jpg", quality=86)
    tilted = ImageOps.mirror(photograph).rotate(6, Image.Resampling.BICUBIC, center=(290, 130))
    red, green, blue = tilted.crop((168, 22, 412, 266)).resize((512, 512), side).split()
    warm = (red.point(lambda level: min(255, int(level * 1.06))), green, blue.point(lambda level: int(level * 0.88)))
    Image.merge("RGB", warm).save(FILES / "astronaut_warm.jpg", quality=86)


def _write_somebody() -> None:
    """A person who does not exist, drawn as the training clips are."""
    (frame,) = make_clip(ClipOptions(seed=11, size=256, frames=1, references=0), 22).frames
    large = Image.fromarray(frame).resize((512, 512), Image.Resampling.LANCZOS)
    large.save(FILES / "somebody.jpg", quality=86)


def _plots(clip: Clip) -> list[FloatArray]:
    """The photograph, and both halves of the page with the score against it."""
    eyes = Eyes(make_embedder())
    reference = clip.references[0].astype(np.float32) / np.float32(255)
    frames = clip.frames.astype(np.float32) / np.float32(255)
    page = draw_score(score_video(frames, 8.0, see_person("somebody", reference, eyes), eyes))
    return [reference, page[:, :480], page[:, 480:]]


def _heat_map(text: str) -> FloatArray:
    """The plot of a strength without its labels."""
    left, top, right, bottom = MAP
    return draw_strength(parse_strength(text), 12, 12)[top:bottom, left:right]


def _portraits(face: Face, geometry: FaceGeometry) -> list[FloatArray]:
    return [face.photograph, _around(face, overlay_mesh(face.photograph, geometry)), render_mesh(geometry, TILE)]


def _face(path: Path) -> Face:
    return choose_face(detect_faces(load_photograph(path), make_detector()))


def _around(face: Face, picture: FloatArray) -> FloatArray:
    """The square of ``picture`` around the face, three times as large as it."""
    x, y = (face.box[:2] + face.box[2:]) / 2
    half = 1.1 * float(max(face.box[2] - face.box[0], face.box[3] - face.box[1]))
    rows, columns = (slice(int(max(middle - half, 0)), int(middle + half)) for middle in (y, x))
    return picture[rows, columns]


def _write(name: str, pictures: list[FloatArray]) -> None:
    """Six pictures, three per row, as workflows/<name>.jpg."""
    page = Image.new("RGB", (3 * TILE + 4 * GAP, 2 * TILE + 3 * GAP), PAGE)
    for index, picture in enumerate(pictures):
        tile = Image.fromarray(to_uint8(np.asarray(picture))).resize((TILE, TILE), Image.Resampling.LANCZOS)
        page.paste(tile, (GAP + index % 3 * (TILE + GAP), GAP + index // 3 * (TILE + GAP)))
    page.save(ROOT / "workflows" / f"{name}.jpg", quality=88)


if __name__ == "__main__":
    main()
