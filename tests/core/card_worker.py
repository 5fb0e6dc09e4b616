"""What the stand-in for a card is asked, in a process of its own: python card_worker.py LIBRARIES OUT.json."""

from __future__ import annotations

import copy
import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from card import ROOM, Card

from benchmarks.memory import narrow_config
from fantasyid_core.cli import EXAMPLE
from fantasyid_core.errors import InputError
from fantasyid_core.generate import GenerateOptions, identify, make_video
from fantasyid_core.images import load_photograph
from fantasyid_core.model import FantasyIDModel, load_model
from fantasyid_core.video.levers import Levers
from fantasyid_core.video.memory_plan import Video, plans_for
from fantasyid_core.video.memory_presets import MEMORY_PRESETS, presets_from
from fantasyid_core.video.mini import _seeded
from fantasyid_core.video.placement import Placement
from fantasyid_core.video.sample import Conditions, SamplingOptions, sample
from fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel

SMALL, WIDE = (9, 64, 64), (9, 64, 320)  # only the wide one is decoded in more than one tile
OPTIONS = GenerateOptions("she smiles", steps=1)


@dataclass
class Seen:
    """One video. lies: the parts on the card while each part worked. peak: bytes, of the whole way."""

    frames: np.ndarray
    notes: list[str]
    lies: dict[str, list[str]]
    peak: int


def main(libraries: Path, out: Path) -> None:
    card = Card(libraries)
    mini = load_model("mini")
    identity = identify(load_photograph(EXAMPLE), mini, OPTIONS).identity

    def video(name: str, room: int = ROOM, size: tuple[int, int, int] = SMALL) -> Seen:
        model = copy_of(mini)
        gc.collect()
        assert card.now == 0  # of the video before
        card.open(room)
        notes: list[str] = []
        placement = Placement(model, card.device, presets_from(name), notes.append)
        with lying(model) as lies:
            frames = make_video(model, identity, OPTIONS, size, ladder=placement)
        return Seen(frames, notes, lies, card.most)

    free = {preset.name: video(preset.name) for preset in MEMORY_PRESETS}
    tight = {name: video("80", free[name].peak) for name in ("24", "16", "12")}
    tiled = video("8", size=WIDE)
    plain, wide = (make_video(mini, identity, OPTIONS, size) for size in (SMALL, WIDE))
    plans = {plan.preset.name: max(p.weights + p.work for p in plan.phases) for plan in plans_for(mini, Video(*SMALL))}
    seen: dict[str, Any] = {
        "free": {name: told(one, plain) for name, one in free.items()},
        "tight": {name: told(one, plain) for name, one in tight.items()},
        "tiled": told(tiled, wide),
        "tight and tiled": told(video("16", tiled.peak, WIDE), tiled.frames),
        "foretold": plans,
        "too small": refused(lambda: video("80", 1_000_000)),
        "left behind": card.now,
    }
    card.open()
    seen["streamed"] = {
        f"{name}, {cache}": streamed(model, card.device, cache)
        for name, model in (("mini", mini.transformer), ("release", narrow_release()))
        for cache in ("off", "interval")
    }
    out.write_text(json.dumps(seen), encoding="utf-8")


def copy_of(model: FantasyIDModel) -> FantasyIDModel:
    """With weights of its own, because a streamed part stays so."""
    parts = ("text", "identity_encoder", "transformer", "vae")
    return replace(model, **{part: copy.deepcopy(getattr(model, part)) for part in parts})


def told(seen: Seen, plain: np.ndarray) -> dict[str, Any]:
    difference = float(np.abs(seen.frames - plain).max())
    return {"difference": difference, "notes": seen.notes, "lies": seen.lies, "peak": seen.peak}


@contextmanager
def lying(model: FantasyIDModel) -> Iterator[dict[str, list[str]]]:
    """For each part that works, all whose weights lie on the card at that moment."""
    parts = {"text": model.text.encoder, "identity": model.identity_encoder}
    parts |= {"transformer": model.transformer, "vae": model.vae}
    at_work = {"text": model.text.encoder, "transformer": model.transformer, "vae": model.vae.decoder}
    seen: dict[str, list[str]] = {}

    def look(name: str) -> None:
        on_card = [part for part, of in parts.items() if any(w.device.type == "card" for w in of.parameters())]
        seen[name] = on_card

    handles = [part.register_forward_pre_hook(lambda *_, name=name: look(name)) for name, part in at_work.items()]
    yield seen
    for handle in handles:
        handle.remove()


def refused(work: Callable[[], object]) -> str:
    try:
        work()
    except InputError as error:
        return str(error)
    return ""


def narrow_release() -> LayerAdaptiveTransformer3DModel:
    """The release's layout at a sixteenth of its width, in its bfloat16."""
    model = _seeded(lambda: LayerAdaptiveTransformer3DModel(narrow_config(layers=3)), 0)
    return torch.nn.Module.to(model, torch.bfloat16).requires_grad_(False)


def streamed(transformer: LayerAdaptiveTransformer3DModel, device: torch.device, cache: str) -> dict[str, Any]:
    """The same sampling with all weights on the card, and with the blocks streamed to it; and how many came at once."""
    dit, dtype = transformer.model_config.transformer, transformer.dtype

    def random(*shape: int, seed: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)

    tokens = random(6, transformer.model_config.identity_width, seed=3)
    latents = (1, 3, dit.latent_channels, 8, 8)
    options = SamplingOptions(steps=6, levers=Levers(cache=cache, cache_start=0.0))
    made, most = [], []
    for name in ("80", "12"):
        model = copy.deepcopy(transformer)
        parts: Any = Parts(model)
        ladder = Placement(parts, device, presets_from(name))
        on_card: list[int] = []
        for block in model.transformer_blocks:  # when a block looks for its weights, they and no others lie there
            block.attn1.register_forward_pre_hook(lambda *_, m=model, n=on_card: n.append(blocks_on_card(m)))
        # keys and values are computed where the weights lie: here, once for both
        context = on(device, transformer.prepare_identity(tokens.cpu()))
        texts = [random(1, dit.text_length, dit.text_embed_dim, seed=seed) for seed in (1, 2)]
        conditions = Conditions(*texts, random(*latents, seed=4), context)
        made.append(sample(model, conditions, options, torch.Generator().manual_seed(0), ladder=ladder).cpu())
        most.append(max(on_card))
    return {"equal": torch.equal(*made), "finite": bool(made[0].isfinite().all()), "blocks on the card": most}


@dataclass
class Parts:
    """A model of a transformer alone."""

    transformer: torch.nn.Module
    text = identity_encoder = vae = None


def blocks_on_card(model: Any) -> int:
    return sum(next(block.parameters()).device.type == "card" for block in model.transformer_blocks)


def on(device: torch.device, context: Any) -> Any:
    return replace(context, keys_values=tuple((k.to(device), v.to(device)) for k, v in context.keys_values))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
