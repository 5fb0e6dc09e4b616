"""What is installed, which model files are present and healthy, and what would be used: ``fantasyid doctor``."""

from __future__ import annotations

import hashlib
import platform
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import FantasyIDError
from .libraries import CLASHES, clash, installed_version
from .weights.catalog import CATALOG, ModelFile, locate, readable_size

WIDTH = 120  #: columns of the printed report
Status = Literal["ok", "absent", "warning", "broken"]
_SIGNS: dict[Status, str] = {"ok": "✓", "absent": "·", "warning": "!", "broken": "✗"}

#: package → what it is for; None where nothing runs without it.
LIBRARIES: dict[str, str | None] = {
    "torch": None,
    "diffusers": None,
    "transformers": None,
    "safetensors": None,
    "numpy": None,
    "accelerate": "large models by parts, training",
    "sentencepiece": "the tokenizer of a diffusers-style folder",
    "opencv-python": "faces, previews",
    "pillow": "pictures in and out",
    "scipy": "fitting the 3D head, reading transform.pkl",
    "trimesh": "mesh files",
    "av": "video files",
    "onnxruntime": "the insightface detector and the likeness score",
    "insightface": "the insightface detector and the likeness score",
}
#: what may stand in for a package of LIBRARIES.
_STAND_INS = {group[0]: group[1:] for group in CLASHES}


@dataclass(frozen=True)
class Row:
    """One finding. name: what was looked at. detail: a version, a path, or a sentence that says what to do."""

    section: str
    name: str
    status: Status
    detail: str

    def lines(self, width: int) -> list[str]:
        """The finding as printed, its name padded to ``width``, wrapped with a hanging indent."""
        start = f"  {_SIGNS[self.status]} {self.name:<{width}}  "
        text = textwrap.wrap(self.detail, WIDTH - len(start), break_on_hyphens=False, break_long_words=False) or [""]
        return [start + text[0], *(" " * len(start) + line for line in text[1:])]


@dataclass(frozen=True)
class Report:
    """All findings, in the order in which they are printed."""

    rows: tuple[Row, ...]

    @property
    def broken(self) -> tuple[Row, ...]:
        """What must be mended before anything runs."""
        return tuple(row for row in self.rows if row.status == "broken")

    def text(self) -> str:
        """The report as lines of plain text, one section after the other."""
        lines: list[str] = []
        width = max(len(row.name) for row in self.rows)
        for section in dict.fromkeys(row.section for row in self.rows):
            lines += ["", section]
            for row in self.rows:
                lines += row.lines(width) if row.section == section else []
        legend = "✓ ready   · absent (see what it is for)   ! look at this   ✗ broken"
        return "\n".join([*lines[1:], "", legend])


def doctor_report(models_dirs: Sequence[Path]) -> Report:
    """Look at the installation and at every catalogued file under the given ``models`` folders. Changes nothing."""
    files = {file.key: _file_row(file, models_dirs) for file in CATALOG}
    healthy = {key for key, row in files.items() if row.status == "ok"}
    rows = [*_machine_rows(), *_library_rows(), *_clash_rows(), *files.values(), *_readiness_rows(healthy)]
    return Report(tuple(rows))


def run_doctor(models_dirs: Sequence[Path], write: Callable[[str], object] = print) -> int:
    """Print the report; 1 when something is broken, else 0 (absent files are no fault)."""
    report = doctor_report(models_dirs)
    write(report.text())
    return 1 if report.broken else 0


