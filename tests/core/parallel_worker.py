"""What one of several processes computes for test_parallel.py; imported, the same functions compute it in one.

python -m torch.distributed.run --standalone --nproc_per_node 2 parallel_worker.py DIR
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from small_identity import is_one_sentence
from video_models import call, conditions, identity_tokens, noise, tiny_config, tiny_model

from fantasyid_core.errors import InputError
from fantasyid_core.processes import joined_processes
from fantasyid_core.video.attention import use_attention
from fantasyid_core.video.attention_choice import ATTENTIONS, AttentionChoice
from fantasyid_core.video.compiling import compiled_blocks
from fantasyid_core.video.levers import Levers
from fantasyid_core.video.parallel import mean_over_shares, shared_tokens
from fantasyid_core.video.people_context import PeopleContext
from fantasyid_core.video.sample import SamplingOptions, Tally, sample
from fantasyid_core.video.skip_layers import SkipLayers
from fantasyid_core.video.strength import LayerStrength, StrengthBand, parse_strength
from fantasyid_core.video.windows import Window

TEXT = 6  #: tokens, which two processes can share
OPTIONS = SamplingOptions(steps=5, guidance_scale=4.0)
SAMPLINGS = {
    "batched, strength by layer and step": replace(OPTIONS, strength=parse_strength("1 0 @ 0-60%; 0.8 @ 60-100%")),
    "sequential, identity guidance": replace(OPTIONS, identity_guidance=0.7, levers=Levers(negative="sequential")),
    "reference guidance, skipped layers": replace(OPTIONS, reference_guidance=0.5, skip_layers=SkipLayers(1.5)),
    "guidance in parts": replace(OPTIONS, levers=Levers(guidance_every=2, guidance_end=0.7)),
    "windows": replace(OPTIONS, window=Window(3, 2)),
    "interval": replace(OPTIONS, levers=Levers(cache="interval", cache_order=1)),
    **{
        f"{cache} {threshold}": replace(OPTIONS, levers=Levers(cache=cache, cache_threshold=threshold))
        for cache, thresholds in {"first block": (0.1, 0.24), "magnitude": (0.01, 0.1)}.items()
        for threshold in thresholds
    },
}


def model_of(name: str, text: int = TEXT, heads: int = 2):
    """The release's kind, the paper's with an F_l that does something, or one with identity in every second block."""
    config = tiny_config(layers=2, interval=2 if name == "interval 2" else 1, layer_block=name == "paper")
    model = tiny_model(replace(config, transformer=replace(config.transformer, text_length=text, heads=heads)))
    for block in model.transformer_blocks:
        if block.layer_block is not None:
            torch.nn.init.normal_(block.layer_block.norm.weight, generator=torch.Generator().manual_seed(5))
    return model


def velocities() -> dict[str, torch.Tensor]:
    """Single calls of each kind of model, with a region and strengths, as a batch of two."""
    made = {}
    for name in ("release", "paper", "interval 2"):
        model = model_of(name)
        identity = model.prepare_identity(identity_tokens())
        region = identity.with_region(torch.rand(1, 18, generator=torch.Generator().manual_seed(9)))
        strengths = tuple(0.5 + layer for layer in range(len(identity.keys_values)))
        with shared_tokens(model):
            made[f"{name}, no identity"] = call(model)
            made[f"{name}, identity"] = call(model, identity, batch=2)
            made[f"{name}, region and strength"] = call(model, region.with_strength(strengths), batch=2)
            if name == "release":
                with compiled_blocks(model, True, backend="eager"):  # what is compiled, without a compiler's minute
                    made[f"{name}, compiled"] = call(model, identity)
            model.fuse_qkv_projections()
            made[f"{name}, fused"] = call(model, identity)
        made[f"{name}, afterwards"] = call(model, identity)
    return made


def samplings() -> dict[str, torch.Tensor]:
    """Whole samplings, latents and the number of block evaluations of each."""
    model, made = model_of("paper"), {}
    given = conditions(model)
    longer = replace(
        given, reference=torch.cat([given.reference, torch.zeros(1, 4, *given.reference.shape[2:])], dim=1)
    )
    two = replace(given, identity=two_people(model, given.identity))
    cases = {name: (longer if "windows" in name else given, options) for name, options in SAMPLINGS.items()}
    cases["two people"] = (two, OPTIONS)
    for name, (what, options) in cases.items():
        tally = Tally()
        with shared_tokens(model):
            made[name] = sample(model, what, options, torch.Generator().manual_seed(4), tally=tally)
        made[f"{name}: blocks"] = torch.tensor(tally.blocks)
    return made


def two_people(model, first) -> PeopleContext:
    halves = torch.zeros(2, 1, 18)
    halves[0, :, ::2], halves[1, :, 1::2] = 1.0, 1.0
    other = model.prepare_identity(identity_tokens(seed=8))
    people = tuple(person.with_region(half) for person, half in zip((first, other), halves, strict=True))
    return PeopleContext(people, (LayerStrength(), LayerStrength((StrengthBand((0.5,)),))))


def uneven(name: str) -> torch.Tensor:
    """One call of which three processes cannot share the text, the video or the heads evenly."""
    model = model_of(name, text=5, heads=5)
    identity = model.prepare_identity(identity_tokens())
    with shared_tokens(model):
        return call(model, identity, frames=5, height=4, width=4)


def all_gather_of_any_sizes(parts, own, group=None) -> None:
    """What NCCL's all_gather does with unequal shares, which Gloo's refuses."""
    for rank, part in enumerate(parts):
        if rank == dist.get_rank(group):
            part.copy_(own)
        dist.broadcast(part, rank, group=group)


def by_diffusers() -> torch.Tensor:
    """The first velocity with diffusers' own door, which needs a device to count."""
    from diffusers import ContextParallelConfig

    model = model_of("paper")
    identity = model.prepare_identity(identity_tokens())
    with patch.object(torch.accelerator, "device_count", return_value=1):
        model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=dist.get_world_size()))
    return call(model, identity, batch=2)


