"""The list of nodes, and what happens once when ComfyUI loads the pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import core_model, faces, geometry, identity, mix, model, people, score, speed, strength, video, views
from .folders import register_folders, share_examples


class FantasyIDExtension(ComfyExtension):
    """This pack, as ComfyUI sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node, in the order of the five rooms."""
        register_folders()  # here and not in on_load, which cores before 2026 never call
        share_examples()
        return [
            *model.NODES,
            *faces.NODES,
            *geometry.NODES,
            *views.NODES,
            *identity.NODES,
            *mix.NODES,
            *people.NODES,
            *strength.NODES,
            *speed.NODES,
            *video.NODES,
            *core_model.NODES,
            *score.NODES,
        ]
