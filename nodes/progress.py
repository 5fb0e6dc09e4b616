"""The core's progress hook → ComfyUI's progress bar, moving preview, text on a node, and cancel button."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import comfy.utils
import torch
from comfy import model_management as management
from PIL import Image

from ..fantasyid_core.progress import ProgressCallback
from ..fantasyid_core.weights.catalog import readable_size

PREVIEW_SIDE = 512  #: longest side of a preview picture, pixels
ENLARGED = 8  #: a latent pixel is so many pixels of the video; no picture is shown larger than that
FRAME_SECONDS = 0.25  #: how long a frame of the preview stays; half as long as it lasts in the video at 8 fps


def node_progress(total: int) -> ProgressCallback:
    """A progress callback for the node that runs now.

    Every report is also a point at which ComfyUI's cancel button takes effect: its InterruptProcessingException passes
    through the core untouched.
    """
    bar = comfy.utils.ProgressBar(total)
    return lambda done, total, preview=None: bar.update_absolute(done, total)


@contextmanager
def moving_progress(
    node: Any, total: int, pictures: Callable[[torch.Tensor], list[Image.Image]] | None, about: str = ""
) -> Iterator[ProgressCallback]:
    """A progress callback for ``total`` steps of the node that runs now, and what the artist sees of them.

    pictures: latents [1, F, C, H, W] → the frames that play, over and over, until the next step's come. Below the node
    stand ``about``, the time that is left and the memory in use.
    """
    started = time.monotonic()
    with _Player(total) as player:

        def report(done: int, total: int, preview: torch.Tensor | None = None) -> None:
            player.show(done, total, [] if preview is None or pictures is None else pictures(preview))
            left = (time.monotonic() - started) / max(done, 1) * (total - done)
            show_text(
                node, "\n".join(filter(None, (about, f"Step {done} of {total}, {_left(left)}, {memory_in_use()}")))
            )

        show_text(node, about)
        yield report


class _Player:
    """Sends the newest frames to the editor, one after the other, from a thread of its own."""

    def __init__(self, total: int) -> None:
        self._bar = comfy.utils.ProgressBar(total, node_id=_running_node())
        self._newest: tuple[int, int, list[Image.Image]] = (0, total, [])
        self._stop = Event()
        self._thread = Thread(target=self._play, name="fantasyid preview", daemon=True)

    def __enter__(self) -> _Player:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def show(self, done: int, total: int, frames: list[Image.Image]) -> None:
        """Report a step, its first frame at once."""
        self._newest = (done, total, frames)
        self._send(done, total, frames[0] if frames else None)

    def _play(self) -> None:
        number = 0
        while not self._stop.wait(FRAME_SECONDS):
            done, total, frames = self._newest
            number += 1
            if len(frames) < 2:
                continue
            try:
                self._send(done, total, frames[number % len(frames)])
            except management.InterruptProcessingException:
                management.interrupt_current_processing(True)  # raised here it was used up; the sampler must see it
                return
            except Exception as error:  # a preview must never end a video
                logging.warning("FantasyID's preview stopped: %s", error)
                return

    def _send(self, done: int, total: int, frame: Image.Image | None) -> None:
        shown = None
        if frame is not None:
            larger = min(ENLARGED, max(1.0, PREVIEW_SIDE / max(frame.size)))
            size = (round(frame.width * larger), round(frame.height * larger))
            shown = ("JPEG", frame.resize(size, Image.Resampling.BICUBIC), PREVIEW_SIDE)
        self._bar.update_absolute(done, total, shown)


def memory_in_use() -> str:
    """What the device that models run on has in use, e.g. "5.1 GB of 24.0 GB in use"."""
    device = management.get_torch_device()
    total = int(management.get_total_memory(device))
    used = total - int(management.get_free_memory(device))
    return f"{readable_size(used)} of {readable_size(total)} in use"


def show_text(node: Any, text: str) -> None:
    """Show ``text`` on the running node; it must ask for the hidden ``unique_id``."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and text and node.hidden is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, node.hidden.unique_id)


def _running_node() -> str | None:
    """The node that runs in this thread; another thread does not know it by itself."""
    try:
        from comfy_execution.utils import get_executing_context
    except ImportError:  # an older core keeps it elsewhere; the server's last node then stands in
        return None
    context = get_executing_context()
    return None if context is None else str(context.node_id)


def _left(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"{minutes} min left" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min left"
