"""Stages 1b and 2: text to video, then the identity branch, by the paper's recipe.

The losses are in video_objective.py. Stage 1 ("text") sees no reference and no identity. Stage 2 ("identity") draws
each sample's reference from the multi-view collection; text is dropped for 10 % of the samples, the identity and the
reference picture each for some more, so that text guidance and identity guidance work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..arrays import FloatArray
from ..errors import InputError
from ..video.skip_layers import OFF, SkipLayers
from .arrays import draws
from .latents import COLLECTED, ELSEWHERE, FIRST, SURFACE, EncodedClips
from .loop import Batch
from .video_objective import VideoObjective, VideoOptions, channel_weights

if TYPE_CHECKING:
    from ..model import FantasyIDModel

_WEIGHED = 16  #: first frames by which the channels are weighed
_REFERENCE = (("reference", "latents"), ("crops", "crops"))  #: in a batch, and behind "reference_" in the clips


@dataclass(frozen=True, eq=False)
class Shown:
    """What a sampled video gets of its person, and how strongly. pictures: which of those from elsewhere, the first of
    them the reference. combine: of their 2D tokens, a name of identity/fusions.py. vertices: [N, V, 3] head-frame
    metres of every clip's person, None = the heads at rest. guidance_scale (of the prompt), identity_guidance,
    reference_guidance, skip_layers: see video/sample.py.
    """

    pictures: tuple[int, ...] = (0,)
    combine: str = "reference"
    vertices: FloatArray | None = None
    guidance_scale: float = 3.0
    identity_guidance: float = 0.0
    reference_guidance: float = 0.0
    skip_layers: SkipLayers = OFF


_USUAL = Shown()  #: one picture, the head at rest, no identity guidance


class VideoStage:
    """Samples out of encoded clips, drawn by seed and step alone. shown: how many clips a sample sheet shows."""

    def __init__(
        self,
        model: FantasyIDModel,
        clips: EncodedClips,
        options: VideoOptions,
        batch: int,
        seed: int = 0,
        shown: int = 6,
    ) -> None:
        self.model, self.clips, self.options, self.batch, self.seed = model, clips, options, batch, seed
        self.shown = min(shown, len(clips))
        if batch % options.noises:
            raise InputError(f"The batch of {batch} must hold every clip {options.noises} times; choose a multiple.")
        if options.surface and SURFACE not in clips.arrays:
            raise InputError(
                "These latents do not say what they show of the head; make them anew, or leave out --surface."
            )
        kinds = clips.arrays["reference_kinds"][0]
        self._places = {kind: np.flatnonzero(kinds == kind) for kind in (FIRST, COLLECTED, ELSEWHERE)}
        self._ids = np.concatenate([self._words(caption) for caption in clips.captions])
        self._no_ids = self._words("")[0]
        weights = None
        if options.by_picture:
            weights = channel_weights(model, clips.arrays["latents"][:_WEIGHED, 0], options.by_picture)
        self.module: nn.Module = VideoObjective(model, options, weights)

    def settings(self) -> dict[str, Any]:
        """The architecture and the stage."""
        from dataclasses import asdict

        facts = {"config": asdict(self.model.config), "stage": self.options.stage, "branches": self.options.branches}
        return facts | ({"surface": True} if self.options.surface else {})

    def batches(self, step: int, rank: int, world: int) -> Iterator[Batch]:
        """See :class:`loop.Stage`."""
        arrays, options = self.clips.arrays, self.options
        for _, draw in draws(len(self.clips), self.batch // options.noises, step, self.seed, rank, world):
            random, chosen = draw.random, draw.indices
            frames = 1 if random.random() < options.pictures else arrays["latents"].shape[1]
            drop = random.random((3, self.batch)) < np.array(
                [[options.text_dropout], [options.identity_dropout], [options.reference_dropout]]
            )
            ids = self._ids[np.repeat(chosen, options.noises)]
            surface = {SURFACE: arrays[SURFACE][chosen, :frames]} if options.surface else {}
            made = {
                "latents": arrays["latents"][chosen, :frames],
                "timestep": (1000 * random.random(self.batch) ** (1 / options.noisier)).astype(np.int64),
                "text": np.where(drop[0][:, None], self._no_ids, ids),
                **surface,
            }
            seed = int(random.integers(0, 2**62))
            if options.stage == "identity":
                place = self._reference_places(random, len(chosen))
                made |= {name: arrays[f"reference_{array}"][chosen, place] for name, array in _REFERENCE}
                made |= self._heads(random, chosen)
                nobody = random.random(self.batch) < options.nobody_dropout  # drawn last: the rest stays as it was
                made |= {"shows_identity": (~(drop[1] | nobody)).astype(np.float32)}
                made |= {"shows_reference": (~(drop[2] | nobody)).astype(np.float32)}
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in made.items()}
            yield tensors | {"noise_seed": seed}

    def _words(self, caption: str) -> npt.NDArray[np.int64]:
        """Token numbers [1, L]."""
        tokens = cast(Any, self.model.text).tokenizer(
            caption,
            padding="max_length",
            max_length=self.model.config.transformer.text_length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        return np.asarray(tokens.input_ids)

    def _reference_places(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Which reference each clip gets [count]."""
        if not self.options.multi_view:
            return np.full(count, self._places[FIRST][0])
        collected = random.choice(self._places[COLLECTED], count)
        if not len(self._places[ELSEWHERE]):
            return collected
        other = random.choice(self._places[ELSEWHERE], count)
        return np.where(random.random(count) < self.options.elsewhere, other, collected)

    def _heads(self, random: np.random.Generator, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Heads at rest [B, V, 3]; half of them are to be moved a little towards another person's."""
        vertices, count = self.clips.arrays["vertices"], len(chosen)
        error = self.options.shape_noise * np.abs(random.standard_normal(count)) * (random.random(count) < 0.5)
        other = vertices[random.integers(0, len(vertices), count)]
        return {"vertices": vertices[chosen], "other_vertices": other, "shape_error": error.astype(np.float32)}

    def sheet(self, module: nn.Module, path: Path) -> None:
        """Videos for the first people and prompts of the data, beside the reference that was given."""
        from .sheets import write_rows

        shown = [(index, self.clips.captions[index]) for index in range(self.shown)]
        rows = zip(shown, self.sampled(module, shown), strict=True)
        write_rows(path, [np.concatenate([self.reference(i)[None], video[::4]]) for (i, _), video in rows])

    def reference(self, index: int) -> FloatArray:
        """The picture [S, S, 3] RGB 0..1 that a video of clip ``index``'s person is made from: one from elsewhere."""
        crop = self.clips.arrays["reference_crops"][index, self._shown_place()]
        return np.asarray(crop.astype(np.float32) / 255, np.float32)

    def _shown_place(self, picture: int = 0) -> int:
        places = self._places[ELSEWHERE if len(self._places[ELSEWHERE]) else COLLECTED]
        return int(places[picture])

    def sampled(
        self,
        module: nn.Module,
        wanted: Sequence[tuple[int, str]],
        steps: int = 16,
        shown: Shown = _USUAL,
    ) -> Iterator[FloatArray]:
        """Frames [T, S, S, 3] RGB 0..1 for each (clip whose person it shall be, prompt)."""
        from ..video.sample import Conditions, SamplingOptions, sample
        from ..video.vae import decode_latents

        objective, arrays = cast(VideoObjective, module), self.clips.arrays
        device, place = objective.transformer.device, self._shown_place(shown.pictures[0])
        for number, (index, prompt) in enumerate(wanted):
            latents = torch.zeros(1, *arrays["latents"].shape[1:])
            context = None
            if self.options.stage == "identity":
                latents[0, 0] = torch.from_numpy(arrays["reference_latents"][index, place].astype(np.float32))
                context = objective.transformer.prepare_identity(self._tokens(objective, index, shown))
            ids = (torch.from_numpy(self._words(text)).to(device) for text in (prompt, ""))
            positive, negative = (objective.text_encoder(some)[0] for some in ids)
            conditions = Conditions(positive, negative, latents.to(device), context)
            options = SamplingOptions(
                steps=steps,
                guidance_scale=shown.guidance_scale,
                identity_guidance=shown.identity_guidance,
                reference_guidance=shown.reference_guidance,
                skip_layers=shown.skip_layers,
            )
            clean = sample(objective.transformer, conditions, options, torch.Generator().manual_seed(number))
            assert self.model.vae is not None
            yield decode_latents(self.model.vae, clean.float())

    def _tokens(self, objective: VideoObjective, index: int, shown: Shown) -> torch.Tensor:
        """The identity tokens [T, C] of clip ``index``'s person."""
        from ..identity.fusions import fusion

        encoder, branches = objective.identity_encoder, self.options.branches
        places = [self._shown_place(picture) for picture in shown.pictures]
        crops = torch.from_numpy(self.clips.arrays["reference_crops"][index, places]).to(encoder.device)
        pictures = crops.permute(0, 3, 1, 2).float() / 255  # (k, 3, S, S)
        faces = fusion(shown.combine).fuse(
            lambda view: encoder.face_tokens(pictures[view : view + 1])[0], np.ones(len(places), np.float32)
        )
        if branches == "2D only":
            return faces
        heads = self.clips.arrays["vertices"] if shown.vertices is None else shown.vertices
        head = torch.from_numpy(heads[index].astype(np.float32)).to(encoder.device)
        read = faces[None, : encoder.config.face_abstractor.tokens] if branches == "2D + 3D" else None
        depth = encoder.vertex_tokens(head[None], read)[0]
        return depth if read is None else torch.cat([faces, depth])

    def export(self, module: nn.Module, folder: Path) -> None:
        """The whole model as one file (weights/mini_file.py)."""
        from ..weights.mini_file import save_mini

        save_mini(self.model, folder / "mini.safetensors")


def starting_model(start: Path | None, vae: Path | None, seed: int, renew: bool = False) -> FantasyIDModel:
    """The mini to train: a finished run's, of its own configuration, or a new one around the VAE of the latents.

    renew: a finished run's weights in a new mini's configuration, around the VAE if one is named.
    """
    from dataclasses import replace

    from ..model import new_mini
    from ..weights.mini_file import load_mini
    from .renew import renewed
    from .train_vae import load_vae_folder

    if renew and start is None:
        raise InputError("Name the finished run whose weights are to be renewed (--start).")
    frozen = None if vae is None else load_vae_folder(vae).requires_grad_(False).eval()
    if start is not None:
        return renewed(load_mini(start), frozen, seed) if renew else load_mini(start)
    if frozen is None:
        raise InputError("Name the VAE that made the latents (--vae), or a finished run to go on from (--start).")
    return replace(new_mini(seed), vae=frozen)
