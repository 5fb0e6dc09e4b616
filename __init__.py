"""ComfyUI's entry point; nothing else.

The nodes live in ``nodes/``, the method in ``fantasyid_core/``, which also runs without ComfyUI.
"""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """What ComfyUI calls to get this pack's nodes (V3 API)."""
    from .nodes.extension import FantasyIDExtension

    return FantasyIDExtension()


__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
