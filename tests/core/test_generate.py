"""The whole way without ComfyUI: one photograph and a prompt in, a folder of results out."""

import av
import numpy as np
import pytest

from fantasyid_core.cli import EXAMPLE, main
from fantasyid_core.errors import InputError, MissingFileError
from fantasyid_core.generate import GenerateOptions, generate
from fantasyid_core.images import load_photograph, save_image
from fantasyid_core.model import load_model
from fantasyid_core.video.levers import preset
from fantasyid_core.video.windows import trained_latent_frames

SMALL = {"steps": 1, "frames": 9, "height": 64, "width": 96}


@pytest.fixture(scope="module")
def mini():
    return load_model("mini")


@pytest.fixture(scope="module")
def made(mini):
    return generate(load_photograph(EXAMPLE), mini, GenerateOptions("she smiles", **SMALL))


def test_every_stage_leaves_something_of_the_astronaut(made, mini):
    assert made.face.score > 0.8
    assert made.geometry.pose is not None and abs(made.geometry.pose.yaw_pitch_roll[0]) < 10
    assert made.views.sources[0].startswith("photograph") and len(made.views.crops) > 1
    assert made.identity.tokens.shape == (mini.config.identity_tokens, mini.config.identity_width)
    assert made.frames.shape == (9, 64, 96, 3)
    assert np.ptp(made.frames) > 0


def test_the_same_seed_gives_the_same_video_and_another_seed_another(made, mini):
    photograph = load_photograph(EXAMPLE)
    again = generate(photograph, mini, GenerateOptions("she smiles", **SMALL))
    other = generate(photograph, mini, GenerateOptions("she smiles", seed=1, **SMALL))
    assert np.array_equal(again.frames, made.frames)
    assert not np.allclose(other.frames, made.frames, atol=0.01)


def test_the_identity_reaches_the_video(made, mini):
    without = generate(load_photograph(EXAMPLE), mini, GenerateOptions("she smiles", strength=0.0, **SMALL))
    assert not np.array_equal(without.frames, made.frames)


def test_identity_guidance_reaches_the_video(made, mini, tmp_path):
    guided = generate(load_photograph(EXAMPLE), mini, GenerateOptions("she smiles", identity_guidance=2.0, **SMALL))
    assert not np.array_equal(guided.frames, made.frames)
    arguments = ["--prompt", "she smiles", "--steps", "1", "--frames", "9", "--size", "96x64"]
    files = [tmp_path / "plain.webp", tmp_path / "guided.webp"]
    for out, more in zip(files, ([], ["--identity-guidance", "2"]), strict=True):
        assert main(["generate", "--reference", str(EXAMPLE), "--out", str(out), *arguments, *more]) == 0
    assert files[0].read_bytes() != files[1].read_bytes()


def test_reference_guidance_is_on_for_the_mini_and_can_be_chosen(made, mini, tmp_path):
    off = generate(load_photograph(EXAMPLE), mini, GenerateOptions("she smiles", reference_guidance=0.0, **SMALL))
    assert not np.array_equal(off.frames, made.frames)
    arguments = ["--prompt", "she smiles", "--steps", "1", "--frames", "9", "--size", "96x64"]
    files = [tmp_path / f"{name}.webp" for name in ("own", "one", "off")]
    for out, more in zip(files, ([], ["--reference-guidance", "1"], ["--reference-guidance", "0"]), strict=True):
        assert main(["generate", "--reference", str(EXAMPLE), "--out", str(out), *arguments, *more]) == 0
    own, one, off = (file.read_bytes() for file in files)
    assert own == one != off


def test_skip_layer_guidance_is_on_for_the_mini_and_can_be_chosen(tmp_path):
    """With two steps: in the first it does not act yet."""
    arguments = ["--prompt", "she smiles", "--steps", "2", "--frames", "9", "--size", "96x64"]
    files = [tmp_path / f"{name}.webp" for name in ("own", "one", "off", "layer")]
    choices = ([], ["--skip-layer-guidance", "0.7"], ["--skip-layer-guidance", "0"], ["--skip-layers", "2"])
    for out, more in zip(files, choices, strict=True):
        assert main(["generate", "--reference", str(EXAMPLE), "--out", str(out), *arguments, *more]) == 0
    own, one, off, layer = (file.read_bytes() for file in files)
    assert own == one and len({own, off, layer}) == 3


