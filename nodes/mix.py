"""For the fourth room: identities made of identities, and a picture of what one holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..fantasyid_core.identity.card import describe_identity, draw_identity_card
from ..fantasyid_core.identity.mix import METHODS, REFERENCES, mix_identities
from . import sockets
from .compat import schema
from .pictures import image_from_picture
from .progress import show_text

if TYPE_CHECKING:
    from ..fantasyid_core.identity.identity import Identity


class MixIdentities(io.ComfyNode):
    """FantasyIDMixIdentities."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDMixIdentities",
            display_name="Mix Identities",
            description="Make one identity of two: a person between A and B, or A with a part of B added or taken "
            "away. Chain it for more than two.",
            search_aliases=["combine embeds", "face merge", "blend faces", "identity interpolation", "average faces"],
            inputs=[
                sockets.Identity.Input("a", tooltip="Identity A, from Fuse Features or Load Identity."),
                sockets.Identity.Input("b", tooltip="Identity B, made with the same model."),
                io.Float.Input(
                    "ratio",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="How much of B: 0 is A alone, 1 is B alone ('add' and 'subtract': all of B on top of A).",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="average",
                    tooltip="'average': between A and B. 'norm average': the same, every token counting alike however "
                    "long it is. 'add', 'subtract': A with a part of B added or taken away. 'concat': both side by "
                    "side, more tokens than the checkpoint saw in training; the ratio then does not matter.",
                ),
                io.Combo.Input(
                    "reference",
                    options=list(REFERENCES),
                    default=REFERENCES[0],
                    tooltip="Whose crop conditions the video's first frame. It weighs much: with one person's crop the "
                    "video starts from that person. 'blended' lays one over the other.",
                ),
            ],
            outputs=[
                sockets.Identity.Output(
                    "identity", "identity", tooltip="The mixed identity, for the sampler or to save."
                ),
                io.Image.Output("reference_crop", "reference_crop", tooltip="The crop that it carries, 512 × 512."),
            ],
        )

    @classmethod
    def execute(cls, a: Identity, b: Identity, ratio: float, method: str, reference: str) -> io.NodeOutput:
        """Mix the tokens and the reference crops."""
        identity = mix_identities(a, b, ratio, method, reference)
        return io.NodeOutput(identity, image_from_picture(identity.reference))


class IdentityCard(io.ComfyNode):
    """FantasyIDIdentityCard."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDIdentityCard",
            display_name="Identity Card",
            description="A picture of what an identity holds: its reference crop, how it was made and by which model, "
            "the views with their weights, and how long its tokens are. Connect Load Identity to look into a file.",
            search_aliases=["identity info", "embeds info", "face card", "preview identity"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                sockets.Identity.Input("identity", tooltip="From Fuse Features, Mix Identities or Load Identity."),
                io.String.Input("name", default="", tooltip="A title for the card, for instance the person's name."),
            ],
            outputs=[
                io.Image.Output("card", "card", tooltip="The card, 1080 pixels wide."),
                io.String.Output("text", "text", tooltip="The same in words, one line per fact."),
            ],
        )

    @classmethod
    def execute(cls, identity: Identity, name: str) -> io.NodeOutput:
        """Draw it."""
        text = describe_identity(identity)
        show_text(cls, text)
        return io.NodeOutput(image_from_picture(draw_identity_card(identity, name.strip())), text)


NODES: list[type[io.ComfyNode]] = [MixIdentities, IdentityCard]
