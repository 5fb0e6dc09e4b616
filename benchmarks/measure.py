"""What every benchmark measures with: interleaved timing, peak memory, counted FLOPs, this machine's matmul rate."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # before torch: its profiler prints a line per use
import torch

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
