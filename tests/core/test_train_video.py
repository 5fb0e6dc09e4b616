"""From encoded clips to a trained mini: what goes into a training sample, and what comes out of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fantasyid_core.cli import EXAMPLE, main
from fantasyid_core.config import MINI
from fantasyid_core.errors import CheckpointError, InputError, MissingFileError
from fantasyid_core.model import FantasyIDModel, load_model, new_mini
from fantasyid_core.training.clips import ClipOptions, close_up, neutral_vertices, own_crops
from fantasyid_core.training.latents import (
    COLLECTED,
    ELSEWHERE,
    FIRST,
    EncodedClips,
    encode_dataset,
    encode_videos,
    load_encoded,
)
from fantasyid_core.training.loop import RunOptions, run
from fantasyid_core.training.people import draw_person
from fantasyid_core.training.renew import renewed
from fantasyid_core.training.shards import dataset_shards, make_dataset, read_shard
from fantasyid_core.training.train_vae import load_vae_folder
from fantasyid_core.training.train_video import VideoStage, starting_model
from fantasyid_core.training.video_objective import VideoObjective, VideoOptions, channel_weights
from fantasyid_core.video.mini import mini_vae
from fantasyid_core.weights.mini_file import load_mini, modules_of, read_mini, save_mini
from tools.pack_mini import average


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedClips:
    folder = tmp_path_factory.mktemp("clips")
    make_dataset(folder / "clips", ClipOptions(seed=4, size=32, frames=9, references=2, crop=32), 4)
    encode_dataset(folder / "clips", mini_vae(), folder / "latents", own=3, elsewhere=2)
    return load_encoded(folder / "latents")


def stage(encoded: EncodedClips, **options: object) -> VideoStage:
    return VideoStage(new_mini(0), encoded, VideoOptions(**options), batch=4, shown=1)  # type: ignore[arg-type]


def test_encoded_clips_hold_references_of_every_kind(encoded: EncodedClips) -> None:
    arrays = encoded.arrays
    assert len(encoded) == 4
    assert arrays["latents"].shape == (4, 3, 32, 4, 4)
    assert arrays["reference_kinds"][0].tolist() == [FIRST, *[COLLECTED] * 3, *[ELSEWHERE] * 2]
    assert arrays["reference_latents"].shape == (4, 6, 32, 4, 4)
    assert arrays["reference_crops"].shape == (4, 6, 32, 32, 3)
    assert len(np.unique(arrays["reference_crops"][0, 1:4].reshape(3, -1), axis=0)) == 3


def test_the_latents_on_disk_are_what_the_autoencoder_makes(tmp_path: Path) -> None:
    make_dataset(tmp_path / "clips", ClipOptions(seed=4, size=32, frames=9, references=1, crop=32), 3)
    encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / "out", own=1, elsewhere=1)
    arrays = load_encoded(tmp_path / "out").arrays
    clips = list(read_shard(dataset_shards(tmp_path / "clips")[0]))
    for index, clip in enumerate(clips):
        assert np.abs(encode_videos(mini_vae(), clip.frames[None])[0] - arrays["latents"][index]).max() < 0.01
        crops = arrays["reference_crops"][index][:, None]
        again = encode_videos(mini_vae(), crops)[:, 0]
        assert np.abs(again - arrays["reference_latents"][index]).max() < 0.01


def test_a_close_up_has_its_first_face_where_the_reference_has_it(tmp_path: Path) -> None:
    make_dataset(tmp_path / "clips", ClipOptions(seed=4, size=64, frames=9, references=0), 6)
    clips = list(read_shard(dataset_shards(tmp_path / "clips")[0]))
    apart, were_apart = [], []
    for clip in clips:
        crop = own_crops(clip.frames[:1], clip.keypoints[:1], 64)[0]
        closer = close_up(clip.frames, clip.keypoints)
        assert closer.shape == clip.frames.shape
        middle = np.s_[16:48, 16:48]
        apart.append(np.abs(closer[0][middle].astype(float) - crop[middle]).mean())
        were_apart.append(np.abs(clip.frames[0][middle].astype(float) - crop[middle]).mean())
    assert np.mean(apart) < 0.6 * np.mean(were_apart)
    still = close_up(np.repeat(clips[0].frames[:1], 3, axis=0), np.repeat(clips[0].keypoints[:1], 3, axis=0))
    assert np.array_equal(still[0], still[2])
    near, far = (
        encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / str(closer), own=1, elsewhere=0, closer=closer)[0]
        for closer in (True, False)
    )
    latents, references = (
        [load_encoded(path.parent).arrays[name] for path in (near, far)] for name in ("latents", "reference_latents")
    )
    assert not np.array_equal(*latents)
    assert np.array_equal(*references)


def test_clips_framed_in_two_ways_do_not_come_together(tmp_path: Path) -> None:
    make_dataset(tmp_path / "clips", ClipOptions(seed=4, size=32, frames=5, references=0, crop=32), 1)
    (close,) = encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / "out", own=1, elsewhere=0, closer=True)
    with pytest.raises(InputError, match="framed 'close up', and 'as shot' is asked for"):
        encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / "out", own=1, elsewhere=0)
    (shot,) = encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / "shot", own=1, elsewhere=0)
    shot.rename(close.with_name("latents-00001.safetensors"))
    with pytest.raises(InputError, match="framed in two ways"):
        load_encoded(tmp_path / "out")


def test_clips_that_the_autoencoder_does_not_take_are_said(tmp_path: Path) -> None:
    make_dataset(tmp_path / "clips", ClipOptions(seed=4, size=32, frames=10, references=1, crop=32), 1)
    with pytest.raises(InputError, match=r"clips of 10 frames, and the autoencoder takes 4k \+ 1"):
        encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / "out", own=1, elsewhere=1)


def test_encoding_goes_on_where_it_stopped(tmp_path: Path) -> None:
    make_dataset(tmp_path / "clips", ClipOptions(seed=4, size=32, frames=9, references=0, crop=32), 2)
    (first,) = encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / "out", own=1, elsewhere=0)
    before = first.stat().st_mtime_ns
    encode_dataset(tmp_path / "clips", mini_vae(), tmp_path / "out", own=1, elsewhere=0)
    assert first.stat().st_mtime_ns == before


def test_both_stages_train_and_leave_a_mini(encoded: EncodedClips, tmp_path: Path) -> None:
    text = stage(encoded, stage="text", pictures=1.0)
    run(text, RunOptions(tmp_path / "text", 2, 4, 1e-3, schedule="constant", optimiser="muon"))
    model = starting_model(tmp_path / "text" / "mini.safetensors", None, 0)
    identity = VideoStage(model, encoded, VideoOptions(train_backbone=False), batch=4, shown=1)
    backbone = model.transformer.transformer_blocks[0].ff.net[0].proj.weight.clone()  # type: ignore[union-attr]
    run(identity, RunOptions(tmp_path / "identity", 2, 4, 1e-3, schedule="constant"))
    trained = load_mini(tmp_path / "identity" / "mini.safetensors")
    before = load_mini(tmp_path / "text" / "mini.safetensors")
    assert torch.equal(trained.transformer.transformer_blocks[0].ff.net[0].proj.weight, backbone.half().float())  # type: ignore[union-attr,operator]
    assert trained.model_id != before.model_id


def test_an_older_mini_goes_on_in_todays_configuration() -> None:
    coarse = replace(MINI, transformer=replace(MINI.transformer, patch_size=2, reference_everywhere=False))
    old, vae = new_mini(3, coarse), mini_vae(4)
    model = renewed(old, vae)
    assert model.config == MINI
    assert model.vae is vae
    assert model.model_id == old.model_id  # the same identity encoder
    assert renewed(old, None).vae is old.vae
    for part in ("identity_encoder", "text_encoder"):
        theirs = modules_of(old)[part].state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in modules_of(model)[part].state_dict().items())
    before, after = old.transformer.state_dict(), model.transformer.state_dict()
    resized = {key for key in after if after[key].shape != before[key].shape}
    assert resized == {"patch_embed.proj.weight", "proj_out.weight", "proj_out.bias"}
    assert all(torch.equal(after[key], before[key]) for key in after.keys() - resized)
    corner = torch.zeros(1, 1, 64, 2, 2)
    corner[..., 0, 0] = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))
    text = torch.zeros(1, 1, 128)  # a corner alone is embedded as the patch that holds nothing else
    coarse_token = old.transformer.patch_embed(text, corner)[:, 1]
    assert torch.allclose(model.transformer.patch_embed(text, corner[..., :1, :1])[:, 1], coarse_token, atol=1e-5)
    rows, fine_rows = (m.transformer.proj_out(coarse_token) for m in (old, model))
    assert torch.allclose(rows.view(1, 32, 2, 2)[..., 0, 0], fine_rows, atol=1e-5)
    with pytest.raises(InputError, match="--renew"):
        renewed(new_mini(3, replace(MINI, transformer=replace(MINI.transformer, layers=2))), None)


def test_a_run_is_a_function_of_its_seed(encoded: EncodedClips) -> None:
    batches = [next(stage(encoded).batches(5, 0, 1)) for _ in range(2)]
    seeds = [batch.pop("noise_seed") for batch in batches]  # type: ignore[attr-defined]
    assert seeds[0] == seeds[1]
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])


def test_without_multi_view_the_reference_is_the_first_frame(encoded: EncodedClips) -> None:
    batch = next(stage(encoded, multi_view=False, noises=1).batches(0, 0, 1))
    firsts = torch.from_numpy(encoded.arrays["reference_latents"][:, 0])
    assert all(any(torch.equal(one, first) for first in firsts) for one in batch["reference"])
    batch = next(stage(encoded, noises=1).batches(0, 0, 1))
    assert not all(any(torch.equal(one, first) for first in firsts) for one in batch["reference"])


def test_every_clip_comes_at_several_noise_levels(encoded: EncodedClips) -> None:
    made = stage(encoded, noises=2, pictures=0.0)
    batch = next(made.batches(0, 0, 1))
    assert [len(batch[name]) for name in ("latents", "crops", "timestep")] == [2, 2, 4]
    seen: list[torch.Tensor] = []
    objective = made.module
    assert isinstance(objective, VideoObjective)
    objective.transformer.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(named["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        objective(batch | {"timestep": torch.zeros(4, dtype=torch.long)})
    clips, noisy = batch["latents"].float(), seen[0][:, :, : batch["latents"].shape[2]]
    assert torch.allclose(noisy[::2], clips, atol=0.2)
    assert torch.allclose(noisy[1::2], clips, atol=0.2)
    assert not torch.equal(noisy[0], noisy[1])


def test_noisy_timesteps_come_more_often_when_asked(encoded: EncodedClips) -> None:
    def drawn(noisier: float) -> torch.Tensor:
        batches = stage(encoded, noisier=noisier, noises=1).batches(0, 0, 1)
        return torch.cat([next(batches)["timestep"] for _ in range(100)])

    even, noisy = drawn(1.0), drawn(2.0)
    assert even.float().mean() == pytest.approx(500, abs=60)
    assert noisy.float().mean() == pytest.approx(667, abs=60)
    assert int(noisy.max()) <= 999


def test_a_dropped_identity_has_no_effect_on_its_sample(encoded: EncodedClips) -> None:
    made = stage(encoded, noises=1, text_dropout=0.0)
    with torch.no_grad():  # F_l and the output start at zero; let the identity reach the result
        for parameter in made.module.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        batch = dict(next(made.batches(0, 0, 1)))
        changed = batch | {"crops": 255 - batch["crops"]}
        for shown, same in ((0.0, True), (1.0, False)):
            flag = {"shows_identity": torch.full((4,), shown)}
            losses = [float(made.module(one | flag)["loss"]) for one in (batch, changed)]
            assert (losses[0] == losses[1]) is same


def test_some_samples_do_without_anybody_and_nothing_else_changes(encoded: EncodedClips) -> None:
    kept = {"identity_dropout": 0.0, "reference_dropout": 0.0}
    before = dict(next(stage(encoded, **kept).batches(0, 0, 1)))
    batches = stage(encoded, nobody_dropout=0.5, **kept).batches(0, 0, 1)
    drawn = [dict(next(batches)) for _ in range(20)]
    shown = torch.cat([batch["shows_identity"] for batch in drawn])
    assert torch.equal(shown, torch.cat([batch["shows_reference"] for batch in drawn]))
    assert 0.3 < float(shown.mean()) < 0.7
    for name in before.keys() - {"shows_identity", "shows_reference"}:
        torch.testing.assert_close(drawn[0][name], before[name], rtol=0, atol=0)


def test_the_objective_is_the_velocity_of_the_schedule(encoded: EncodedClips) -> None:
    made = stage(encoded, stage="text")
    objective = made.module
    assert isinstance(objective, VideoObjective)
    batch = dict(next(made.batches(0, 0, 1)))
    batch["timestep"] = torch.full_like(batch["timestep"], 999)  # zero signal: the velocity is minus the clean latents
    with torch.no_grad():
        objective.transformer.proj_out.weight.zero_()
        objective.transformer.proj_out.bias.zero_()
        energy = float(batch["latents"].float().square().mean())
        assert float(objective(batch)["loss"]) == pytest.approx(energy, rel=1e-5)


def test_channels_count_by_how_much_of_the_picture_they_make(encoded: EncodedClips) -> None:
    model = new_mini(0)
    assert model.vae is not None
    latents = encoded.arrays["latents"][:, 0]
    plain = channel_weights(model, latents, 1.0)
    assert plain.shape == (32,) and float(plain.mean()) == pytest.approx(1.0) and float(plain.min()) > 0
    half = channel_weights(model, latents, 0.5)
    assert torch.allclose(half, plain.sqrt() / plain.sqrt().mean(), rtol=1e-4)
    with torch.no_grad():  # a decoder that reads one channel less
        parameters = {name: p for name, p in model.vae.decoder.named_parameters() if p.ndim > 1 and p.shape[1] == 32}
        assert parameters
        for parameter in parameters.values():
            parameter[:, 3] = 0
    assert float(channel_weights(model, latents, 1.0)[3]) < 0.02


def test_the_loss_weighs_the_channels(encoded: EncodedClips) -> None:
    batch = next(stage(encoded).batches(0, 0, 1))
    alike = float(stage(encoded).module(batch)["loss"].detach())
    model, errors = new_mini(0), list[float]()
    for channel in range(32):
        weights = torch.zeros(32).index_fill(0, torch.tensor([channel]), 32.0)
        errors.append(float(VideoObjective(model, VideoOptions(), weights)(batch)["loss"].detach()))
    assert np.mean(errors) == pytest.approx(alike, rel=1e-4)
    weighted = float(stage(encoded, by_picture=1.0).module(batch)["loss"].detach())
    expected = float((channel_weights(model, encoded.arrays["latents"][:16, 0], 1.0) * torch.tensor(errors)).mean())
    assert weighted == pytest.approx(expected, rel=1e-3) and weighted != pytest.approx(alike, rel=1e-4)
    with pytest.raises(InputError, match="between 0 and 1"):
        VideoOptions(by_picture=2.0)


def test_a_mini_file_brings_back_every_network(tmp_path: Path) -> None:
    model = new_mini(7)
    save_mini(model, tmp_path / "mini.safetensors", {"steps": 3})
    back = load_mini(tmp_path / "mini.safetensors")
    assert read_mini(tmp_path / "mini.safetensors")[3] == {"steps": 3}
    for part, module in modules_of(model).items():
        theirs = modules_of(back)[part].state_dict()
        assert all(torch.equal(v.half().float(), theirs[k]) for k, v in module.state_dict().items())
    vae = load_vae_folder(tmp_path / "mini.safetensors")
    assert torch.equal(vae.decoder.straight.weight, modules_of(back)["vae"].state_dict()["decoder.straight.weight"])


def test_a_packed_mini_file_is_half_the_size_and_nearly_the_same(tmp_path: Path) -> None:
    model = new_mini(7)
    for packed in (False, True):
        save_mini(model, tmp_path / f"{packed}.safetensors", packed=packed)
    whole, half = ((tmp_path / f"{packed}.safetensors").stat().st_size for packed in (False, True))
    assert half < 0.52 * whole
    back = load_mini(tmp_path / "True.safetensors")
    for part, module in modules_of(model).items():
        theirs = modules_of(back)[part].state_dict()
        for key, weight in module.state_dict().items():
            largest = weight.flatten(1).abs().amax(dim=1).view(-1, *[1] * (weight.ndim - 1)) if weight.ndim > 1 else 1
            assert bool(((weight - theirs[key]).abs() <= largest / 250 + 1e-3 * weight.abs()).all()), key


def test_the_mean_of_two_minis_is_that_of_every_weight() -> None:
    made, first, second = new_mini(1), new_mini(1), new_mini(2)
    average(made, second)
    for part, module in modules_of(made).items():
        pairs = zip(modules_of(first)[part].parameters(), modules_of(second)[part].parameters(), strict=True)
        for mean, (one, other) in zip(module.parameters(), pairs, strict=True):
            torch.testing.assert_close(mean, (one + other) / 2)
    with pytest.raises(InputError, match="different configurations"):
        average(made, replace(second, config=replace(MINI, family="paper")))


def test_damaged_files_and_wrong_settings_are_said(encoded: EncodedClips, tmp_path: Path) -> None:
    (tmp_path / "mini.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="damaged"):
        load_mini(tmp_path / "mini.safetensors")
    with pytest.raises(MissingFileError, match="train latents"):
        load_encoded(tmp_path)
    with pytest.raises(InputError, match="--vae"):
        starting_model(None, None, 0)
    with pytest.raises(InputError, match="multiple"):
        VideoStage(new_mini(0), encoded, VideoOptions(noises=3), batch=4)
    with pytest.raises(InputError, match="at one noise level"):
        VideoOptions(noises=0)
    with pytest.raises(InputError, match="above 0"):
        VideoOptions(noisier=0.0)
    for wrong in ({"elsewhere": 1.5}, {"pictures": -0.1}, {"reference_dropout": 2.0}, {"nobody_dropout": -1.0}):
        with pytest.raises(InputError, match="between 0 and 1"):
            VideoOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--start"):
        starting_model(None, None, 0, renew=True)


def test_a_model_without_text_cannot_be_trained() -> None:
    model: FantasyIDModel = replace(new_mini(0), text=None)
    with pytest.raises(InputError, match="no text encoder"):
        VideoObjective(model, VideoOptions())


def test_a_trained_mini_is_a_model_like_any_other(tmp_path: Path) -> None:
    variant = replace(MINI, injection=replace(MINI.injection, layer_block=False))
    save_mini(new_mini(7, variant), tmp_path / "mine.safetensors")
    model = load_model(tmp_path / "mine.safetensors")
    assert not model.config.injection.layer_block
    assert model.notice.startswith("mine.safetensors is a mini")
    assert not any(p.requires_grad for p in model.transformer.parameters())
    arguments = ["--reference", str(EXAMPLE), "--prompt", "she smiles", "--steps", "1", "--frames", "9"]
    out = tmp_path / "mine.webp"
    assert main(["generate", *arguments, "--model", str(tmp_path / "mine.safetensors"), "--out", str(out)]) == 0
    assert out.stat().st_size > 0


def test_a_mini_whose_weights_are_not_those_of_its_header_is_refused(tmp_path: Path) -> None:
    save_mini(new_mini(7), tmp_path / "mini.safetensors")
    tensors, header = load_file(tmp_path / "mini.safetensors"), read_header(tmp_path / "mini.safetensors")
    for change in ('"layers": 8', '"layers": 7'), ("makehuman-head-3202", "another-mesh"):
        assert change[0] in header["config"]
        save_file(tensors, tmp_path / "other.safetensors", header | {"config": header["config"].replace(*change)})
        with pytest.raises(CheckpointError, match=r"other\.safetensors are not those"):
            load_model(tmp_path / "other.safetensors")


def read_header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def test_the_tokens_of_the_shape_tell_people_apart() -> None:
    """With a depth code of too low a frequency, people's heads were 2 % of what the tokens hold."""
    random = np.random.default_rng(0)
    heads = torch.from_numpy(neutral_vertices([draw_person(random).shape for _ in range(16)])).float()
    tokens = new_mini(0).identity_encoder.vertex_tokens(heads, None).detach()
    tokens = torch.nn.functional.layer_norm(tokens, tokens.shape[-1:])  # as every layer's attention reads them
    assert float((tokens - tokens.mean(0)).square().mean().sqrt()) > 0.08
