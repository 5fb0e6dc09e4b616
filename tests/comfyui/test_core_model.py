"""The model as a core MODEL: core samplers, LoRA loaders and patches work on it, with our own sampler's numbers."""

from __future__ import annotations

import pytest
import torch
from test_bad_input import refused

STEPS = 10  # divides 1000: the core's "simple" levels are then the trained timesteps


@pytest.fixture(scope="module")
def encoded(pack_nodes, mini_model):
    """A prompt and an empty one, as CONDITIONING."""
    encode = pack_nodes["FantasyIDTextEncode"].execute
    return encode(mini_model, "a person smiles").result[0], encode(mini_model, "").result[0]


@pytest.fixture(scope="module")
def core_model(pack_nodes, mini_model):
    """``core_model(identity, …)`` → MODEL and empty LATENT."""
    settings = {"identity_strength": 1.0, "frames": 17, "width": 0, "height": 0}

    def make(identity=None, **named):
        return pack_nodes["FantasyIDCoreModel"].execute(mini_model, **(settings | named), identity=identity).result

    return make


@pytest.fixture
def ksample(core, encoded):
    """``ksample(model, latent, …)`` → samples of the core's KSampler node."""

    def run(model, latent, seed=3, cfg=4.0, sampler="euler", steps=STEPS, prompts=encoded):
        positive, negative = prompts
        node = core.NODE_CLASS_MAPPINGS["KSampler"]()
        return node.sample(model, seed, steps, cfg, sampler, "simple", positive, negative, latent)[0]["samples"]

    return run


def from_the_same_noise(monkeypatch, pack_module, noise):
    """Our own sampler starts from ``noise`` [1, F, C, H, W]."""
    import diffusers.utils.torch_utils as utils

    monkeypatch.setattr(utils, "randn_tensor", lambda shape, **named: noise)


@pytest.mark.parametrize("sampler", ["euler", "ddim"])
@pytest.mark.parametrize("strength", ["1", "1 0.4 @ 0-60%; 0.2 @ 60-100%"])
def test_core_samplers_make_the_video_of_our_own(
    sampler, strength, core_model, ksample, someone, mini_model, pack_module, encoded, monkeypatch
):
    acting = pack_module("fantasyid_core.video.strength").parse_strength(strength)
    model, latent = core_model(someone(1), strength=acting)
    assert latent["samples"].shape == (1, 32, 5, 8, 8) and not latent["samples"].any()
    theirs = ksample(model, latent, sampler=sampler)

    sampling, sample = pack_module("nodes.sampling"), pack_module("fantasyid_core.video.sample")
    size = sampling.asked_size(mini_model, 17, 0, 0)
    generator = torch.Generator("cpu").manual_seed(0)
    conditions = sampling.conditions_of(mini_model, *encoded, someone(1), size, generator)
    noise = torch.randn(latent["samples"].shape, generator=torch.manual_seed(3))
    from_the_same_noise(monkeypatch, pack_module, noise.movedim(2, 1))
    options = sample.SamplingOptions(STEPS, 4.0, sampler="ddim", strength=acting)
    ours = sample.sample(mini_model.transformer, conditions, options, generator).movedim(2, 1)
    theirs = model.model.process_latent_in(theirs)  # a LATENT is the VAE's, ours are the model's
    assert (theirs - ours).abs().max() < 5e-3 * ours.abs().max()


def test_identity_strength_and_seed_count(core_model, ksample, someone):
    plain = ksample(*core_model(), steps=2)
    with_identity, latent = core_model(someone(1))
    assert not torch.equal(ksample(with_identity, latent, steps=2), plain)
    silent, _ = core_model(someone(1), identity_strength=0.0)
    assert not torch.equal(ksample(silent, latent, steps=2), plain)  # the reference picture is still shown
    assert torch.equal(ksample(with_identity, latent, steps=2), ksample(with_identity, latent, steps=2))
    assert not torch.equal(ksample(with_identity, latent, steps=2), ksample(with_identity, latent, steps=2, seed=4))


