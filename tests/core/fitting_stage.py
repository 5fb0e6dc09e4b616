"""A stage that fits a small network to known numbers: to test the training loop, alone and in several processes.

In double precision, so that the order of a sum cannot be mistaken for an error: AdamW's first steps divide a gradient
by itself and show every rounding.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fantasyid_core.training.arrays import draws
from fantasyid_core.training.loop import Batch, Losses, RunOptions, run
from fantasyid_core.training.sheets import write_rows

SAMPLES = 24


class Objective(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1)).double()

    def forward(self, batch: Batch) -> Losses:
        return {"loss": (self.net(batch["x"]) - batch["y"]).square().mean()}


class FittingStage:
    def __init__(
        self, width: int = 8, scale: float = 1.0, before_batch: Callable[[int], None] = lambda step: None
    ) -> None:
        self.width, self.before_batch = width, before_batch
        self.module: nn.Module = Objective(width)
        self.x = torch.from_numpy(np.random.default_rng(5).normal(size=(SAMPLES, 3)))
        self.y = scale * self.x.sum(dim=1, keepdim=True)

    def settings(self) -> dict[str, Any]:
        return {"width": self.width}

    def batches(self, step: int, rank: int, world: int) -> Iterator[Batch]:
        for number, draw in draws(SAMPLES, int(self.batch), step, 0, rank, world):
            self.before_batch(number)
            yield {"x": self.x[draw.indices], "y": self.y[draw.indices]}

    batch = 4

    def sheet(self, module: nn.Module, path: Path) -> None:
        write_rows(path, [np.zeros((2, 8, 8, 3), np.float32)])

    def export(self, module: nn.Module, folder: Path) -> None:
        torch.save(module.net[0].weight.detach().clone(), folder / "weights.pt")


if __name__ == "__main__":
    out, steps, batch = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    stage = FittingStage()
    stage.batch = batch
    run(stage, RunOptions(out, steps, batch, 1e-2, 1, "constant"))
