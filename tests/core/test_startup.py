"""What ComfyUI loads at its start: of the core only what is quick, and no library that only some choice needs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("diffusers", "transformers", "accelerate", "onnxruntime", "insightface", "scipy")


def core_modules(file: Path) -> set[str]:
    """The core's modules that a node file imports at its top (not in functions, nor for the type checker alone)."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    found = [node for node in body if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module]
    return {str(node.module) for node in found if str(node.module).startswith("fantasyid_core")}


def test_nothing_heavy_is_loaded_before_a_node_runs() -> None:
    modules = sorted(set().union(*(core_modules(file) for file in (ROOT / "nodes").glob("*.py"))))
    assert len(modules) > 20
    lines = [f"import {', '.join(modules)}", "import sys", f"print(*[name for name in {HEAVY} if name in sys.modules])"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