def test_a_latent_is_what_the_vae_gives_and_takes_whoever_sampled_it(
    core_model, ksample, someone, mini_model, encoded, pack_nodes
):
    """As in all of ComfyUI, so that any VAE node of the core can stand before or behind a sampler."""
    model, latent = core_model(someone(1))
    theirs = ksample(model, latent, steps=2)
    widgets = (0, 2, 4.0, 1.0, 0.0, 1.0, 17, 0, 0)
    ours = pack_nodes["FantasyIDSampler"].execute(mini_model, *encoded, *widgets, someone(1)).result[0]["samples"]
    decode = pack_nodes["FantasyIDDecode"].execute
    for samples in (theirs, ours):
        plain = mini_model.vae.decode(samples).sample[0].movedim(0, 3) / 2 + 0.5
        assert torch.allclose(decode(mini_model, {"samples": samples}, "off").result[0], plain.clamp(0, 1), atol=1e-4)
    again = model.model.process_latent_in(theirs)
    assert mini_model.vae.config["scaling_factor"] != 1 and not torch.allclose(again, theirs)


def test_two_videos_at_once_are_the_same_two(core_model, ksample, someone, core, pack_nodes, mini_model):
    model, latent = core_model(someone(1))
    both = core.NODE_CLASS_MAPPINGS["RepeatLatentBatch"]().repeat(latent, 2)[0]
    made = ksample(model, both, steps=6)  # in fewer, the rounding of the noisiest step alone is above 1e-4 on some CPUs
    assert made.shape[0] == 2
    assert torch.allclose(made[:1], ksample(model, latent, steps=6), atol=1e-4)
    assert not torch.allclose(made[0], made[1], atol=1e-2)
    decode = pack_nodes["FantasyIDDecode"].execute
    frames = decode(mini_model, {"samples": made}, "off").result[0]
    assert frames.shape == (2 * 17, 64, 64, 3)
    assert torch.equal(frames[17:], decode(mini_model, {"samples": made[1:]}, "off").result[0])


def test_a_core_lora_changes_this_model_only(core_model, ksample, someone, core, mini_model, pack_module, tmp_path):
    import folder_paths
    from safetensors.torch import save_file

    names = (
        "transformer_blocks.0.attn1.to_q",
        "transformer_blocks.3.ff.net.0.proj",
        "transformer_blocks.2.layer_attention.to_kv",
    )
    weights, generator = {}, torch.Generator().manual_seed(1)
    for name in names:
        rows, columns = mini_model.transformer.get_submodule(name).weight.shape
        weights[f"transformer.{name}.lora_A.weight"] = torch.randn(4, columns, generator=generator) * 0.05
        weights[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, 4, generator=generator) * 0.05
    save_file(weights, tmp_path / "test_lora.safetensors")
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    load = core.NODE_CLASS_MAPPINGS["LoraLoaderModelOnly"]().load_lora_model_only
    model, latent = core_model(someone(1))
    before = ksample(model, latent, steps=2)
    patched = load(model, "test_lora.safetensors", 1.0)[0]
    assert {key.removeprefix("diffusion_model.") for key in patched.patches} == {f"{name}.weight" for name in names}
    weight = mini_model.transformer.get_submodule(names[0]).weight.detach().clone()
    assert not torch.allclose(ksample(patched, latent, steps=2), before, atol=1e-3)
    assert torch.equal(ksample(load(model, "test_lora.safetensors", 0.0)[0], latent, steps=2), before)

    sampling, memory = pack_module("nodes.sampling"), pack_module("nodes.memory")
    ksample(patched, latent, steps=1)
    size = sampling.asked_size(mini_model, 17, 0, 0)
    shell = pack_module("nodes.core_video").VideoModel
    memory.on_device(mini_model.transformer, memory.video_device(), 0, lambda: shell(mini_model))  # as our sampler does
    assert size.frames == 17 and torch.equal(mini_model.transformer.get_submodule(names[0]).weight, weight)


def test_core_patches_act(core_model, ksample, someone):
    from comfy_extras.nodes_model_advanced import RescaleCFG

    model, latent = core_model(someone(1))
    patched = RescaleCFG().patch(model, multiplier=0.7)[0]
    assert not torch.equal(ksample(patched, latent, steps=2), ksample(model, latent, steps=2))


def test_easycache_skips_calls(core_model, ksample, someone, mini_model):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model, latent = core_model(someone(1))
    (cached,) = EasyCacheNode.execute(model, 0.9, 0.1, 0.9, False).result
    calls = []
    hook = mini_model.transformer.transformer_blocks[0].register_forward_hook(lambda *_: calls.append(1))
    try:
        exact, all_calls = ksample(model, latent), len(calls)
        calls.clear()
        assert not torch.equal(ksample(cached, latent), exact)
    finally:
        hook.remove()
    assert 0 < len(calls) < all_calls


