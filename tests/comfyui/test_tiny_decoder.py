"""The preview by the tiny decoder, on a file of the public one's layout (its weights cannot be had here)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch


@pytest.fixture
def tiny(pack_module):
    return pack_module("nodes.tiny_decoder")


@pytest.fixture
def public(tiny):
    """The core's network with made-up weights, in half precision as published."""
    from comfy.taesd.taehv import TAEHV

    module = TAEHV(latent_channels=tiny.CHANNELS, latent_format=None, show_progress_bar=False)
    generator = torch.Generator().manual_seed(0)
    for weight in module.parameters():  # the core leaves them as the memory was
        weight.data = torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5
    return module.half()


@pytest.fixture(params=["taecvx.pth", "taecvx.safetensors"])
def installed(request, public, base, core):
    """The file in models/vae_approx."""
    from safetensors.torch import save_file

    folder = base / "models" / "vae_approx"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / request.param
    save_file(public.state_dict(), file) if file.suffix == ".safetensors" else torch.save(public.state_dict(), file)
    yield file
    file.unlink()


def rough(latents):
    return ["rough"]


def a_model(channels=16):
    return SimpleNamespace(config=SimpleNamespace(transformer=SimpleNamespace(latent_channels=channels)))


def test_the_pictures_are_what_the_network_makes_of_the_latents(tiny, public, installed):
    assert tiny.tiny_decoder_file() == installed
    decoder = tiny.load_tiny_decoder(installed, torch.device("cpu"), torch.float32)
    latents = torch.randn(1, 3, 16, 6, 8)
    shown = tiny.pictures_of(decoder)(latents)
    with torch.no_grad():
        video = public.float().decode(latents.movedim(2, 1))
    assert video.shape[-3:] == (9, 48, 64) and [picture.size for picture in shown] == [(64, 48)] * 3
    for picture, frame in zip(shown, video[0].movedim(0, -1)[::4], strict=True):
        assert np.abs(np.asarray(picture) - frame.clamp(0, 1).numpy() * 255).max() <= 0.51


def test_it_is_taken_on_a_card_for_this_familys_latents_alone(tiny, installed, monkeypatch):
    made = []
    monkeypatch.setattr(tiny, "load_tiny_decoder", lambda *given: made.append(given) or torch.nn.Linear(1, 1))
    card = torch.device("cuda")
    assert tiny.with_tiny_decoder(a_model(), rough, torch.device("cpu")) is rough
    assert tiny.with_tiny_decoder(a_model(32), rough, card) is rough
    assert tiny.with_tiny_decoder(a_model(), rough, card) is not rough
    assert made == [(installed, card, torch.float16)]


def test_a_damaged_or_another_file_leaves_the_rough_preview_and_says_so(tiny, installed, caplog):
    whole = installed.read_bytes()
    for left in (whole[: len(whole) // 2], b""):
        installed.write_bytes(left)
        assert tiny.with_tiny_decoder(a_model(), rough, torch.device("cuda")) is rough
    torch.save({"decoder.1.weight": torch.zeros(2)}, installed.with_suffix(".pth"))
    installed.write_bytes(installed.with_suffix(".pth").read_bytes())
    assert tiny.with_tiny_decoder(a_model(), rough, torch.device("cuda")) is rough
    assert caplog.text.count("tiny decoder could not be loaded") == 3
    installed.with_suffix(".pth").unlink(missing_ok=True)
    installed.touch()


def test_a_full_memory_ends_the_better_preview_and_not_the_video(tiny):
    def full(latents):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    guarded = tiny._Guarded(full, rough)
    assert guarded(torch.zeros(1)) == guarded(torch.zeros(1)) == ["rough"]


def test_a_file_that_holds_code_is_never_run(tiny, installed, tmp_path):
    import pickle

    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    with installed.open("wb") as file:
        pickle.dump(Attack(), file)
    assert tiny.with_tiny_decoder(a_model(), rough, torch.device("cuda")) is rough
    assert not (tmp_path / "touched").exists()
