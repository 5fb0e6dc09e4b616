"""The point clouds of the release: a binary .ply of FLAME's vertices, without faces (release.md §5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..arrays import FloatArray
from ..errors import InputError
from .geometry import FaceGeometry
from .hierarchy import MeshHierarchy

_TYPES = {"double": "f8", "float64": "f8", "float": "f4", "float32": "f4", "uchar": "u1", "uint8": "u1", "char": "i1"}
_TYPES |= {"int8": "i1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4"}
_TYPES |= {"uint": "u4", "uint32": "u4"}
_HEADER_LIMIT = 1 << 16


def write_point_cloud(geometry: FaceGeometry, path: Path) -> None:
    """Write the vertices as the release does: binary little-endian doubles, in metres, vertex order kept."""
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(geometry.vertices)}\n"
    header += "".join(f"property double {axis}\n" for axis in "xyz") + "end_header\n"
    path.write_bytes(header.encode("ascii") + geometry.vertices.astype("<f8").tobytes())


def read_point_cloud(path: Path) -> FloatArray:
    """[V, 3] positions of a .ply file (binary or text; further properties and faces are passed over).

    Raises InputError when it is no .ply, is truncated, or holds values that are not numbers.
    """
    data = path.read_bytes()
    lines, start = _header(data, path.name)
    count, names, types = _vertex_element(lines, path.name)
    form = next((line.split()[1] for line in lines if line.startswith("format ")), "")
    if form == "ascii":
        values = _text_values(data[start:], count, len(names), path.name)
        table = {name: values[:, column] for column, name in enumerate(names)}
    else:
        order = "<" if form == "binary_little_endian" else ">"
        kind = np.dtype([(name, order + type_) for name, type_ in zip(names, types, strict=True)])
        if len(data) - start < count * kind.itemsize:
            raise InputError(f"{path.name} is truncated: it promises {count} points; export it again.")
        rows = np.frombuffer(data, dtype=kind, count=count, offset=start)
        table = {name: rows[name] for name in names}
    points = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float32)
    if not np.isfinite(points).all():
        raise InputError(f"{path.name} holds positions that are not numbers (NaN or infinity); export it again.")
    return points


def point_cloud_geometry(path: Path, hierarchy: MeshHierarchy) -> FaceGeometry:
    """A release-style point cloud as geometry: its vertices with the hierarchy's triangles and topology.

    Raises InputError when the number of points is not the topology's, or the hierarchy has no triangles.
    """
    points = read_point_cloud(path)
    expected = hierarchy.level_sizes[0]
    if len(points) != expected:
        raise InputError(
            f"{path.name} has {len(points)} points, but {hierarchy.topology} has {expected} in a fixed order; "
            "write the cloud with DECA/FLAME, or open it as a free mesh."
        )
    if hierarchy.triangles is None:
        raise InputError(f"The {hierarchy.topology} hierarchy has no triangles; convert transform.pkl again.")
    return FaceGeometry(points, hierarchy.triangles, hierarchy.topology, source=f"point cloud {path.name}")


def _header(data: bytes, file: str) -> tuple[list[str], int]:
    end = data.find(b"end_header", 0, _HEADER_LIMIT)
    start = data.find(b"\n", end) + 1
    if not data.startswith(b"ply") or end < 0 or start == 0:
        raise InputError(f"{file} is no .ply file; export the mesh again.")
    return [" ".join(line.split()) for line in data[:end].decode("latin-1").splitlines()], start


def _vertex_element(lines: list[str], file: str) -> tuple[int, list[str], list[str]]:
    """Count, names and types of the vertex element, which must be the first."""
    at = next((i for i, line in enumerate(lines) if line.startswith("element ")), len(lines))
    words = lines[at].split() if at < len(lines) else []
    rows: list[list[str]] = []
    for line in lines[at + 1 :]:
        if line.startswith("element "):
            break
        if line.startswith("property "):
            rows.append(line.split())
    names, types = [row[-1] for row in rows], [_TYPES.get(row[1], "") for row in rows]
    if len(words) != 3 or words[1] != "vertex" or not words[2].isdigit() or not {"x", "y", "z"} <= set(names):
        raise InputError(f"{file} does not start with vertices that have x, y and z; export it again.")
    if "" in types or len(set(names)) != len(names):
        raise InputError(f"{file} gives its vertices properties that cannot be read; export plain positions.")
    return int(words[2]), names, types


def _text_values(text: bytes, count: int, columns: int, file: str) -> FloatArray:
    """[count, columns] from lines of numbers."""
    rows = text.decode("latin-1").split("\n")[:count]
    try:
        values: FloatArray = np.array([[float(word) for word in row.split()] for row in rows])
    except ValueError as error:
        raise InputError(f"{file} holds points that are no numbers; export it again.") from error
    if values.shape != (count, columns):
        raise InputError(f"{file} is truncated: it promises {count} points; export it again.")
    return values
