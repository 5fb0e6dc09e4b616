"""The golden numbers of the three-step pipeline: random draws, every step, the frames (golden README, i)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..arrays import FloatArray
from ..video.identity_context import IdentityContext
from ..video.sample import Conditions, SamplingOptions, sample
from ..video.schedule import DpmSampler
from ..video.transformer import LayerAdaptiveTransformer3DModel
from ..video.vae import decode_latents, encode_reference, reference_pixels
from ..weights.golden_rule import tensor_input
from .check import Array
from .golden import Golden, read_arrays
from .models import golden_config, golden_transformer, golden_vae

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

#: The fourth room's tokens of the golden face, [1, 115, 2048], as computed in the given dtype.
TokensOf = Callable[[torch.dtype], torch.Tensor]
Numbers = Iterator[tuple[str, torch.Tensor]]


def pipeline_image(arrays: Mapping[str, Array], golden: Golden) -> Array:
    """[64, 64, 3] RGB 0..1, the pipeline's reference crop: of this file, or of the one it may be borrowed from."""
    pixels = arrays.get("image_uint8")
    if pixels is None:
        pixels = read_arrays(golden.support_file("pipeline.safetensors"))["image_uint8"]
    return pixels.astype(np.float32) / np.float32(255)


@torch.no_grad()
def pipeline_numbers(tokens_of: TokensOf, image: FloatArray, wanted: Collection[str] | None = None) -> Numbers:
    """pipeline.safetensors (golden README, i). image: the file's ``image_uint8`` as [64, 64, 3] RGB 0..1.

    wanted: without a key that starts with "dynamic_cfg." or "no_cfg." those runs are left out; None = all.
    """
    model, vae = golden_transformer(golden_config()), golden_vae()
    identity = model.prepare_identity(tokens_of(torch.float32))
    options = SamplingOptions(steps=3, guidance_scale=6.0)
    yield from _pipeline_inputs(vae, image)
    recorder = _PipelineRecorder(model, vae, image, identity)
    yield from recorder.run(options, "")
    variants = {
        "dynamic_cfg.": replace(options, dynamic_guidance=True),
        "no_cfg.": replace(options, guidance_scale=1.0),
    }
    for prefix, variant in variants.items():
        if wanted is None or any(key.startswith(prefix) for key in wanted):
            yield from recorder.run(variant, prefix)


def _pipeline_inputs(vae: AutoencoderKLCogVideoX, image: FloatArray) -> Numbers:
    """The noise schedule, the conditioning picture, its posterior, and the random draws in the release's order."""
    yield "alphas_cumprod", DpmSampler(3).alphas_cumprod.float()
    pixels = reference_pixels(image, 64, 96, "stretch")
    yield "preprocessed_image", pixels
    posterior = vae.encode(pixels[:, :, None]).latent_dist
    yield "vae_mean", posterior.mean
    yield "vae_std", posterior.std
    generator = torch.Generator().manual_seed(42)
    torch.randn(posterior.mean.shape, generator=generator)
    for draw, name in enumerate(["latents"] + ["scheduler"] * 4):
        yield f"draw{draw}.{name}", torch.randn((1, 3, 16, 8, 12), generator=generator)


class _PipelineRecorder:
    """Runs the three-step pipeline and keeps what the golden file names."""

    def __init__(
        self,
        model: LayerAdaptiveTransformer3DModel,
        vae: AutoencoderKLCogVideoX,
        image: FloatArray,
        identity: IdentityContext,
    ) -> None:
        self.model, self.vae, self.image, self.identity = model, vae, image, identity
        self.prompt = tensor_input("pipeline.prompt", (1, 226, 4096), 0.2)
        self.negative = tensor_input("pipeline.negative", (1, 226, 4096), 0.2)

    def run(self, options: SamplingOptions, prefix: str) -> Numbers:
        """One whole run, from the reference crop to the frames."""
        generator = torch.Generator().manual_seed(42)
        reference = encode_reference(self.vae, self.image, 9, 64, 96, generator, fit="stretch")
        calls: list[tuple[torch.Tensor, torch.Tensor]] = []
        handle = self.model.register_forward_hook(
            lambda _module, _args, kwargs, output: calls.append((kwargs["hidden_states"], output[0])), with_kwargs=True
        )
        conditions = Conditions(self.prompt, self.negative, reference, self.identity)
        final = sample(self.model, conditions, options, generator)
        handle.remove()
        for step, (model_input, output) in enumerate(calls):
            yield f"{prefix}step{step}.model_input", model_input
            yield f"{prefix}step{step}.model_output", output
            after = calls[step + 1][0][:1, :, :16] if step + 1 < len(calls) else final
            yield f"{prefix}step{step}.latents", after
        yield f"{prefix}latents_final", final
        frames = torch.from_numpy(np.ascontiguousarray(decode_latents(self.vae, final)))
        yield f"{prefix}frames_pt", frames.permute(0, 3, 1, 2)[None]  # (1, F, 3, H, W)
