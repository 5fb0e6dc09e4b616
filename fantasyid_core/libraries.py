"""Which distributions are installed, and which of them overwrite each other."""

from __future__ import annotations

from importlib import metadata

#: packages that fill the same import: only one of each group may be installed.
CLASHES: tuple[tuple[str, ...], ...] = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-silicon"),
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)


def installed_version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def clash(package: str) -> str:
    """The clause that names what overwrites ``package`` here and how to mend it; "" when nothing does."""
    group = next((group for group in CLASHES if package in group), ())
    present = [name for name in group if installed_version(name)]
    if len(present) < 2:
        return ""
    return f"{' and '.join(present)} overwrite each other: uninstall all of them, then install the one you want"
