"""Start the real ComfyUI with this pack in it, on this machine only.

`python tools/comfyui_server.py --port 8188` serves the editor in the foreground until Ctrl+C; tests start and stop
servers of their own with `running_server`. Needs `.venv-comfyui` (tools/comfyui_env.py); standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from comfyui_env import ROOT, SetupError, core_directory, interpreter

PACK_FOLDER = "fantasyid-comfyui"
BASE = ROOT / "out" / "comfyui"  #: models, inputs and outputs of `make editor`
READY_SECONDS = 180.0


@dataclass(frozen=True)
class Server:
    """A running ComfyUI: where it listens, where its files lie, what it printed."""

    process: subprocess.Popen[bytes]
    address: str
    base: Path
    log: Path | None

    def log_text(self) -> str:
        """Everything printed so far ("" in the foreground)."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""


def prepare_base(base: Path) -> Path:
    """Make ComfyUI's folders under ``base``, with the pack in custom_nodes/."""
    for name in ("custom_nodes", "input", "output", "temp", "user", "models/fantasyid"):
        (base / name).mkdir(parents=True, exist_ok=True)
    _link_pack(base / "custom_nodes" / PACK_FOLDER)
    return base


def start_server(base: Path, port: int, log: Path | None = None, options: Sequence[str] = ()) -> Server:
    """Start ComfyUI in ``base`` without waiting for it; ``log`` of None prints to the terminal."""
    core = core_directory()
    command = [
        *(str(interpreter()), str(core / "main.py"), "--listen", "127.0.0.1", "--port", str(port)),
        *("--base-directory", str(prepare_base(base.resolve())), "--disable-api-nodes"),
        *("--database-url", "sqlite:///:memory:", *options),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if log is None:
        process = subprocess.Popen(command, env=environment)
    else:
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    return Server(process, f"http://127.0.0.1:{port}", base, log)


def wait_until_ready(server: Server, seconds: float = READY_SECONDS) -> None:
    """Return once the server answers; SetupError when it stopped or stays silent."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise SetupError(f"ComfyUI stopped at its start:\n{server.log_text()[-4000:]}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(f"{server.address}/system_stats", timeout=5) as answer:
                json.load(answer)
            return
        time.sleep(0.2)
    raise SetupError(f"ComfyUI did not answer within {seconds:.0f} s:\n{server.log_text()[-4000:]}")


def stop_server(server: Server) -> None:
    """End the server, politely first."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGINT if os.name != "nt" else signal.SIGTERM)
        try:
            server.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


@contextlib.contextmanager
def running_server(base: Path, options: Sequence[str] = ("--cpu",)) -> Iterator[Server]:
    """A ready server on a free port, its output in ``base``/server.log; stopped at the end."""
    base.mkdir(parents=True, exist_ok=True)
    server = start_server(base, free_port(), base / "server.log", options)
    try:
        wait_until_ready(server)
        yield server
    finally:
        stop_server(server)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def has_cuda() -> bool:
    """Whether the environment's torch sees a CUDA device."""
    command = [str(interpreter()), "-c", "import torch; print(torch.cuda.is_available())"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "True"


def _link_pack(link: Path) -> None:
    if link.exists():
        return
    try:
        link.symlink_to(ROOT, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        ignored = shutil.ignore_patterns(".*", "out", "__pycache__", "build", "dist")
        shutil.copytree(ROOT, link, ignore=ignored)


def main() -> int:
    """Serve the editor until Ctrl+C."""
    parser = argparse.ArgumentParser(description="The real ComfyUI with this pack in it, on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--base", type=Path, default=BASE, help="folder for models, inputs and outputs")
    arguments = parser.parse_args()
    try:
        options = [] if has_cuda() else ["--cpu"]
        server = start_server(arguments.base, arguments.port, options=options)
        try:
            wait_until_ready(server)
            print(f"\nOpen {server.address} in a browser: Templates → Extensions → {PACK_FOLDER}.")
            print(f"Models belong into {arguments.base / 'models'}, results lie in {arguments.base / 'output'}.")
            print("Ctrl+C stops the server.", flush=True)
            return server.process.wait()
        finally:
            stop_server(server)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
