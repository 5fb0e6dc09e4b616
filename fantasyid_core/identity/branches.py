"""Which of the two branches make identity tokens."""

from __future__ import annotations

from typing import Literal, get_args

from ..errors import InputError

Branches = Literal["2D + 3D", "2D only", "3D only"]  #: the default first; the paper ablates both of the others
BRANCHES: tuple[Branches, ...] = get_args(Branches)


def checked_branches(name: str) -> Branches:
    """``name`` if it is one of BRANCHES, else InputError."""
    for branches in BRANCHES:
        if branches == name:
            return branches
    raise InputError(f"There are no identity branches called '{name}'; choose one of: {', '.join(BRANCHES)}.")
