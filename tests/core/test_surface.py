"""What a clip shows of its head, and the loss by which tokens must tell it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fantasyid_core.errors import InputError
from fantasyid_core.geometry.head import load_head
from fantasyid_core.model import new_mini
from fantasyid_core.training.anatomy import anatomy
from fantasyid_core.training.clips import ZOOMS, Clip, ClipOptions, close_up_matrix, make_clip
from fantasyid_core.training.latents import SURFACE, EncodedClips, encode_dataset, load_encoded
from fantasyid_core.training.loop import RunOptions, run
from fantasyid_core.training.shards import make_dataset
from fantasyid_core.training.surface import CHANNELS, COVER, EXPRESSION, SHAPE, WHERE, surface_map
from fantasyid_core.training.surface_head import AfterBlocks, SurfaceHead
from fantasyid_core.training.train_video import VideoStage
from fantasyid_core.training.video_objective import VideoOptions
from fantasyid_core.video.mini import mini_vae
from fantasyid_core.video.size import rotary_table
from fantasyid_core.weights.mini_file import load_mini

AS_SHOT = np.eye(2, 3)
CELLS = 32  #: finer than the latents' grid, so that a cell is a spot


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [make_clip(ClipOptions(seed=9, size=64, frames=9, references=0), index) for index in range(4)]


@pytest.mark.parametrize("closer", [False, True])
def test_every_keypoint_is_seen_where_the_picture_has_it(clips: list[Clip], closer: bool) -> None:
    head, groups = load_head(), anatomy().keypoint_landmarks
    corners = head.triangles[head.landmark_triangle]  # (468, 3)
    marks = np.einsum("lkd,lk->ld", head.base[corners], head.landmark_weight)
    spots = np.stack([marks[list(group)].mean(axis=0) for group in groups])  # (5, 3) on the mean head
    misses = []
    for clip in clips:
        matrix = close_up_matrix(clip.keypoints[0], 64, *ZOOMS) if closer else AS_SHOT
        shown = surface_map(clip, matrix, CELLS).astype(np.float32)
        assert shown.shape == (3, CHANNELS, CELLS, CELLS)
        points = clip.keypoints[0] @ matrix[:, :2].T + matrix[:, 2]
        column, row = np.clip((points + 0.5) * CELLS / 64, 0, CELLS - 1).astype(int).T
        assert (shown[0, 0, row, column] > 0).all()  # first frames look into the camera, nearly
        misses.append(np.linalg.norm(shown[0, WHERE][:, row, column].T * 0.08 - spots, axis=1))
    assert np.median(misses) < 0.006  # metres; a cell is some 9 mm wide
    assert np.max(misses) < 0.02


def test_the_shape_and_the_face_are_those_of_the_clip(clips: list[Clip]) -> None:
    for clip in clips:
        shown = surface_map(clip, AS_SHOT, CELLS).astype(np.float32)
        covered = shown[:, COVER][:, 0] > 0
        assert 0.1 < covered.mean() < 0.8
        of_shape = np.tensordot(clip.shape, load_head().shape_basis, 1) / 0.004
        for channel in range(3):  # means over a cell lie within what the head has
            values = shown[:, SHAPE][:, channel][covered]
            assert of_shape[:, channel].min() - 0.01 <= values.min()
            assert values.max() <= of_shape[:, channel].max() + 0.01
        assert not shown[:, 1:].transpose(0, 2, 3, 1)[~covered].any()
        calm = replace(clip, expression=0 * clip.expression)
        assert not surface_map(calm, AS_SHOT, CELLS)[:, EXPRESSION].any()
        half = surface_map(replace(clip, expression=clip.expression / 2), AS_SHOT, CELLS).astype(np.float32)
        both = (half[:, COVER] > 0) & (shown[:, COVER] > 0)
        sizes = [np.abs(one[:, EXPRESSION] * both).sum() for one in (half, shown)]
        assert sizes[0] / sizes[1] == pytest.approx(0.5, abs=0.05)


def test_the_blocks_do_the_same_when_their_middle_is_kept() -> None:
    transformer = new_mini(0).transformer
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 1, 64, 4, 4, generator=generator)
    text = torch.randn(1, 32, 128, generator=generator)
    rotary = rotary_table(transformer.model_config, 1, 4, 4, noisy.device)
    halfway = AfterBlocks(4)
    behind: list[torch.Tensor] = []
    handle = transformer.transformer_blocks[3].register_forward_hook(lambda *call: behind.append(call[2][0]))
    with torch.no_grad():
        made = [
            transformer(noisy, text, torch.tensor([500]), image_rotary_emb=rotary, cache=cache, return_dict=False)[0]
            for cache in (None, halfway)
        ]
    handle.remove()
    assert torch.equal(*made)
    assert torch.equal(halfway.kept, behind[1])


def test_only_what_is_covered_counts() -> None:
    head, generator = SurfaceHead(16), torch.Generator().manual_seed(0)
    tokens, truth = torch.randn(2, 8, 16, generator=generator), torch.randn(2, 2, 10, 2, 2, generator=generator)
    truth[:, :, 0] = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    before = head(tokens, truth)
    truth[:, :, 1:, 1] = 7.0  # where no head is
    assert {name: float(error.detach()) for name, error in head(tokens, truth).items()} == {
        name: float(error.detach()) for name, error in before.items()
    }
    truth[:, :, 1:, 0, 0] += 1.0
    assert all(head(tokens, truth)[name] != before[name] for name in ("where", "shape", "expression"))
    truth[:, :, 0] = 0.0
    assert all(torch.isfinite(error) for error in head(tokens, truth).values())


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedClips:
    folder = tmp_path_factory.mktemp("clips")
    make_dataset(folder / "clips", ClipOptions(seed=4, size=32, frames=9, references=1, crop=32), 4)
    encode_dataset(folder / "clips", mini_vae(), folder / "latents", own=1, elsewhere=1, closer=True)
    return load_encoded(folder / "latents")


def test_tokens_learn_to_tell_the_surface_and_the_mini_is_as_before(encoded: EncodedClips, tmp_path: Path) -> None:
    stage = VideoStage(new_mini(0), encoded, VideoOptions(surface=1.0, pictures=0.0), batch=4, shown=1)
    wanted = RunOptions(tmp_path, 32, batch=4, learning_rate=4e-3, warmup=1, optimiser="muon", log_every=4)
    assert run(stage, wanted) == 32
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["where"] < 0.7 * rows[0]["where"]
    parts = sum(rows[-1][name] for name in ("velocity", "cover", "where", "shape", "expression"))
    assert rows[-1]["loss"] == pytest.approx(parts, abs=1e-4)
    made = load_mini(tmp_path / "mini.safetensors")
    names = {name for name, _ in new_mini(0).transformer.named_parameters()}
    assert {name for name, _ in made.transformer.named_parameters()} == names


def test_latents_that_do_not_tell_the_surface_are_said(encoded: EncodedClips) -> None:
    without = EncodedClips({k: v for k, v in encoded.arrays.items() if k != SURFACE}, encoded.captions)
    with pytest.raises(InputError, match="make them anew, or leave out --surface"):
        VideoStage(new_mini(0), without, VideoOptions(surface=0.5), batch=4)
    VideoStage(new_mini(0), without, VideoOptions(), batch=4)
    with pytest.raises(InputError, match="0 or more, not -1"):
        VideoOptions(surface=-1.0)
