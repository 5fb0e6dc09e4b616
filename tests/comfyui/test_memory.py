"""Models under ComfyUI's own memory manager: it may keep weights where it likes, the numbers stay the same."""

from __future__ import annotations

import sys

import pytest
import torch


@pytest.fixture(scope="module")
def rooms(pack_nodes):
    """The pack's own modules by their last name, as ComfyUI loaded them."""
    root = pack_nodes["FantasyIDSampler"].__module__.rsplit(".nodes.", 1)[0]

    def module(name):
        return sys.modules.get(f"{root}.{name}") or __import__("importlib").import_module(f"{root}.{name}")

    return module


@pytest.fixture(scope="module")
def mini(rooms):
    core = rooms("fantasyid_core.model")
    return core.load_model(core.MINI)


def transformer_input(model):
    dit = model.config.transformer
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(1, 3, 2 * dit.latent_channels, 8, 8, generator=generator)
    text = torch.randn(1, dit.text_length, dit.text_embed_dim, generator=generator)
    return video, text


def run_transformer(rooms, model):
    rotary = rooms("fantasyid_core.video.size").rotary_table(model.config, 3, 8, 8)
    video, text = transformer_input(model)
    with torch.no_grad():
        return model.transformer(video, text, torch.tensor([500]), image_rotary_emb=rotary, return_dict=False)[0]


def test_layers_that_comfyui_may_page_compute_exactly_the_same(rooms, mini):
    before = run_transformer(rooms, mini)
    rooms("nodes.adopt").adopt_layers(mini.transformer)
    kinds = {type(layer).__module__ for layer in mini.transformer.modules() if isinstance(layer, torch.nn.Linear)}
    assert kinds == {"comfy.ops"}
    assert torch.equal(run_transformer(rooms, mini), before)


def test_weights_in_another_number_type_are_cast_when_a_layer_runs(rooms, mini):
    import copy

    model = copy.deepcopy(mini.transformer)
    rooms("nodes.adopt").adopt_layers(model)
    linear = next(layer for layer in model.modules() if isinstance(layer, torch.nn.Linear))
    given = torch.randn(2, linear.in_features)
    linear.to(torch.bfloat16)
    assert linear(given).dtype == torch.float32


def test_comfyui_knows_the_model_and_recognises_it_again(rooms, mini):
    import comfy.model_management as management

    memory = rooms("nodes.memory")
    memory.on_device(mini.transformer, memory.video_device())
    loaded = len(management.current_loaded_models)
    memory.on_device(mini.transformer, memory.video_device())
    assert len(management.current_loaded_models) == loaded
    assert any(entry.model.model.module is mini.transformer for entry in management.current_loaded_models)


def test_position_tables_follow_a_partly_loaded_model(rooms):
    """Where that is cannot be seen without a second device, so torch's meta device stands for it."""
    part = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    rooms("nodes.memory").bring_buffers(part, torch.device("meta"))
    assert {buffer.device.type for buffer in part.buffers()} == {"meta"}
    assert {parameter.device.type for parameter in part.parameters()} == {"cpu"}


def test_a_model_that_nobody_uses_any_more_is_forgotten(rooms):
    import gc
    import weakref

    core, memory = rooms("fantasyid_core.model"), rooms("nodes.memory")
    model = core.load_model(core.MINI)
    memory.on_device(model.vae, memory.vae_device())
    trace = weakref.ref(model.vae)
    del model
    gc.collect()
    assert trace() is None


def test_the_loader_says_what_a_video_will_take(rooms, pack_nodes):
    _, about = pack_nodes["FantasyIDLoadModel"].execute("mini", "auto").result
    size = rooms("fantasyid_core.video.memory_plan").own_video(rooms("fantasyid_core.config").MINI)
    assert f"{size.frames} frames of {size.width}×{size.height} take " in about and "of memory" in about


def test_weights_in_8_bits_make_nearly_the_same_video(pack_nodes, someone):
    load, encode, sample = (pack_nodes[f"FantasyID{name}"].execute for name in ("LoadModel", "TextEncode", "Sampler"))

    def weight_of(model):
        return model.transformer.transformer_blocks[0].ff.net[0].proj.weight

    made = []
    for precision in ("auto", "fp8_e4m3fn"):
        model = load("mini", precision).result[0]
        positive, negative = (encode(model, text).result[0] for text in ("a person smiles", ""))
        assert model.transformer.dtype == torch.float32
        latent = sample(model, positive, negative, 1, 4, 3.0, 1.0, 0.0, 1.0, 17, 0, 0, identity=someone(1)).result[0]
        made.append(latent["samples"])
    assert weight_of(model).dtype == torch.float8_e4m3fn and not weight_of(model).requires_grad
    error = float((made[0] - made[1]).square().mean() / made[0].square().mean())
    assert 1e-7 < error < 0.01


def test_the_layers_in_8_bits_are_those_of_the_command(rooms, pack_nodes):
    def in_8_bits(transformer):
        named = transformer.transformer_blocks.named_modules()
        linear = ((name, layer) for name, layer in named if isinstance(layer, torch.nn.Linear))
        return {name for name, layer in linear if layer.weight.dtype == torch.float8_e4m3fn}

    ours = pack_nodes["FantasyIDLoadModel"].execute("mini", "fp8_e4m3fn").result[0].transformer
    theirs = rooms("fantasyid_core.model").load_model("mini").transformer
    rooms("fantasyid_core.video.placement").keep_in_8_bits(theirs)
    assert in_8_bits(ours) == in_8_bits(theirs) and len(in_8_bits(ours)) == 72


def test_core_samplers_take_weights_in_8_bits(core, pack_nodes):
    load, encode, wrap = (pack_nodes[f"FantasyID{name}"].execute for name in ("LoadModel", "TextEncode", "CoreModel"))
    made = []
    for precision in ("auto", "fp8_e4m3fn"):
        mini = load("mini", precision).result[0]
        model, latent = wrap(mini, 1.0, 17, 0, 0).result
        positive, negative = (encode(mini, text).result[0] for text in ("a person smiles", ""))
        sampler = core.NODE_CLASS_MAPPINGS["KSampler"]()
        made.append(sampler.sample(model, 3, 4, 3.0, "euler", "simple", positive, negative, latent)[0]["samples"])
    error = float((made[0] - made[1]).square().mean() / made[0].square().mean())
    assert 1e-7 < error < 0.01


def test_the_memory_estimate_of_the_public_checkpoint_is_plausible(rooms):
    from types import SimpleNamespace

    config = rooms("fantasyid_core.config")
    sampling = rooms("nodes.sampling")
    model = SimpleNamespace(config=config.RELEASE, transformer=SimpleNamespace(dtype=torch.bfloat16))
    needed = sampling.sampling_memory(model, sampling.VideoSize(49, 480, 720))
    assert 2e9 < needed < 10e9
