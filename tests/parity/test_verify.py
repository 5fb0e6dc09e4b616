"""``fantasyid verify`` computes what the golden files hold and what their README says they may hold, and fails aloud.

The numbers marked † there are not stored; here they are made again by another route than the one that verify takes
(one at a time instead of a batch, naive attention instead of the fused one, positions added by hand, another loop).
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import golden_path, golden_tensors
from safetensors.torch import save_file

from fantasyid_core.config import RELEASE
from fantasyid_core.errors import InputError
from fantasyid_core.verify import run_verify, verify
from fantasyid_core.verify.golden import Golden
from fantasyid_core.verify.identity import IdentityNets
from fantasyid_core.verify.video import records, velocity
from fantasyid_core.video.golden_numbers import golden_config, golden_transformer
from fantasyid_core.video.layer_attention import LayerAttention
from fantasyid_core.video.sample import Conditions, SamplingOptions, sample
from fantasyid_core.video.size import rotary_table
from fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel
from fantasyid_core.weights import golden_rule
from fantasyid_core.weights.golden_rule import fill_module, tensor_input, weight


@pytest.fixture(scope="module", autouse=True)
def each_weight_is_made_once():
    """Making weights out of their names takes most of the time; the same tensor serves every model of these tests."""
    made: dict[str, np.ndarray] = {}

    def cached(key, shape):
        if key not in made:
            made[key] = weight(key, shape)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden_rule, "weight", cached)
        yield


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


# --- the command itself ---


def test_a_golden_file_passes_and_the_exit_code_is_zero(tmp_path):
    target = tmp_path / "golden"
    target.mkdir()
    for name in ("layer_attention.safetensors", "rope_full.safetensors", "manifest.json", "face_preprocess.npz"):
        shutil.copy(golden_path(name), target)
    lines: list[str] = []
    assert run_verify(target, lines.append) == 0
    assert any("layer_attention.safetensors" in line and "max" in line and "tolerance" in line for line in lines)
    assert " 0 failed" in lines[-1]


def test_a_number_that_is_off_fails_and_so_does_the_command(tmp_path):
    golden = golden_tensors("layer_attention.safetensors")
    golden["output"][0, 5, 7] += 5e-5
    save(tmp_path, "layer_attention.safetensors", golden)
    lines: list[str] = []
    assert run_verify(tmp_path, lines.append) == 1
    assert lines[-1].startswith("FAIL") and "max 4.9" in lines[-1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_golden_that_is_no_number_fails(tmp_path, value):
    golden = golden_tensors("layer_attention.safetensors")
    golden["output"][0, 0, 0] = value
    save(tmp_path, "layer_attention.safetensors", golden)
    assert verdicts(tmp_path, "layer_attention.safetensors")["output"].failed


def test_a_key_that_nothing_computes_fails(tmp_path):
    save(tmp_path, "rope_full.safetensors", {**golden_tensors("rope_full.safetensors"), "rope_half_cos": torch.ones(3)})
    checks = verdicts(tmp_path, "rope_full.safetensors")
    assert checks["rope_half_cos"].failed and "not computed" in checks["rope_half_cos"].note
    assert not checks["rope_full_cos"].failed


def test_a_file_that_nobody_knows_fails(tmp_path):
    save(tmp_path, "unheard_of.safetensors", {"x": torch.ones(2)})
    (tmp_path / "unheard_of.json").write_text(json.dumps({"x": 1}))
    assert [check.failed for check in verify(tmp_path)] == [True, True]


def test_another_shape_fails(tmp_path):
    save(tmp_path, "rope_full.safetensors", {"rope_full_cos": torch.ones(49, 64)})
    assert "shape" in verdicts(tmp_path, "rope_full.safetensors")["rope_full_cos"].note


def test_a_damaged_golden_file_fails_without_ending_the_run(tmp_path):
    (tmp_path / "a_broken.safetensors").write_bytes(b"nothing")
    shutil.copy(golden_path("rope_full.safetensors"), tmp_path)
    checks = verify(tmp_path)
    assert checks[0].failed and "truncated" in checks[0].note
    assert not any(check.failed for check in checks[1:])


def test_a_folder_without_golden_numbers_is_refused(tmp_path):
    with pytest.raises(InputError, match="no golden numbers"):
        verify(tmp_path)


def test_missing_meshes_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("FANTASYID_GOLDEN", raising=False)
    lonely = tmp_path / "a" / "b"
    lonely.mkdir(parents=True)
    save(lonely, "vertex_spiral_net.safetensors", {"anne.reduced": torch.zeros(1, 79, 2048)})
    checks = verify(lonely)
    assert checks[0].failed


# --- numbers that the published files do not hold ---


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
    model = golden_transformer(golden_config())
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
    positions = torch.from_numpy(np.array(weight("patch_embed.pos_embedding", (1, 298, 3072))))
    table = sinusoidal_table(2, 4, 6)
    numbers = {
        "batch2.output": torch.cat(single),
        "learned.output": with_positions(model, positions, lambda: velocity(model, identity)),
        "learned.sincos_2frames_image_rows": table,
        "learned.output_2frames": with_positions(
            model,
            torch.cat([torch.zeros(1, 226, 3072), table], dim=1),
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


def sinusoidal_table(frames: int, rows: int, columns: int, width: int = 3072, scale: float = 1.875) -> torch.Tensor:
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
    model = golden_transformer(golden_config(layers=4, interval=2))
    rotary = rotary_table(RELEASE, 3, 8, 12)
    time = model.time_embedding(model.time_proj(torch.tensor([499])))
    joint = model.patch_embed(
        tensor_input("model.text", (1, 226, 4096), 0.2), tensor_input("model.latents", (1, 3, 32, 8, 12))
    )
    text, video = joint[:, :226], joint[:, 226:]
    for index, block in enumerate(model.transformer_blocks):
        video, text = block(video, text, time, rotary, identity=None)
        if index % 2 == 0:
            layer = block.layer_attention
            assert np.array_equal(layer.to_q.weight, weight(f"layer_attention.{index // 2}.to_q.weight", (2048, 3072)))
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
