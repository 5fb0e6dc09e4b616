"""Talk to a running ComfyUI as its editor does: HTTP for prompts and files, a websocket for what happens meanwhile.

Needs the package websocket-client (in `.venv-comfyui`).
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FINAL_EVENTS = ("execution_success", "execution_error", "execution_interrupted")
PREVIEW_KINDS = (1, 4)  #: binary websocket messages that carry a picture
TEXT_KIND = 3  #: those that carry the text on a node

Prompt = Mapping[str, Mapping[str, Any]]  #: node id → {"class_type", "inputs"}


class RejectedPromptError(RuntimeError):
    """The server refused a prompt before running it (HTTP 400)."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer))
        self.answer = answer

    def details(self) -> list[str]:
        """Every validation message, as the artist reads it."""
        nodes = self.answer.get("node_errors") or {}
        return [error["details"] for node in nodes.values() for error in node["errors"]]


@dataclass
class Run:
    """What one queued prompt did. previews: the raw bytes of each preview picture. texts: node id, what stood on it."""

    prompt_id: str
    events: list[dict[str, Any]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The data of every event of one type, in order."""
        return [event["data"] for event in self.events if event["type"] == kind]

    def steps_of(self, node: str) -> list[int]:
        """Each step that ``node`` reported, in order: once each, however often the moving preview drew it."""
        said = (re.search(r"Step (\d+) of \d+", text) for at, text in self.texts if at == node)
        return [int(match[1]) for match in said if match]

    @property
    def ended(self) -> str:
        """The last event's type: execution_success, execution_error or execution_interrupted."""
        return str(self.events[-1]["type"])

    @property
    def error(self) -> str:
        """The message that the artist reads, "" when there was none."""
        return "".join(data["exception_message"] for data in self.of_type("execution_error")).strip()


class Client:
    """One client of one server."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client_id = uuid.uuid4().hex

    def get(self, path: str) -> Any:
        """The JSON at ``path``."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """What lies at ``path``."""
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return bytes(answer.read())

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST ``body`` as JSON; RejectedPromptError for HTTP 400."""
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 400:
                raise RejectedPromptError(json.loads(error.read())) from error
            raise
        return json.loads(text) if text else None

    def view(self, result: Mapping[str, str]) -> bytes:
        """The file of one history result {"filename", "subfolder", "type"}."""
        query = urllib.parse.urlencode({key: result[key] for key in ("filename", "subfolder", "type")})
        return self.get_bytes(f"/view?{query}")

    def interrupt(self) -> None:
        """Cancel what runs, as the editor's button does."""
        self.post("/interrupt", {})

    def run(
        self, prompt: Prompt, timeout: float = 600.0, on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> Run:
        """Queue ``prompt``, follow it to its end and fetch its outputs from the history.

        ``on_event`` sees every event of the prompt as it arrives. TimeoutError when it does not end in time.
        """
        import websocket

        url = self.address.replace("http", "ws", 1) + f"/ws?clientId={self.client_id}"
        socket = websocket.create_connection(url, timeout=timeout)
        try:
            start = time.monotonic()
            answer = self.post("/prompt", {"prompt": prompt, "client_id": self.client_id})
            run = Run(answer["prompt_id"])
            while not run.events or run.ended not in FINAL_EVENTS:
                if time.monotonic() - start > timeout:
                    raise TimeoutError(f"The prompt did not end within {timeout:.0f} s.")
                _take(run, socket.recv(), on_event)
            run.seconds = time.monotonic() - start
        finally:
            socket.close()
        run.outputs = self._history(run.prompt_id)["outputs"]
        return run

    def _history(self, prompt_id: str, seconds: float = 10.0) -> dict[str, Any]:
        """What the history keeps of a prompt. It is written a moment after the prompt's last event."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            kept = self.get(f"/history/{prompt_id}")
            if prompt_id in kept:
                return dict(kept[prompt_id])
            time.sleep(0.05)
        raise TimeoutError(f"The history does not hold the prompt {prompt_id}.")


def _take(run: Run, message: str | bytes, on_event: Callable[[dict[str, Any]], None] | None) -> None:
    if isinstance(message, bytes):
        kind = int.from_bytes(message[:4], "big")
        if kind in PREVIEW_KINDS:
            run.previews.append(message)
        elif kind == TEXT_KIND:
            end = 8 + int.from_bytes(message[4:8], "big")
            run.texts.append((message[8:end].decode(), message[end:].decode()))
        return
    event = json.loads(message)
    if event.get("data", {}).get("prompt_id") == run.prompt_id:
        run.events.append(event)
        if on_event is not None:
            on_event(event)
