"""The metrics say what a viewer sees: who it is, how much the face moves, and whether the picture was copied."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from fantasyid_core.errors import InputError, NoFaceError
from fantasyid_core.evaluation import clips
from fantasyid_core.evaluation.clips import array_frames
from fantasyid_core.evaluation.evaluate import Case, evaluate
from fantasyid_core.evaluation.frechet import fid_features, frechet_distance
from fantasyid_core.evaluation.metrics import (
    ClipMetrics,
    clip_motion,
    copy_paste_score,
    inter_frame_similarity,
    measure_clip,
    rank_one,
)
from fantasyid_core.evaluation.motion import StillFace, face_motion
from fantasyid_core.evaluation.watch import Eyes, Person, SeenFace, see_person, watch
from fantasyid_core.faces.detect import choose_face, detect_faces
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.landmarks import detect_landmarks
from fantasyid_core.geometry.fit import fit_head
from fantasyid_core.images import load_photograph
from fantasyid_core.views.scene import make_scene
from fantasyid_core.views.turn import render_view

ASTRONAUT = Path(clips.__file__).parent.parent / "assets" / "astronaut.png"
YAWS = (-28, -21, -14, -7, 0, 7, 14, 21, 28)


@lru_cache
def eyes() -> Eyes:
    return Eyes(features=True)


@lru_cache
def photograph() -> np.ndarray:
    return load_photograph(ASTRONAUT)


@lru_cache
def astronaut() -> Person:
    return see_person("astronaut", photograph(), eyes())


@lru_cache
def hopper() -> Person:
    data = pytest.importorskip("matplotlib.cbook", reason="matplotlib brings Hopper's portrait")
    return see_person("Hopper", load_photograph(data._get_data_path("sample_data/grace_hopper.jpg")), eyes())


@lru_cache
def turning() -> tuple[SeenFace | None, ...]:
    """The astronaut turns her head from one side to the other in a second: real pixels on a real mesh."""
    face = choose_face(detect_faces(photograph(), make_detector()))
    scene = make_scene(face, fit_head(detect_landmarks(face)))
    return tuple(look(np.stack([render_view(scene, yaw, 0).crop for yaw in YAWS])))


def look(frames: np.ndarray, fps: float = 8) -> list[SeenFace | None]:
    return watch(array_frames(frames, fps), eyes())


def moved(count: int, shift: tuple[float, float], degrees: float = 0, zoom: float = 1) -> np.ndarray:
    """The photograph's face, each frame shifted, rolled and enlarged by that much more than the one before."""
    part = np.ascontiguousarray(photograph()[:320, 60:420])
    frames = []
    for k in range(count):
        matrix = cv2.getRotationMatrix2D((180, 120), degrees * k, zoom**k)
        matrix[:, 2] += np.array(shift) * k
        frames.append(cv2.warpAffine(part, matrix, (360, 320), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))
    return np.stack(frames).clip(0, 1).astype(np.float32)


def flickering(count: int, strength: float = 0.6) -> np.ndarray:
    """A still face whose skin boils: smooth noise, new in every frame."""
    frames, random = moved(count, (0, 0)), np.random.default_rng(0)
    noise = [cv2.GaussianBlur(random.normal(0, strength, frames[0].shape), (0, 0), 4) for _ in range(count)]
    return (frames + np.stack(noise)).clip(0, 1).astype(np.float32)


def measured(seen, *people: Person) -> ClipMetrics:
    return measure_clip("clip", seen, people or (astronaut(),))


def test_a_still_video_has_no_motion_and_one_face():
    metrics = measured(look(moved(3, (0, 0))))
    assert metrics.ifs == 1.0
    assert metrics.fm == pytest.approx(0, abs=1e-4)
    assert metrics.flicker == pytest.approx(0, abs=1e-6)
    assert metrics.yaw_range == 0
    assert metrics.rs > 0.99
    assert (metrics.frames, metrics.faces) == (3, 3)


def test_a_turning_head_stays_the_person_and_is_not_the_other_one():
    metrics = measured(turning(), astronaut(), hopper())
    assert metrics.rs > 0.85
    assert metrics.ifs > 0.95
    assert metrics.rank1 == 1.0
    against_hopper = measured(turning(), hopper(), astronaut())
    assert against_hopper.rs < 0.5 < metrics.rs_lowest
    assert against_hopper.rank1 == 0.0


def test_the_yaw_of_a_turning_head_is_followed_and_rs_told_apart_by_it():
    metrics = measured(turning())
    yaws = [face.yaw_pitch_roll[0] for face in turning() if face is not None]
    assert len(yaws) == len(YAWS)
    assert (np.diff(yaws) > 0).all()
    assert metrics.yaw_low < -15 < 15 < metrics.yaw_high
    front, side, far, _ = metrics.rs_by_yaw
    assert front.frames + side.frames == len(YAWS)
    assert front.rs > side.rs + 0.03
    assert (far.frames, far.rs) == (0, None)
    total = (front.frames * front.rs + side.frames * side.rs) / len(YAWS)
    assert metrics.rs == pytest.approx(total)


