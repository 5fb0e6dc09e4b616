"""The ablations: every variant forks from one text-to-video model, trains, and is measured by the same measures."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.identity_gap import TIMESTEPS, gaps, gaps_by_frame, looking, shares_of_people
from benchmarks.paper_measures import (
    COLUMNS,
    JAW_OPENED,
    PROMPTS,
    by_their_heads,
    in_place,
    known_people,
    measure,
    obeys,
)
from benchmarks.paper_plot import plot
from benchmarks.paper_table import (
    EXTENSIONS,
    as_markdown,
    check_variant,
    extended_videos,
    made_videos,
    measured_once,
    real_videos,
    shown_in,
    train,
    write_sheet,
)
from fantasyid_core.config import MINI
from fantasyid_core.errors import CheckpointError
from fantasyid_core.evaluation.head_eyes import HeadEyes
from fantasyid_core.evaluation.motion import StillFace
from fantasyid_core.evaluation.watch import SeenFace, mouth_open
from fantasyid_core.model import FantasyIDModel, new_mini
from fantasyid_core.training.arrays import load_arrays
from fantasyid_core.training.clips import ClipOptions
from fantasyid_core.training.latents import encode_dataset, load_encoded
from fantasyid_core.training.loop import RunOptions, run
from fantasyid_core.training.shards import dataset_shards, make_dataset
from fantasyid_core.training.train_video import VideoStage
from fantasyid_core.training.variants import INJECTION, VARIANTS, fork
from fantasyid_core.training.video_objective import VideoOptions
from fantasyid_core.video.mini import mini_vae
from fantasyid_core.weights.mini_file import load_mini, save_mini


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> argparse.Namespace:
    folder = tmp_path_factory.mktemp("table")
    make_dataset(folder / "clips", ClipOptions(seed=4, size=32, frames=9, references=3, crop=32), 2)
    encode_dataset(folder / "clips", mini_vae(), folder / "latents", own=1, elsewhere=3)
    save_mini(new_mini(5), folder / "text.safetensors")
    return argparse.Namespace(
        latents=folder / "latents", held_out=folder / "clips", held_out_latents=folder / "latents",
        text=folder / "text.safetensors",
        steps=1, batch=2, people=1, seeds=1, compile=False, learning_rate=1e-3, noises=2, pictures=0.3, elsewhere=0.5,
        reference_dropout=0.1, by_picture=0.0, surface=0.5, perceptual=0.0, reader=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_shares_the_text_half_and_starts_its_own(name: str, options: argparse.Namespace) -> None:
    model = fork(options.text, VARIANTS[name].config, seed=1)
    theirs = new_mini(5).transformer.state_dict()
    for key, value in model.transformer.state_dict().items():
        if any(part in key for part in INJECTION):
            assert name != "no-layer-block" or ".layer_block." not in key
        else:
            assert torch.equal(value, theirs[key].half().float()), key
    other = fork(options.text, VARIANTS[name].config, seed=2)
    assert other.model_id != model.model_id


def test_a_variant_trains_once_and_makes_every_prompt(options: argparse.Namespace, tmp_path: Path) -> None:
    variant = VARIANTS["no-multi-view"]
    train(tmp_path / "run", variant, 0, options)
    before = (tmp_path / "run" / "mini.safetensors").stat().st_mtime_ns
    train(tmp_path / "run", variant, 0, options)
    assert (tmp_path / "run" / "mini.safetensors").stat().st_mtime_ns == before
    made = list(made_videos(tmp_path / "run", variant, 0, options))
    assert [(index, action) for index, action, _ in made] == [(0, action) for action in PROMPTS]
    assert made[0][2].shape == (9, 32, 32, 3)
    assert not np.array_equal(made[0][2], made[1][2])
    assert (tmp_path / "run" / "videos.jpg").is_file()
    (tmp_path / "run" / "mini.safetensors").unlink()  # kept videos need no model
    again = list(made_videos(tmp_path / "run", variant, 0, options))
    assert all(np.array_equal(a[2], b[2]) for a, b in zip(made, again, strict=True))


def test_every_way_beyond_the_paper_changes_the_video(options: argparse.Namespace, tmp_path: Path) -> None:
    save_mini(looking_mini(), tmp_path / "mini.safetensors")
    usual = next(iter(made_videos(tmp_path, VARIANTS["full"], 0, options)))[2]
    made = {
        name: next(iter(extended_videos(tmp_path / str(number), name, 0, options)))[2]
        for number, name in enumerate(EXTENSIONS)
    }
    frames = [usual, *made.values()]
    assert all(not np.array_equal(a, b) for i, a in enumerate(frames) for b in frames[:i])


def test_the_plot_shows_each_variant_beside_the_papers(options: argparse.Namespace) -> None:
    from xml.etree import ElementTree

    rows = {
        "real": [{"heads: RS": 0.9, "FM": 1.5}],
        "full": [{"heads: RS": 0.6, "FM": 1.0}, {"heads: RS": 0.8, "FM": 1.0}],
        "no-vertices": [{"heads: RS": 0.35, "FM": 1.0}],
        "q-former": [{"heads: RS": 0.7, "FM": None}],
    }
    picture = ElementTree.fromstring(plot(rows))
    words = ["".join(node.itertext()) for node in picture.iter() if node.tag.endswith("text")]
    assert VARIANTS["no-vertices"].title in words and VARIANTS["no-multi-view"].title not in words
    dots = [node for node in picture.iter() if node.get("class") == "ours"][1:]  # the first explains the colour
    assert len(dots) == 3 and sum(node.get("class") == "paper" for node in picture.iter()) == 1 + 4
    at = {(node.get("cx"), node.get("cy")) for node in dots}
    assert len(at) == 3
    likeness = sorted(float(str(node.get("cx"))) for node in dots)[:2]
    assert likeness[1] - likeness[0] > 50  # 0.5 and 1.0 of the whole method's


def test_a_run_of_another_variant_is_refused(tmp_path: Path) -> None:
    full = VARIANTS["full"].config
    for name, variant in VARIANTS.items():
        if variant.config == full:
            check_variant(full, variant, tmp_path)
        else:
            with pytest.raises(CheckpointError, match="not a mini of"):
                check_variant(full, variant, tmp_path / name)
    older = replace(
        full,
        vertex_net=replace(full.vertex_net, depth_scale=6.0),
        transformer=replace(full.transformer, reference_everywhere=False),
    )
    check_variant(older, VARIANTS["full"], tmp_path)


def test_a_mini_that_looks_at_the_identity_errs_otherwise_with_somebody_else(
    options: argparse.Namespace, tmp_path: Path
) -> None:
    save_mini(looking_mini(), tmp_path / "mini.safetensors")
    clips = load_encoded(options.held_out_latents)
    stage = looking(tmp_path / "mini.safetensors", clips)
    rows = gaps(stage, 2)["velocity"]
    right = rows.pop("the right person")
    assert len(rows) == 6 and all(errors != right for errors in rows.values())
    shares = shares_of_people(stage)
    assert set(shares) == {"2D", "3D"} and all(0 < share < 1 for share in shares.values())
    assert right == gaps(looking(tmp_path / "mini.safetensors", clips), 2)["velocity"]["the right person"]
    own = gaps(looking(tmp_path / "mini.safetensors", clips, own=True), 2)["velocity"]
    assert own["the right person"] != right and own["nobody"] == rows["nobody"]


def test_the_frames_errors_are_the_videos(options: argparse.Namespace, tmp_path: Path) -> None:
    save_mini(looking_mini(), tmp_path / "mini.safetensors")
    stage = looking(tmp_path / "mini.safetensors", load_encoded(options.held_out_latents))
    whole, frames = gaps(stage, 2)["velocity"], gaps_by_frame(stage, 2)
    for timestep, rows in frames.items():
        for row, errors in rows.items():
            assert len(errors) == stage.clips.arrays["latents"].shape[1]
            assert np.mean(errors) == pytest.approx(whole[row][TIMESTEPS.index(timestep)], rel=1e-5)


def test_the_gap_says_what_a_runs_tokens_tell_of_the_shape(options: argparse.Namespace, tmp_path: Path) -> None:
    save_mini(looking_mini(), tmp_path / "mini.safetensors")
    clips = load_encoded(options.held_out_latents)
    stage = VideoStage(load_mini(tmp_path / "mini.safetensors"), clips, VideoOptions(surface=1.0), batch=2, shown=1)
    run(stage, RunOptions(tmp_path / "run", 2, batch=2, learning_rate=1e-3, warmup=1))
    started = looking(tmp_path / "mini.safetensors", clips)
    trained = looking(tmp_path / "mini.safetensors", clips, run=tmp_path / "run")
    found = gaps(trained, 2)
    assert list(found) == ["velocity", "shape"] and all(len(rows) == 7 for rows in found.values())
    assert found["shape"]["the right person"] != found["shape"]["somebody else's head"]
    # of the run's weights, not of those it began with
    assert found["velocity"]["the right person"] != gaps(started, 2)["velocity"]["the right person"]
    assert shares_of_people(trained) != shares_of_people(started)


def looking_mini() -> FantasyIDModel:
    """One on which the identity has an effect: in an untrained mini F_l and what it adds start at zero."""
    model = new_mini(5)
    with torch.no_grad():
        for parameter in (*model.transformer.parameters(), *model.identity_encoder.parameters()):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return model


def test_the_columns_of_heads_come_of_every_frame_and_of_true_heads(options: argparse.Namespace) -> None:
    two, eyes = argparse.Namespace(**vars(options) | {"people": 2}), HeadEyes()
    read = known_people(two, eyes)
    people = by_their_heads(read, eyes, two)
    shapes = load_arrays(dataset_shards(options.held_out), ("shape",))["shape"]
    for before, person, shape in zip(read, people, shapes, strict=True):
        wanted = eyes.network.geometry_of(torch.from_numpy(shape[None]))[0].numpy()
        assert np.allclose(person.reference.geometry, wanted, atol=1e-5)
        assert np.array_equal(person.reference.embedding, before.reference.embedding)
    numbers = measure(list(real_videos(two)), people, eyes, JAW_OPENED)
    assert numbers["faces"] == 1.0 and numbers["FM"] is None
    assert 0.0 <= numbers["rank-1 by shape"] <= 1.0 and numbers["RS"] is not None


def test_what_is_measured_wholly_is_not_measured_again(options: argparse.Namespace, tmp_path: Path) -> None:
    known = dict.fromkeys(COLUMNS, 0.5)
    (tmp_path / "measured.json").write_text(json.dumps(known), encoding="utf-8")
    assert measured_once(tmp_path, options, lambda _: pytest.fail("made again")) == known
    (tmp_path / "measured.json").write_text(json.dumps({"RS": 0.5}), encoding="utf-8")
    with pytest.raises(pytest.fail.Exception):
        measured_once(tmp_path, options, lambda _: pytest.fail("made again"))


def test_a_variant_is_trained_when_its_videos_are_wanted(options: argparse.Namespace, tmp_path: Path) -> None:
    options = argparse.Namespace(**vars(options) | {"out": tmp_path, "variants": ["full", "q-former"]})
    write_sheet(options)
    assert not list(tmp_path.iterdir())  # no videos, no sheet
    assert len(list(made_videos(tmp_path / "full-0", VARIANTS["full"], 0, options))) == len(PROMPTS)
    assert (tmp_path / "full-0" / "mini.safetensors").is_file()
    write_sheet(options)
    with Image.open(tmp_path / "paper-table.jpg") as page:
        assert page.width == 1600


def test_a_posed_head_keeps_its_shape(options: argparse.Namespace) -> None:
    heads = load_encoded(options.held_out_latents).arrays["vertices"].astype(np.float32)
    posed = shown_in("turned reference, head posed", options).vertices
    assert posed is not None and np.abs(posed - heads).max() > 1e-3
    assert np.abs(np.linalg.norm(posed, axis=2) - np.linalg.norm(heads, axis=2)).max() < 1e-5


def test_a_text_half_of_another_size_is_refused(options: argparse.Namespace) -> None:
    smaller = replace(MINI, transformer=replace(MINI.transformer, layers=7))
    with pytest.raises(CheckpointError, match="another size"):
        fork(options.text, smaller, 0)


def seen(yaw: float = 0.0, mouth: float = 0.0) -> SeenFace:
    nothing = np.zeros((4, 4), np.float32)
    still = StillFace(nothing.astype(np.uint8), nothing)
    return SeenFace(0.0, nothing[0], nothing[0], (yaw, 0.0, 0.0), still, None, mouth)


def test_a_prompt_is_obeyed_by_what_the_head_does() -> None:
    left, right = [seen(yaw) for yaw in (0, -5, -12, -20)], [seen(yaw) for yaw in (0, 5, 12, 20)]
    assert obeys(left, "turn left") and not obeys(left, "turn right")
    assert obeys(right, "turn right") and not obeys([seen()] * 4, "turn right")
    assert obeys([seen(mouth=0.05), seen(mouth=0.5), None], "open mouth") and not obeys(left, "open mouth")
    assert not obeys([None] * 4, "turn left") and not obeys([None] * 4, "open mouth")


def test_a_clip_is_in_place_by_the_colour_of_its_upper_corners() -> None:
    def before(colour: tuple[float, float, float]) -> np.ndarray:
        frames = np.broadcast_to(np.array(colour, np.float32), (3, 24, 24, 3)).copy()
        frames[:, 6:] = 0.9, 0.7, 0.6  # a face and clothes
        return frames

    blue, green, grey, others = (0.2, 0.3, 0.6), (0.2, 0.5, 0.3), (0.4, 0.45, 0.42), ((0.1, 0.1, 0.1), (0.9, 0.7, 0.6))
    colours = (blue, green, grey, *others)
    found = {action: [colour for colour in colours if in_place(before(colour), action)] for action in PROMPTS}
    assert found == {"turn left": [blue], "turn right": [green], "open mouth": [grey]}


def test_a_mouth_is_as_open_as_its_lips_are_apart() -> None:
    landmarks = np.zeros((468, 3), np.float32)
    landmarks[[78, 308], 0] = -20.0, 20.0
    landmarks[[13, 14], 1] = -5.0, 5.0
    assert mouth_open(landmarks) == pytest.approx(0.25)


def test_the_table_has_a_row_per_variant_and_says_what_is_missing() -> None:
    row: dict[str, object] = dict.fromkeys(COLUMNS, 0.5)
    rows = {"real": [row | {"copy-paste": None}], "full": [row, row | {"RS": 0.7}]}
    text = as_markdown(rows, argparse.Namespace(people=2, steps=1, batch=2, seeds=2))
    assert "real clips" in text and "–" in text
    assert "0.600 ± 0.100" in text and "0.57, 0.95, 0.61" in text
    tables = [part.splitlines() for part in text.split("\n\n")[1:]]
    assert [len(lines) for lines in tables] == [4, 4]  # by the networks for photographs, by the one for drawn heads
    assert all(len({line.count("|") for line in lines}) == 1 for lines in tables)
