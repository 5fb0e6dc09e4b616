"""What a video model is trained on, and its losses.

Mean squared error of the velocity and nothing else: no face mask, no identity loss (paper, section 3.4); on request the
latents' channels count by how much of the picture they make (``by_picture``), the tokens halfway through the layers
must tell which spot of the head they show and how it differs from the mean head's (``surface``), and what a prediction
implies must look right to a network that reads drawn heads (``perceptual``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..errors import InputError
from ..identity.branches import Branches
from ..video.identity_context import IdentityContext
from ..video.schedule import NOISE_SCHEDULE
from ..video.size import rotary_table
from .latent_reader import LatentReader, load_latent_reader, perceptual_distance
from .latents import SURFACE
from .loop import Batch, Losses
from .surface_head import AfterBlocks, SurfaceHead

if TYPE_CHECKING:
    from ..model import FantasyIDModel

StageName = Literal["text", "identity"]


@dataclass(frozen=True)
class VideoOptions:
    """stage: "text" or "identity". multi_view: references from the collection and from elsewhere; else the clip's first
    frame. elsewhere: share of the references that are other pictures. noises: how many noise levels each clip is
    seen at per step. pictures: share of steps on single latent frames. noisier: timesteps are 1000 · u^(1/noisier); 1 =
    all as often (the paper's way), above 1 those where identity and layout are decided come more often.
    text_dropout: the paper's 10 %. identity_dropout, reference_dropout: share of the samples without the tokens, and
    without the reference picture. nobody_dropout: share of them, besides, without both, with which reference guidance
    compares. shape_noise: deviation of what is added to half of the heads, because a fit to a
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
    nobody_dropout: float = 0.0
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
            "samples without anybody": self.nobody_dropout,
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