def test_the_noise_levels_are_the_checkpoints_own(core_model, pack_module, mini_model):
    sampling = core_model()[0].get_model_object("model_sampling")
    kept = (
        pack_module("fantasyid_core.video.schedule").make_sampler("dpm", 10, mini_model.noise_schedule).alphas_cumprod
    )
    assert kept[-1] == 0 and sampling.sigmas[-1] > 4000, "the noisiest step is pure noise"
    torch.testing.assert_close(1 / (1 + sampling.sigmas.double()[:-1] ** 2), kept.double()[:-1], rtol=1e-4, atol=1e-7)


def test_the_custom_sampler_makes_the_same_as_ksampler(core_model, ksample, someone, encoded):
    from comfy_extras import nodes_custom_sampler as custom

    model, latent = core_model(someone(1))
    (noise,) = custom.RandomNoise.execute(3).result
    (guider,) = custom.CFGGuider.execute(model, *encoded, 4.0).result
    (sampler,) = custom.KSamplerSelect.execute("euler").result
    (sigmas,) = custom.BasicScheduler.execute(model, "simple", 2, 1.0).result
    made = custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]["samples"]
    assert torch.equal(made, ksample(model, latent, steps=2))


def test_the_weights_are_there_once(core_model, someone, mini_model):
    model, _ = core_model(someone(1))
    theirs = dict(model.model.diffusion_model.named_parameters())
    ours = dict(mini_model.transformer.named_parameters())
    assert theirs.keys() == ours.keys()
    assert all(theirs[name] is ours[name] for name in ours)


def test_a_latent_of_another_size_is_refused_in_one_sentence(core_model, ksample, someone):
    model, _ = core_model(someone(1))
    other = {"samples": torch.zeros(1, 32, 5, 8, 12)}
    with pytest.raises(ValueError, match="96×64 pixels and 5 latent frames, but the model was prepared for 64×64"):
        ksample(model, other, steps=1)
    even = {"samples": torch.zeros(1, 32, 4, 8, 8)}
    assert "cannot have 13 frames" in refused(ksample, model, even)


