"""In and out of the latent space: the reference crop, and the finished video."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from benchmarks.measure import held
from fantasyid_core.errors import InputError
from fantasyid_core.images import NEUTRAL_GREY
from fantasyid_core.video.lean_vae import lean
from fantasyid_core.video.mini import mini_vae
from fantasyid_core.video.vae import FITS, _chunks, _stream, decode_latents, encode_reference, reference_pixels

CHANNELS = (16, 24, 48, 96)


@pytest.fixture(scope="module")
def cogvideox():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderKLCogVideoX(
            block_out_channels=CHANNELS, latent_channels=16, layers_per_block=1, norm_num_groups=8, scaling_factor=1.0
        ).eval()


@pytest.fixture(params=["CogVideoX", "mini"])
def vae(request, cogvideox):
    return cogvideox if request.param == "CogVideoX" else busy(mini_vae())


def busy(vae):
    """A new mini's convolutions that add nothing yet are given something to add."""
    generator = torch.Generator().manual_seed(1)
    for parameter in vae.parameters():
        if not parameter.any():
            parameter.data = 0.02 * torch.randn(parameter.shape, generator=generator)
    return vae


def latents(vae, frames: int = 5, height: int = 4, width: int = 6) -> torch.Tensor:
    shape = (1, frames, vae.config["latent_channels"], height, width)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def disc() -> np.ndarray:
    """A white disc of 256 pixels in the middle of a black crop."""
    y, x = np.mgrid[:512, :512] - 255.5
    return np.repeat(((x**2 + y**2) < 128**2)[..., None], 3, axis=2).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 3, 5, 7])
