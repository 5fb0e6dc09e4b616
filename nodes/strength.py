"""For the fifth room: how strongly each layer takes the identity, chosen and drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..fantasyid_core.video.strength import PRESETS, LayerStrength, parse_strength
from . import sockets
from .compat import schema, with_facts
from .pictures import image_from_picture

if TYPE_CHECKING:
    from ..fantasyid_core.model import FantasyIDModel

CUSTOM = "custom"


class LayerStrengthNode(io.ComfyNode):
    """FantasyIDLayerStrength."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDLayerStrength",
            display_name="Layer Strength",
            description="How strongly each layer of the video model takes the identity, and in which part of the "
            "steps. Start from a preset, or set your own from the first to the last layer.",
            search_aliases=["block weights", "layer weights", "identity schedule", "weight type", "curve"],
            inputs=[
                with_facts(
                    io.Combo.Input(
                        "preset",
                        options=[*PRESETS, CUSTOM],
                        default="balanced",
                        tooltip="'balanced': as trained. 'likeness first': a third stronger. 'motion first': weak in "
                        "the first quarter of the steps, which lays out the movement. 'early layers', 'late layers': "
                        "one half of the depth only. 'custom': the text below.",
                    ),
                    shapes={
                        name: str(shape) for name, shape in PRESETS.items()
                    },  # for the bars (web/layer_strength.js)
                ),
                io.String.Input(
                    "custom",
                    default="1 1 1 1 1 1 1 1",
                    tooltip="For the preset 'custom': strengths from the first to the last layer (any number of them, "
                    "1 as trained, 0 off, up to 10), and if you like the steps: '1 1 0.5 @ 0-60%; 0.8 @ 60-100%'.",
                ),
                io.Float.Input(
                    "multiply",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Makes the whole shape so many times as strong.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="From which part of the steps on the identity counts at all.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Up to which part of the steps the identity counts at all.",
                ),
                sockets.StrengthCurve.Input(
                    "curve",
                    optional=True,
                    tooltip="In place of the preset: a number, a list of numbers (FLOAT) from the first to the last "
                    "layer, or ComfyUI's Curve Editor, whose left end is the first layer.",
                ),
            ],
            outputs=[
                sockets.Strength.Output(
                    "strength", "strength", tooltip="For the sampler, Add Person and Plot Layer Strength."
                ),
                io.String.Output("text", "text", tooltip="The same as text, to paste into 'custom'."),
            ],
        )

    @classmethod
    def execute(
        cls, preset: str, custom: str, multiply: float, start_percent: float, end_percent: float, curve: Any = None
    ) -> io.NodeOutput:
        """→ LayerStrength and its text."""
        from ..fantasyid_core.video.curves import strength_from

        if curve is not None:
            shape = strength_from(curve)
        else:
            shape = parse_strength(custom) if preset == CUSTOM else PRESETS[preset]
        strength = shape.scaled(multiply).between(start_percent, end_percent)
        return io.NodeOutput(strength, str(strength))


class PlotStrength(io.ComfyNode):
    """FantasyIDPlotStrength."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDPlotStrength",
            display_name="Plot Layer Strength",
            description="Draw a layer strength as a heat map: which layer takes how much of the identity in which "
            "step. Connect Preview Image behind it.",
            search_aliases=["heat map", "visualize strength", "show block weights"],
            inputs=[
                sockets.Strength.Input("strength", tooltip="From Layer Strength."),
                io.Int.Input(
                    "layers",
                    default=42,
                    min=1,
                    max=200,
                    tooltip="How many identity layers the model has: 42 for the public checkpoint. Not needed when a "
                    "model is connected.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="As many steps as the sampler takes."),
                sockets.Model.Input(
                    "model", optional=True, tooltip="From Load FantasyID Model: draws as many layers as it has."
                ),
            ],
            outputs=[
                io.Image.Output("image", "image", tooltip="First layer on top, first step on the left, 960 × 640."),
                io.String.Output("about", "about", tooltip="In which layers and steps the identity acts, as a line."),
            ],
        )

    @classmethod
    def execute(
        cls, strength: LayerStrength, layers: int, steps: int, model: FantasyIDModel | None = None
    ) -> io.NodeOutput:
        """→ IMAGE [1, 640, 960, 3] and a line of text."""
        from ..fantasyid_core.video.strength_picture import describe_strength, draw_strength

        count = layers if model is None else len(model.transformer.layer_attentions())
        picture = draw_strength(strength, count, steps)
        return io.NodeOutput(image_from_picture(picture), describe_strength(strength, count, steps))


NODES: list[type[io.ComfyNode]] = [LayerStrengthNode, PlotStrength]
