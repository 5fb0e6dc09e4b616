"""The network that reads drawn heads for the metrics (evaluation/head_network.py), from synthetic clips.

Nothing that trains a video looks at it. A batch holds people seen three times each: one frame of their clip and two of
their pictures from elsewhere, so that light, clothes, background, side and face differ. Losses: a supervised contrast
of the identity embeddings (Khosla et al. 2020), the person's looks regressed from them, the head's shape coefficients,
the pose and three expressions regressed, and a contrast of the regressed shape with the true heads of the batch: with
another picture as its counterpart it would learn whatever two pictures have in common, glasses before all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import InputError
from ..evaluation.head_network import (
    ANGLE,
    EXPRESSIONS,
    IDENTITY,
    SHAPE,
    SIDE,
    HeadNetwork,
    save_head_network,
    small_colours,
)
from ..geometry.head import load_head
from .arrays import Arrays, draws, load_arrays
from .loop import Batch, Losses
from .shards import dataset_shards
from .spoil import moved, recoloured_grey, spoiled, tinted

if TYPE_CHECKING:
    from ..video.vae import VideoAutoencoder

FILE = "synthetic_heads.safetensors"
NAMES = (
    "frames", "references", "shape", "identity", "angles", "expression", "reference_angles", "reference_expression",
    "person",
)  # fmt: skip
TAKES = 3  #: pictures of a person in a batch: one frame and two from elsewhere
LOOKS_WEIGHT, SHAPE_WEIGHT, MOTION_WEIGHT, GEOMETRY_WEIGHT = 1.0, 5.0, 5.0, 4.0
FACE_STRETCH = 4.0  #: of expressions in the loss: they vary by a quarter, angles / ANGLE by about 1
WARMEST = 30.0  #: of the contrasts' scales (the inverse of their temperature)


class EmbedderObjective(nn.Module):
    """Batches of :class:`EmbedderStage` → losses. ``vae`` may be None: then no picture passes an autoencoder."""

    def __init__(self, looks: npt.NDArray[np.float32], vae: VideoAutoencoder | None) -> None:
        """looks: [people, L], for their mean and deviation."""
        super().__init__()
        self.network = HeadNetwork()
        self.looks_out = nn.Linear(IDENTITY, looks.shape[1])
        self.scales = nn.Parameter(torch.tensor([10.0, 10.0]).log())
        self.register_buffer("looks_mean", torch.from_numpy(looks.mean(axis=0)), persistent=False)
        self.register_buffer("looks_spread", torch.from_numpy(looks.std(axis=0) + 1e-3), persistent=False)
        reach = np.sqrt(np.square(load_head().shape_basis[:SHAPE]).sum(axis=(1, 2)))
        self.register_buffer("reach", torch.from_numpy((reach / reach.mean()).astype(np.float32)), persistent=False)
        stretch = torch.tensor([1.0] * 3 + [FACE_STRETCH] * len(EXPRESSIONS))
        self.register_buffer("stretch", stretch, persistent=False)
        self._vae = [vae]  # hidden from state dicts: it does not train

    def forward(self, batch: Batch) -> Losses:
        """Batch: "pictures" [B, S, S, 3] bytes, "person" [B], "shape" [B, SHAPE], "looks" [B, L], "motion" [B, 6],
        "noise_seed" → loss and its parts."""
        grey, colour = self._seen(batch["pictures"], batch["noise_seed"])
        made = self.network.read(grey, colour)
        scales = self.scales.exp().clamp(max=WARMEST)
        same = batch["person"][:, None] == batch["person"][None]
        itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
        identity = contrast(made.identity * scales[0], made.identity, same, itself)
        heads = self.network.geometry_of(batch["shape"])
        geometry = contrast(made.geometry * scales[1], heads, same, same & ~itself)
        shape = ((made.shape - batch["shape"]).square() * self.get_buffer("reach")).mean()
        motion = torch.cat([made.angles / ANGLE, made.expression], dim=1)
        moving = F.smooth_l1_loss(motion * self.get_buffer("stretch"), batch["motion"] * self.get_buffer("stretch"))
        wanted = (batch["looks"] - self.get_buffer("looks_mean")) / self.get_buffer("looks_spread")
        looks = F.smooth_l1_loss(self.looks_out(made.identity * 3), wanted)
        loss = identity + LOOKS_WEIGHT * looks + SHAPE_WEIGHT * shape + MOTION_WEIGHT * moving
        parts = {"identity": identity, "geometry": geometry, "shape": shape, "motion": moving, "looks": looks}
        return {"loss": loss + GEOMETRY_WEIGHT * geometry, **parts}

    @torch.no_grad()
    def _seen(self, pictures: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator(pictures.device).manual_seed(seed)
        clean = moved(pictures.permute(0, 3, 1, 2).float() / 255, generator)
        worse = spoiled(clean, generator, self._vae[0])
        grey = recoloured_grey(worse, generator)
        return grey.contiguous(memory_format=torch.channels_last), small_colours(tinted(worse, generator))


def contrast(queries: torch.Tensor, keys: torch.Tensor, same: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """How surprising, to each of the queries [B, D], its fellows (``same`` [B, B]) among the keys [B, D] are, the
    ``hidden`` ones [B, B] left out; the mean of -log p."""
    scores = (queries @ keys.T).masked_fill(hidden, float("-inf"))
    fellows = same & ~hidden
    surprise = -(scores.log_softmax(dim=1).masked_fill(~fellows, 0.0)).sum(dim=1)
    return (surprise / fellows.sum(dim=1).clamp(min=1)).mean()


class EmbedderStage:
    """Pictures out of the shards in ``data``; batch: of pictures, TAKES for each person. vae: for round trips."""

    def __init__(
        self, data: Path, batch: int, seed: int = 0, vae: VideoAutoencoder | None = None, shards: int | None = None
    ) -> None:
        if batch % TAKES or batch < 2 * TAKES:
            raise InputError(f"The batch of {batch} must hold two people or more {TAKES} times; choose a multiple.")
        self.arrays = _checked(load_arrays(dataset_shards(data)[:shards], NAMES), data)
        self.batch, self.seed = batch, seed
        self._looks = np.ascontiguousarray(self.arrays["identity"][:, self.arrays["shape"].shape[1] :])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            objective = EmbedderObjective(self._looks, vae)
        self.module: nn.Module = objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def settings(self) -> dict[str, Any]:
        """What the network reads."""
        return {"identity": IDENTITY, "shape": SHAPE, "expressions": list(EXPRESSIONS), "looks": self._looks.shape[1]}

    def batches(self, step: int, rank: int, world: int) -> Iterator[Batch]:
        """See :class:`loop.Stage`."""
        arrays = self.arrays
        clips, references = arrays["frames"].shape[1], arrays["references"].shape[1]
        for _, draw in draws(len(arrays["frames"]), self.batch // TAKES, step, self.seed, rank, world):
            chosen, random = draw.indices, draw.random
            when = random.integers(0, clips, len(chosen))
            which = np.argsort(random.random((len(chosen), references)), axis=1)[:, : TAKES - 1].T
            parts = [_taken(arrays, "frames", "", chosen, when)]
            parts += [_taken(arrays, "references", "reference_", chosen, place) for place in which]
            pictures, motion = (np.concatenate(some) for some in zip(*parts, strict=True))
            people = np.tile(chosen, TAKES)
            made = {
                "pictures": pictures,
                "motion": motion,
                "person": arrays["person"][people],
                "shape": arrays["shape"][people, :SHAPE],
                "looks": self._looks[people],
            }
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in made.items()}
            yield tensors | {"noise_seed": int(random.integers(0, 2**62))}

    def sheet(self, module: nn.Module, path: Path) -> None:
        """What one batch looks like to the network: above in colour, below in grey."""
        from .sheets import write_rows

        batch = next(self.batches(0, 0, 1))
        grey, colour = cast(EmbedderObjective, module)._seen(batch["pictures"][: 8 * TAKES], 0)
        flat = grey.sub(grey.amin(dim=(2, 3), keepdim=True))
        greys = (flat / flat.amax(dim=(2, 3), keepdim=True)).expand(-1, 3, -1, -1)
        rows = [F.interpolate(colour, (SIDE, SIDE)), greys]
        write_rows(path, [row.permute(0, 2, 3, 1).contiguous().numpy() for row in rows])

    def export(self, module: nn.Module, folder: Path) -> None:
        """The network alone."""
        save_head_network(cast(EmbedderObjective, module).network, folder / FILE)


def motion_targets(angles: npt.NDArray[np.float32], expression: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[..., 3] degrees and [..., 52] ARKit weights → [..., 6] as the network has them: angles / ANGLE, EXPRESSIONS."""
    names = load_head().expression_names
    columns = [[n for n, name in enumerate(names) if name.removesuffix("Left").removesuffix("Right") == wanted]
               for wanted in EXPRESSIONS]  # fmt: skip
    faces = [expression[..., column].mean(axis=-1) for column in columns]
    return np.concatenate([angles / ANGLE, np.stack(faces, axis=-1)], axis=-1).astype(np.float32)


def _taken(
    arrays: Arrays, pictures: str, prefix: str, people: npt.NDArray[Any], places: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """One picture of each of the ``people``, and how it moves."""
    angles, expression = (arrays[f"{prefix}{name}"][people, places] for name in ("angles", "expression"))
    return arrays[pictures][people, places], motion_targets(angles, expression)


def _checked(arrays: Arrays, data: Path) -> Arrays:
    for name in ("frames", "references"):
        if arrays[name].shape[2:4] != (SIDE, SIDE):
            raise InputError(
                f"The {name} in {data} have a side of {arrays[name].shape[2]} pixels, but the network reads {SIDE}; "
                f"make the clips with --size {SIDE}."
            )
    if arrays["references"].shape[1] < TAKES - 1:
        raise InputError(
            f"The clips in {data} have {arrays['references'].shape[1]} references, too few for {TAKES - 1}; "
            "make them with --references."
        )
    return arrays
