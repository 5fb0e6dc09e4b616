"""Full memory: the sampler and the decoder take a smaller step and say so, and only then give up with a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fantasyid_core.errors import InputError
from fantasyid_core.model import FantasyIDModel, new_mini
from fantasyid_core.out_of_memory import Ladder, Way, is_out_of_memory
from fantasyid_core.video import slices
from fantasyid_core.video.levers import Levers
from fantasyid_core.video.memory_presets import MEMORY_PRESETS, ROWS_AT_ONCE, MemoryPreset
from fantasyid_core.video.mini import mini_vae
from fantasyid_core.video.sample import Conditions, SamplingOptions, Tally, sample
from fantasyid_core.video.vae import decode_latents


@pytest.fixture(scope="module")
def model() -> FantasyIDModel:
    made = new_mini(0)
    for parameter in made.transformer.parameters():  # the output starts at zero
        parameter.data.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made


@contextmanager
def full(module: torch.nn.Module, is_too_large: Callable[..., bool]) -> Iterator[None]:
    """``module`` meets a full memory whenever its call is too large."""

    def meet(_: object, given: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]) -> None:
        if is_too_large(*given, **named):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    handle = module.register_forward_pre_hook(meet, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def sampled(
    model: FantasyIDModel, levers: Levers, tally: Tally | None = None, ladder: Ladder | None = None
) -> torch.Tensor:
    texts = torch.randn(2, 1, 32, 128, generator=torch.Generator().manual_seed(2))
    conditions = Conditions(texts[0], texts[1], torch.zeros(1, 3, 32, 4, 4))
    options = SamplingOptions(steps=2, levers=levers)
    return sample(model.transformer, conditions, options, torch.Generator().manual_seed(0), tally=tally, ladder=ladder)


def test_the_sampler_goes_on_with_one_branch_after_the_other(model: FantasyIDModel) -> None:
    tally, asked = Tally(), sampled(model, Levers(negative="sequential"))
    with full(model.transformer, lambda *_, hidden_states, **__: len(hidden_states) > 1):
        made = sampled(model, Levers(), tally)
    assert torch.equal(made, asked)
    assert tally.notes == ["Too little memory: went on as on a card of 16 GB: one prompt after the other."]
    assert str(tally).endswith(tally.notes[0]) and "memory" not in str(Tally())


def test_a_video_that_is_too_large_in_any_way_is_one_sentence(model: FantasyIDModel) -> None:
    with full(model.transformer, lambda *_, **__: True), pytest.raises(InputError, match="memory is too small"):
        sampled(model, Levers())


def test_main_memory_that_is_really_full_is_a_step_down_per_preset_and_one_sentence_at_the_end() -> None:
    told, tried = list[str](), list[str]()
    ladder = Ladder(MEMORY_PRESETS, told.append)
    way = lambda preset: Way((preset.rows, -MEMORY_PRESETS.index(preset)), f"as {preset.name}")  # noqa: E731

    def work(fits: str) -> str:
        tried.append(ladder.preset.name)
        if ladder.preset.name != fits:
            torch.empty(2**60, dtype=torch.uint8)
        return "done"

    assert ladder.run("VAE", lambda: work("16"), way) == "done"
    assert tried == ["80", "24", "16"]
    assert told == [f"Too little memory: went on as on a card of {name} GB: as {name}." for name in ("24", "16")]
    assert ladder.run("VAE", lambda: work("16"), way) == "done" and tried[3:] == ["16"]  # it stays where it is
    with pytest.raises(InputError, match=r"^Make it smaller\.$") as caught:
        ladder.run("VAE", lambda: work("none"), way, "Make it smaller.")
    assert tried[4:] == ["16", "12", "8"] and is_out_of_memory(caught.value.__cause__)
    with pytest.raises(InputError, match="too small for this model's VAE; close what else"):
        ladder.run("VAE", lambda: work("none"))


def test_the_rows_of_a_preset_act_while_it_samples_and_no_longer(model: FantasyIDModel) -> None:
    few = MemoryPreset("few", "none", "batched", 7, 0)
    seen: set[int] = set()
    layer = model.transformer.transformer_blocks[0].ff.net[0]
    handle = layer.register_forward_pre_hook(lambda _, given: seen.add(given[0].shape[1]))
    made = sampled(model, Levers(), ladder=Ladder([few]))
    handle.remove()
    torch.testing.assert_close(made, sampled(model, Levers()), atol=1e-5, rtol=0)
    assert max(seen) == 7 and slices.ROWS_AT_ONCE == ROWS_AT_ONCE


def test_fewer_rows_are_the_last_step_of_the_sampler(model: FantasyIDModel) -> None:
    few = MemoryPreset("few", "none", "sequential", 7, 0)
    tally, layer = Tally(), model.transformer.transformer_blocks[0].ff.net[0]
    with full(layer, lambda rows: rows.shape[1] > 7):
        ladder = Ladder([*MEMORY_PRESETS, few], tally.notes.append)
        made = sampled(model, Levers(), tally, ladder)
    assert tally.notes[1:] == [
        "Too little memory: went on as on a card of few GB: one prompt after the other, 7 rows at a time."
    ]
    torch.testing.assert_close(made, sampled(model, Levers()), atol=1e-5, rtol=0)


def test_the_decoder_goes_on_in_tiles() -> None:
    vae, told = mini_vae().eval(), list[str]()
    latents = torch.randn(1, 3, 32, 40, 36, generator=torch.Generator().manual_seed(4))
    with full(vae.decoder, lambda z, **_: max(z.shape[-2:]) > 32):
        frames = decode_latents(vae, latents, ladder=Ladder(MEMORY_PRESETS, told.append))
    assert told == ["Too little memory: went on as on a card of 8 GB: decoded in tiles of 256 pixels."]
    assert np.array_equal(frames, decode_latents(vae, latents, tiled=True))
    with full(vae.decoder, lambda z, **_: True), pytest.raises(InputError, match="even to decode in tiles"):
        decode_latents(vae, latents)


def test_other_errors_stay_what_they_are(model: FantasyIDModel) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("sizes do not match")

    handle = model.transformer.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        sampled(model, Levers())
    handle.remove()


@pytest.mark.parametrize(
    ("error", "full_memory"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("The size of tensor a must match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_every_device_says_it_in_its_own_words(error: Exception, full_memory: bool) -> None:
    assert is_out_of_memory(error) is full_memory
