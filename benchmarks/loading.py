"""What loading a checkpoint costs: peak memory over bytes kept, time over plainly reading it, and the release's way.

    python benchmarks/loading.py                 # full size: 13.4 GB of disk and as much memory
    python benchmarks/loading.py --layers 4      # 1.7 GB

A fake checkpoint is written into a temporary folder and deleted afterwards. Each measurement runs in a process of its
own, from a cold file cache (the file's pages are dropped first) and from a warm one. "kept" are the bytes of the loaded
weights; "peak" is the highest resident memory minus what the process held before loading. The release's way (a model of
random float32 weights first, then a state dict built anew twice for every key) needs 40 GB at full size: it is measured
with few blocks, and what is extrapolated from that is marked so; only its state dicts are timed at full size, without
weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from math import prod, sqrt
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from make_fake_checkpoint import make_fake_checkpoint

from fantasyid_core.config import RELEASE, ModelConfig
from fantasyid_core.identity import encoder
from fantasyid_core.video import transformer
from fantasyid_core.weights.layout import official_layout
from fantasyid_core.weights.loading import load_identity_networks, load_transformer, open_checkpoint

FULL_LAYERS = 42
RELEASE_LAYERS = (1, 2)  #: blocks at which the release's way is measured
CHUNK = 16 << 20

Result = dict[str, Any]


def main() -> None:
    """Write the fake checkpoint, measure, print, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=FULL_LAYERS)
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--no-release", action="store_true", help="leave the release's way out")
    parser.add_argument("--convert", action="store_true", help="measure loading as float16 as well (a conversion)")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASUREMENTS[options.measure[0]](Path(options.measure[1]))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="fantasyid-loading-") as folder:
        _ours(Path(folder), options.layers, options.convert)
    if not options.no_release:
        with tempfile.TemporaryDirectory(dir=options.folder, prefix="fantasyid-loading-") as folder:
            _releases(Path(folder))


def _ours(folder: Path, layers: int, convert: bool) -> None:
    size = _fake(folder, layers)
    print(f"fake checkpoint: {layers} blocks, {size / 1e9:.2f} GB bfloat16")
    for cache in ("cold", "warm"):
        plain = _measure("plain", folder, cache)
        print(f"\n{cache} file cache: plain read of the files {plain['seconds']:.2f} s")
        for what in ("bfloat16", *(["float16"] if convert else [])):
            loaded = _measure(what, folder, cache)
            kept, peak = loaded["kept"] / 1e9, loaded["peak"] / 1e9
            print(
                f"  ours, {what:9} {loaded['seconds']:6.2f} s = {loaded['seconds'] / plain['seconds']:.2f} × reading; "
                f"kept {kept:.3f} GB, peak {peak:.3f} GB = {peak / kept:.3f} × kept"
            )


def _releases(folder: Path) -> None:
    """Measure the release's way at few blocks, and extrapolate to 42."""
    rows = []
    for layers in RELEASE_LAYERS:
        size = _fake(folder / str(layers), layers)
        row = _measure("release", folder / str(layers), "warm") | {"size": size, "layers": layers}
        rows.append(row)
        print(
            f"\nthe release's way, {layers} block{'s' if layers > 1 else ''} (measured): {row['seconds']:.1f} s "
            f"(random weights {row['init']:.1f}, state dicts {row['rebuild']:.1f}, the rest {row['rest']:.1f}); "
            f"peak {row['peak'] / 1e9:.2f} GB = {row['peak'] / row['kept']:.2f} × what bfloat16 keeps"
        )
    full = _extrapolated(rows[-1])
    print(
        f"\nthe release's way, {FULL_LAYERS} blocks (EXTRAPOLATED from {rows[-1]['layers']}): {full['seconds']:.0f} s "
        f"(random weights {full['init']:.0f}, state dicts {full['rebuild']:.0f}, the rest {full['rest']:.0f}); "
        f"peak {full['peak'] / 1e9:.0f} GB"
    )