@torch.no_grad()
def test_streamed_decoding_is_the_same_as_decoding_at_once(vae, frames):
    z = latents(vae, frames)
    whole = vae.decode(z.permute(0, 2, 1, 3, 4) / vae.config.scaling_factor).sample  # (1, 3, F, H, W)
    expected = (whole[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1).numpy()
    video = decode_latents(vae, z)
    assert video.shape == (4 * (frames - 1) + 1, 32, 48, 3)
    assert video.dtype == np.float32
    np.testing.assert_array_equal(video, expected)


@pytest.mark.parametrize("frames", [1, 3, 7])
@torch.no_grad()
def test_the_lean_decoder_makes_bit_for_bit_what_diffusers_makes_in_less_memory(cogvideox, frames):
    z = latents(cogvideox, frames)
    theirs = cogvideox.decode(z.permute(0, 2, 1, 3, 4)).sample
    ours = lean(copy.deepcopy(cogvideox))
    assert {name for name, _ in ours.named_parameters()} == {name for name, _ in cogvideox.named_parameters()}
    assert torch.equal(ours.decode(z.permute(0, 2, 1, 3, 4)).sample, theirs)
    expected = (theirs[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1).numpy()
    np.testing.assert_array_equal(decode_latents(ours, z), expected)


@torch.no_grad()
def test_the_lean_decoder_holds_little_more_than_half_at_full_size():
    """On torch's meta device, which computes and holds nothing, so that the released size can be counted."""
    with torch.device("meta"):
        vae = AutoencoderKLCogVideoX(
            block_out_channels=(128, 256, 256, 512), layers_per_block=3, latent_channels=16, scaling_factor=0.7
        ).eval()
        z = torch.empty(1, 16, 5, 60, 90)
    theirs = held(lambda: vae.decode(z), vae)
    lean(vae)
    assert held(lambda: [*_stream(vae, z, _chunks(5))], vae) < 0.6 * theirs


@torch.enable_grad()
def test_a_lean_vae_can_still_be_trained(cogvideox):
    vae = lean(copy.deepcopy(cogvideox))
    vae.decode(latents(vae, 1).permute(0, 2, 1, 3, 4)).sample.mean().backward()
    assert vae.decoder.conv_in.conv.weight.grad.abs().max() > 0


def test_decoding_reports_progress_and_can_be_cancelled(vae):
    reports = []
    decode_latents(vae, latents(vae), progress=lambda *report: reports.append(report))
    assert reports == [(1, 2, None), (2, 2, None)]
    with pytest.raises(KeyboardInterrupt):
        decode_latents(vae, latents(vae), progress=_interrupt)


def _interrupt(*_):
    raise KeyboardInterrupt


@torch.no_grad()
def test_tiles_have_no_seams(vae, monkeypatch):
    monkeypatch.setattr("fantasyid_core.video.vae.TILE", 12)
    z = 0.3 * latents(vae, 1, 20, 14)  # 2 × 2 tiles that overlap by the usual and by more
    whole, tiled = decode_latents(vae, z), decode_latents(vae, z, tiled=True)
    assert tiled.shape == whole.shape == (1, 160, 112, 3)
    assert np.isfinite(tiled).all()
    difference = np.abs(tiled - whole)
    assert difference.mean() < 0.02
    jumps = lambda video: np.abs(np.diff(video, axis=1)).mean(axis=(0, 2, 3))  # noqa: E731 (used twice below)
    assert np.abs(jumps(tiled) - jumps(whole)).max() < 0.02  # no row stands out that did not before


def test_a_latent_with_an_even_number_of_frames_is_refused_because_the_vae_would_make_too_many(cogvideox):
    vae = cogvideox
    with torch.no_grad():
        too_long = vae.decode(latents(vae, 4).permute(0, 2, 1, 3, 4)).sample
    assert too_long.shape[2] == 16  # where 13 frames were encoded
    for wrong in (latents(vae, 4), latents(vae)[0], torch.cat([latents(vae)] * 2)):
        with pytest.raises(InputError, match="odd frames"):
            decode_latents(vae, wrong)


def test_the_reference_lies_in_the_first_latent_frame_and_is_the_generators_first_draw(vae):
    generator = torch.Generator().manual_seed(5)
    reference = encode_reference(vae, disc(), 9, 32, 48, generator)
    assert reference.shape == (1, 3, vae.config["latent_channels"], 4, 6)
    assert reference[:, 1:].abs().max() == 0.0
    expected = torch.Generator().manual_seed(5)
    drawn = torch.randn((1, vae.config["latent_channels"], 1, 4, 6), generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())
    posterior = vae.encode(reference_pixels(disc(), 32, 48, "letterbox")[:, :, None]).latent_dist
    torch.testing.assert_close(reference[:, 0], (posterior.mean + posterior.std * drawn)[:, :, 0].detach())


def test_stretching_makes_a_round_face_wide_and_letterboxing_keeps_it_round():
    sizes = {fit: _extent(reference_pixels(disc(), 480, 720, fit)) for fit in FITS}
    assert sizes["stretch"] == pytest.approx((240, 360), abs=2)
    assert sizes["letterbox"] == pytest.approx((240, 240), abs=2)
    assert sizes["centre"] == pytest.approx((360, 360), abs=2)


def test_the_letterbox_is_filled_with_neutral_grey():
    picture = reference_pixels(disc(), 480, 720, "letterbox")
    grey = torch.tensor(NEUTRAL_GREY) / 127.5 - 1
    torch.testing.assert_close(picture[0, :, 100, 60], grey)
    torch.testing.assert_close(picture[0, :, 100, -60], grey)
    assert picture[0, :, 5, 360].max() == -1.0  # the crop's own black reaches top and bottom


def test_an_unknown_fit_is_refused(vae):
    with pytest.raises(InputError, match="stretch, letterbox, centre"):
        encode_reference(vae, disc(), 9, 32, 48, torch.Generator(), fit="squeeze")


def _extent(picture: torch.Tensor) -> tuple[int, int]:
    """Height and width of what is white."""
    rows, columns = torch.where(picture[0, 0] > 0.5)
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
