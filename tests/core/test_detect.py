"""Faces are found whatever the picture is like, the right one is chosen, and none found is said in one sentence."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fantasyid_core.errors import InputError, MissingFileError, NoFaceError
from fantasyid_core.faces import yunet
from fantasyid_core.faces.align import TEMPLATE
from fantasyid_core.faces.detect import (
    RULES,
    choose_face,
    chosen_index,
    detect_faces,
    face_from_crop,
    whole_picture_face,
)
from fantasyid_core.faces.detectors import DETECTORS, make_detector
from fantasyid_core.faces.draw import CHOSEN, OTHER, draw_faces
from fantasyid_core.faces.face import Detection
from fantasyid_core.faces.insightface_detector import FaceAnalysisDetector
from fantasyid_core.faces.landmarks import canonical_face, detect_landmarks
from fantasyid_core.faces.pose import is_profile, keypoint_yaw
from fantasyid_core.images import as_photograph, load_photograph, to_uint8

ASTRONAUT = Path(__file__).parents[2] / "fantasyid_core" / "assets" / "astronaut.png"
#: Where the astronaut's eyes, nose tip and mouth corners are, read off the picture by eye; pixels.
ASTRONAUT_POINTS = np.array([[202, 102], [247, 102], [223, 126], [202, 141], [241, 142]])


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return load_photograph(ASTRONAUT)


@pytest.fixture(scope="module")
def hopper() -> np.ndarray:
    matplotlib = pytest.importorskip("matplotlib", reason="grace_hopper.jpg comes with matplotlib")
    return load_photograph(Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg")


def scaled(photograph: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(photograph, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def on_canvas(picture: np.ndarray, height: int, width: int, y: int, x: int) -> np.ndarray:
    canvas = np.full((height, width, 3), 0.5, np.float32)
    canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def turned(photograph: np.ndarray, yaw: float) -> np.ndarray:
    """The face of ``photograph`` seen from the side: its own pixels on its own landmarks, far triangles first."""
    face = detect_faces(photograph, make_detector())[0]
    landmarks, triangles = detect_landmarks(face), canonical_face().triangles
    angle, size = np.radians(yaw), 400
    centred = (landmarks - landmarks.mean(axis=0)) / np.ptp(landmarks[:, 0])
    x = centred[:, 0] * np.cos(angle) + centred[:, 2] * np.sin(angle)
    depth = centred[:, 2] * np.cos(angle) - centred[:, 0] * np.sin(angle)
    seen = (np.stack([x, centred[:, 1]], axis=1) * size / 2 + size / 2).astype(np.float32)
    picture = np.full((size, size, 3), 0.5, np.float32)
    for corners in triangles[np.argsort(depth[triangles].mean(axis=1))]:
        warp = cv2.getAffineTransform(landmarks[corners, :2].astype(np.float32), seen[corners])
        a, b = seen[corners][1] - seen[corners][0], seen[corners][2] - seen[corners][0]
        if a[0] * b[1] - a[1] * b[0] > 0:
            continue  # seen from behind
        inside = np.zeros((size, size), np.uint8)
        cv2.fillConvexPoly(inside, np.rint(seen[corners]).astype(np.int32), 1)
        x0, y0, width, height = cv2.boundingRect(np.rint(seen[corners]).astype(np.int32))
        warp[:, 2] -= [x0, y0]
        part = cv2.warpAffine(photograph, warp, (width, height))
        window = picture[y0 : y0 + height, x0 : x0 + width]
        covered = inside[y0 : y0 + height, x0 : x0 + width] > 0
        window[covered] = part[: window.shape[0], : window.shape[1]][covered]
    return picture


def test_the_astronaut_is_found_where_she_is(astronaut):
    faces = detect_faces(astronaut, make_detector())
    assert len(faces) == 1
    assert np.abs(faces[0].keypoints - ASTRONAUT_POINTS).max() < 5  # of a face 90 px wide
    assert faces[0].score > 0.9
    in_crop = faces[0].keypoints @ faces[0].matrix[:, :2].T + faces[0].matrix[:, 2]
    assert np.abs(in_crop - TEMPLATE).max() < 20


def test_hopper_is_found(hopper):
    (face,) = detect_faces(hopper, make_detector())
    assert np.abs(face.keypoints[:2] - [[228, 192], [306, 190]]).max() < 8


@pytest.mark.parametrize("width", [12, 20, 40, 150, 300])
def test_faces_of_any_size_are_found(astronaut, width):
    small = scaled(astronaut[:300, 60:400], width / 90)
    picture = on_canvas(small, 1100, 1200, 30, 40)
    faces = detect_faces(picture, make_detector(), min_size=10)
    assert len(faces) == 1
    found = faces[0].keypoints - [40, 30]
    assert np.abs(found - (ASTRONAUT_POINTS - [60, 0]) * width / 90).max() < 2.0 + 0.07 * width


@pytest.mark.parametrize("zoom", [1, 12])
def test_a_face_that_fills_the_picture_is_found(astronaut, zoom):
    filled = cv2.resize(np.ascontiguousarray(astronaut[70:170, 182:264]), None, fx=zoom, fy=zoom)
    assert len(detect_faces(filled, make_detector())) == 1


def test_an_enlarged_photograph_shows_no_faces_in_its_folds(astronaut):
    assert len(detect_faces(cv2.resize(astronaut, (3000, 3000)), make_detector())) == 1


def test_an_8000_pixel_photograph_takes_seconds(astronaut):
    huge = as_photograph(np.tile(to_uint8(astronaut), (2, 16, 1))[:1000, :8000])
    tall = on_canvas(cv2.resize(astronaut, (4000, 4000)), 8000, 6000, 100, 100)
    start = time.perf_counter()
    assert len(detect_faces(huge, make_detector())) >= 28
    faces = detect_faces(as_photograph(tall), make_detector())
    assert len(faces) == 1 and faces[0].box[2] - faces[0].box[0] > 600
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("channels", ["grey", "transparent", "sixteen bit"])
def test_odd_kinds_of_pictures_show_the_same_face(astronaut, channels):
    pixels = to_uint8(astronaut)
    picture = {
        "grey": pixels.mean(axis=2).astype(np.uint8),
        "transparent": np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
        "sixteen bit": pixels.astype(np.uint16) * 257,
    }[channels]
    (face,) = detect_faces(as_photograph(picture), make_detector())
    assert np.abs(face.keypoints - ASTRONAUT_POINTS).max() < 6


def test_several_faces_are_numbered_from_left_to_right(astronaut, hopper):
    group = np.full((620, 1500, 3), 0.5, np.float32)
    group[:512, 940:1452] = astronaut
    group[10:610, 420:932] = hopper
    group[300:500, 50:250] = scaled(astronaut[:280, 90:370], 200 / 280)
    faces = detect_faces(group, make_detector())
    assert [face.box[0] > edge for face, edge in zip(faces, (50, 420, 940), strict=True)] == [True] * 3
    assert chosen_index(faces, "largest") == 1
    assert chosen_index(faces, "most central") == 1
    assert chosen_index(faces, "index", 2) == 2
    assert chosen_index(faces, "most confident") == int(np.argmax([face.score for face in faces]))
    assert choose_face(faces, "index", 0).mask.shape == group.shape[:2]
    assert all(face.mask is None and face.photograph is faces[0].photograph for face in faces)


def test_the_release_s_choice_is_the_face_nearest_the_middle(astronaut):
    pair = np.full((600, 1200, 3), 0.5, np.float32)
    pair[:512, :512] = astronaut
    pair[200:400, 500:700] = scaled(astronaut[:280, 90:370], 200 / 280)
    faces = detect_faces(pair, make_detector())
    assert (chosen_index(faces, "largest"), chosen_index(faces, "most central")) == (0, 1)


def test_a_face_number_or_rule_that_does_not_exist_is_refused(astronaut):
    faces = detect_faces(astronaut, make_detector())
    for index in (1, -1):
        with pytest.raises(InputError, match=r"has 1, numbered from 0\.$"):
            choose_face(faces, "index", index)
    with pytest.raises(InputError, match="use one of largest"):
        choose_face(faces, "prettiest")
    with pytest.raises(InputError, match="no face to choose"):
        choose_face([])
    assert set(RULES) == {"largest", "most central", "most confident", "index"}


def test_no_face_says_what_was_tried():
    with pytest.raises(NoFaceError, match=r"No face was found in this 320×200 picture by YuNet at 160 to 1920 px.*\.$"):
        detect_faces(np.full((200, 320, 3), 0.5, np.float32), make_detector())


def test_faces_that_are_too_small_say_how_large_they_are(astronaut):
    with pytest.raises(NoFaceError, match=r"largest of the 1 faces .* is only \d\d px.*below 400 px"):
        detect_faces(astronaut, make_detector(), min_size=400)


def test_as_released_works_on_the_reduced_photograph(astronaut):
    large = cv2.resize(astronaut, (2048, 2048))
    (face,) = detect_faces(large, make_detector(), as_released=True)
    assert face.photograph.shape == (1024, 1024, 3)
    assert np.abs(face.keypoints / 2 - ASTRONAUT_POINTS).max() < 6


def test_the_whole_picture_can_stand_in_for_a_face(astronaut):
    wide = np.ascontiguousarray(astronaut[:256])
    face = whole_picture_face(wide)
    assert face.score == 0.0 and face.mask.min() == 1.0
    assert np.allclose(face.box, [0, 0, 512, 256])
    assert np.abs(face.crop[128:384] - wide).max() < 0.01  # 512 wide already: uncut and unscaled
    assert np.allclose(face.crop[:127], face.crop[0, 0])


def test_a_crop_of_another_pack_becomes_a_face(astronaut):
    crop = detect_faces(astronaut, make_detector())[0].crop
    face = face_from_crop(crop)
    assert np.abs(face.crop - crop).max() < 0.005
    assert np.abs(face.keypoints - TEMPLATE).max() < 0.01


def test_a_mask_places_the_face_in_its_crop(astronaut):
    original = choose_face(detect_faces(astronaut, make_detector()))
    face = face_from_crop(astronaut, original.mask[None])
    centre = original.keypoints[:2].mean(axis=0)
    assert np.hypot(*(face.keypoints[:2].mean(axis=0) - centre)) < 6
    assert np.abs(face.crop - original.crop).mean() < 0.12
    with pytest.raises(InputError, match="mask is empty"):
        face_from_crop(astronaut, np.zeros((512, 512), np.float32))
    with pytest.raises(InputError, match="100×80 but its image 512×512"):
        face_from_crop(astronaut, np.ones((80, 100), np.float32))


@pytest.mark.parametrize(("yaw", "profile"), [(-75, True), (0, False), (25, False), (75, True)])
def test_profiles_are_recognised(astronaut, yaw, profile):
    (face,) = detect_faces(turned(astronaut, yaw), make_detector())
    assert is_profile(face) == profile
    assert np.sign(keypoint_yaw(face.keypoints)) == np.sign(yaw) or abs(yaw) < 5


def test_numbers_and_boxes_are_drawn_where_the_faces_are(astronaut, hopper):
    pair = np.full((600, 1024, 3), 0.5, np.float32)
    pair[:512, :512] = astronaut
    pair[:, 512:] = hopper
    faces = detect_faces(pair, make_detector())
    drawn = to_uint8(draw_faces(pair, faces))
    for face, colour in zip(faces, (OTHER, CHOSEN), strict=True):
        x0, y0, x1, y1 = face.box.round().astype(int)
        assert (drawn[(y0 + y1) // 2, x0 + 1] == colour).all() and (drawn[y1 - 2, (x0 + x1) // 2] == colour).all()
        label = drawn[y0 - 40 : y0 - 2, x0 : x0 + 30]
        assert (label == colour).all(axis=-1).mean() > 0.3 and (label.sum(axis=-1) < 120).any()
    untouched = np.ones(pair.shape[:2], bool)
    for face in faces:
        x0, y0, x1, y1 = face.box.astype(int)
        untouched[max(y0 - 60, 0) : y1 + 12, max(x0 - 12, 0) : x1 + 12] = False
    assert np.array_equal(drawn[untouched], to_uint8(pair)[untouched])


def test_a_face_at_the_picture_s_edge_still_shows_its_number(astronaut):
    top = np.ascontiguousarray(astronaut[66:300])
    faces = detect_faces(top, make_detector())
    assert (to_uint8(draw_faces(top, faces))[-234:] != to_uint8(top)).any()


def test_every_detector_says_its_licence_and_unknown_ones_are_refused():
    assert "MIT" in DETECTORS["yunet"].about and "non-commercial" in DETECTORS["insightface"].about
    with pytest.raises(InputError, match="choose one of yunet, insightface"):
        make_detector("retinaface")


def test_a_missing_yunet_file_is_named(monkeypatch, tmp_path, astronaut):
    monkeypatch.setattr(yunet, "MODEL_FILE", tmp_path / "yunet_2023mar.onnx")
    with pytest.raises(MissingFileError, match=r"yunet_2023mar\.onnx .*install the pack again"):
        make_detector().detect(astronaut)


def test_another_pack_s_face_analysis_is_a_detector(astronaut):
    own = make_detector().detect(astronaut)[0]
    seen: list[np.ndarray] = []

    def get(img: np.ndarray) -> list[SimpleNamespace]:
        seen.append(img)
        return [SimpleNamespace(bbox=own.box, kps=own.keypoints, det_score=np.float32(0.5))] * 2

    (first, _) = detect_faces(astronaut, FaceAnalysisDetector(SimpleNamespace(get=get)))
    assert np.array_equal(first.keypoints, own.keypoints) and first.score == 0.5
    assert seen[0].dtype == np.uint8 and np.array_equal(seen[0][..., ::-1], to_uint8(astronaut))


def test_a_face_analysis_without_keypoints_is_refused(astronaut):
    faces = [SimpleNamespace(bbox=[0, 0, 50, 50], kps=None, det_score=0.9)]
    with pytest.raises(InputError, match="no keypoints"):
        detect_faces(astronaut, FaceAnalysisDetector(SimpleNamespace(get=lambda img: faces)))


def test_a_detector_of_ones_own_needs_one_method(astronaut):
    class Fixed:
        def detect(self, photograph: np.ndarray) -> list[Detection]:
            return [Detection(np.array([170, 60, 270, 180]), ASTRONAUT_POINTS, 1.0)]

    assert detect_faces(astronaut, Fixed())[0].score == 1.0