def _extrapolated(row: Result) -> Result:
    """Bytes, initialisation and reading grow with the parameters; the state dicts are timed at their full number."""
    layout = official_layout(_config(FULL_LAYERS))
    size = sum(2 * prod(spec.shape) for spec in layout.values()) / row["size"]
    with torch.device("meta"):
        model = _tree({key: torch.empty(spec.shape) for key, spec in layout.items()})
    start = time.perf_counter()
    for _ in range(20):
        model.state_dict()
    each = (time.perf_counter() - start) / 20
    print(f"\none state dict of {len(layout)} keys: {1000 * each:.1f} ms, built twice per key")
    full = {"init": row["init"] * size, "rebuild": 2 * len(layout) * each, "rest": row["rest"] * size}
    return full | {"seconds": sum(full.values()), "peak": row["peak"] * size}


def _fake(folder: Path, layers: int) -> int:
    return make_fake_checkpoint(folder, _config(layers), eva=False)


def _config(layers: int) -> ModelConfig:
    return replace(RELEASE, transformer=replace(RELEASE.transformer, layers=layers))


def _measure(what: str, folder: Path, cache: str) -> Result:
    files = sorted((folder / "transformer").glob("*.safetensors"))
    _drop(files) if cache == "cold" else _warm(files)
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", what, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def _drop(files: list[Path]) -> None:
    """Put the files' pages out of the system's cache (Linux; elsewhere the cache stays as it is)."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _warm(files: list[Path]) -> int:
    buffer, total = bytearray(CHUNK), 0
    for path in files:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                total += count
    return total


def _plain(folder: Path) -> Result:
    files = sorted((folder / "transformer").glob("*.safetensors"))
    start = time.perf_counter()
    total = _warm(files)
    return {"seconds": time.perf_counter() - start, "bytes": total}


def _load(dtype: torch.dtype) -> Callable[[Path], Result]:
    """Both halves of the model, without the vision tower, which lies in another file."""

    def measure(folder: Path) -> Result:
        before, start = _resident("VmRSS"), time.perf_counter()
        _reset_peak()
        opened = open_checkpoint(folder)
        modules = [load_transformer(opened, dtype), *load_identity_networks(opened, dtype)]
        seconds, peak = time.perf_counter() - start, _resident("VmHWM") - before
        kept = sum(t.nbytes for module in modules for t in module.state_dict().values())
        return {"seconds": seconds, "kept": kept, "peak": peak}

    return measure


def _release(folder: Path) -> Result:
    """Random float32 weights, the whole file in memory, two state dicts per key, a non-strict load, then bfloat16.

    The model is a tree of modules with the checkpoint's own names and shapes, the dead ones among them.
    """
    layout = official_layout(open_checkpoint(folder).config)
    before, start = _resident("VmRSS"), time.perf_counter()
    _reset_peak()
    model = _tree({key: _random(spec.shape) for key, spec in layout.items()})
    init = time.perf_counter() - start
    state: dict[str, torch.Tensor] = {}
    for file in sorted((folder / "transformer").glob("*.safetensors")):
        state |= load_file(file)
    mark, fitting = time.perf_counter(), {}
    for key, tensor in state.items():
        if key in model.state_dict() and model.state_dict()[key].shape == tensor.shape:
            fitting[key] = tensor
    rebuild = time.perf_counter() - mark
    model.load_state_dict(fitting, strict=False)
    model.to(torch.bfloat16)
    seconds, peak = time.perf_counter() - start, _resident("VmHWM") - before
    kept = sum(t.nbytes for t in model.state_dict().values())
    rest = seconds - init - rebuild
    return {"seconds": seconds, "init": init, "rebuild": rebuild, "rest": rest, "kept": kept, "peak": peak}


def _random(shape: tuple[int, ...]) -> torch.Tensor:
    """As a freshly built layer is filled."""
    bound = 1 / sqrt(prod(shape[1:]) or 1)
    return torch.empty(shape).uniform_(-bound, bound)


def _tree(tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Nested modules whose state dict is ``tensors``, as deep as the names are."""
    root = nn.Module()
    for key, tensor in tensors.items():
        *path, name = key.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
    return root


def _resident(name: str) -> int:
    """Bytes of this process's resident memory ("VmRSS" now, "VmHWM" at its highest); Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1]) * 1024


def _reset_peak() -> None:
    """Let VmHWM start again from now."""
    Path("/proc/self/clear_refs").write_text("5")


#: imported above although unused: their import must not be measured
IMPORTED = (encoder, transformer)
MEASUREMENTS: dict[str, Callable[[Path], Result]] = {
    "plain": _plain,
    "bfloat16": _load(torch.bfloat16),
    "float16": _load(torch.float16),
    "release": _release,
}

if __name__ == "__main__":
    main()