def choose_device() -> tuple[str, int, str]:
    """(torch device, bytes of its own memory, readable name): CUDA or ROCm, else Apple's MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return "cuda", int(properties.total_memory), properties.name
    if torch.backends.mps.is_available():
        return "mps", int(torch.mps.recommended_max_memory()), "Apple GPU"
    return "cpu", 0, platform.processor() or platform.machine()


def _machine_rows() -> list[Row]:
    section = "Machine"
    old = sys.version_info < (3, 10)
    python = Row(section, "python", "broken" if old else "ok", platform.python_version())
    try:
        device, memory, name = choose_device()
    except (ImportError, OSError) as error:
        return [python, Row(section, "torch", "broken", f"cannot be imported ({error}); install it again")]
    size = f", {readable_size(memory)}" if memory else ""
    return [python, Row(section, "device", "ok", f"{device} ({name}{size})"), *memory_rows(memory)]


def memory_rows(memory: int) -> list[Row]:
    """What the public checkpoint needs at its peak, by how its parts share a card; ``memory``: the card's, 0 = none.

    Calculated (video/memory_plan.py), for 49 frames of 480×720 in bfloat16. ComfyUI's own manager decides which it is;
    outside, ``fantasyid generate --memory``.
    """
    from .config import RELEASE
    from .video.memory_plan import chosen_plan, release_plans

    plans = release_plans(RELEASE)
    chosen = chosen_plan(plans, memory) if memory else None
    return [
        Row(
            "Memory of the public checkpoint, 49 frames of 480×720 (calculated)",
            f"{plan.preset.name} GB card",
            "warning" if plan is chosen and plan.peak > memory else "ok" if plan is chosen else "absent",
            f"{readable_size(plan.peak)} at its peak, {plan.highest.name}; {plan.preset}"
            + (" (this card)" if plan is chosen else ""),
        )
        for plan in plans
    ]


def _library_rows() -> list[Row]:
    return [_library_row(package, purpose) for package, purpose in LIBRARIES.items()] + _torchvision_rows()


def _library_row(package: str, purpose: str | None) -> Row:
    for name in (package, *_STAND_INS.get(package, ())):
        version = installed_version(name)
        if version:
            return Row("Libraries", package, "ok", version if name == package else f"{version} ({name})")
    if purpose is None:
        return Row("Libraries", package, "broken", f"missing: pip install {package}")
    return Row("Libraries", package, "absent", f"needed for {purpose}: pip install {package}")


def _torchvision_rows() -> list[Row]:
    """torchvision is not needed, but a build that does not fit torch breaks diffusers and transformers as well."""
    version = installed_version("torchvision")
    if version is None:
        return []
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        detail = f"{version} does not fit this torch ({error}); remove it or install the build for your torch"
        return [Row("Libraries", "torchvision", "broken", detail)]
    return [Row("Libraries", "torchvision", "ok", f"{version} (not needed by this pack)")]


def _clash_rows() -> list[Row]:
    return [Row("Libraries", group[0], "warning", clash(group[0])) for group in CLASHES if clash(group[0])]


def _file_row(file: ModelFile, models_dirs: Sequence[Path]) -> Row:
    path = locate(file, models_dirs)
    if path is None:
        place = f"models/{file.folder}/" if file.folder else "the pack's assets"
        size = readable_size(file.size)
        if not file.folder:
            return Row("Model files", file.name, "broken", "should ship with the pack: install the pack again")
        return Row(
            "Model files",
            file.name,
            "absent",
            f"{file.need}: {file.purpose}; {size} into {place}; licence: {file.licence}; from {file.origin}",
        )
    if file.sha256 and hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        return Row("Model files", file.name, "warning", f"{path} is not the file that belongs there; get it again")
    finding = _look_inside(file, path)
    status: Status = "broken" if finding.startswith("✗") else "ok"
    detail = f"{path} ({readable_size(_size_on_disk(path))}{finding.removeprefix('✗')}); licence: {file.licence}"
    return Row("Model files", file.name, status, detail)


def _look_inside(file: ModelFile, path: Path) -> str:
    """What headers and keys say of a model's checkpoint; "" for other files. Starts with ✗ when it will not load."""
    if file.key not in ("transformer", "converted"):
        return ""
    from .weights.architecture import infer_config
    from .weights.checkpoint import read_checkpoint

    try:
        config = infer_config(read_checkpoint(path))
    except FantasyIDError as error:
        return f"✗; will not load: {error}"
    blocks, interval = config.transformer.layers, config.injection.interval
    learned = "learned" if config.transformer.learned_positions else "computed"
    return f", {config.family}, {blocks} blocks, identity every {interval}, {learned} positions"


def _size_on_disk(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def _readiness_rows(present: set[str]) -> list[Row]:
    """Which jobs the files allow that are there and healthy (keys of the catalogue)."""
    release = "converted" in present or {"transformer", "eva"} <= present
    needs = {
        "the mini model": [],
        "the release checkpoint": [] if release else ["transformer", "eva"],
        "text for the release": [] if present & {"text_encoder", "t5xxl_fp16", "t5xxl_fp8"} else ["a T5 text encoder"],
        "decoding for the release": [] if present & {"vae", "converted"} else ["vae"],
        "the 3D branch of the release": [] if "mesh_hierarchy" in present else ["transform.pkl"],
        "FLAME geometry from a photograph": [name for name in ("flame", "deca") if name not in present],
    }
    return [
        Row("Ready for", job, "absent" if lacking else "ok", f"needs {' and '.join(lacking)}" if lacking else "yes")
        for job, lacking in needs.items()
    ]
