"""Stages 1b and 2: text to video, then the identity branch, by the paper's recipe.

Mean squared error of the velocity and nothing else: no face mask, no identity loss (paper, section 3.4); on request the
latents' channels count by how much of the picture they make (``by_picture``), the tokens halfway through the layers
must tell which spot of the head they show and how it differs from the mean head's (``surface``), and what a prediction
implies must look right to a network that reads drawn heads (``perceptual``). Stage 1
("text") sees no reference and no identity. Stage 2 ("identity") draws each sample's reference from the multi-view
collection; text is dropped for 10 % of the samples, the identity and the reference picture each for some more, so that
text guidance and identity guidance work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..arrays import FloatArray
from ..errors import InputError
from ..identity.branches import Branches
from ..video.identity_context import IdentityContext
from ..video.schedule import NOISE_SCHEDULE
from ..video.size import rotary_table
from .arrays import draws
from .latent_reader import LatentReader, load_latent_reader, perceptual_distance
from .latents import COLLECTED, ELSEWHERE, FIRST, SURFACE, EncodedClips
from .loop import Batch, Losses
from .surface_head import AfterBlocks, SurfaceHead

if TYPE_CHECKING:
    from ..model import FantasyIDModel

StageName = Literal["text", "identity"]
_WEIGHED = 16  #: first frames by which the channels are weighed
_REFERENCE = (("reference", "latents"), ("crops", "crops"))  #: in a batch, and behind "reference_" in the clips


@dataclass(frozen=True)
class VideoOptions:
    """stage: "text" or "identity". multi_view: references from the collection and from elsewhere; else the clip's first
    frame. elsewhere: share of the references that are other pictures. noises: how many noise levels each clip is
    seen at per step. pictures: share of steps on single latent frames. noisier: timesteps are 1000 · u^(1/noisier); 1 =
    all as often (the paper's way), above 1 those where identity and layout are decided come more often.
    text_dropout: the paper's 10 %. shape_noise: deviation of what is added to half of the heads, because a fit to a
    photograph errs too, in metres. by_picture: the error of a latent channel counts by how much it changes the picture
    (in squared pixels), to this power; 0 = all alike, the paper's way, which fits an autoencoder of equal channels.
    surface: weight of what the tokens halfway must tell of the head (surface_head.py); 0 = nothing, the paper's way.
    perceptual: weight of the clean latents' distance in features of the network in the file ``reader``
    (latent_reader.py); 0 = none, the paper's way.
    """

    stage: StageName = "identity"
    branches: Branches = "2D + 3D"
    multi_view: bool = True
    elsewhere: float = 0.5
    noises: int = 2
    pictures: float = 0.3
    noisier: float = 1.0
    text_dropout: float = 0.1
    identity_dropout: float = 0.1
    reference_dropout: float = 0.1
    shape_noise: float = 0.0015
    by_picture: float = 0.0
    surface: float = 0.0
    perceptual: float = 0.0
    reader: Path | None = None
    train_backbone: bool = True

    def __post_init__(self) -> None:
        if self.stage not in ("text", "identity"):
            raise InputError(f"There is no video stage '{self.stage}'; choose text or identity.")
        if self.noises < 1:
            raise InputError(f"Each clip must be seen at one noise level at least, not {self.noises}.")
        shares = {
            "references from elsewhere": self.elsewhere,
            "steps on pictures": self.pictures,
            "samples without the reference picture": self.reference_dropout,
        }
        for name, share in shares.items():
            if not 0.0 <= share <= 1.0:
                raise InputError(f"The share of {name} must lie between 0 and 1, not {share:g}.")
        if not self.noisier > 0:
            raise InputError(f"The preference for noisy timesteps must be above 0 (1 = none), not {self.noisier:g}.")
        if not 0.0 <= self.by_picture <= 1.0:
            raise InputError(f"The power of the channels' weights must lie between 0 and 1, not {self.by_picture:g}.")
        if not self.surface >= 0:
            raise InputError(f"The weight of the surface's loss must be 0 or more, not {self.surface:g}.")
        if not self.perceptual >= 0:
            raise InputError(f"The weight of the perceptual loss must be 0 or more, not {self.perceptual:g}.")
        if self.perceptual and self.reader is None:
            raise InputError("The perceptual loss wants a network to see with; name that of `train reader` (--reader).")


@dataclass(frozen=True, eq=False)
class Shown:
    """What a sampled video gets of its person, and how strongly. pictures: which of those from elsewhere, the first of
    them the reference. combine: of their 2D tokens, a name of identity/fusions.py. vertices: [N, V, 3] head-frame
    metres of every clip's person, None = the heads at rest. identity_guidance: see video/sample.py.
    """

    pictures: tuple[int, ...] = (0,)
    combine: str = "reference"
    vertices: FloatArray | None = None
    identity_guidance: float = 0.0


_USUAL = Shown()  #: one picture, the head at rest, no identity guidance


@dataclass(frozen=True, eq=False)
class Predicted:
    """clean, noisy: latents [B, F, C, H, W]. velocity: the right answer, made: the transformer's. alpha:
    [B, 1, 1, 1, 1] the share of ``clean`` in ``noisy``'s variance."""

    clean: torch.Tensor
    noisy: torch.Tensor
    velocity: torch.Tensor
    made: torch.Tensor
    alpha: torch.Tensor

    def errors(self) -> torch.Tensor:
        """[F, C] mean squared error of the velocity."""
        return (self.made - self.velocity).square().mean(dim=(0, 3, 4))

    def implied(self) -> torch.Tensor:
        """[B, F, C, H, W] the clean latents, were the answer right."""
        return self.alpha.sqrt() * self.noisy - (1 - self.alpha).sqrt() * self.made


class VideoObjective(nn.Module):
    """The velocity's mean squared error on encoded clips."""

    def __init__(self, model: FantasyIDModel, options: VideoOptions, weights: torch.Tensor | None = None) -> None:
        """weights: [C] of the latents' channels, mean 1; None = all alike."""
        super().__init__()
        from diffusers import CogVideoXDPMScheduler

        if model.text is None:
            raise InputError("This model has no text encoder, so it cannot be trained on captions.")
        self.options, self.config = options, model.config
        self.transformer, self.identity_encoder = model.transformer, model.identity_encoder
        self.text_encoder = model.text.encoder
        alphas = CogVideoXDPMScheduler.from_config(dict(NOISE_SCHEDULE)).alphas_cumprod
        self.register_buffer("alphas", alphas.float(), persistent=False)
        alike = torch.ones(model.config.transformer.latent_channels)
        self.register_buffer("weights", alike if weights is None else weights, persistent=False)
        self._tables: dict[tuple[int, int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self.surface_head = SurfaceHead(model.config.transformer.width) if options.surface else None
        reader = load_latent_reader(options.reader) if options.perceptual and options.reader is not None else None
        if reader is not None and reader.channels != model.config.transformer.latent_channels:
            raise InputError(
                f"The latent reader reads {reader.channels} channels, and the model has "
                f"{model.config.transformer.latent_channels}; train one on these latents (`train reader`)."
            )
        self._readers = [reader]  # hidden from state dicts: it does not train
        self._choose_what_trains()

    def _choose_what_trains(self) -> None:
        identity = self.options.stage == "identity"
        for module in (self.transformer, self.text_encoder):
            module.requires_grad_(self.options.train_backbone or not identity)
        self.identity_encoder.requires_grad_(identity)
        for name, parameter in self.transformer.named_parameters():
            if ".layer_attention." in name or ".layer_block." in name:
                parameter.requires_grad_(identity)
        unread = [self.identity_encoder.vertex_spiral_net, self.identity_encoder.vertex_reducer]
        if identity and self.options.branches == "2D only":
            for module in unread:
                module.requires_grad_(False)

    def forward(self, batch: Batch) -> Losses:
        """Batch as :meth:`VideoStage.batches` makes it → loss."""
        halfway = AfterBlocks(self.config.transformer.layers // 2) if self.surface_head is not None else None
        found = self._predicted(batch, halfway)
        velocity = (found.errors().mean(dim=0) * self.get_buffer("weights")).mean()
        parts: Losses = {"velocity": velocity}
        loss = velocity
        if self.surface_head is not None and halfway is not None:
            true = batch[SURFACE].float().repeat_interleave(self.options.noises, dim=0)
            told: Losses = self.surface_head(halfway.kept, true)
            loss = loss + self.options.surface * torch.stack([*told.values()]).sum()
            parts |= told
        if self._readers[0] is not None:
            parts["perceptual"] = self._perceptual(self._readers[0].to(loss.device), found, batch["timestep"])
            loss = loss + self.options.perceptual * parts["perceptual"]
        return {"loss": loss} | (parts if len(parts) > 1 else {})

    def error_by_frame(self, batch: Batch) -> torch.Tensor:
        """[F] mean squared error of the velocity in each latent frame."""
        return self._predicted(batch).errors().mean(dim=1)

    @staticmethod
    def _perceptual(reader: LatentReader, found: Predicted, timestep: torch.Tensor) -> torch.Tensor:
        """How far the implied clean latents are from the true ones to the reader's eyes. The noisier, the less it
        counts: there the mean of many videos is the right answer, and it looks like none of them."""
        made, true = (some.flatten(0, 1) for some in (found.implied(), found.clean))  # (B·F, C, H, W)
        distance = perceptual_distance(reader, made, true).view(len(timestep), -1).mean(dim=1)
        return (distance * (1 - (timestep / 1000).square())).mean()

    def _predicted(self, batch: Batch, cache: AfterBlocks | None = None) -> Predicted:
        """What the transformer makes of the batch. cache: keeps the tokens that the surface head reads."""
        noises = self.options.noises
        clean = batch["latents"].float().repeat_interleave(noises, dim=0)  # (B, F, C, H, W)
        noise = _drawn(clean, batch["noise_seed"])
        alpha = self.get_buffer("alphas")[batch["timestep"]].view(-1, 1, 1, 1, 1)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        reference = torch.zeros_like(clean)
        if self.options.stage == "identity":
            shown = batch["reference"].float().repeat_interleave(noises, dim=0)
            reference[:, 0] = shown * batch["shows_reference"].view(-1, 1, 1, 1)
        text = self.text_encoder(batch["text"])[0]  # (B, L, D)
        with _quick_backward(clean.device):
            made = self.transformer(
                hidden_states=torch.cat([noisy, reference], dim=2),
                encoder_hidden_states=text,
                timestep=batch["timestep"],
                image_rotary_emb=self._rotary(clean),
                identity=self._identity(batch, clean.shape),
                cache=cache,
                return_dict=False,
            )[0]
        return Predicted(clean, noisy, velocity, made.float(), alpha)

    def _identity(self, batch: Batch, shape: torch.Size) -> IdentityContext | None:
        if self.options.stage == "text":
            return None
        crops = batch["crops"].permute(0, 3, 1, 2).float() / 255
        vertices = _erring(batch["vertices"].float(), batch["other_vertices"].float(), batch["shape_error"])
        tokens = self.identity_encoder(crops, vertices, self.options.branches)
        patch = self.config.transformer.patch_size
        rows = shape[1] * (shape[3] // patch) * (shape[4] // patch)
        region = batch["shows_identity"].view(-1, 1).expand(-1, rows)
        noises = self.options.noises  # every noise level of a clip sees the same keys and values
        keys_values = self.transformer.prepare_identity(tokens).keys_values
        repeated = tuple(
            (k.repeat_interleave(noises, dim=0), v.repeat_interleave(noises, dim=0)) for k, v in keys_values
        )
        return IdentityContext(repeated, region=region)

    def _rotary(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The positions of a latent grid; each size is computed once."""
        frames, _, height, width = latents.shape[1:]
        if (frames, height, width) not in self._tables:
            self._tables[frames, height, width] = rotary_table(self.config, frames, height, width, latents.device)
        return self._tables[frames, height, width]


def _quick_backward(device: torch.device) -> AbstractContextManager[object]:
    """On a CPU the gradient of fused attention is slow: attention by plain products makes a step a seventh shorter."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _drawn(like: torch.Tensor, seed: int) -> torch.Tensor:
    """Unit noise of ``seed``, made on the device that it is wanted on."""
    generator = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=generator, device=like.device)


def _erring(own: torch.Tensor, other: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Heads [B, V, 3], each moved towards ``other``'s until it errs by ``error`` [B] metres, as a fit errs."""
    way = other - own
    size = way.square().mean(dim=(1, 2), keepdim=True).sqrt() + 1e-9
    return own + way / size * error.view(-1, 1, 1)


@torch.no_grad()
def channel_weights(model: FantasyIDModel, latents: npt.NDArray[np.float16], power: float) -> torch.Tensor:
    """[C] weights of mean 1: how much of the picture each channel of ``latents`` [N, C, H, W] makes, to ``power``.

    An autoencoder whose latents are nearly white (the mini's) gives a face's outline and the last 100th of its pixels
    channels of the same size. Measured by moving each channel by half a deviation at random and decoding.
    """
    from ..video.vae import decode_latents

    assert model.vae is not None
    generator, vae = torch.Generator().manual_seed(0), model.vae
    shown = torch.from_numpy(latents.astype(np.float32))[:, None]  # (N, 1, C, H, W)
    moved = 0.5 * torch.randn(shown[:, :, 0].shape, generator=generator)
    right = [decode_latents(vae, one[None].to(vae.device)) for one in shown]
    changes = []
    for channel in range(shown.shape[2]):
        other = shown.clone()
        other[:, :, channel] += moved
        made = [decode_latents(vae, one[None].to(vae.device)) for one in other]
        changes.append(np.mean([np.square(a - b).mean() for a, b in zip(made, right, strict=True)]))
    weights = torch.tensor(changes, dtype=torch.float32) ** power
    return weights / weights.mean()


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
                made |= {"shows_identity": (~drop[1]).astype(np.float32)}
                made |= {"shows_reference": (~drop[2]).astype(np.float32)}
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
        guidance: float = 3.0,
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
            options = SamplingOptions(steps=steps, guidance_scale=guidance, identity_guidance=shown.identity_guidance)
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
