"""Verify computes the numbers that the golden README marks † and that no published file holds.

Here they are made by another route than the one that verify takes: one at a time instead of a batch, naive attention
instead of the fused one, positions added by hand, another loop. The transformer is narrowed (weights follow from their
names at any width), because what is checked here is what verify computes under which name; at full width it is checked
with the published numbers.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import golden_path
from safetensors.torch import save_file

from fantasyid_core.config import RELEASE, ModelConfig
from fantasyid_core.verify import verify, video
from fantasyid_core.verify.golden import Golden
from fantasyid_core.verify.identity import IdentityNets
from fantasyid_core.verify.models import golden_config, golden_transformer
from fantasyid_core.verify.video import records, velocity
from fantasyid_core.video.layer_attention import LayerAttention
from fantasyid_core.video.sample import Conditions, SamplingOptions, sample
from fantasyid_core.video.size import rotary_table
from fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel
from fantasyid_core.weights.golden_rule import fill_module, tensor_input, weight

WIDTH = 256  #: of the narrowed transformer; the release's is 3072


def narrow(**settings) -> ModelConfig:
    config = golden_config(**settings)
    return replace(config, transformer=replace(config.transformer, heads=WIDTH // 64))


@pytest.fixture(autouse=True)
def narrowed(monkeypatch):
    monkeypatch.setattr(video, "golden_config", narrow)


@pytest.fixture(scope="module")
def nets():
    return IdentityNets(Golden(golden_path("mesh_hierarchy.npz").parent))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder whose missing meshes and vertices are borrowed from the golden ones."""
    monkeypatch.setenv("FANTASYID_GOLDEN", str(golden_path("mesh_hierarchy.npz").parent))
    return tmp_path


def verdicts(folder, file):
    return {check.key: check for check in verify(folder) if check.file == file}


def save(folder, name, tensors):
    save_file({key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}, folder / name)


@torch.no_grad()
def test_people_in_a_batch_are_checked_against_people_one_by_one(folder, nets):
    save(folder, "face_abstractor.safetensors", {"output_batch2_row1": nets.face_tokens(".b")})
    vertices = tensor_input("vertices", (2, 5023, 3), 0.1)
    tokens = [nets.face_tokens(), nets.face_tokens(".b")]
    rows = torch.cat([nets.vertex_net(vertices[i : i + 1], tokens[i]) for i in range(2)])
    numbers = {
        "random_batch2.descriptor_first64": rows[:, :64],
        "random_batch2.reduced": torch.cat([nets.reducer(rows[i : i + 1]) for i in range(2)]),
    }
    save(folder, "vertex_spiral_net.safetensors", numbers)
    checks = verify(folder)
    assert not [check.line() for check in checks if check.failed]
    assert sum(check.verdict == "pass" for check in checks) == 3


@torch.no_grad()
def test_other_vertices_are_taken_from_the_file(folder, nets):
    anne = nets.golden.vertices("anne")
    vertices = {"newton": np.float32(0.9) * anne[0].numpy() + np.float32(0.01)}
    np.savez(folder / "vertices.npz", **vertices)
    net = nets.vertex_net
    head = torch.from_numpy(vertices["newton"])[None]
    descriptor = net(head, nets.face_tokens())
    save(folder, "vertex_spiral_net.safetensors", {"newton.descriptor_first64": descriptor[:, :64]})
    checks = verdicts(folder, "vertex_spiral_net.safetensors")
    assert not checks["newton.descriptor_first64"].failed
    assert (descriptor - net(anne, nets.face_tokens())).abs().max() > 1e-2


def naive_attention(layer: LayerAttention, identity: torch.Tensor, video: torch.Tensor) -> torch.Tensor:
    """Layer attention as release.md §4 words it: scale on both sides, softmax in float32, cast back."""
    query = layer.to_q(layer.norm2(video))
    key, value = layer.to_kv(layer.norm1(identity)).chunk(2, dim=-1)
    query, key, value = (t.view(*t.shape[:2], 16, 128).transpose(1, 2) for t in (query, key, value))
    scale = 128**-0.25
    scores = (query * scale) @ (key * scale).transpose(-1, -2)
    out = torch.softmax(scores.float(), dim=-1).to(scores.dtype) @ value
    return layer.to_out(out.transpose(1, 2).flatten(2))


