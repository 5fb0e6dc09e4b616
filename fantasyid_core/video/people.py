"""Several people in one video: who they are, and which part of the frame is whose.

Each person's identity tokens reach the video tokens of their own region only. The model's other way of knowing a face,
the reference picture at latent frame 0, exists once: there every person's crop stands in the middle of the person's
region, on the grey that also surrounds a single letterboxed crop, so that the model sees each face where it belongs.
One person who has the whole frame gives exactly what the same identity gives alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F

from ..arrays import FloatArray, checked_array
from ..config import ModelConfig
from ..errors import InputError
from ..identity.identity import Identity
from ..images import NEUTRAL_GREY
from .identity_context import IdentityContext
from .people_context import PeopleContext
from .strength import LayerStrength
from .vae import reference_pixels

AUTO = "auto"  #: everybody with this region gets an equal strip of the frame, from left to right
#: Vertical strips of the frame by name: left and right edge as fractions of the width.
STRIPS: dict[str, tuple[float, float]] = {
    "whole frame": (0.0, 1.0),
    "left half": (0.0, 1 / 2),
    "right half": (1 / 2, 1.0),
    "left third": (0.0, 1 / 3),
    "middle third": (1 / 3, 2 / 3),
    "right third": (2 / 3, 1.0),
}
REGIONS = (AUTO, *STRIPS)


class PreparesIdentity(Protocol):
    """The transformer, or what an editor puts around it."""

    model_config: ModelConfig

    def prepare_identity(self, tokens: torch.Tensor) -> IdentityContext:
        """Identity tokens [T, I] → every layer's keys and values."""
        ...


@dataclass(frozen=True, eq=False)
class Person:
    """One of several people.

    region: a name of REGIONS, or a mask [M, H, W] of levels 0..1 in any size and proportion (it is stretched to the
    frame), with one picture for all frames or several that are spread over the video. strength: of this person alone.
    """

    identity: Identity
    region: FloatArray | str = AUTO
    strength: LayerStrength = field(default_factory=LayerStrength)

    def __post_init__(self) -> None:
        if isinstance(self.region, str):
            if self.region not in REGIONS:
                raise InputError(f"There is no region called '{self.region}'; choose one of: {', '.join(REGIONS)}.")
            return
        mask = checked_array("A person's mask", self.region, (None, None, None))
        if mask.min() < 0.0 or mask.max() > 1.0 or mask.max() == 0.0:
            raise InputError(
                "A person's mask must have levels from 0 to 1 and not be empty; paint where the person is."
            )
        object.__setattr__(self, "region", mask)

    @property
    def is_automatic(self) -> bool:
        """Whether the region is one of the equal strips."""
        return isinstance(self.region, str) and self.region == AUTO


@dataclass(frozen=True, eq=False)
class People:
    """Everybody in one video, in the order of their automatic regions (from left to right); at least one person."""

    persons: tuple[Person, ...]

    def __post_init__(self) -> None:
        if not self.persons:
            raise InputError("There is nobody in this group of people; add a person.")

    @property
    def identities(self) -> tuple[Identity, ...]:
        """Who they are."""
        return tuple(person.identity for person in self.persons)

    def and_(self, person: Person) -> People:
        """The same people and one more, who stands behind the others in the order."""
        return People((*self.persons, person))


def as_people(someone: Identity | People) -> People:
    """One identity as a group of one, who has the whole frame."""
    return someone if isinstance(someone, People) else People((Person(someone),))


def region_maps(people: People, frames: int, rows: int, columns: int) -> torch.Tensor:
    """How much of each cell of a grid is whose: [P, frames, rows, columns] float32, 0..1.

    Where regions overlap, they share: the levels of everybody there are divided by their sum, so that no cell takes
    more identity than one person alone would give it. Disjoint regions are left as they are.
    """
    grid, automatic, maps = (frames, rows, columns), [p.is_automatic for p in people.persons], []
    for index, person in enumerate(people.persons):
        maps.append(_map(person, (sum(automatic[:index]), sum(automatic)), grid))
    stacked = torch.stack(maps)
    return stacked / stacked.sum(dim=0, keepdim=True).clamp(min=1.0)


def people_pixels(people: People, height: int, width: int) -> torch.Tensor:
    """The reference picture [1, 3, height, width] -1..1 of all of them (see the head of this file).

    Each crop is fitted, in its identity's own way, into the smallest box around the person's region (the cells at half
    its level or more) in the first frame. Where boxes overlap, a pixel belongs to whose region is stronger there.
    """
    maps = region_maps(people, 1, height, width)[:, 0]  # (P, H, W)
    page = (torch.tensor(NEUTRAL_GREY) / 255 * 2 - 1).reshape(1, 3, 1, 1).repeat(1, 1, height, width)
    owned = torch.full((height, width), -1.0)  # the level of whoever has the pixel so far
    for level, identity in zip(maps, people.identities, strict=True):
        box = _box(level)
        if box is None:
            continue  # not in the first frame
        top, bottom, left, right = box
        crop = reference_pixels(identity.reference, bottom - top, right - left, identity.reference_fit)
        here = level[top:bottom, left:right]
        wins = here > owned[top:bottom, left:right]
        page[:, :, top:bottom, left:right] = torch.where(wins, crop, page[:, :, top:bottom, left:right])
        owned[top:bottom, left:right] = torch.where(wins, here, owned[top:bottom, left:right])
    return page


def prepare_people(
    model: PreparesIdentity,
    people: People,
    latents: tuple[int, int, int],
    device: torch.device | str,
    dtype: torch.dtype,
) -> PeopleContext:
    """Everybody's keys, values and regions for latents of (frames, height, width), on ``device``."""
    patch = model.model_config.transformer.patch_size
    frames, height, width = latents
    maps = region_maps(people, frames, height // patch, width // patch).flatten(1).to(device)  # (P, N)
    contexts = []
    for identity, level in zip(people.identities, maps, strict=True):
        region = None if bool((level == 1.0).all()) else level[None]
        contexts.append(model.prepare_identity(identity.tokens.to(device, dtype)).with_region(region))
    return PeopleContext(tuple(contexts), tuple(person.strength for person in people.persons))


def _map(person: Person, place: tuple[int, int], grid: tuple[int, int, int]) -> torch.Tensor:
    """One person's levels [frames, rows, columns], before sharing; ``place``: which automatic strip, of how many."""
    frames, rows, columns = grid
    if not isinstance(person.region, str):
        mask = torch.from_numpy(person.region.copy())[None, None]  # (1, 1, M, H, W)
        if mask.shape[2] == 1:
            return F.interpolate(mask[:, :, 0], (rows, columns), mode="area")[0].expand(frames, -1, -1)
        return F.interpolate(mask, grid, mode="area")[0, 0]
    if person.is_automatic:
        left, right = place[0] / place[1], (place[0] + 1) / place[1]
    else:
        left, right = STRIPS[person.region]
    edges = torch.arange(columns + 1, dtype=torch.float64)
    covered = edges[1:].clamp(max=right * columns) - edges[:-1].clamp(min=left * columns)  # of each column, 0..1
    return covered.clamp(min=0.0).float().expand(frames, rows, columns)


def _box(level: torch.Tensor) -> tuple[int, int, int, int] | None:
    """Top, bottom, left, right of the cells of [H, W] with at least half the highest level; None when all are 0."""
    if level.max() <= 0.0:
        return None
    rows, columns = torch.nonzero(level >= level.max() / 2, as_tuple=True)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
