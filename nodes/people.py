"""Between the fourth and the fifth room: several identities in one video."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from ..fantasyid_core.video.people import AUTO, REGIONS, People, Person
from ..fantasyid_core.video.strength import LayerStrength
from . import sockets
from .compat import schema
from .pictures import image_from_picture

if TYPE_CHECKING:
    from ..fantasyid_core.identity.identity import Identity


class AddPerson(io.ComfyNode):
    """FantasyIDAddPerson."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return schema(
            node_id="FantasyIDAddPerson",
            display_name="Add Person",
            description="Put several people into one video, each with a part of the frame of their own. Chain one of "
            "these nodes per person and connect the last one's people to the sampler.",
            search_aliases=["several people", "two people", "regional identity", "attention mask", "couple"],
            inputs=[
                sockets.Identity.Input("identity", tooltip="Who it is, from Fuse Features or Load Identity."),
                io.Combo.Input(
                    "region",
                    options=list(REGIONS),
                    default=AUTO,
                    tooltip="Where this person stands. 'auto': everybody who is set to it gets an equal strip of the "
                    "frame, from left to right in the order of the chain. A connected mask takes its place.",
                ),
                io.Float.Input(
                    "identity_strength",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.05,
                    round=0.001,
                    tooltip="How much of this identity each layer takes: 1 is as trained, 0 switches this person off. "
                    "It multiplies the sampler's own strength.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="From which part of the steps on this person counts.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Up to which part of the steps this person counts.",
                ),
                sockets.People.Input(
                    "others",
                    optional=True,
                    tooltip="The people so far, from another Add Person. Leave it open on the first one.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where this person is, in any size; it is stretched to the frame. Several pictures "
                    "are spread over the video, so that a region may move. Soft edges count in part.",
                ),
                sockets.Strength.Input(
                    "strength",
                    optional=True,
                    tooltip="From Layer Strength: this person's strength per layer and part of the steps.",
                ),
            ],
            outputs=[
                sockets.People.Output("people", "people", tooltip="Everybody so far, for the next one or the sampler."),
                io.Image.Output(
                    "picture",
                    "picture",
                    tooltip="Who stands where in the first frame, numbered in the order of the chain, drawn for 720 × "
                    "480 pixels.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        identity: Identity,
        region: str,
        identity_strength: float,
        start_percent: float,
        end_percent: float,
        others: People | None = None,
        mask: torch.Tensor | None = None,
        strength: LayerStrength | None = None,
    ) -> io.NodeOutput:
        """mask: [M, H, W] 0..1."""
        from ..fantasyid_core.video.people_picture import draw_people

        own = (strength or LayerStrength()).scaled(identity_strength).between(start_percent, end_percent)
        person = Person(identity, region if mask is None else mask.float().cpu().numpy(), own)
        everybody = People((person,)) if others is None else others.and_(person)
        return io.NodeOutput(everybody, image_from_picture(draw_people(everybody)))


NODES: list[type[io.ComfyNode]] = [AddPerson]