@torch.no_grad()
def test_layer_attention_is_checked_against_the_naive_one(tmp_path):
    layer = LayerAttention(RELEASE)
    fill_module(layer, lambda name: "layer_attention.0." + name)
    identity = tensor_input("layer_attention.x", (1, 115, 2048))
    one, two = (
        tensor_input("layer_attention.latents", (1, 96, 3072)),
        tensor_input("layer_attention.latents.b2", (2, 96, 3072)),
    )
    numbers = {"output_batch2": torch.cat([naive_attention(layer, identity, row[None]) for row in two])}
    layer.bfloat16()
    numbers["output_bfloat16"] = naive_attention(layer, identity.bfloat16(), one.bfloat16())
    save(tmp_path, "layer_attention.safetensors", numbers)
    checks = verdicts(tmp_path, "layer_attention.safetensors")
    assert not [check.line() for check in checks.values() if check.failed]


@torch.no_grad()
def test_the_transformer_is_checked_in_every_way_the_readme_names(folder, nets):
    tokens = nets.tokens(torch.float32)
    model = golden_transformer(narrow())
    identity = model.prepare_identity(tokens)
    latents, text = (
        tensor_input("model.latents.b2", (2, 3, 32, 8, 12)),
        tensor_input("model.text.b2", (2, 226, 4096), 0.2),
    )
    rotary = rotary_table(RELEASE, 3, 8, 12)
    single = [
        model(latents[i : i + 1], text[i : i + 1], torch.tensor([749]), None, None, rotary, None, False, identity)[0]
        for i in range(2)
    ]
    positions = torch.from_numpy(np.array(weight("patch_embed.pos_embedding", (1, 298, WIDTH))))
    table = sinusoidal_table(2, 4, 6)
    numbers = {
        "batch2.output": torch.cat(single),
        "learned.output": with_positions(model, positions, lambda: velocity(model, identity)),
        "learned.sincos_2frames_image_rows": table,
        "learned.output_2frames": with_positions(
            model,
            torch.cat([torch.zeros(1, 226, WIDTH), table], dim=1),
            lambda: velocity(model, identity, suffix=".f2", frames=2),
        ),
    }
    save(folder, "transformer.safetensors", numbers)
    checks = verdicts(folder, "transformer.safetensors")
    assert len(checks) == 4 and not [check.line() for check in checks.values() if check.failed]


def with_positions(model, positions, run):
    hook = model.patch_embed.register_forward_hook(lambda module, inputs, output: output + positions)
    try:
        return run()
    finally:
        hook.remove()


