"""The layer-adaptive DiT: what an identity does, and that without one it is plain CogVideoX."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from video_models import (
    WIDTH,
    call,
    identity_tokens,
    noise,
    tiny_config,
    tiny_model,
    with_layer_block,
)

from fantasyid_core.errors import InputError
from fantasyid_core.video.transformer import official_key


@pytest.fixture(scope="module")
def model():
    return tiny_model(tiny_config())


@torch.no_grad()
def test_without_an_identity_it_is_plain_cogvideox(model):
    from diffusers import CogVideoXTransformer3DModel

    plain = CogVideoXTransformer3DModel(**{k: v for k, v in model.config.items() if not k.startswith("_")})
    missing, unexpected = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert all(".layer_attention." in key for key in unexpected)

    def plain_call(**kwargs):
        kwargs.pop("identity")
        return plain(**kwargs)

    plain_call.model_config = model.model_config
    torch.testing.assert_close(call(model), call(plain_call), rtol=0, atol=1e-6)


@torch.no_grad()
def test_an_identity_changes_the_video_and_another_one_changes_it_otherwise(model):
    one, other = (call(model, model.prepare_identity(identity_tokens(seed=seed))) for seed in (7, 8))
    assert (one - call(model)).abs().max() > 1e-3
    assert (one - other).abs().max() > 1e-3


@torch.no_grad()
def test_a_reference_that_lies_everywhere_is_the_first_frames_in_all(model):
    config = tiny_config()
    everywhere = tiny_model(replace(config, transformer=replace(config.transformer, reference_everywhere=True)))
    everywhere.load_state_dict(model.state_dict())
    latents, text = noise(1, 3, 8, 4, 6), noise(1, 5, 12, seed=1)
    repeated = latents.clone()
    repeated[:, :, 4:] = latents[:, :1, 4:]

    def made(by, hidden):
        return by(hidden_states=hidden, encoder_hidden_states=text, timestep=torch.tensor([500]), return_dict=False)[0]

    assert torch.equal(made(everywhere, latents), made(model, repeated))
    assert torch.equal(made(everywhere, repeated), made(model, repeated))
    assert (made(everywhere, latents) - made(model, latents)).abs().max() > 1e-3


@torch.no_grad()
def test_keys_and_values_kept_from_an_earlier_step_give_the_same_video(model):
    kept = model.prepare_identity(identity_tokens())
    call(model, kept, seed=5)
    again = call(model, model.prepare_identity(identity_tokens()))
    assert (call(model, kept) - again).abs().max() == 0.0


@torch.no_grad()
def test_one_identity_serves_both_guidance_branches(model):
    identity = model.prepare_identity(identity_tokens())
    both = call(model, identity, batch=2)
    twice = call(model, model.prepare_identity(identity_tokens().expand(2, -1, -1)), batch=2)
    torch.testing.assert_close(both, twice, rtol=0, atol=1e-6)
    assert both.shape == (2, 3, 4, 4, 6)


@pytest.mark.parametrize(("layers", "interval", "identity_layers"), [(4, 2, 2), (5, 2, 3), (5, 3, 2), (3, 7, 1)])
@torch.no_grad()
def test_any_interval_works_even_one_that_does_not_divide_the_layers(layers, interval, identity_layers):
    model = tiny_model(tiny_config(layers, interval))
    identity = model.prepare_identity(identity_tokens())
    assert len(identity.keys_values) == identity_layers
    names = {official_key(key, interval) for key in model.state_dict() if ".layer_attention." in key}
    assert {name.split(".")[1] for name in names} == {str(k) for k in range(identity_layers)}
    assert (call(model, identity) - call(model)).abs().max() > 1e-3


@torch.no_grad()
def test_strength_zero_is_no_identity_and_strength_one_is_as_trained(model):
    identity = model.prepare_identity(identity_tokens())
    assert (call(model, identity.with_strength((0.0,) * 3)) - call(model)).abs().max() == 0.0
    assert (call(model, identity.with_strength((1.0,) * 3)) - call(model, identity)).abs().max() == 0.0
    half = call(model, identity.with_strength((0.5,) * 3))
    assert (half - call(model)).abs().max() > 1e-3
    assert (half - call(model, identity)).abs().max() > 1e-3


@torch.no_grad()
def test_a_region_keeps_the_identity_to_its_part_of_the_picture(model):
    identity = model.prepare_identity(identity_tokens())
    ones, zeros = torch.ones(1, 18), torch.zeros(1, 18)
    assert (call(model, identity.with_region(ones)) - call(model, identity)).abs().max() == 0.0
    assert (call(model, identity.with_region(zeros)) - call(model)).abs().max() == 0.0
    with pytest.raises(InputError, match=r"\[batch, 18\]"):
        call(model, identity.with_region(torch.ones(1, 17)))


@pytest.mark.parametrize("interval", [1, 2])
@torch.no_grad()
def test_the_papers_layer_block_starts_exactly_at_the_release(interval):
    config = tiny_config(interval=interval)
    release, paper = tiny_model(config), tiny_model(with_layer_block(config), seed=1)
    missing, unexpected = paper.load_state_dict(release.state_dict(), strict=False)
    assert not unexpected
    assert all(".layer_block." in key for key in missing)
    tokens = identity_tokens()
    difference = call(paper, paper.prepare_identity(tokens)) - call(release, release.prepare_identity(tokens))
    assert difference.abs().max() == 0.0


def test_training_moves_the_layer_block_away_from_the_release():
    paper = tiny_model(tiny_config(layer_block=True))
    optimiser = torch.optim.SGD([p for n, p in paper.named_parameters() if ".layer_block." in n], lr=1.0)
    for _ in range(2):  # the zero norm lets the convolution learn from the second step on
        optimiser.zero_grad()
        call(paper, paper.prepare_identity(identity_tokens())).square().mean().backward()
        optimiser.step()
    block = paper.transformer_blocks[0].layer_block
    assert block.norm.weight.abs().max() > 0
    assert block.conv.weight.grad.abs().max() > 0


@torch.no_grad()
def test_learned_positions_bind_the_size_but_not_the_frame_count():
    model = tiny_model(tiny_config(learned=True))
    assert "patch_embed.pos_embedding" in model.state_dict()
    usual = call(model)
    model.patch_embed.pos_embedding += noise(*model.patch_embed.pos_embedding.shape)
    assert (call(model) - usual).abs().max() > 1e-3  # the learned table counts …
    two_frames = call(model, frames=2)
    model.patch_embed.pos_embedding.zero_()
    assert (call(model, frames=2) - two_frames).abs().max() == 0.0  # … except for other frame counts: sinusoids
    with pytest.raises(InputError, match="48×32"):
        call(model, height=8)


@torch.no_grad()
def test_bfloat16_stays_close_to_float32():
    model = tiny_model(tiny_config())
    exact = call(model, model.prepare_identity(identity_tokens()))
    model.bfloat16()
    low = call(model, model.prepare_identity(identity_tokens().bfloat16()), dtype=torch.bfloat16)
    assert low.dtype == torch.bfloat16
    assert (low.float() - exact).norm() / exact.norm() < 0.02


@torch.no_grad()
def test_a_step_cache_sees_the_identity_layers():
    from diffusers import FirstBlockCacheConfig

    model = tiny_model(tiny_config(layers=4))
    identity, other = (model.prepare_identity(identity_tokens(seed=seed)) for seed in (7, 8))
    expected = [call(model, identity), call(model, other)]
    model.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    with model.cache_context("video"):
        never_skipped = [call(model, identity), call(model, other)]
    for got, wanted in zip(never_skipped, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
    model.disable_cache()
    model.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    runs = _count_runs(model.transformer_blocks[-1].layer_attention)
    with model.cache_context("video"):
        call(model, identity)
        call(model, other)
    assert len(runs) == 1  # the second call took the cached remainder, identity layers and all


@torch.no_grad()
def test_choosing_an_attention_backend_has_an_effect(model, monkeypatch, default_backend):
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    used = []
    backends = _AttentionBackendRegistry._backends
    original = backends[AttentionBackendName._NATIVE_MATH]
    counted = lambda **kwargs: used.append(1) or original(**kwargs)  # noqa: E731
    monkeypatch.setitem(backends, AttentionBackendName._NATIVE_MATH, counted)
    before = call(model)
    model.set_attention_backend("_native_math")
    try:
        torch.testing.assert_close(call(model), before, rtol=0, atol=1e-6)
    finally:
        model.reset_attention_backend()
    assert len(used) == len(model.transformer_blocks)


def test_gradient_checkpointing_gives_the_same_gradients():
    model = tiny_model(tiny_config())
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        if checkpointing:
            model.enable_gradient_checkpointing()
        call(model, model.prepare_identity(identity_tokens())).square().mean().backward()
        gradients.append(model.transformer_blocks[1].layer_attention.to_kv.weight.grad.clone())
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0


@torch.no_grad()
def test_compiled_blocks_share_one_program_whatever_each_layers_strength():
    from torch._dynamo.testing import CompileCounter

    model = tiny_model(tiny_config(layers=5))
    identity = model.prepare_identity(identity_tokens()).with_strength((0.2, 0.4, 0.6, 0.8, 1.2))
    expected = call(model, identity)
    counter = CompileCounter()
    torch._dynamo.reset()
    model.compile_repeated_blocks(backend=counter)
    torch.testing.assert_close(call(model, identity), expected, rtol=0, atol=1e-6)
    assert counter.frame_count <= 2


@torch.no_grad()
def test_cancelling_stops_between_two_blocks():
    class CancelledError(Exception):
        pass

    model = tiny_model(tiny_config())
    runs = _count_runs(*(block.ff for block in model.transformer_blocks))

    def cancel_at_the_second_block():
        if runs:
            raise CancelledError

    with pytest.raises(CancelledError):
        call(model, check=cancel_at_the_second_block)
    assert len(runs) == 1


def test_an_identity_of_another_model_is_refused(model):
    with pytest.raises(InputError, match=f"width {WIDTH}"):
        model.prepare_identity(noise(1, 6, WIDTH + 1))
    with pytest.raises(InputError, match="3 identity layers"):
        model.prepare_identity(identity_tokens()).with_strength((1.0,))


def test_official_names_move_only_the_identity_layers():
    assert official_key("transformer_blocks.4.layer_attention.to_q.weight", 2) == "layer_attention.2.to_q.weight"
    assert official_key("transformer_blocks.3.layer_block.conv.weight") == "layer_block.3.conv.weight"
    assert official_key("transformer_blocks.3.attn1.to_q.weight") == "transformer_blocks.3.attn1.to_q.weight"
    assert official_key("norm_final.weight") == "norm_final.weight"


def _count_runs(*modules: torch.nn.Module) -> list[int]:
    runs: list[int] = []
    for module in modules:
        module.register_forward_hook(lambda *_: runs.append(1))
    return runs
