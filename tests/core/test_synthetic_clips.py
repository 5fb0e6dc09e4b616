"""Synthetic talking heads: what a training loop is given, and whether it is what it says."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fantasyid_core.errors import InputError
from fantasyid_core.faces.align import TEMPLATE
from fantasyid_core.faces.yunet import YuNetDetector
from fantasyid_core.geometry.geometry import rotation_from_angles
from fantasyid_core.geometry.head import load_head
from fantasyid_core.geometry.rasterise import rasterise
from fantasyid_core.training.captions import CLOTHING, FACE, HEAD, LIGHT, MAX_TOKENS, PLACE, write_caption
from fantasyid_core.training.clips import Clip, ClipOptions, crop_matrix, make_clip, neutral_vertices, own_crops
from fantasyid_core.training.frame_rasterise import rasterise_frames
from fantasyid_core.training.motion import FACE_ACTIONS, HEAD_ACTIONS, draw_motion
from fantasyid_core.training.people import draw_person, identity_names
from fantasyid_core.training.scene import draw_scene
from fantasyid_core.video.text import WordHashTokenizer

OPTIONS = ClipOptions(seed=5, frames=5, references=2)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [make_clip(ClipOptions(seed=11, size=128, frames=9, references=3, crop=128), index) for index in range(8)]


def same(one: Clip, other: Clip) -> bool:
    return all(np.array_equal(one.arrays()[name], other.arrays()[name]) for name in one.arrays())


def found(picture: np.ndarray) -> np.ndarray | None:
    """[5, 2] keypoints of the best face that our detector sees in a [S, S, 3] uint8 picture, in its pixels."""
    factor = 4
    large = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    faces = YuNetDetector().detect(large.astype(np.float32) / 255)
    if not faces:
        return None
    return (max(faces, key=lambda face: face.size).keypoints + 0.5) / factor - 0.5


def test_a_clip_depends_on_seed_and_number_alone() -> None:
    make_clip(OPTIONS, 8)
    first = make_clip(OPTIONS, 3)
    assert same(first, make_clip(OPTIONS, 3))
    assert not np.array_equal(first.frames, make_clip(OPTIONS, 4).frames)
    assert not np.array_equal(first.frames, make_clip(replace(OPTIONS, seed=6), 3).frames)


def test_shapes_and_ranges(clips: list[Clip]) -> None:
    for clip in clips:
        assert clip.frames.shape == (9, 128, 128, 3)
        assert clip.references.shape == (3, 128, 128, 3)
        assert clip.references.dtype == clip.frames.dtype == clip.reference_cover.dtype == np.uint8
        assert clip.identity.shape == (len(identity_names()),)
        assert clip.expression.shape == (9, 52)
        assert 0 <= clip.expression.min() <= clip.expression.max() <= 1
        assert np.abs(clip.angles).max() <= 60
        assert np.ptp(clip.frames) > 100  # neither black nor washed out


def test_a_face_detector_sees_people_where_the_truth_says(clips: list[Clip]) -> None:
    near = [clip for clip in clips if abs(clip.angles[0, 0]) < 35]
    errors = []
    for clip in near:
        points = found(clip.frames[0])
        if points is not None:
            eyes = np.linalg.norm(clip.keypoints[0, 0] - clip.keypoints[0, 1])
            errors.append(np.linalg.norm(points - clip.keypoints[0], axis=1).mean() / eyes)
    assert len(errors) >= len(near) - 1
    assert np.median(errors) < 0.15  # of the distance between the eyes


def test_faces_fill_the_picture(clips: list[Clip]) -> None:
    """Eyes to mouth are 69 mm of a face of some 185 mm, which should be 34 to 46 of 64 pixels."""
    for clip in clips:
        points = clip.keypoints[0]
        height = np.linalg.norm(points[:2].mean(axis=0) - points[3:].mean(axis=0)) / np.cos(
            np.radians(clip.angles[0, 1])
        )
        assert 0.45 < height * 185 / 69 / 128 < 0.85


def test_references_are_aligned_crops_of_the_same_person_elsewhere(clips: list[Clip]) -> None:
    errors = []
    for clip in clips:
        for picture, angles in zip(clip.references, clip.reference_angles, strict=True):
            points = found(picture) if abs(angles[0]) < 35 else None
            if points is not None:
                errors.append(np.abs(points - TEMPLATE / 4).mean())
        assert not np.array_equal(clip.references[0], clip.references[1])
    assert len(errors) >= 8
    assert np.median(errors) < 4  # of 128 pixels


def test_a_person_keeps_the_face_and_changes_all_else() -> None:
    one, other = (make_clip(replace(OPTIONS, people=1), index) for index in (0, 1))
    assert np.array_equal(one.identity, other.identity)
    assert np.array_equal(one.shape, other.shape)
    assert not np.array_equal(one.labels, other.labels)
    assert not np.array_equal(one.angles, other.angles)


def test_vertices_are_those_of_the_head_at_rest() -> None:
    clip = make_clip(OPTIONS, 0)
    assert np.allclose(neutral_vertices(clip.shape)[0], load_head().vertices(clip.shape), atol=1e-6)


def test_own_crops_show_each_keypoint_where_the_template_has_it(clips: list[Clip]) -> None:
    for clip in clips:
        crop = own_crops(clip.frames[:1], clip.keypoints[:1], 128)[0]
        matrix = crop_matrix(clip.keypoints[0], 128)
        x, y = clip.keypoints[0, 2]  # the nose tip
        column, row = np.rint(matrix @ [x, y, 1]).astype(int)
        assert np.abs(np.array([column, row]) - TEMPLATE[2] / 4).max() < 16  # a turned nose lies aside
        before = cv2.getRectSubPix(clip.frames[0], (3, 3), (float(x), float(y))).mean(axis=(0, 1))
        assert np.abs(crop[row - 1 : row + 2, column - 1 : column + 2].mean(axis=(0, 1)) - before).max() < 40


@pytest.mark.parametrize("action", ["turn left", "turn right", "look up", "look down", "tilt left", "tilt right"])
def test_the_head_does_what_the_action_says(action: str) -> None:
    axis, sign = {"turn": (0, 1), "look": (1, 1), "tilt": (2, 1)}[action.split()[0]]
    sign *= -1 if action.split()[1] in ("left", "down") else 1
    for seed in range(10):
        motion = draw_motion(np.random.default_rng(seed), 17, action, "calm")
        moved = motion.angles[-1] - motion.angles[0]
        assert sign * moved[axis] > 8
        assert np.abs(moved).argmax() == axis


@pytest.mark.parametrize(
    ("action", "axis", "degrees"), [("turn left", 0, 18), ("shake", 0, 24), ("nod", 1, 18), ("tilt right", 2, 10)]
)
def test_a_head_takes_its_time(action: str, axis: int, degrees: float) -> None:
    """Four frames are one latent: in them an unhurried head turns by less than ``degrees``, more often than not."""
    unhurried = [draw_motion(np.random.default_rng(seed), 17, action, "calm") for seed in range(60)]
    furthest = [
        np.abs(motion.angles[4:, axis] - motion.angles[:-4, axis]).max()
        for motion in unhurried
        if motion.speed != "quickly"
    ]
    assert np.median(furthest) < degrees
    assert max(furthest) < 1.5 * degrees


def test_an_open_mouth_shows_at_the_mouth() -> None:
    names = load_head().expression_names
    motion = draw_motion(np.random.default_rng(1), 17, "still", "open mouth")
    assert motion.expression[-1, names.index("jawOpen")] > 0.5
    quiet = draw_motion(np.random.default_rng(1), 17, "still", "smile")
    assert quiet.expression[-1, names.index("jawOpen")] < 0.2
    assert quiet.expression[-1, names.index("mouthSmileLeft")] > 0.5


def test_captions_fit_the_text_encoder_and_say_what_happens() -> None:
    generator = np.random.default_rng(2)
    tokenizer = WordHashTokenizer(4094)
    for _ in range(300):
        motion, scene = draw_motion(generator, 9), draw_scene(generator, 32)
        caption = write_caption(generator, bool(generator.random() < 0.5), motion, scene, "still")
        tokens = tokenizer(
            caption,
            padding="max_length",
            max_length=MAX_TOKENS + 1,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).input_ids[0]
        assert 1 in tokens.tolist(), caption  # the end is there: nothing was cut
        said = [phrase.split("{}")[0].strip() for phrase in HEAD[motion.head_action]]
        assert "" in said or any(phrase in caption for phrase in said if phrase), caption


def test_no_two_things_are_said_with_the_same_words() -> None:
    for table in (HEAD, FACE, PLACE, LIGHT, CLOTHING):
        phrases = [phrase for choices in table.values() for phrase in choices if phrase]
        assert len(phrases) == len(set(phrases))
    assert set(HEAD) == set(HEAD_ACTIONS)
    assert set(FACE) == set(FACE_ACTIONS)


def test_people_differ() -> None:
    people = [draw_person(np.random.default_rng([1, index])) for index in range(200)]
    vectors = np.stack([person.vector() for person in people])
    assert len(np.unique(vectors, axis=0)) == 200
    constant = [name for name, spread in zip(identity_names(), np.ptp(vectors, axis=0), strict=True) if spread == 0]
    assert not constant
    bearded = [person for person in people if person.beard_style != "none"]
    assert 20 < len(bearded) < 90
    assert not any(person.woman for person in bearded)


def test_the_quick_z_buffer_agrees_with_the_exact_one() -> None:
    head = load_head(whole=True)
    turned = np.stack([head.base @ rotation_from_angles(yaw, 10, 5).T for yaw in (-40, 0, 70)])
    points = (turned * [420, -420, 420] + [63.3, 60.1, 0]).astype(np.float32)
    sides = np.ones(len(head.triangles), bool)
    quick = rasterise_frames(np.ascontiguousarray(points.transpose(2, 1, 0)), head.triangles, sides, 128)
    picture = np.full(3 * 128 * 128, -1)
    picture[quick.pixel] = quick.triangle
    exact = np.stack([rasterise(frame, head.triangles, 128, 128).triangle_index for frame in points])
    assert len(np.unique(quick.pixel)) == len(quick.pixel)
    assert (picture.reshape(exact.shape) != exact).mean() < 2e-3  # edges are drawn twice, nothing else differs
    assert ((picture.reshape(exact.shape) >= 0) != (exact >= 0)).mean() < 1e-3


def test_a_mesh_outside_the_picture_shows_nothing() -> None:
    points = np.array([[500.0, 510, 500], [5, 5, 9], [0, 0, 0]], np.float32)[:, :, None]
    shown = rasterise_frames(points, np.array([[0, 2, 1]], np.int32), np.array([True]), 64)
    assert len(shown.pixel) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 60},
        {"size": 1024},
        {"size": 0},
        {"crop": 33},
        {"frames": 0},
        {"references": -1},
        {"seed": -1},
        {"people": 0},
    ],
)
def test_impossible_wishes_are_explained_in_one_sentence(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError) as raised:
        ClipOptions(**wrong)
    assert str(raised.value).count(".") == 1
