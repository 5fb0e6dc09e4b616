"""A stand-in for a graphics card (card.cpp): a device with a memory of its own, counted and limited, on any machine.

It changes torch for good, so use it in a process of its own.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sysconfig
from pathlib import Path

import torch

SOURCE = Path(__file__).with_suffix(".cpp")
ROOM = 10**12  #: as good as unlimited


class Card:
    """The device, and how full it is, in bytes."""

    def __init__(self, folder: Path) -> None:
        self._library = ctypes.CDLL(str(built(folder)))
        for name in ("card_now", "card_most"):
            getattr(self._library, name).restype = ctypes.c_size_t
        torch.utils.rename_privateuse1_backend("card")
        torch._register_device_module("card", _Module)
        self.open()
        self.device = torch.device("card", 0)

    def open(self, size: int = ROOM) -> None:
        """Let it have ``size`` bytes from now on; :attr:`most` starts anew."""
        self._library.card_open(ctypes.c_size_t(size))

    @property
    def now(self) -> int:
        """Bytes that are taken."""
        return int(self._library.card_now())

    @property
    def most(self) -> int:
        """The most that were taken since it was opened."""
        return int(self._library.card_most())


class _Module:
    """What torch asks a device's module for."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """It draws no numbers of its own."""


def built(folder: Path) -> Path:
    """The library in ``folder``, compiled if it is not there for this source and this torch (half a minute)."""
    torch_folder = Path(torch.__file__).parent
    name = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    library = folder / f"card-{name}.so"
    if not library.is_file():
        part = library.with_suffix(f".{os.getpid()}")
        include = [f"-I{torch_folder / 'include'}", f"-I{sysconfig.get_paths()['include']}"]
        links = [f"-L{torch_folder / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch_folder / 'lib'}"]
        options = ["-std=c++20", "-O0", "-w", "-fPIC", "-shared"]
        subprocess.run(["g++", *options, *include, str(SOURCE), "-o", str(part), *links], check=True)
        part.replace(library)
    return library
