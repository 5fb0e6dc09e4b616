"""Of a clip's face crops, the ones that differ most in viewpoint are kept (paper: multi-view collection)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fantasyid_core.errors import InputError, NoFaceError
from fantasyid_core.geometry.geometry import rotation_from_angles
from fantasyid_core.views.collect import collect_views, draw_reference, views_of_clip

CROP = np.zeros((512, 512, 3), np.float32)


def angle(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    turn = rotation_from_angles(*one).astype(np.float64) @ rotation_from_angles(*other).T
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))


def test_the_extreme_viewpoints_of_a_clip_are_kept() -> None:
    random = np.random.default_rng(0)
    poses = [tuple(random.normal(0, 3, 3)) for _ in range(60)]
    extremes = {7: (50, 0, 0), 21: (-50, 0, 0), 33: (0, 35, 0), 48: (0, -35, 0)}
    for frame, pose in extremes.items():
        poses[frame] = pose
    kept = collect_views([CROP] * 60, poses, 6)
    assert len(set(kept.tolist())) == 6
    assert set(extremes) <= set(kept.tolist())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-60, 60)] * 3), min_size=1, max_size=12),
    st.integers(1, 6),
)
def test_no_left_out_frame_is_farther_away_than_the_kept_ones_are_apart(
    poses: list[tuple[float, float, float]], count: int
) -> None:
    kept = collect_views([CROP] * len(poses), poses, count).tolist()
    assert len(kept) == len(set(kept)) == min(count, len(poses))
    apart = min((angle(poses[a], poses[b]) for a in kept for b in kept if a != b), default=180)
    for left_out in set(range(len(poses))) - set(kept):
        assert min(angle(poses[left_out], poses[index]) for index in kept) <= apart + 0.1


def test_frames_without_a_face_are_never_kept() -> None:
    crops = [None, CROP, None, CROP, CROP, None]
    kept = collect_views(crops, [None, (0, 0, 0), None, (10, 0, 0), (20, 0, 0), (80, 0, 0)], 6)
    assert sorted(kept.tolist()) == [1, 3, 4]


def test_a_clip_that_never_moves_is_sampled_over_time() -> None:
    kept = sorted(collect_views([CROP] * 101, [(5, 5, 5)] * 101, 3).tolist())
    assert kept[0] == 0
    assert kept[-1] == 100
    assert 30 < kept[1] < 70


def test_a_clip_of_one_frame_is_its_own_reference() -> None:
    assert collect_views([CROP], [(1, 2, 3)]).tolist() == [0]
    views = views_of_clip([CROP], [(1, 2, 3)], np.random.default_rng(0))
    np.testing.assert_allclose(views.poses, [[1, 2, 3]])
    assert views.sources == ("frame 0",)


def test_the_reference_is_any_of_the_kept_frames_and_comes_first() -> None:
    kept = collect_views([CROP] * 9, [(10 * index, 0, 0) for index in range(9)], 4)
    drawn = {draw_reference(kept, np.random.default_rng(seed)) for seed in range(60)}
    assert drawn == set(kept.tolist())
    crops = [np.full((512, 512, 3), index / 10, np.float32) for index in range(9)]
    first = set()
    for seed in range(8):
        views = views_of_clip(crops, [(10 * index, 0, 0) for index in range(9)], np.random.default_rng(seed), 4)
        frames = [int(source.split()[1]) for source in views.sources]
        assert set(frames) == set(kept.tolist())
        np.testing.assert_allclose(views.crops[:, 0, 0, 0], np.array(frames) / 10, atol=1e-6)
        first.add(frames[0])
    assert len(first) > 1


def test_bad_clips_are_refused_in_one_sentence() -> None:
    with pytest.raises(NoFaceError, match="None of the clip's 2 frames"):
        collect_views([None, None], [None, None])
    with pytest.raises(NoFaceError):
        collect_views([], [])
    with pytest.raises(InputError, match="2 crops need 2 head poses"):
        collect_views([CROP, CROP], [(0, 0, 0)])
    with pytest.raises(InputError, match="Frame 1 has a face but no head pose"):
        collect_views([CROP, CROP], [(0, 0, 0), None])
    with pytest.raises(InputError, match="Frame 0"):
        collect_views([CROP], [(0, float("nan"), 0)])
    with pytest.raises(InputError, match="At least one view"):
        collect_views([CROP], [(0, 0, 0)], 0)
    with pytest.raises(InputError, match="no collected view"):
        draw_reference([], np.random.default_rng(0))
