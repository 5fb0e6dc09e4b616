"""The views room: what an artist gets from one photograph, several photographs, or images of another pack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from view_faces import photographed

from fantasyid_core.errors import InputError, NoFaceError
from fantasyid_core.faces.align import TEMPLATE
from fantasyid_core.faces.detect import choose_face, detect_faces
from fantasyid_core.faces.detectors import make_detector
from fantasyid_core.faces.face import Detection, Face
from fantasyid_core.faces.landmarks import detect_landmarks
from fantasyid_core.faces.pose import keypoint_yaw
from fantasyid_core.geometry.fit import fit_head
from fantasyid_core.images import load_photograph
from fantasyid_core.views.augment import DEFAULT_ANGLES, augment_views, views_from_images
from fantasyid_core.views.makers import VIEW_MAKERS, ViewRequest, ViewWeights, stack_views
from fantasyid_core.views.photometric import change_light
from fantasyid_core.views.poses import crop_pose, keypoint_pose
from fantasyid_core.views.sheet import draw_view_sheet


def test_the_photograph_comes_first_and_every_view_says_where_it_is_from() -> None:
    face, geometry = photographed(roll=4)
    views = augment_views(face, geometry, mirror=True)
    np.testing.assert_array_equal(views.crops[0], face.crop)
    assert views.sources == (
        "photograph",
        "rendered yaw -30",
        "rendered yaw +30",
        "rendered pitch +15",
        "rendered pitch -15",
        "mirrored",
    )
    np.testing.assert_array_equal(views.crops[-1], face.crop[:, ::-1])
    asked = np.array([(0, 0), *DEFAULT_ANGLES])
    np.testing.assert_allclose(views.poses[:5, :2], asked, atol=4)
    np.testing.assert_allclose(views.poses[5], views.poses[0] * [-1, 1, -1])
    assert views.coverage[0] == views.coverage[-1] == 1
    assert np.all((views.coverage[1:5] > 0.5) & (views.coverage[1:5] < 1))


def test_a_rendered_view_weighs_as_much_as_it_really_shows() -> None:
    face, geometry = photographed()
    weights = ViewWeights(reference=2, rendered=0.8, mirrored=0)
    views = augment_views(face, geometry, angles=[(20, 0), (60, 0)], mirror=True, weights=weights)
    np.testing.assert_allclose(views.weights[1:3], 0.8 * views.coverage[1:3], rtol=1e-5)
    assert views.coverage[2] < views.coverage[1]
    assert views.weights[0] == 2
    assert views.weights[3] == 0


def test_changed_light_follows_the_seed_and_spares_photographs() -> None:
    face, geometry = photographed()
    other, _ = photographed(yaw=20)
    plain, one, same, another = (
        augment_views(face, geometry, angles=[(20, 0)], photometric=strength, photographs=[other], seed=seed)
        for strength, seed in ((0, 1), (0.7, 1), (0.7, 1), (0.7, 2))
    )
    np.testing.assert_array_equal(one.crops, same.crops)
    np.testing.assert_array_equal(one.crops[[0, 2]], plain.crops[[0, 2]])
    assert np.abs(one.crops[1] - plain.crops[1]).mean() > 0.005
    assert np.abs(one.crops[1] - another.crops[1]).mean() > 0.005


def test_light_changes_mildly_and_only_when_asked() -> None:
    crop = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(change_light(crop, 0, np.random.default_rng(0)), crop, atol=1e-6)
    changes = [np.abs(change_light(crop, 1, np.random.default_rng(seed)) - crop).mean() for seed in range(40)]
    assert max(changes) < 0.25
    assert np.median(changes) > 0.02
    with pytest.raises(InputError, match="between 0 and 1"):
        change_light(crop, 1.5, np.random.default_rng(0))


def test_further_photographs_bring_their_own_crops_poses_and_weight() -> None:
    face, geometry = photographed()
    other, other_geometry = photographed(yaw=25, pitch=5)
    options = {"angles": [], "photographs": [other], "weights": ViewWeights(photographs=0.6)}
    given = augment_views(face, geometry, geometries=[other_geometry], **options)
    extracted = augment_views(face, geometry, extractor=lambda _: other_geometry, **options)
    guessed = augment_views(face, geometry, **options)
    for views in (given, extracted, guessed):
        np.testing.assert_array_equal(views.crops[1], other.crop)
        assert views.sources == ("photograph", "photograph 2")
        assert views.weights[1] == pytest.approx(0.6)
    np.testing.assert_array_equal(given.poses, extracted.poses)
    assert given.poses[1, 0] == pytest.approx(25, abs=3)
    assert guessed.poses[1, 0] > 8  # told from five keypoints alone


def test_without_geometry_there_are_still_views_but_no_rendered_ones() -> None:
    face, geometry = photographed()
    views = augment_views(face, None, angles=[], mirror=True)
    assert views.sources == ("photograph", "mirrored")
    with pytest.raises(InputError, match="3D geometry"):
        augment_views(face, None)
    with pytest.raises(InputError, match="no pose"):
        augment_views(face, replace(geometry, pose=None))


def test_progress_is_reported_after_each_rendered_view_and_can_cancel() -> None:
    class CancelledError(Exception):
        pass

    face, geometry = photographed()
    seen: list[tuple[int, int]] = []
    augment_views(face, geometry, angles=[(10, 0), (20, 0)], progress=lambda done, total, _: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]

    def cancel(*_: object) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        augment_views(face, geometry, angles=[(10, 0), (20, 0)], progress=cancel)


def test_wrong_numbers_of_geometries_and_wrong_weights_are_refused() -> None:
    face, geometry = photographed()
    with pytest.raises(InputError, match="1 further photographs came with 2 geometries"):
        augment_views(face, geometry, angles=[], photographs=[face], geometries=[geometry, geometry])
    with pytest.raises(InputError, match="rendered views"):
        ViewWeights(rendered=-1)
    with pytest.raises(InputError, match="no view"):
        stack_views([])
    with pytest.raises(InputError, match="above 0"):
        augment_views(face, geometry, angles=[], weights=ViewWeights(reference=0))


def test_every_registered_maker_answers_an_empty_request() -> None:
    face, geometry = photographed()
    request = ViewRequest(face, geometry)
    counts = {name: len(maker.make(request)) for name, maker in VIEW_MAKERS.items()}
    assert counts == {"reference": 1, "rendered": 0, "mirrored": 1, "photographs": 0}


@pytest.mark.parametrize("yaw", [-35, -15, 0, 15, 35])
@pytest.mark.parametrize("roll", [-20, 0, 12])
def test_the_crops_pose_is_level_where_the_face_was_tilted(yaw: float, roll: float) -> None:
    face, geometry = photographed(yaw, roll=roll)
    posed = crop_pose(face, geometry)
    assert posed[0] == pytest.approx(yaw, abs=3)
    assert abs(posed[2]) < 12  # a turned head is levelled by its eyes, nose and mouth together
    told = keypoint_pose(face.keypoints)
    assert told[2] == pytest.approx(roll, abs=8)
    if yaw:
        assert np.sign(told[0]) == np.sign(yaw)


class OneFace:
    """Finds one face in bright pictures and none in dark ones."""

    def detect(self, photograph: np.ndarray) -> list[Detection]:
        if photograph.mean() < 0.1:
            return []
        face, _ = photographed()
        return [Detection(face.box, face.keypoints, 0.9)]

    def __str__(self) -> str:
        return "a test detector"


def test_an_image_batch_of_another_pack_becomes_views() -> None:
    face, _ = photographed()
    batch = torch.from_numpy(np.stack([face.photograph, np.zeros_like(face.photograph), face.photograph]))
    views = views_from_images(batch, OneFace(), weights=[1, 5, 0.5])
    assert views.sources == ("image 1 of 3", "image 3 of 3")
    np.testing.assert_allclose(views.weights, [1, 0.5])
    np.testing.assert_allclose(views.crops[0], face.crop, atol=0.01)
    assert len(views_from_images(batch, OneFace(), whole_picture=True).crops) == 3


def test_image_batches_that_cannot_work_are_refused_in_one_sentence() -> None:
    dark = np.zeros((2, 64, 64, 3), np.float32)
    with pytest.raises(NoFaceError, match="None of the 2 images"):
        views_from_images(dark, OneFace())
    with pytest.raises(InputError, match="empty"):
        views_from_images(dark[:0], OneFace())
    with pytest.raises(InputError, match="2 images need 2 weights"):
        views_from_images(dark, OneFace(), weights=[1])
    with pytest.raises(InputError, match="not numbers"):
        views_from_images(np.full((1, 64, 64, 3), np.nan, np.float32), OneFace())


def test_the_sheet_shows_every_view_whatever_their_number() -> None:
    face, geometry = photographed()
    views = augment_views(face, geometry, angles=[(20, 0)], mirror=True)
    sheet = draw_view_sheet(views, tile=140)
    assert sheet.ndim == 3
    assert 0 <= sheet.min() <= sheet.max() <= 1
    for index in range(3):
        left = 10 + index * 150
        card = sheet[10:150, left : left + 140]
        small = views.crops[index].reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
        assert np.abs(card[40:100, 40:100].mean(axis=(0, 1)) - small[36:92, 36:92].mean(axis=(0, 1))).max() < 0.05
    assert draw_view_sheet(views, tile=140, columns=1).shape[0] > 2 * sheet.shape[0]


@pytest.fixture(scope="module")
def astronaut() -> Face:
    photograph = load_photograph(Path(__file__).parents[2] / "fantasyid_core" / "assets" / "astronaut.png")
    return choose_face(detect_faces(photograph, make_detector()))


def test_the_astronauts_first_view_is_her_aligned_face(astronaut: Face) -> None:
    views = views_from_images([astronaut.photograph], make_detector())
    np.testing.assert_array_equal(views.crops[0], astronaut.crop)
    assert np.abs(views.poses[0]).max() < 12


def test_a_detector_finds_the_turned_astronaut_where_every_crop_has_its_face(astronaut: Face) -> None:
    geometry = fit_head(detect_landmarks(astronaut))
    views = augment_views(astronaut, geometry)
    for crop, pose in zip(views.crops[1:], views.poses[1:], strict=True):
        (found,) = detect_faces(crop, make_detector())
        assert found.score > 0.85
        assert np.abs(found.keypoints - TEMPLATE).mean() < 20
        if abs(pose[0]) > 15:
            assert np.sign(keypoint_yaw(found.keypoints)) == np.sign(pose[0])
            assert abs(keypoint_yaw(found.keypoints)) > 12
