"""How much work the sampler may leave out, and how it makes videos that are longer than the model knows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from comfy_api.latest import io

from ..fantasyid_core.config import ModelConfig
from ..fantasyid_core.errors import FantasyIDError
from ..fantasyid_core.video.attention_choice import available_attentions, require_attention
from ..fantasyid_core.video.levers import AS_SET, CACHES, EXACT, MOST_ORDER, NEGATIVE, PRESETS, Levers, in_words, preset
from ..fantasyid_core.video.schedule import SAMPLERS
from ..fantasyid_core.video.windows import Window, window_for
from . import sockets
from .compat import schema
from .progress import show_text

CUSTOM = "custom"
WINDOWS, AT_ONCE = "in windows", "at once"
_ALWAYS = ("negative", "attention", "compile_blocks")  #: the levers that change no video, so they are in no preset


@dataclass(frozen=True)
class Speed:
    """What travels on a FANTASYID_SPEED link. overlap: of windows, in frames; 0 = a third of a window."""

    levers: Levers = EXACT
    in_windows: bool = True
    overlap: int = 0

    def window(self, config: ModelConfig, frames: int) -> Window | None:
        """The window for a video of ``frames`` frames, None when the model sees it at once."""
        if not self.in_windows:
            return None
        per_latent = config.transformer.temporal_compression
        return window_for(config, frames, -(-self.overlap // per_latent) or None)


class SpeedOptions(io.ComfyNode):
    """FantasyIDSpeedOptions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDSpeedOptions",
            display_name="Speed Options",
            description="Make a video in less time, by a preset or lever by lever, or one that is longer than the "
            "model was trained on. Connect it to the sampler's speed input; without it nothing is left out.",
            search_aliases=["teacache", "first block cache", "faster", "context windows", "sage attention", "compile"],
            hidden=[io.Hidden.unique_id],
            inputs=[*_preset(), *_solver(), *_cache(), *_guidance(), *_machine(), *_windows()],
            outputs=[
                sockets.Speed.Output("speed", "speed", tooltip="For the sampler's speed input."),
                io.String.Output("summary", "summary", tooltip="What is left out, in words, counted for 50 steps."),
            ],
        )

    @classmethod
    def validate_inputs(cls, attention: str) -> bool | str:
        """Say what an attention needs that this machine does not have, before anything runs."""
        try:
            require_attention(attention)
        except FantasyIDError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, preset: str, long_videos: str, window_overlap: int, **levers: Any) -> io.NodeOutput:
        """→ Speed. Except for "custom" the preset overrules the levers that change the video."""
        chosen = chosen_levers(preset, levers)
        words = in_words(chosen)
        show_text(cls, words)
        return io.NodeOutput(Speed(chosen, long_videos == WINDOWS, window_overlap), words)


def chosen_levers(name: str, widgets: dict[str, Any]) -> Levers:
    """The levers of preset ``name`` or, for "custom", of the widgets; what changes no video is always the widgets'."""
    if name == CUSTOM:
        return Levers(**widgets)
    named = preset(name)
    kept = {field.name: getattr(named, field.name) for field in fields(Levers)}
    return Levers(**kept | {always: widgets[always] for always in _ALWAYS})


def _preset() -> list[io.Input]:
    return [
        io.Combo.Input(
            "preset",
            options=[*PRESETS, CUSTOM],
            default="balanced",
            tooltip="'exact' leaves nothing out, 'balanced' half of the work, 'fast' two thirds. With 'custom' the "
            "levers below count, down to guidance_every; the presets ignore them.",
        )
    ]


def _solver() -> list[io.Input]:
    return [
        io.Combo.Input(
            "solver",
            options=[AS_SET, *SAMPLERS],
            default=AS_SET,
            tooltip="How the steps are taken. 'dpm' is the release's, with fresh noise in every step; 'ddim' adds "
            "none; 'dpm2m' adds none and is second order, so half the steps go as far. Another solver makes another "
            "video.",
        ),
        _share(
            "step_share",
            1.0,
            "Of the sampler's steps, the part that is really taken: 0.5 takes 25 when the sampler says 50.",
            least=0.01,
        ),
    ]


def _cache() -> list[io.Input]:
    return [
        io.Combo.Input(
            "cache",
            options=list(CACHES),
            default=CACHES[0],
            tooltip="Skip the model's blocks in steps that would hardly differ from the step before. 'first block' "
            "runs the first and looks how much it changed; 'interval' skips by a fixed rhythm; 'magnitude' by how the "
            "size of the change develops.",
        ),
        io.Float.Input(
            "cache_threshold",
            default=0.1,
            min=0.0,
            max=10.0,
            step=0.01,
            round=0.0001,
            tooltip="How much may have changed for a step to be skipped (first block, magnitude): more is faster and "
            "further from the exact video.",
        ),
        io.Int.Input(
            "cache_most", default=2, min=1, max=100, tooltip="How many steps in a row may be skipped by the cache."
        ),
        io.Int.Input(
            "cache_order",
            default=0,
            min=0,
            max=MOST_ORDER,
            tooltip="0 takes over the last change as it is; 1 or 2 extrapolate it over the steps (Taylor).",
        ),
        _share("cache_start", 0.1, "From which part of the steps on the cache may skip: the first ones lay out all."),
        _share("cache_end", 0.95, "Up to which part of the steps the cache may skip."),
    ]


def _guidance() -> list[io.Input]:
    return [
        _share(
            "guidance_start",
            0.0,
            "From which part of the steps on the negative prompt counts; before, its half of the work is left out.",
        ),
        _share(
            "guidance_end",
            1.0,
            "Up to which part of the steps the negative prompt counts; behind, its half of the work is left out.",
        ),
        io.Int.Input(
            "guidance_every",
            default=1,
            min=1,
            max=100,
            tooltip="2 runs the negative prompt in every second step, 3 in every third; the steps between take over "
            "the difference that it made. 1 runs it always.",
        ),
    ]


def _machine() -> list[io.Input]:
    return [
        io.Combo.Input(
            "negative",
            options=list(NEGATIVE),
            default=NEGATIVE[0],
            tooltip="Prompt and negative prompt as one batch, or one after the other in half the memory. Same video up "
            "to rounding, with every preset.",
        ),
        io.Combo.Input(
            "attention",
            options=list(available_attentions()),
            default="auto",
            tooltip="Who computes attention, of those that run on this machine; with every preset. Only 'sage 2' "
            "rounds more than the others. Two that ruin this family's videos are not offered.",
        ),
        io.Boolean.Input(
            "compile_blocks",
            default=False,
            tooltip="Compile the model's blocks (torch.compile): costs about a minute once, gains with every step on a "
            "graphics card; with every preset.",
        ),
    ]


def _windows() -> list[io.Input]:
    return [
        io.Combo.Input(
            "long_videos",
            options=[WINDOWS, AT_ONCE],
            default=WINDOWS,
            tooltip="Videos with more frames than the model was trained on: in overlapping windows of that length, all "
            "with the same identity, or all at once, which no model here has learned.",
        ),
        io.Int.Input(
            "window_overlap",
            default=0,
            min=0,
            max=1024,
            step=4,
            tooltip="Frames that two neighbouring windows share and blend over. 0 takes a third of a window; more is "
            "smoother and slower.",
        ),
    ]


def _share(name: str, default: float, tip: str, least: float = 0.0) -> io.Input:
    return io.Float.Input(name, default=default, min=least, max=1.0, step=0.01, round=0.001, tooltip=tip)


NODES: list[type[io.ComfyNode]] = [SpeedOptions]
