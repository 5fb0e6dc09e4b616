"""Fused projections, attention backends and sliced feed-forwards: other ways to the same numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from video_models import call, identity_tokens, noise, tiny_config, tiny_model

from benchmarks.measure import allocations, peak_extra
from fantasyid_core.config import RELEASE, InjectionConfig
from fantasyid_core.video import slices
from fantasyid_core.video.layer_attention import LayerAttention

FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"
MATH = "aten::_scaled_dot_product_attention_math"


@pytest.fixture
def model():
    return tiny_model(tiny_config())


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
def test_fused_projections_give_the_same_video(model, dtype, tolerance):
    torch.nn.Module.to(model, dtype)
    identity = model.prepare_identity(identity_tokens().to(dtype))
    separate = call(model, identity, batch=2, dtype=dtype)
    model.fuse_qkv_projections()
    fused = call(model, identity, batch=2, dtype=dtype)
    assert (fused - separate).abs().max() <= tolerance * separate.abs().max()


@torch.no_grad()
def test_unfusing_gives_back_the_very_weights(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.fuse_qkv_projections()
    model.fuse_qkv_projections()  # again changes nothing
    names = set(model.state_dict())
    assert not any(".attn1.to_q." in name for name in names)
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == sum(t.numel() for t in before.values())
    model.unfuse_qkv_projections()
    after = model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@torch.no_grad()
def test_a_fused_model_can_be_moved_and_keeps_an_editors_own_layer_class(model):
    class EditorsLinear(torch.nn.Linear):
        pass

    for block in model.transformer_blocks:
        for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v):
            layer.__class__ = EditorsLinear
    model.fuse_qkv_projections()
    fused = model.transformer_blocks[0].attn1.to_qkv
    assert type(fused) is EditorsLinear
    assert not fused.training
    assert torch.isfinite(call(torch.nn.Module.to(model, torch.float64).float())).all()


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_choosing_an_attention_backend_has_an_effect_fused_or_not(model, fused, default_backend):
    if fused:
        model.fuse_qkv_projections()
    model.set_attention_backend("native")
    expected, operators = call(model), _operators(model)
    assert FLASH in operators
    model.set_attention_backend("_native_math")
    assert FLASH not in _operators(model)
    assert MATH in _operators(model)
    torch.testing.assert_close(call(model), expected, atol=2e-6, rtol=0)


@torch.no_grad()
def test_every_attention_of_the_model_switches_and_not_only_the_global_default(model, default_backend):
    model.set_attention_backend("_native_math")
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)  # as if another model had chosen
    assert FLASH not in _operators(model)


def _operators(model) -> set[str]:
    """Names of the attention operators that a call without identity runs."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call(model)
    return {event.key for event in profiler.key_averages()} & {FLASH, MATH}


@torch.no_grad()
def test_a_sliced_feed_forward_gives_the_same_numbers_in_less_memory(model, monkeypatch):
    ff = model.transformer_blocks[0].ff
    rows = noise(2, 5000, 32)
    monkeypatch.setattr(slices, "ROWS_AT_ONCE", 10**9)
    whole, much = ff(rows), peak_extra(lambda: ff(rows))
    monkeypatch.setattr(slices, "ROWS_AT_ONCE", 512)
    torch.testing.assert_close(ff(rows), whole, atol=1e-6, rtol=0)  # matmuls of other sizes may round otherwise
    assert peak_extra(lambda: ff(rows)) < 0.4 * much


@torch.no_grad()
def test_a_video_made_in_slices_is_the_same(model, monkeypatch):
    identity = model.prepare_identity(identity_tokens())
    whole = call(model, identity, batch=2)
    monkeypatch.setattr(slices, "ROWS_AT_ONCE", 4)
    torch.testing.assert_close(call(model, identity, batch=2), whole, atol=2e-6, rtol=0)


def test_a_sliced_feed_forward_still_learns(model, monkeypatch):
    monkeypatch.setattr(slices, "ROWS_AT_ONCE", 4)
    model.train()
    call(model).square().mean().backward()
    gradient = model.transformer_blocks[0].ff.net[2].weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@torch.no_grad()
def test_no_score_matrix_is_ever_in_memory():
    """Video tokens × identity tokens × heads: 615 MiB at full size in the release, nothing here."""
    config = replace(
        RELEASE,
        identity_width=64,
        vertex_net=replace(RELEASE.vertex_net, reducer_widths=(8, 8, 16, 64)),
        injection=InjectionConfig(heads=4, head_dim=16),
        transformer=replace(RELEASE.transformer, heads=1),
    )
    layer, video = LayerAttention(config), noise(1, 4096, 64)
    key, value = layer.keys_values(noise(1, 115, 64))
    scores = 4 * 4096 * 115 * 4  # heads × video × identity × bytes
    assert max(allocations(lambda: layer(video, key, value))) < scores / 4
