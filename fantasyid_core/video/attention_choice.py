"""Which attention backends may be chosen, and which of them run here; found out without importing any.

FlashAttention-3 in fp8 and SageAttention 1 are not among them, because they are reported to ruin the videos of this
family. Nor is anything that diffusers would download at run time (its names that end in "_hub").
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

import torch

from ..errors import InputError, MissingLibraryError


@dataclass(frozen=True)
class AttentionChoice:
    """backend: diffusers' name, None = leave it as it is. module, package, least: what must be installed, and from
    which version on. card: whether it needs an NVIDIA card."""

    about: str
    backend: str | None
    module: str = ""
    package: str = ""
    least: tuple[int, ...] = ()
    card: bool = True


ATTENTIONS: Mapping[str, AttentionChoice] = MappingProxyType(
    {
        "auto": AttentionChoice("what the model or diffusers is set to; torch's own by default", None, card=False),
        "torch": AttentionChoice("torch chooses among its own kernels", "native", card=False),
        "torch flash": AttentionChoice("torch's FlashAttention", "_native_flash"),
        "torch cudnn": AttentionChoice("NVIDIA's cuDNN through torch; often the fastest on H100", "_native_cudnn"),
        "flash-attn 2": AttentionChoice(
            "the flash-attn package", "flash", module="flash_attn", package="flash-attn", least=(2, 6, 3)
        ),
        "flash-attn 3": AttentionChoice(
            "FlashAttention 3 in 16 bits, for H100", "_flash_3", module="flash_attn_interface", package="flash-attn-3"
        ),
        "sage 2": AttentionChoice(
            "SageAttention 2, 8-bit: the one quantised attention that keeps this family's videos",
            "sage",
            module="sageattention",
            package="sageattention",
            least=(2, 1, 1),
        ),
    }
)


def available_attentions() -> tuple[str, ...]:
    """The names of ATTENTIONS that run here."""
    return tuple(name for name, choice in ATTENTIONS.items() if not _missing(choice))


def require_attention(name: str) -> None:
    """Raise InputError for an unknown backend and MissingLibraryError for one that cannot run here."""
    if name not in ATTENTIONS:
        offered = ", ".join(available_attentions())
        raise InputError(f"There is no attention backend '{name}' to choose here; take one of: {offered}.")
    lacking = _missing(ATTENTIONS[name])
    if lacking:
        raise MissingLibraryError(f"The attention backend '{name}' needs {lacking}; install it, or choose 'auto'.")


def _missing(choice: AttentionChoice) -> str:
    """What stands in the way, or ""."""
    if choice.card and not torch.cuda.is_available():
        return "an NVIDIA card"
    if choice.module and importlib.util.find_spec(choice.module) is None:
        return f"the package {choice.package}"
    if choice.least and _version(choice.package) < choice.least:
        return f"{choice.package} {'.'.join(map(str, choice.least))} or newer"
    return ""


def _version(package: str) -> tuple[int, ...]:
    """The leading numbers of an installed package's version; () when it is unknown."""
    try:
        parts = version(package).split("+")[0].split(".")
    except PackageNotFoundError:
        return ()
    return tuple(int(part) for part in parts if part.isdigit())
