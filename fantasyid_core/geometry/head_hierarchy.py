"""The mesh levels of our own licence-free head, which ship with the pack (3202 → 800 → 200 vertices)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..errors import MissingFileError
from .hierarchy import MeshHierarchy, load_hierarchy

HEAD_HIERARCHY_FILE = Path(__file__).parent.parent / "assets" / "head_hierarchy.safetensors"


@lru_cache(maxsize=1)
def load_head_hierarchy() -> MeshHierarchy:
    """The levels of ``HEAD_TOPOLOGY``, made by tools/build_head_hierarchy.py; MissingFileError when they are absent."""
    if not HEAD_HIERARCHY_FILE.is_file():
        raise MissingFileError(
            f"{HEAD_HIERARCHY_FILE.name} (250 kB, CC0) is missing from {HEAD_HIERARCHY_FILE.parent}; install again."
        )
    return load_hierarchy(HEAD_HIERARCHY_FILE)
