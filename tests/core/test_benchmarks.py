"""The benchmarks compare like with like: the release's way computes our numbers at the release's published cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from video_models import noise

from benchmarks.flops import RELEASE_NETWORKS_FLOPS, keys_values_flops, step_flops
from benchmarks.measure import Timing, allocations, counted_flops, interleaved, peak_extra, ratio
from benchmarks.models import made_up_hierarchy, make_contestants
from benchmarks.release_way import FACE_VECTOR, ReleaseFaceAbstractor, ReleaseVertexBranch, release_layer_attention
from fantasyid_core.config import (
    MINI,
    RELEASE,
    EvaConfig,
    FaceAbstractorConfig,
    InjectionConfig,
    ModelConfig,
    TransformerConfig,
    VertexNetConfig,
)
from fantasyid_core.identity.face_abstractor import FaceAbstractor
from fantasyid_core.identity.vertex_reducer import VertexReducer
from fantasyid_core.identity.vertex_spiral_net import VertexSpiralNet

SMALL = ModelConfig(
    identity_width=64,
    eva=EvaConfig(image_size=48, patch_size=8, width=32, layers=2, heads=2, mlp_hidden=48),
    face_abstractor=FaceAbstractorConfig(width=32, hidden=16, blocks_per_stage=2, pooled_grid=3),
    vertex_net=VertexNetConfig(
        topology="made-up-200",
        level_sizes=(200, 50, 13),
        width=16,
        layers=2,
        heads=2,
        mlp_hidden=32,
        reducer_widths=(16, 24, 32, 64),
    ),
    injection=InjectionConfig(heads=2, head_dim=16),
    transformer=TransformerConfig(
        heads=2,
        head_dim=16,
        layers=3,
        latent_channels=4,
        time_embed_dim=16,
        text_embed_dim=24,
        text_length=6,
        sample_height=8,
        sample_width=12,
        learned_positions=False,
    ),
)


@pytest.fixture(scope="module")
def contestants():
    return make_contestants(SMALL, (3, 8, 12), batch=2, dtype=torch.float32)


@torch.no_grad()
def test_the_releases_way_and_ours_make_the_same_video_from_the_same_inputs(contestants):
    theirs, ours = contestants.run_release(), contestants.run_ours(contestants.prepare())
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    assert (ours - contestants.run_plain()).abs().max() > 1e-3  # and identity does something


@torch.no_grad()
def test_plain_is_ours_without_an_identity(contestants):
    without = contestants.ours(**contestants.call)[0]
    torch.testing.assert_close(contestants.run_plain(), without, atol=2e-6, rtol=0)
    shared = {name: tensor.data_ptr() for name, tensor in contestants.ours.state_dict().items()}
    assert all(shared[name] == tensor.data_ptr() for name, tensor in contestants.plain.state_dict().items())


@torch.no_grad()
def test_the_release_recomputes_identity_at_every_call_and_leaves_no_hook_behind(contestants):
    first = contestants.run_release()
    vertices = replace(contestants, vertices=2.0 * contestants.vertices)
    assert (vertices.run_release() - first).abs().max() > 1e-6
    assert torch.equal(contestants.run_release(), first)
    assert not any(block._forward_hooks for block in contestants.plain.transformer_blocks)


def test_the_cost_model_has_the_releases_size_and_work():
    with torch.device("meta"):
        live = FaceAbstractor(RELEASE.face_abstractor, RELEASE.eva.grid, RELEASE.identity_width)
        whole = ReleaseFaceAbstractor(RELEASE, live)
        hidden = [torch.empty(1, 577, 1024) for _ in range(5)]
        vector = torch.empty(1, FACE_VECTOR)
    assert sum(p.numel() for p in whole.parameters()) == 144_212_608
    assert sum(p.numel() for p in live.parameters()) == 17_698_880
    abstractor = counted_flops(lambda: whole(vector, hidden))
    assert abstractor / 1e9 == pytest.approx(35.49, abs=0.1)
    assert counted_flops(lambda: live(hidden[-1])) / 1e9 == pytest.approx(5.50, abs=0.05)
    net = VertexSpiralNet(RELEASE.vertex_net, made_up_hierarchy(RELEASE))
    branch = ReleaseVertexBranch(net, VertexReducer(RELEASE.vertex_net))
    vertices = counted_flops(lambda: branch(torch.randn(1, 5023, 3), torch.randn(1, 36, 2048)))
    assert vertices / 1e9 == pytest.approx(5.0 + 8.6, abs=0.2)
    assert abstractor + vertices == pytest.approx(RELEASE_NETWORKS_FLOPS, rel=0.01)


def test_full_size_arithmetic_is_the_published_count():
    flops = step_flops(RELEASE, 13, 60, 90, batch=2)
    assert flops.linear / 1e12 == pytest.approx(338.2, abs=0.1)
    assert flops.attention / 1e12 == pytest.approx(326.2, abs=0.1)
    assert (flops.identity + keys_values_flops(RELEASE)) / 1e12 == pytest.approx(38.6, abs=0.05)
    assert flops.total / 1e12 == pytest.approx(703, abs=1)
    assert keys_values_flops(RELEASE) / 1e9 == pytest.approx(81, abs=0.5)


@torch.no_grad()
def test_flops_by_formula_are_the_flops_that_are_called(contestants):
    formula = step_flops(SMALL, 3, 8, 12, batch=2)
    modulation = 2 * 2 * 16 * 32 * (3 * 2 * 6 + 2) + 2 * 2 * (32 * 16 + 16 * 16)  # per video, not per token: left out
    identity = contestants.prepare()
    assert counted_flops(lambda: contestants.run_ours(identity)) == formula.total + modulation
    assert counted_flops(contestants.run_plain) == formula.plain + modulation


@torch.no_grad()
def test_the_release_makes_the_score_matrix_and_ours_does_not(contestants):
    layer = contestants.ours.layer_attentions()[0]
    video, tokens = noise(1, 2048, 32), noise(1, 115, 64)
    scores = 2 * 2048 * 115 * 4
    assert allocations(lambda: release_layer_attention(layer, tokens, video)).count(scores) >= 2  # scores and softmax
    assert scores not in allocations(lambda: layer(video, *layer.keys_values(tokens)))


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2])
def test_ours_needs_no_more_memory_than_plain_or_the_release(batch):
    models = make_contestants(SMALL, (3, 8, 12), batch=batch, dtype=torch.float32)
    identity = models.prepare()
    ours = peak_extra(lambda: models.run_ours(identity))
    assert ours <= peak_extra(models.run_release)
    assert ours <= peak_extra(models.run_plain)


def test_peak_memory_counts_what_is_held_at_once():
    def work() -> torch.Tensor:
        first = torch.ones(1000)
        del first
        second = torch.ones(500)
        return torch.cat([second, torch.ones(300)])

    assert peak_extra(work) == pytest.approx(4 * (500 + 300 + 800), abs=64)


def test_rounds_are_interleaved_and_ratios_are_of_rounds():
    order = []
    timings = interleaved({name: (lambda name=name: order.append(name)) for name in "abc"}, repeats=3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert all(len(timing.work) == 3 for timing in timings.values())
    least, middle = ratio(Timing((2.0, 9.0, 4.0), (0.0,) * 3), Timing((1.0, 3.0, 4.0), (0.0,) * 3))
    assert (least, middle) == (2.0, 2.0)


def test_the_difference_of_two_videos_is_the_textbooks():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    from benchmarks.difference import psnr, structure

    generator = np.random.default_rng(0)
    video = generator.random((2, 40, 48, 3))
    other = np.clip(video + generator.normal(0, 0.1, video.shape), 0, 1)
    assert psnr(video, other) == pytest.approx(peak_signal_noise_ratio(video, other, data_range=1.0))
    weights = np.array([0.299, 0.587, 0.114])
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    theirs = np.mean(
        [structural_similarity(a @ weights, b @ weights, **options) for a, b in zip(video, other, strict=True)]
    )
    assert structure(video, other) == pytest.approx(theirs, abs=2e-3)  # they leave out the border
    assert psnr(video, video) == float("inf") and structure(video, video) == pytest.approx(1.0)


def test_the_table_of_levers_goes_on_where_it_stopped(tmp_path, capsys, monkeypatch):
    from benchmarks import levers

    monkeypatch.setattr(levers, "_faces", lambda frames, person: {"rs": 0.5, "ifs": None, "fm": 0.25, "faces": 1.0})
    arguments = [
        "--steps",
        "2",
        "--results",
        str(tmp_path / "kept.jsonl"),
        "--frames",
        "1",
        "--device",
        "cpu",
        "--only",
        "2nd",
    ]
    levers.main(arguments)
    first = capsys.readouterr().out
    exact, lever = ([cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines()[-2:])
    layers = MINI.transformer.layers
    # 2 steps with both prompts, 2 with reference guidance and 1 with skipped layers; then each difference once
    assert exact[:5] == ["exact", str((4 + 2 + 1) * layers), "1.00 ×", "1.00 ×", "same"]
    assert lever[:3] == ["guidance every 2nd step", str((2 + 1 + 1 + 1) * layers), "1.40 ×"]
    assert float(lever[4]) > 10 and lever[6:] == ["0.500 (+0.0%)", "–", "0.250 (+0.0%)", "100%"]
    monkeypatch.setattr(levers, "_take", None)  # nothing may be made again
    levers.main(arguments)
    again = capsys.readouterr().out
    assert again.splitlines()[-4:] == first.splitlines()[-4:]
    with pytest.raises(TypeError):  # but another seed is not there yet
        levers.main([*arguments, "--seeds", "2"])