def test_cores_previews_have_the_colours_of_our_own(core_model, mini_model, pack_module, monkeypatch):
    import latent_preview
    import numpy as np
    from comfy.cli_args import LatentPreviewMethod, args

    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Auto)
    latents = torch.randn(1, 32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    previewer = latent_preview.get_previewer("cpu", core_model()[0].model.latent_format)
    shown = np.asarray(previewer.decode_latent_to_preview_image("JPEG", latents)[1], dtype=int)
    ours = np.asarray(pack_module("nodes.preview").latent_preview(mini_model.vae)(latents.movedim(1, 2))[0], dtype=int)
    assert shown.shape == (8, 8, 3) and abs(shown - ours).max() <= 1 and shown.std() > 5


def test_cancel_takes_effect_within_a_step(core_model, ksample, someone, monkeypatch):
    import comfy.model_management as management

    model, latent = core_model(someone(1))
    blocks, asked = [], management.throw_exception_if_processing_interrupted

    def check():
        blocks.append(1)
        if len(blocks) == 11:
            management.interrupt_current_processing(True)
        asked()

    monkeypatch.setattr(management, "throw_exception_if_processing_interrupted", check)
    with pytest.raises(management.InterruptProcessingException):
        ksample(model, latent)
    assert len(blocks) == 11, "the 8 blocks of the first step and 3 of the second"


def test_a_strength_belongs_to_a_noise_level_not_to_a_step_of_this_run(core_model, someone, core, encoded, pack_module):
    """Two samplers in a row, each with half of the steps, make what one makes with all of them."""
    acting = pack_module("fantasyid_core.video.strength").parse_strength("2 @ 0-25%; 0.5 @ 25-50%")
    model, latent = core_model(someone(1), strength=acting)
    advanced = core.NODE_CLASS_MAPPINGS["KSamplerAdvanced"]()

    def run(latent, start, end, add_noise="enable"):
        more = "enable" if end < 4 else "disable"  # leave the noise that is left
        given = (model, add_noise, 3, 4, 4.0, "euler", "simple", *encoded, latent, start, end, more)
        return advanced.sample(*given)[0]

    whole = run(latent, 0, 4)["samples"]
    halves = run(run(latent, 0, 2), 2, 4, "disable")["samples"]
    assert (halves - whole).abs().max() < 1e-3
    always = pack_module("fantasyid_core.video.strength").parse_strength("2 @ 0-25%; 0.5")
    model, _ = core_model(someone(1), strength=always)
    assert (run(latent, 0, 4)["samples"] - whole).abs().max() > 1e-2, "or the strengths prove nothing"


def test_prompts_of_different_lengths_and_another_width(core_model, ksample, encoded):
    (positive, negative), (model, latent) = encoded, core_model()
    tokens = positive[0][0]
    half = tokens.shape[1] // 2
    short = [[tokens[:, :half], {}]]
    fitted = [[torch.cat([tokens[:, :half], tokens[:, half - 1 : half].expand(-1, half, -1)], dim=1), {}]]
    made = ksample(model, latent, steps=2, prompts=(short, negative))
    assert torch.equal(made, ksample(model, latent, steps=2, prompts=(fitted, negative)))
    narrow = [[tokens[..., 1:], {}]]
    assert refused(ksample, model, latent, prompts=(narrow, narrow)).endswith("with Encode Prompt.")


def test_a_step_cache_of_the_core_leaves_out_calls(core_model, ksample, someone, monkeypatch):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model, latent = core_model(someone(1))
    calls, network = [], type(model.model.diffusion_model)
    velocity = network._velocity
    monkeypatch.setattr(network, "_velocity", lambda *given: calls.append(1) or velocity(*given))
    cached = EasyCacheNode.execute(model, 3.0, 0.0, 1.0, False).result[0]
    assert torch.isfinite(ksample(cached, latent)).all()
    assert 0 < len(calls) < STEPS


def test_the_memory_it_asks_for_is_our_samplers_estimate(core_model, pack_module, mini_model):
    sampling = pack_module("nodes.sampling")
    needed = core_model()[0].model.memory_required([2, 32, 5, 8, 8])
    assert needed == sampling.sampling_memory(mini_model, sampling.VideoSize(17, 64, 64)) > 0


def test_keys_and_values_are_made_where_the_call_runs(core_model, mini_model, pack_module):
    """A paged weight lies elsewhere; without a second device, torch's meta device stands for the call's."""
    core_model()  # its layers are ComfyUI's from here on
    tokens = torch.zeros(5, mini_model.config.identity_width, device="meta")
    context = pack_module("nodes.core_video")._WhereTheCallRuns(mini_model.transformer).prepare_identity(tokens)
    assert {part.device.type for pair in context.keys_values for part in pair} == {"meta"}
    assert {weight.device.type for weight in mini_model.transformer.parameters()} == {"cpu"}


def test_the_manager_knows_the_weights_once(core_model, ksample, someone, mini_model, pack_module, encoded):
    import comfy.model_management as management

    sampling = pack_module("nodes.sampling")
    model, latent = core_model(someone(1))
    size, generator = sampling.asked_size(mini_model, 17, 0, 0), torch.Generator().manual_seed(0)
    for run in (
        lambda: ksample(model, latent, steps=1),
        lambda: sampling.conditions_of(mini_model, *encoded, None, size, generator),
        lambda: ksample(core_model()[0], latent, steps=1),
    ):
        run()
        assert sum(entry.model.model is model.model for entry in management.current_loaded_models) == 1


def test_on_a_real_server(client):
    from graphs import node, text_to_video

    graph = text_to_video()
    graph["core"] = node("FantasyIDCoreModel", model=["model", 0], identity_strength=1.0, frames=17, width=0, height=0)
    graph["sampler"] = node(
        "KSampler", model=["core", 0], latent_image=["core", 1], positive=["positive", 0], negative=["negative", 0],
        seed=1, steps=4, cfg=3.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    )  # fmt: skip
    run = client.run(graph, timeout=200)
    assert run.ended == "execution_success", run.error
    assert run.outputs["save"]


def test_the_core_can_have_a_copy_with_weights_of_its_own(core_model, ksample, someone):
    """Cores of 2026 make one before they compile a model or put it on further cards."""
    model, latent = core_model(someone(1))
    make, given = model.cached_patcher_init
    own = make(*given, disable_dynamic=True)
    shared = {weight.data_ptr() for weight in model.model.parameters()}
    assert not shared & {weight.data_ptr() for weight in own.model.parameters()}
    own.model_options = model.model_options
    assert torch.equal(ksample(own, latent), ksample(model, latent))
    assert own.model.latent_format.latent_rgb_factors == model.model.latent_format.latent_rgb_factors
    assert own.clone().model is own.model and make(*given).model is not own.model
