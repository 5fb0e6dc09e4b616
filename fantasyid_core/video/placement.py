"""Where a model's parts lie while they work, outside ComfyUI (which has a manager of its own).

    ladder = Placement(model, torch.device("cuda"), presets_from("12"))
    generate(photograph, model, options, ladder=ladder)

A part that leaves the device takes up its old place in main memory again, which it never gave up: weights do not
change, so nothing is copied back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import InputError
from ..out_of_memory import Ladder, Part, Way
from .memory_plan import Video, chosen_plan, plans_for
from .memory_presets import AUTO, MEMORY_PRESETS, OFF, MemoryPreset, presets_from

if TYPE_CHECKING:
    from ..model import FantasyIDModel

_STREAMED: tuple[Part, ...] = ("transformer", "text encoder")  #: the large ones; under the presets that stream
_IN_MAIN_MEMORY = 1.5  #: times a part's bytes that must be free there, or its pinned copy is made block by block


class Placement(Ladder):
    """The four parts of one model, which lie in main memory at first, on ``device`` as the preset says.

    Once a part is streamed it stays so, because presets only get smaller.
    """

    def __init__(
        self,
        model: FantasyIDModel,
        device: torch.device,
        presets: Sequence[MemoryPreset],
        note: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        super().__init__(presets, note)
        self.device = device
        parts: dict[Part, Any] = {
            "text encoder": model.text and model.text.encoder,
            "identity encoder": model.identity_encoder,
            "transformer": model.transformer,
            "VAE": model.vae,
        }
        self._parts: dict[Part, nn.Module] = {part: module for part, module in parts.items() if module is not None}
        self._homes: dict[Part, list[tuple[torch.Tensor, torch.Tensor]]] = {}  # of the parts that lie on the device
        self._streamed: set[Part] = set()

    def _arrange(self, part: Part) -> None:
        """Bring ``part``, after what has to leave for it."""
        for other in [other for other in self._homes if self._leaves(other, part)]:
            self._send_home(other)
        for each in self._parts if self.preset.offload == "none" else [part]:
            self._bring(each)

    def _way(self, part: Part, preset: MemoryPreset, way: Callable[[MemoryPreset], Way]) -> Way:
        size, words = way(preset)
        weights = 2 if preset.offload == "none" else 0 if _is_streamed(part, preset) else 1
        return Way((weights, *size), f"{preset.placing}{words and '; '}{words}")

    def _leaves(self, other: Part, part: Part) -> bool:
        """Whether ``other``, which lies on the device, must not lie there while ``part`` works."""
        return _is_streamed(other, self.preset) or (self.preset.offload != "none" and other != part)

    def _bring(self, part: Part) -> None:
        if part in self._homes or part in self._streamed:
            return
        module = self._parts[part]
        if _is_streamed(part, self.preset):
            stream_blocks(_with_blocks(module), self.device)
            self._streamed.add(part)
            return
        tensors = [*module.parameters(), *module.buffers()]
        self._homes[part] = [(tensor, tensor.data) for tensor in tensors]
        try:
            for tensor in tensors:
                tensor.data = self._on_device(tensor)
        except (RuntimeError, MemoryError):  # the memory was full half-way
            self._send_home(part)
            raise

    def _send_home(self, part: Part) -> None:
        for tensor, home in self._homes.pop(part):
            tensor.data = home

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.data.to(self.device)


def is_placed(memory: str, device: torch.device) -> bool:
    """Whether a model that is to work on ``device`` is loaded into main memory, and brought from there by a placement.

    memory: one of MEMORY_CHOICES. "auto" does so on a CUDA or ROCm card alone: elsewhere the device has no memory of
    its own, and moving parts would only take more.
    """
    return memory != OFF and (memory != AUTO or device.type == "cuda")


def ladder_for(
    model: FantasyIDModel,
    memory: str,
    device: torch.device,
    video: Video | None = None,
    note: Callable[[str], object] = lambda sentence: None,
) -> Ladder:
    """What has ``model`` work on ``device`` under the presets that ``memory``, one of MEMORY_CHOICES, begins with.

    "auto": with the largest that fits into the card's free memory, as foretold for ``video`` (None: one of the model's
    own size). note: told which it is, and a sentence at each step down. Raises InputError for an unknown name.
    """
    if not is_placed(memory, device):
        return Ladder(MEMORY_PRESETS, note)
    if memory == AUTO:
        memory = chosen_plan(plans_for(model, video), torch.cuda.mem_get_info(device)[0]).preset.name
    ladder = Placement(model, device, presets_from(memory), note)
    note(f"Memory as for a card of {ladder.preset.name} GB: {ladder.preset}.")
    return ladder


def check_shared(memory: str) -> str:
    """``memory`` for several processes that share one video: "off". InputError when a preset was asked for."""
    if memory not in (AUTO, OFF):
        raise InputError(
            "Several processes that share one video keep the whole model each; leave --memory at auto or off, or start "
            "a single process."
        )
    return OFF


def stream_blocks(module: nn.Module, device: torch.device) -> None:
    """Have ``module``'s blocks come to ``device`` one by one, on CUDA each while the one before it works.

    By diffusers' group offloading. On CUDA their weights are pinned: once and for all where main memory has room for a
    second copy in the meantime, else at every turn.
    """
    from diffusers.hooks import apply_group_offloading

    options: dict[str, Any] = {}
    if device.type == "cuda":
        import psutil

        size = sum(tensor.nbytes for tensor in module.parameters())
        tight = psutil.virtual_memory().available < _IN_MAIN_MEMORY * size
        options = {"use_stream": True, "record_stream": True, "low_cpu_mem_usage": tight}
    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        **options,
    )


def keep_in_8_bits(transformer: Any) -> None:
    """Keep the weights of the blocks' linear layers as 8-bit floats (e4m3), and compute in the type they had.

    By diffusers' layerwise casting: half the memory of bfloat16, and numbers that differ (docs/memory.md). There is no
    way back.
    """
    transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=transformer.dtype)


def _is_streamed(part: Part, preset: MemoryPreset) -> bool:
    return preset.offload == "blocks" and part in _STREAMED


def _with_blocks(module: Any) -> nn.Module:
    """Of a T5 the stack: diffusers looks for blocks among a module's own children."""
    return getattr(module, "encoder", module)
