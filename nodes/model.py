"""The model that the last two rooms need: chosen and loaded once."""

from __future__ import annotations

from comfy_api.latest import io

from ..fantasyid_core.errors import FantasyIDError
from ..fantasyid_core.model import MINI, MINI_NAMES, PRECISIONS, FantasyIDModel, load_model
from . import sockets
from .adopt import keep_in_8_bits
from .compat import schema
from .folders import model_names, model_path, models_directories
from .memory import memory_outlook
from .progress import show_text

FP8 = "fp8_e4m3fn"  #: as core loaders call it


class LoadModel(io.ComfyNode):
    """FantasyIDLoadModel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDLoadModel",
            display_name="Load FantasyID Model",
            description="Load the identity encoder, the video transformer, the VAE and the text encoder. The built-in "
            "mini model needs no download and makes small videos on a CPU in seconds; it learned from drawn heads. "
            "Nothing is ever downloaded: put the public checkpoint into models/fantasyid.",
            search_aliases=["checkpoint loader", "fantasyid loader", "cogvideox", "identity model"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=[MINI, *model_names()],
                    default=MINI,
                    tooltip="The built-in mini model, or a folder or .safetensors file in models/fantasyid. Press R "
                    "after adding one.",
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", *PRECISIONS, FP8],
                    default="auto",
                    tooltip="Number type of the weights. 'auto' is what the model was made for: bfloat16 for the "
                    "public checkpoint, float32 for the mini. 'fp8_e4m3fn' is 'auto' with the video transformer's "
                    "weights in 8 bits: a little over half its memory, a slightly different video.",
                ),
            ],
            outputs=[
                sockets.Model.Output(
                    "model", "model", tooltip="For Fuse Features, Encode Prompt, sampler and decoder."
                ),
                io.String.Output("about", "about", tooltip="Which model this is, and what to know about its weights."),
            ],
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        """Refuse a model that is gone before anything runs; the mini's older name in saved workflows still counts."""
        try:
            return name in MINI_NAMES or bool(model_path(name))
        except FantasyIDError as error:
            return str(error)

    @classmethod
    def execute(cls, name: str, precision: str) -> io.NodeOutput:
        """Load it; ComfyUI keeps it until the choice changes."""
        wanted = MINI if name in MINI_NAMES else model_path(name)
        made_for = "auto" if precision == FP8 else precision
        model = load_model(wanted, precision=made_for, models_dirs=models_directories())
        if precision == FP8:
            keep_in_8_bits(model.transformer.transformer_blocks)
        outlook = memory_outlook(model)
        show_text(cls, "\n".join(filter(None, (model.notice, outlook))))
        return io.NodeOutput(model, about(model, outlook))


def about(model: FantasyIDModel, outlook: str) -> str:
    """A few lines for the artist."""
    return "\n".join(line for line in (f"Model: {model.model_id}", model.notice, outlook) if line)


NODES: list[type[io.ComfyNode]] = [LoadModel]
