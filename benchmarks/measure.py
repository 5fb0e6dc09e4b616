"""What every benchmark measures with: interleaved timing, peak memory, counted FLOPs, this machine's matmul rate."""

from __future__ import annotations

import os
import platform
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # before torch: its profiler prints a line per use
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Work = Callable[[], Any]
MEBIBYTE = 1024**2


@dataclass(frozen=True)
class Timing:
    """The rounds of one piece of work, in seconds.

    work: on a CPU the processor time divided by the number of threads, which other programs hardly change; on a GPU the
    same as wall. wall: by the clock on the wall.
    """

    work: tuple[float, ...]
    wall: tuple[float, ...]

    @property
    def least(self) -> float:
        """The least disturbed round."""
        return min(self.work)

    @property
    def middle(self) -> float:
        """The median round."""
        return median(self.work)


def ratio(over: Timing, under: Timing) -> tuple[float, float]:
    """(ratio of the least rounds, median over the rounds of each round's own ratio)."""
    pairs = zip(over.work, under.work, strict=True)
    return over.least / under.least, median(a / b for a, b in pairs)


@torch.no_grad()
def interleaved(
    cases: Mapping[str, Work], repeats: int, device: str = "cpu", warm_up: bool = True
) -> dict[str, Timing]:
    """Time all cases in turn, ``repeats`` rounds, by default after one to warm up.

    A slow minute of the machine then hits every case, and each round starts with another one.
    """
    names = list(cases)
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for name in names if warm_up else []:
        cases[name]()
    for turn in range(repeats):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rounds[name].append(_timed(cases[name], device))
    return {name: Timing(*zip(*values, strict=True)) for name, values in rounds.items()}


def _timed(work: Work, device: str) -> tuple[float, float]:
    _wait(device)
    wall, busy = time.perf_counter(), time.process_time()
    work()
    _wait(device)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    return (wall if device == "cuda" else busy / torch.get_num_threads()), wall


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def peak_extra(work: Work, device: str = "cpu") -> int:
    """The most bytes that ``work`` held at once beyond what was there before, its result included.

    On a CPU every allocation and release of torch's allocator is recorded, so the figure does not depend on the
    machine; libraries' own buffers outside torch are not seen.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    held = most = 0
    for size in allocations(work):
        held += size
        most = max(most, held)
    return most


@torch.no_grad()
def allocations(work: Work) -> list[int]:
    """What ``work`` allocates (positive) and releases (negative) on the CPU, in bytes, in order."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    del result
    events: Any = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    memory = [event for event in events if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(memory, key=lambda event: event.start_ns())]


@torch.no_grad()
def held(work: Work, *before: torch.nn.Module | torch.Tensor) -> int:
    """The most bytes of tensors that ``work`` holds at once beyond those of ``before``, on torch's meta device.

    Nothing is computed and no memory is taken, so that any size can be counted on any machine. Attention counts as a
    card's own kernel does it, without a score matrix; what kernels keep for themselves is not seen.
    """
    with _Flash(), _Held(before) as counter:
        result = work()
    del result
    return counter.most


class _Held(TorchDispatchMode):
    """Follows every tensor's memory from the operator that makes it until nobody holds it."""

    def __init__(self, before: Sequence[torch.nn.Module | torch.Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        tensors = [t for each in before for t in ([each] if isinstance(each, torch.Tensor) else _tensors(each))]
        self._known = {tensor.untyped_storage()._cdata for tensor in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
            return args[0].new_empty(args[0].shape)  # it leaves the device, and meta has nothing to copy
        out = func(*args, **kwargs)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage())
        return out

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Flash(TorchFunctionMode):
    """Attention as cards do it: a result laid out as the tokens are, and nothing else. On meta torch makes scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **named)
        query = named["query"] if "query" in named else args[0]
        value = named["value"] if "value" in named else args[2]
        batch, heads, rows, _ = query.shape
        return query.new_empty(batch, rows, heads, value.shape[-1]).transpose(1, 2)


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


@torch.no_grad()
def counted_flops(work: Work) -> int:
    """Floating point operations of the matmuls, convolutions and attentions that ``work`` really calls."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # which torch's own counter leaves out
    with FlopCounterMode(display=False, custom_mapping={on_cpu: attention}) as counter:
        work()
    return counter.get_total_flops()


def matmul_peak(rows: int, dtype: torch.dtype, device: str = "cpu", repeats: int = 3) -> float:
    """FLOP per second of the block's largest matmul, [rows, 3072] × [3072, 12288]: what this machine can do at best."""
    x = torch.randn(rows, 3072, device=device).to(dtype)
    weight = torch.randn(12288, 3072, device=device).to(dtype)
    timing = interleaved({"matmul": lambda: torch.nn.functional.linear(x, weight)}, repeats, device)["matmul"]
    return 2 * rows * 3072 * 12288 / timing.least


def machine(device: str = "cpu") -> str:
    """One line: date, processor or card, threads, versions, and how busy the machine is with other things."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores{load}"
    return f"{date.today()}, {name}, {threads}, torch {torch.__version__}, {platform.system()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown, so that it can be pasted into docs/performance.md."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def print_heading(title: str, device: str = "cpu") -> None:
    """What is measured, and on which machine."""
    clock = "wall time" if device == "cuda" else "processor time per thread (other programs hardly change it)"
    print(f"\n{title}\n{machine(device)}\nTimes are {clock}; min = least disturbed round, median = of the rounds.\n")


def default_device() -> str:
    """The GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
