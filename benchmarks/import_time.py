"""How long the pack takes to import: what every start of the editor waits for.

    python -m benchmarks.import_time        uses .venv-comfyui too, if `make editor` has made it

Each figure is a fresh process; the torch (or ComfyUI) that the editor has imported already is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.measure import print_heading, print_table

ROOT = Path(__file__).resolve().parent.parent
COMFYUI_PYTHON = ROOT / ".venv-comfyui" / "bin" / "python"
HEAVY = ("diffusers", "transformers", "insightface", "onnxruntime", "trimesh", "scipy", "av", "cv2")

TIMED = """
import json, sys, time
{before}
known = set(sys.modules)
start = time.process_time()
{timed}
seconds = time.process_time() - start
new = {{name.partition(".")[0] for name in set(sys.modules) - known}}
print(json.dumps([seconds, sorted(new.intersection({heavy}))]))
"""
CASES = {
    "the core's package": ("import torch, numpy", "import fantasyid_core"),
    "data classes of all rooms": (
        "import torch, numpy",
        "import fantasyid_core.faces.face, fantasyid_core.geometry.geometry, fantasyid_core.views.views, "
        "fantasyid_core.identity.identity",
    ),
    "the command line, torch included": ("", "import fantasyid_core.cli"),
    "what generating imports before a model is loaded, torch included": (
        "",
        "import fantasyid_core.generate, fantasyid_core.model",
    ),
}
#: Inside ComfyUI: the core's own modules first, then the pack as ComfyUI loads it.
IN_COMFYUI = (
    """
sys.path[:0] = [{root!r}, {tools!r}]
from comfyui_env import core_directory
sys.path.insert(0, str(core_directory()))
from comfy.cli_args import args
args.cpu = True
import asyncio, importlib, importlib.util, logging
logging.disable(logging.CRITICAL)
importlib.import_module("utils.extra_config")
import folder_paths, server
from comfy_api.latest import io
import nodes
spec = importlib.util.spec_from_file_location("fantasyid_pack", {init!r}, submodule_search_locations=[{root!r}])
pack = importlib.util.module_from_spec(spec)
sys.modules["fantasyid_pack"] = pack
""",
    """
spec.loader.exec_module(pack)
listed = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
""",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    print_heading(f"Import time, {repeats} fresh processes each")
    rows = [_row(name, sys.executable, before, timed, repeats) for name, (before, timed) in CASES.items()]
    if COMFYUI_PYTHON.is_file():
        places = {"root": str(ROOT), "tools": str(ROOT / "tools"), "init": str(ROOT / "__init__.py")}
        before, timed = IN_COMFYUI[0].format(**places), IN_COMFYUI[1]
        rows.append(_row("the pack inside ComfyUI, until its nodes are listed", COMFYUI_PYTHON, before, timed, repeats))
    print_table(["import", "min s", "median s", "heavy packages it brought in"], rows)


def _row(name: str, python: Path | str, before: str, timed: str, repeats: int) -> list[str]:
    program = TIMED.format(before=before, timed=timed, heavy=set(HEAVY))
    results = [_run(python, program) for _ in range(repeats)]
    seconds = [result[0] for result in results]
    return [name, f"{min(seconds):.3f}", f"{median(seconds):.3f}", ", ".join(results[0][1]) or "none"]


def _run(python: Path | str, program: str) -> tuple[float, list[str]]:
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"The import failed:\n{done.stderr[-2000:]}")
    seconds, heavy = json.loads(done.stdout.splitlines()[-1])
    return seconds, heavy


if __name__ == "__main__":
    main()