@pytest.mark.parametrize(
    "change", [{"shift": (4.3, 2.7)}, {"shift": (0, 0), "degrees": 5}, {"shift": (0, 0), "zoom": 1.05}]
)
def test_moving_the_picture_as_a_whole_is_no_face_motion(change):
    motion, _ = clip_motion(look(moved(4, **change)))
    turn, _ = clip_motion(turning())
    assert motion < 0.1
    assert turn > 10 * motion


def test_flicker_raises_fm_as_the_trap_it_is_and_shows_in_its_own_figure():
    still, faint, strong = (clip_motion(look(flickering(4, strength))) for strength in (0.0, 0.3, 0.9))
    assert still[0] + 0.1 < faint[0] < strong[0]
    assert strong[0] > 0.5
    turn = clip_motion(turning())
    assert turn[1] < faint[1] < strong[1]  # a real turn moves more, and flickers less


def test_shuffled_frames_have_less_ifs_and_more_fm_but_the_same_rs():
    order = [4, 0, 8, 2, 6, 1, 7, 3, 5]
    straight = measured(turning())
    faces = [turning()[k] for k in order]
    shuffled = measured([SeenFace(**(vars(face) | {"time": k / 8})) for k, face in enumerate(faces)])
    assert shuffled.ifs < straight.ifs - 0.05
    assert shuffled.fm > 2 * straight.fm
    assert shuffled.rs == pytest.approx(straight.rs)


def test_fm_does_not_depend_on_the_frame_rate_of_the_file():
    faces = [face for face in turning() if face is not None]
    slower = [SeenFace(**(vars(face) | {"time": face.time * 4})) for face in faces]
    assert clip_motion(slower)[0] == pytest.approx(clip_motion(faces)[0] / 4)
    frames = np.repeat(moved(5, (0, 0)), 3, axis=0)
    assert [face.time for face in look(frames, 24)] == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])


def test_known_flow_is_measured_in_pixels():
    random = np.random.default_rng(0)
    grey = cv2.GaussianBlur(random.normal(0, 1, (256, 256)), (0, 0), 3)
    grey = ((grey - grey.min()) / np.ptp(grey) * 255).astype(np.uint8)
    rows, columns = np.mgrid[0:256, 0:256].astype(np.float32)
    sway = 2 * np.sin(rows / 20)  # every row moves sideways by its own amount: no shift, roll or zoom does that
    after = cv2.remap(grey, columns - sway, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    mask = np.zeros((256, 256), np.float32)
    mask[40:216, 40:216] = 1
    motion, flicker = face_motion(StillFace(grey, mask), StillFace(after, mask))
    assert motion == pytest.approx(np.abs(sway[40:216]).mean(), rel=0.12)
    unexplained = np.abs(grey.astype(float) - after)[40:216, 40:216].mean() / 255
    assert flicker < 0.4 * unexplained


def test_frames_without_a_face_are_counted_and_count_in_no_mean():
    frames = moved(5, (0, 0))
    frames[[1, 4]] = 0.5
    metrics = measured(look(frames))
    assert (metrics.frames, metrics.faces) == (5, 3)
    assert [value is None for value in metrics.per_frame] == [False, True, False, False, True]
    assert metrics.rs > 0.99
    assert metrics.ifs == 1.0  # of the one pair of neighbours with faces
    assert measured(look(frames[:1])).ifs is None
    with pytest.raises(NoFaceError, match="None of the 2 frames of clip that were looked at shows a face"):
        measured(look(frames[[1, 4]]))


def test_the_face_that_was_there_is_followed_when_a_larger_one_appears():
    part = photograph()[:320, 60:420]
    small = cv2.resize(part, (270, 240), interpolation=cv2.INTER_AREA)
    frames = np.full((3, 340, 800, 3), 0.5, np.float32)
    frames[:, 50:290, 20:290] = small
    frames[1:, 10:330, 400:760] = part
    seen = look(frames)
    assert [face.box[0] < 400 for face in seen] == [True, True, True]
    assert look(frames[1:])[0].box[0] > 400  # on its own: the largest


def test_tiny_videos_can_be_measured():
    tiny = np.stack(
        [cv2.resize(frame[:270, 45:315], (64, 64), interpolation=cv2.INTER_AREA) for frame in moved(2, (0, 0))]
    )
    assert measured(look(tiny)).rs > 0.6


def person(name: str, reference: list[float], *others: list[float]) -> Person:
    def seen(vector: list[float]) -> SeenFace:
        nothing = StillFace(np.zeros((256, 256), np.uint8), np.ones((256, 256), np.float32))
        return SeenFace(0.0, np.zeros(4, np.float32), np.array(vector, np.float32), (0.0, 0.0, 0.0), nothing)

    return Person(name, seen(reference), tuple(seen(vector) for vector in others))


def test_copy_paste_is_one_for_the_reference_itself_and_zero_midway():
    own = person("own", [1, 0, 0], [0, 1, 0])
    copies, between, away = np.array([[1, 0, 0]]), np.array([[0.7, 0.7, 0.1]]), np.array([[0, 1, 0]])
    assert copy_paste_score(copies, own) == pytest.approx(1.0)
    assert copy_paste_score(between, own) == pytest.approx(0.0)
    assert copy_paste_score(away, own) == pytest.approx(-1.0)
    assert copy_paste_score(copies, person("own", [1, 0, 0])) is None
    with pytest.raises(InputError, match="other photograph of own is the reference itself"):
        copy_paste_score(copies, person("own", [1, 0, 0], [1, 0, 0]))


def test_rank_one_counts_the_frames_nearest_to_their_own_reference():
    people = [person("a", [1, 0]), person("b", [0, 1]), person("c", [-1, 0])]
    frames = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.3], [-1, 0.1]])
    assert rank_one(frames, people, 0) == 0.5
    assert rank_one(frames, people, 2) == 0.25
    assert rank_one(frames, people[:1], 0) is None