def refusals() -> None:
    """What cannot go well with several processes stops with one sentence."""
    model = model_of("release")
    given, odd = conditions(model), conditions(model_of("release", text=5))
    rejecting = AttentionChoice("for this test", "_native_math", card=False)
    with shared_tokens(model), patch("fantasyid_core.video.attention.ATTENTIONS", {**ATTENTIONS, "math": rejecting}):
        with patch("fantasyid_core.video.attention.require_attention"):
            _refused("several cards", lambda: use_attention(model, "math").__enter__())
        _refused("evenly", lambda: sample(model, odd, OPTIONS, torch.Generator()))
        _refused("too small", lambda: sample(model, given, OPTIONS, torch.Generator(), check=_no_memory))
        paper = model_of("paper")
        compiled = replace(OPTIONS, levers=Levers(compile_blocks=True))
        with shared_tokens(paper):
            _refused("compiled", lambda: sample(paper, conditions(paper), compiled, torch.Generator()))
        from diffusers import FirstBlockCacheConfig

        model.enable_cache(FirstBlockCacheConfig(threshold=0.1))
        _refused("speed options", lambda: sample(model, given, OPTIONS, torch.Generator()))


def _no_memory() -> None:
    raise MemoryError


def _refused(words: str, work) -> None:
    try:
        work()
    except InputError as error:
        assert words in str(error) and is_one_sentence(error), error
    else:
        raise AssertionError(f"It was not refused ({words}).")


def main(folder: Path) -> None:
    """Compute as one of several, and leave it in ``folder``."""
    with joined_processes() as processes, torch.no_grad():
        if processes.count == 3:
            with patch.object(dist, "all_gather", all_gather_of_any_sizes):
                made = {name: uneven(name) for name in ("release", "paper")}
            model = model_of("release")
            with shared_tokens(model):
                _refused("attention heads", lambda: sample(model, conditions(model), OPTIONS, torch.Generator()))
        else:
            made = velocities() | samplings() | {"by diffusers": by_diffusers()}
            model = model_of("release")
            with shared_tokens(model):
                rows = noise(2, 3 + processes.rank, 5, seed=processes.rank)
                made["mean"] = mean_over_shares(model)(rows)
            refusals()
        save_file({name: x.contiguous() for name, x in made.items()}, folder / f"{processes.rank}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
