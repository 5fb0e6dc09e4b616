"""The core's progress hook → ComfyUI's progress bar, preview picture, text on a node, and cancel button."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.utils
import torch
from PIL import Image

from ..fantasyid_core.progress import ProgressCallback

PREVIEW_SIDE = 512  #: longest side of a preview picture, pixels


def node_progress(total: int, picture: Callable[[torch.Tensor], Image.Image] | None = None) -> ProgressCallback:
    """A progress callback for the node that runs now.

    ``picture`` turns the latents [1, F, C, H, W] of a step into what the artist sees. Every report is also a point at
    which ComfyUI's cancel button takes effect: its InterruptProcessingException passes through the core untouched.
    """
    bar = comfy.utils.ProgressBar(total)

    def report(done: int, total: int, preview: torch.Tensor | None = None) -> None:
        shown = None if preview is None or picture is None else ("JPEG", picture(preview), PREVIEW_SIDE)
        bar.update_absolute(done, total, shown)

    return report


def show_text(node: Any, text: str) -> None:
    """Show ``text`` on the running node; it must ask for the hidden ``unique_id``."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and text and node.hidden is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node.hidden.unique_id)