def test_ifs_is_the_mean_over_neighbours():
    a, b = person("a", [1, 0]).reference, person("b", [0, 1]).reference
    assert inter_frame_similarity([a, a, b, None, b, b]) == pytest.approx(2 / 3)


def test_fid_of_a_set_with_itself_is_zero_and_blur_raises_it():
    face = choose_face(detect_faces(photograph(), make_detector()))
    landmarks, random = detect_landmarks(face), np.random.default_rng(0)

    def features(sigma: float) -> np.ndarray:
        picture = cv2.GaussianBlur(photograph(), (0, 0), sigma) if sigma else photograph()
        jitter = [landmarks + random.normal(0, 1.5, (1, 3)).astype(np.float32) for _ in range(6)]
        return np.stack([fid_features(picture, points) for points in jitter])

    sharp, again, soft, blurred = (features(sigma) for sigma in (0, 0, 2, 4))
    assert frechet_distance(sharp, sharp) == pytest.approx(0, abs=1e-6)
    distances = [frechet_distance(sharp, other) for other in (again, soft, blurred)]
    assert all(a * 1.5 < b for a, b in pairwise(distances))


def test_fid_is_the_distance_of_two_gaussians():
    from scipy.linalg import sqrtm

    random = np.random.default_rng(0)
    a = random.normal(size=(40, 5)) @ random.normal(size=(5, 5))
    b = random.normal(size=(30, 5)) @ random.normal(size=(5, 5)) + 1
    ca, cb = np.cov(a.T), np.cov(b.T)
    root = np.real(sqrtm(ca @ cb))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected)
    with pytest.raises(InputError, match="at least 2 faces on each side, not 1 and 30"):
        frechet_distance(a[:1], b)


def test_one_bad_clip_does_not_stop_the_others():
    good, bad = moved(2, (0, 0)), np.full((2, 300, 300, 3), 0.5, np.float32)
    cases = [Case("bad.mp4", array_frames(bad, 8)), Case("good.mp4", array_frames(good, 8))]
    result = evaluate(cases, [astronaut()], eyes(), real=[array_frames(good, 8), array_frames(photograph()[None], 8)])
    assert [clip.name for clip in result.clips] == ["good.mp4"]
    assert result.failures == ("None of the 2 frames of bad.mp4 that were looked at shows a face.",)
    assert result.fid_faces == (2, 3)
    assert result.mean("rs") == result.clips[0].rs
    with pytest.raises(NoFaceError, match="real pictures that FID compares with"):
        evaluate([Case("good.mp4", array_frames(good, 8))], [astronaut()], eyes(), real=[array_frames(bad, 8)])
    with pytest.raises(InputError, match="no clip to evaluate"):
        evaluate([], [astronaut()], eyes())


def test_a_reference_without_a_face_is_named():
    with pytest.raises(NoFaceError, match=r"No face was found in the photograph of nobody \(YuNet"):
        see_person("nobody", np.full((300, 300, 3), 0.5, np.float32), eyes())
    with pytest.raises(NoFaceError, match="another photograph of her"):
        see_person("her", photograph(), eyes(), [np.full((300, 300, 3), 0.5, np.float32)])
