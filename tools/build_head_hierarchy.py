"""Builds the mesh levels of our own head: ``python tools/build_head_hierarchy.py [OUT.safetensors]``.

Needs only the head that ships with the pack. A quarter of the vertices stays on each level, most of them where faces
differ: near MediaPipe's 468 landmarks. The same input gives the same bytes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fantasyid_core.geometry.decimate import build_hierarchy
from fantasyid_core.geometry.head import HeadModel, load_head
from fantasyid_core.geometry.head_hierarchy import HEAD_HIERARCHY_FILE
from fantasyid_core.geometry.hierarchy import MeshHierarchy, save_hierarchy
from fantasyid_core.geometry.registration import small_parts
from fantasyid_core.geometry.surface import Doubles

FACE_REACH = 0.02  # metres around the landmarks
FACE_IMPORTANCE, EYEBALL_IMPORTANCE = 20.0, 0.2


def importance(head: HeadModel) -> Doubles:
    """[V] how dear an error is: high on the face, low on the eyeballs, 1 elsewhere."""
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(head.landmarks(head.base)).query(head.base)
    weight = 1.0 + FACE_IMPORTANCE * np.exp(-((distance / FACE_REACH) ** 2))
    return np.where(small_parts(head.triangles, len(head.base)) > 0, EYEBALL_IMPORTANCE, weight)


def levels(head: HeadModel) -> MeshHierarchy:
    """V, V / 4 and V / 16 vertices, without the mean mesh (the head has it)."""
    count = len(head.base)
    sizes = (round(count / 4), round(count / 16))
    hierarchy = build_hierarchy(head.base, head.triangles, sizes, head.topology, importance(head))
    return replace(hierarchy, template=None, triangles=None)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HEAD_HIERARCHY_FILE
    hierarchy = levels(load_head())
    save_hierarchy(hierarchy, target)
    print(f"{target}: {' → '.join(map(str, hierarchy.level_sizes))} vertices, {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
