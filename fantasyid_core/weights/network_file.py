"""Small networks of our own as .safetensors files in 16 bits, marked in the header with what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from ..errors import CheckpointError, MissingFileError
from .writing import beside


@dataclass(frozen=True)
class NetworkFile:
    """One kind of file. format: what its header says. what: it is called in sentences. missing, damaged: what to do
    then. made_by: the command that makes one."""

    format: str
    what: str
    missing: str
    damaged: str
    made_by: str

    def save(self, network: nn.Module, path: Path) -> None:
        """Write it in halves, beside its place first."""
        from safetensors.torch import save_file

        state = {key: value.detach().cpu().contiguous().half() for key, value in network.state_dict().items()}
        with beside(path) as part:
            save_file(state, part, {"format": self.format})

    def read(self, path: Path) -> dict[str, torch.Tensor]:
        """The weights in ``path`` as float32. Raises MissingFileError where there is no file, CheckpointError for a
        damaged one or one of another kind."""
        if not path.is_file():
            raise MissingFileError(f"There is no {self.what} at {path}; {self.missing}.")
        try:
            with safe_open(path, framework="pt") as file:
                ours = (file.metadata() or {}).get("format") == self.format
                state = {key: file.get_tensor(key).float() for key in file.keys()} if ours else {}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name} is damaged ({error}); {self.damaged}.") from error
        if not ours:
            raise CheckpointError(f"{path.name} is no {self.what}; `{self.made_by}` makes one.")
        return state

    def fill(self, network: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
        """Give ``network`` the weights read from ``path`` and freeze it for inference. Raises CheckpointError when they
        are of another size."""
        try:
            network.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise CheckpointError(f"{path.name} is a {self.what} of another size.") from error
        network.eval().requires_grad_(False)