def test_the_recommended_identity_does_not_know_the_expression(made, mini):
    released = generate(
        load_photograph(EXAMPLE), mini, GenerateOptions("she smiles", input_path="as released", **SMALL)
    )
    faces_2d = mini.config.face_abstractor.tokens
    assert made.identity.reference_fit == "letterbox" and released.identity.reference_fit == "stretch"
    assert not np.array_equal(released.identity.tokens[faces_2d:], made.identity.tokens[faces_2d:])


def test_a_size_the_model_cannot_make_is_refused_before_anything_runs(mini):
    stages = []
    with pytest.raises(InputError, match=r"nearest|take"):
        generate(np.zeros((64, 64, 3), np.float32), mini, GenerateOptions("", frames=10), stages.append)
    assert stages == []


def test_the_command_writes_a_video_with_the_asked_frames(tmp_path, capsys):
    out = tmp_path / "clip.mp4"
    arguments = ["--prompt", "she smiles", "--out", str(out), "--steps", "1", "--frames", "9", "--size", "96x64"]
    assert main(["generate", "--reference", str(EXAMPLE), *arguments]) == 0
    with av.open(str(out)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 9 and frames[0].shape == (64, 96, 3)
    assert "learned from drawn heads" in capsys.readouterr().out


def test_a_preset_and_a_long_video_reach_the_sampler(mini, tmp_path):
    frames = mini.config.transformer.sample_frames + 8
    out, small = tmp_path / "clip.mp4", ["--steps", "2", "--frames", str(frames), "--size", "32x32"]
    calls = []
    handle = mini.transformer.register_forward_hook(
        lambda _m, _a, kw, _o: calls.append(kw["hidden_states"].shape[:2]), with_kwargs=True
    )
    photograph, options = load_photograph(EXAMPLE), {"steps": 2, "frames": frames, "height": 32, "width": 32}
    made = generate(photograph, mini, GenerateOptions("she smiles", levers=preset("fast"), **options))
    handle.remove()
    assert made.frames.shape == (frames, 32, 32, 3)
    latent_frames = trained_latent_frames(mini.config)
    # one step of two, in two windows: the prompts, and what the mini's reference guidance compares them with
    assert calls == [(2, latent_frames)] * 2 + [(1, latent_frames)] * 2
    arguments = ["--reference", str(EXAMPLE), "--prompt", "x", "--out", str(out), *small]
    assert main(["generate", *arguments, "--speed", "fast"]) == 0
    assert out.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "clip.avi"], "must end in .mp4 or .webp"),
        (["--out", "no/such/folder/clip.mp4"], "does not exist"),
        (["--out", "clip.mp4", "--reference", "nobody.jpg"], "nobody.jpg"),
        (["--out", "clip.mp4", "--model", "no/such/model"], "no/such/model"),
        (["--out", "clip.mp4", "--frames", "16"], "17"),
        (["--out", "clip.mp4", "--size", "100x100"], "96×96"),
    ],
)
def test_bad_input_gets_one_sentence_and_no_file(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--reference", str(EXAMPLE), "--prompt", "x", *arguments]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("fantasyid: ") and sentence in message
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_a_face_says_what_was_tried(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "wall.png", np.full((200, 300, 3), 0.5, np.float32))
    assert main(["generate", "--reference", "wall.png", "--prompt", "x", "--out", "clip.mp4"]) == 1
    assert "no face" in capsys.readouterr().err.lower()
    assert [path.name for path in tmp_path.iterdir()] == ["wall.png"]


def test_flame_geometry_without_its_files_says_where_to_get_them(mini):
    with pytest.raises(MissingFileError, match=r"generic_model\.pkl"):
        generate(load_photograph(EXAMPLE), mini, GenerateOptions("x", extractor="flame-deca", **SMALL))
