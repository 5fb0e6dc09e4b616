"""Differences between ComfyUI versions, in one place: what an older core does not know is left away."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from comfy_api.latest import io

CATEGORY = "FantasyID"

Port = TypeVar("Port", bound=io.Input)


def call_with_known(function: Callable[..., Any], /, *positional: Any, **named: Any) -> Any:
    """Call ``function`` without the keyword arguments that it does not have."""
    parameters = inspect.signature(function).parameters
    return function(*positional, **{name: value for name, value in named.items() if name in parameters})


def with_facts(port: Port, **facts: Any) -> Port:
    """``port`` with more in its definition, for the pack's own scripts; a core that has no room for them leaves it."""
    if hasattr(port, "extra_dict"):
        port.extra_dict = {**port.extra_dict, **facts}
    return port


def schema(**named: Any) -> io.Schema:
    """``io.Schema`` in this pack's category; ``search_aliases`` only where the core has them."""
    return call_with_known(io.Schema, category=CATEGORY, **named)
