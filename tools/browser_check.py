"""Try the pack in ComfyUI's own editor, in headless Chromium: ``make browser``.

With the frontend that this ComfyUI brings and with a newer one, in both renderers: every workflow is opened from the
template browser, run and screenshotted (tools/screenshot_workflows.mjs), the bars of Layer Strength are dragged, saved
and loaded again (tools/browser_bars.mjs), and every help page is opened in every language by its node's circled i
(tools/browser_help.mjs). Needs Node.js, a Chromium ($CHROMIUM, default /usr/bin/chromium) and `.venv-comfyui`. Look at
the pictures in ``--out``: a script cannot see that something is ugly. On two cores it takes the better part of an hour;
`--without workflows` takes 25 minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from comfyui_env import ROOT, VENV, python_of
from comfyui_server import running_server

NEWER_FRONTEND = "1.58.1"
BROUGHT = "as installed"
#: Part of the check → its scripts with their further arguments; "vue" is the newer renderer.
SCRIPTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "bars": (("browser_bars.mjs",),),
    "help": (
        *(("browser_help.mjs",), ("browser_help.mjs", "vue"), ("browser_core_model.mjs",)),
        *(("browser_help.mjs", "zh"), ("browser_help.mjs", "zh-TW"), ("browser_help.mjs", "vue", "ja")),
    ),
    "workflows": (("screenshot_workflows.mjs",), ("screenshot_workflows.mjs", "vue")),
}


def main() -> int:
    """Run everything; 1 when a script found a fault."""
    parser = argparse.ArgumentParser(description="The pack in a real browser; needs Node.js and Chromium.")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "browser")
    parser.add_argument("--without", nargs="+", choices=tuple(SCRIPTS), default=(), help="what to leave out")
    options = parser.parse_args()
    failed = []
    for version in (BROUGHT, NEWER_FRONTEND):
        folder = options.out / version.replace(" ", "-")
        with running_server(folder / "base", ("--cpu", *frontend_option(version, options.out))) as server:
            for script, *more in [run for name, runs in SCRIPTS.items() if name not in options.without for run in runs]:
                command = ["node", str(ROOT / "tools" / script), server.address, str(folder), *more]
                if subprocess.run(command, cwd=ROOT, check=False).returncode:
                    failed.append(f"{' '.join([script, *more])} with frontend {version}")
    sys.stdout.write("".join(f"failed: {what}\n" for what in failed) or f"All well; look at {options.out}.\n")
    return 1 if failed else 0


def frontend_option(version: str, out: Path) -> tuple[str, ...]:
    """The server's option for another frontend than the installed one, fetched once from the package index."""
    if version == BROUGHT:
        return ()
    place = out / f"frontend-{version}"
    static = place / "comfyui_frontend_package" / "static"
    if not static.is_dir():
        wanted = f"comfyui-frontend-package=={version}"
        pip = [str(python_of(VENV)), "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place), wanted]
        subprocess.run(pip, check=True)
    return ("--front-end-root", str(static))


if __name__ == "__main__":
    raise SystemExit(main())