def sinusoidal_table(frames: int, rows: int, columns: int, width: int = WIDTH, scale: float = 1.875) -> torch.Tensor:
    """CogVideoX's fixed positions: a quarter of the width for time, three quarters for columns, then rows."""

    def code(size: int, places: np.ndarray) -> np.ndarray:
        angles = np.outer(places.ravel(), 1 / 10000 ** (np.arange(size // 2) / (size / 2)))
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    across, down = np.meshgrid(np.arange(columns) / scale, np.arange(rows) / scale)
    half = 3 * width // 8
    space = np.concatenate([code(half, across), code(half, down)], axis=1)  # [rows · columns, 3/4 width]
    time = code(width // 4, np.arange(frames))
    both = [np.concatenate([np.tile(t, (len(space), 1)), space], axis=1) for t in time]
    return torch.from_numpy(np.concatenate(both)[None].astype(np.float32))


@torch.no_grad()
def test_an_interval_of_two_is_checked_against_a_loop_by_hand(folder, nets):
    tokens = nets.tokens(torch.float32)
    model = golden_transformer(narrow(layers=4, interval=2))
    rotary = rotary_table(RELEASE, 3, 8, 12)
    time = model.time_embedding(model.time_proj(torch.tensor([499])))
    joint = model.patch_embed(
        tensor_input("model.text", (1, 226, 4096), 0.2), tensor_input("model.latents", (1, 3, 32, 8, 12))
    )
    text, video = joint[:, :226], joint[:, 226:]
    for index, block in enumerate(model.transformer_blocks):
        video, text = block(video, text, time, rotary, identity=())
        if index % 2 == 0:
            layer = block.layer_attention
            assert np.array_equal(layer.to_q.weight, weight(f"layer_attention.{index // 2}.to_q.weight", (2048, WIDTH)))
            video = video + naive_attention(layer, tokens, video)
    joined = model.norm_final(torch.cat([text, video], dim=1))[:, 226:]
    out = model.proj_out(model.norm_out(joined, temb=time)).reshape(1, 3, 4, 6, 16, 2, 2)
    save(
        folder,
        "transformer.safetensors",
        {"interval2.output": out.permute(0, 1, 4, 2, 5, 3, 6).reshape(1, 3, 16, 8, 12)},
    )
    checks = verdicts(folder, "transformer.safetensors")
    assert not checks["interval2.output"].failed, checks["interval2.output"].line()


def small_model(layers: int, interval: int = 1) -> LayerAdaptiveTransformer3DModel:
    config = replace(
        RELEASE,
        identity_width=16,
        vertex_net=replace(RELEASE.vertex_net, width=16, reducer_widths=(16, 16, 16, 16)),
        injection=replace(RELEASE.injection, interval=interval, heads=1, head_dim=8),
        transformer=replace(
            RELEASE.transformer, heads=1, layers=layers, learned_positions=False, text_embed_dim=8, text_length=3
        ),
    )
    torch.manual_seed(0)
    return LayerAdaptiveTransformer3DModel(config).eval()


def test_records_name_identity_layers_by_module_and_by_block():
    model = small_model(layers=4, interval=2)
    with torch.no_grad(), records(model) as found:
        model(
            torch.randn(1, 1, 32, 4, 4),
            torch.randn(1, 3, 8),
            torch.tensor([5]),
            image_rotary_emb=rotary_table(model.model_config, 1, 4, 4),
            identity=model.prepare_identity(torch.randn(5, 16)),
        )
    assert {"layer_attention0", "layer_attention1", "layer_attention2", "block3.hidden", "time_embedding"} <= set(found)
    assert found["layer_attention1"] is found["layer_attention2"]
    taken = found["block2.after"] - found["block2.hidden"]
    assert torch.allclose(taken, found["layer_attention2"], atol=1e-5)


@pytest.mark.parametrize("guidance", ["dynamic", "off"])
@torch.no_grad()
def test_the_sampling_loop_is_diffusers_own_with_the_release_s_guidance(guidance):
    """What verify runs for dynamic_cfg and no_cfg, at a small size, against a loop by hand."""
    from diffusers import CogVideoXDPMScheduler

    model = small_model(RELEASE.transformer.layers // 21)
    identity = model.prepare_identity(torch.randn(5, 16, generator=torch.Generator().manual_seed(1)))
    prompt, negative = torch.randn(2, 1, 3, 8, generator=torch.Generator().manual_seed(2))
    reference = torch.randn((1, 3, 16, 4, 4), generator=torch.Generator().manual_seed(3))
    scale = 6.0 if guidance == "dynamic" else 1.0
    options = SamplingOptions(steps=3, guidance_scale=scale, dynamic_guidance=guidance == "dynamic")
    ours = sample(model, Conditions(prompt, negative, reference, identity), options, torch.Generator().manual_seed(42))

    generator = torch.Generator().manual_seed(42)
    latents, clean = torch.randn(reference.shape, generator=generator), None
    scheduler = CogVideoXDPMScheduler.from_config(
        json.loads(golden_path("pipeline.json").read_text())["scheduler_config"]
    )
    scheduler.set_timesteps(3)
    text = torch.cat([negative, prompt]) if guidance == "dynamic" else prompt
    for index, time in enumerate(scheduler.timesteps):
        inputs = torch.cat([latents, reference], dim=2).repeat(len(text), 1, 1, 1, 1)
        rotary = rotary_table(model.model_config, 3, 4, 4)
        out = model(inputs, text, time.expand(len(text)), None, None, rotary, None, False, identity)[0]
        if guidance == "dynamic":
            unconditional, conditional = out.chunk(2)
            quirk = 1 + 6 * (1 - math.cos(math.pi * ((3 - time.item()) / 3) ** 5)) / 2
            out = unconditional + quirk * (conditional - unconditional)
        before = scheduler.timesteps[index - 1] if index else None
        latents, clean = scheduler.step(out, clean, time, before, latents, generator=generator, return_dict=False)
    assert torch.allclose(ours, latents, atol=1e-5)
