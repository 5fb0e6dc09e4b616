"""How much memory a generation takes at its highest, phase by phase, foretold before anything is loaded.

Counted from what the code holds at once, and held against it by ``python -m benchmarks.memory`` and the tests: see
docs/memory.md for how near it comes. The figures are of a device's memory; nothing here imports diffusers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..config import ModelConfig
from ..weights.model_files import readable_size
from .memory_presets import MEMORY_PRESETS, ROWS_AT_ONCE, MemoryPreset

if TYPE_CHECKING:
    import torch

    from ..model import FantasyIDModel

#: A card's driver, its matrix library and the gaps of its allocator. An assumption: no card was there to measure it.
RESERVE = 800_000_000

_AT_ONCE = 7  # tensors of all tokens in a block at its fullest: input, normalised, query, key, value, attended, output
_BESIDE_FEED_FORWARD = (4, 5)  # the same beside the hidden rows of a feed-forward: in one piece, in slices
_BESIDE_ROTARY = 5  # the same while query or key is turned: input, normalised, query, key, joined or value
_TURNED = (3.5, 4)  # float32 tensors of the rows that are turned at once: of half-precision rows, of float32 rows
_HIDDEN = 8  # a feed-forward's hidden rows, in widths: 4 before the GELU and 4 behind it
_STREAMED = 2  # blocks on the device while they are streamed: one that runs, one that comes
_T5_ROWS, _T5_HEAD = 10.5, 64  # tensors of all text tokens at once in a T5 block; the width of its heads
_SPIRAL_MAPS = 3.3  # tensors of the finest level's gathered spirals at once in the vertex network
_ENCODED = 21  # maps of the first width at full resolution while the VAE encodes a picture
_PATCHED = 53  # values per pixel and frame while the mini's VAE decodes


@dataclass(frozen=True)
class PartSizes:
    """Bytes of each part's weights and buffers as they are kept in memory. block: of the transformer's largest block,
    of which there are ``blocks``; text_block: the same of the text encoder, with its word table."""

    text: int
    text_block: int
    identity: int
    transformer: int
    block: int
    blocks: int
    vae: int

    @property
    def all(self) -> int:
        """Of all four parts together."""
        return self.text + self.identity + self.transformer + self.vae

    @property
    def streamed(self) -> int:
        """Of the transformer while its blocks come and go."""
        return self.transformer - (self.blocks - min(_STREAMED, self.blocks)) * self.block


#: The public checkpoint in bfloat16 with T5-XXL. A test holds it against the modules.
RELEASE_SIZES = PartSizes(
    text=9_524_621_312,
    text_block=1_034_989_568,
    identity=649_522_564,
    transformer=13_012_642_944,
    block=306_358_784,
    blocks=42,
    vae=431_167_814,
)


@dataclass(frozen=True)
class DecoderShape:
    """A VAE, as far as memory goes. channels: CogVideoX's widths, full resolution first; () for the mini's VAE."""

    channels: tuple[int, ...] = (128, 256, 256, 512)
    layers: int = 3


@dataclass(frozen=True)
class Video:
    """What is to be made, in pixels. guided: with a negative prompt. itemsize: bytes of a number."""

    frames: int
    height: int
    width: int
    guided: bool = True
    itemsize: int = 2


@dataclass(frozen=True)
class Phase:
    """One stretch of the way. weights: bytes that lie on the device. work: bytes beside them, at their most."""

    name: str
    weights: int
    work: int

    @property
    def total(self) -> int:
        """Both, with what the card keeps for itself."""
        return self.weights + self.work + RESERVE


@dataclass(frozen=True)
class MemoryPlan:
    """What a preset needs for one video."""

    preset: MemoryPreset
    phases: tuple[Phase, ...]

    @property
    def highest(self) -> Phase:
        """The phase that decides whether it fits."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def peak(self) -> int:
        """Bytes of device memory at the highest."""
        return self.highest.total


def memory_plan(
    config: ModelConfig, sizes: PartSizes, decoder: DecoderShape, video: Video, preset: MemoryPreset
) -> MemoryPlan:
    """What ``video`` needs of the device's memory under ``preset``, phase by phase."""
    dit = config.transformer
    latent = ((video.frames - 1) // dit.temporal_compression + 1, video.height // 8, video.width // 8)
    branches = 2 if video.guided and preset.negative == "batched" else 1
    streaming = preset.offload == "blocks"
    work = {
        "text": (sizes.text_block if streaming else sizes.text, text_work(config, video.itemsize)),
        "identity": (sizes.identity, identity_work(config)),
        "reference": (sizes.vae, encoding_work(decoder, *latent[1:], video.itemsize)),
        "denoising": (
            sizes.streamed if streaming else sizes.transformer,
            denoising_work(config, latent, branches, video.itemsize, preset.rows) + sampler_work(config, latent),
        ),
        "decoding": (sizes.vae, decoding_work(decoder, *latent, video.itemsize, preset.tile)),
    }
    everything = preset.offload == "none"
    return MemoryPlan(
        preset,
        tuple(Phase(name, sizes.all if everything else weights, most) for name, (weights, most) in work.items()),
    )


def memory_plans(config: ModelConfig, sizes: PartSizes, decoder: DecoderShape, video: Video) -> list[MemoryPlan]:
    """One plan per preset, the most generous first."""
    return [memory_plan(config, sizes, decoder, video, preset) for preset in MEMORY_PRESETS]


def release_plans(config: ModelConfig, frames: int = 49, height: int = 480, width: int = 720) -> list[MemoryPlan]:
    """The plans of the public checkpoint in bfloat16, which need not be there. config: ``RELEASE``."""
    return memory_plans(config, RELEASE_SIZES, DecoderShape(), Video(frames, height, width))


def chosen_plan(plans: list[MemoryPlan], free: int) -> MemoryPlan:
    """The first of ``plans`` that fits into ``free`` bytes; the last when none does."""
    return next((plan for plan in plans if plan.peak <= free), plans[-1])


def outlook(plans: list[MemoryPlan], video: Video, free: int) -> str:
    """What ``video`` will take of a device with ``free`` bytes, in a sentence. free: 0 = it runs in main memory."""
    what = f"{video.frames} frames of {video.width}×{video.height}"
    if not free:
        whole = plans[0].highest
        return f"{what} take {readable_size(whole.weights + whole.work)} of memory."  # a line on the mini's loader
    plan = chosen_plan(plans, free)
    needed = f"{what} take about {readable_size(plan.peak)} at the highest, {plan.highest.name} (calculated)"
    if plan.peak > free:
        return f"{needed}, more than the {readable_size(free)} that are free: make the video smaller or shorter."
    return f"{needed}, and {readable_size(free)} are free: {plan.preset}."


def denoising_work(
    config: ModelConfig, latent: tuple[int, int, int], branches: int, itemsize: int, rows: int = ROWS_AT_ONCE
) -> int:
    """Bytes that one call of the transformer needs beside its weights. latent: frames, height, width of the latents.

    A block is fullest in one of three moments: at its attention, of whose seven tensors of all tokens six are input,
    query, key, value and output; while it turns query or key by its positions, in float32; in its feed-forward. A step
    cache's memory is not among them (:func:`remembered_work`), nor is the sampler's.
    """
    dit, injection = config.transformer, config.injection
    tokens = dit.text_length + latent[0] * latent[1] * latent[2] // dit.patch_size**2
    all_tokens = branches * tokens * dit.width * itemsize
    hidden = branches * min(rows, tokens) * _HIDDEN * dit.width * itemsize
    turned = branches * min(rows, tokens - dit.text_length) * dit.width * 4
    block = max(
        _AT_ONCE * all_tokens,
        _BESIDE_ROTARY * all_tokens + int(_TURNED[itemsize == 4] * turned),
        _BESIDE_FEED_FORWARD[tokens > rows] * all_tokens + hidden,
    )
    layers = -(-dit.layers // injection.interval)
    identity = 2 * layers * config.identity_tokens * injection.heads * injection.head_dim * itemsize
    rotary = 2 * (tokens - dit.text_length) * dit.head_dim * 4
    return block + identity + rotary


def sampler_work(config: ModelConfig, latent: tuple[int, int, int]) -> int:
    """Bytes that lie around the calls: latents, estimates and velocities of both branches, in float32."""
    return 8 * latent[0] * latent[1] * latent[2] * config.transformer.latent_channels * 4


def remembered_work(config: ModelConfig, latent: tuple[int, int, int], itemsize: int, order: int = 0) -> int:
    """Bytes that a step cache keeps from step to step, for two branches. order: of its extrapolation."""
    dit = config.transformer
    return 2 * (1 + order) * latent[0] * latent[1] * latent[2] // dit.patch_size**2 * dit.width * itemsize


def decoding_work(
    decoder: DecoderShape,
    frames: int,
    height: int,
    width: int,
    itemsize: int,
    tile: int = 0,
    copies: bool = True,
) -> int:
    """Bytes that decoding latents of this size needs beside the weights. tile: side of a tile, 0 = whole frames.

    CogVideoX's is fullest in its last block, in one of two moments, each beside what its convolutions remember of the
    chunk before: in the first convolution of a later chunk, or in the last one of the first chunk. copies: count that
    a library lays out a convolution's input and output anew, as a processor's does; cards' may.
    """
    pixels = 64 * min(height, tile or height) * min(width, tile or width)
    first = 4 * (min(frames, 3) - 1) + 1
    if not decoder.channels:
        return _PATCHED * max(first, 2) * pixels * itemsize
    narrow, wide = decoder.channels[:2]
    last, below = _remembered(decoder)
    values = wide * first + narrow * (4 * first + 2) + below + last - 2 * narrow
    values += copies * narrow * (2 * first + 2)
    if frames > 3:  # eight frames, ten with those that are remembered
        later = wide * 26 + narrow * 8 + below + last + 2 * wide
        values = max(values, later + copies * (wide * 10 + narrow * 8))
    return int(values * pixels * itemsize)


def encoding_work(decoder: DecoderShape, height: int, width: int, itemsize: int, copies: bool = True) -> int:
    """Bytes that encoding one picture of ``height`` × ``width`` latents needs beside the weights."""
    maps = (_ENCODED + 3 * copies) * decoder.channels[0] if decoder.channels else 25
    return 64 * height * width * itemsize * maps


def text_work(config: ModelConfig, itemsize: int) -> int:
    """Bytes that T5 needs for one prompt beside its weights."""
    dit = config.transformer
    scores = 2 * (dit.text_embed_dim // _T5_HEAD) * dit.text_length**2
    return int((_T5_ROWS * dit.text_length * dit.text_embed_dim + scores) * itemsize)


def identity_work(config: ModelConfig) -> int:
    """Bytes that the identity encoder needs for one view beside its weights: the vertex network's, in float32."""
    net = config.vertex_net
    return int(_SPIRAL_MAPS * net.level_sizes[0] * net.spiral_length * net.width * 4)


def sizes_of(model: FantasyIDModel) -> PartSizes:
    """Bytes of a loaded model's parts; 0 for those that it does not have."""
    encoder = model.text.encoder if model.text is not None else None
    blocks = model.transformer.transformer_blocks
    return PartSizes(
        text=bytes_of(encoder),
        text_block=bytes_of(encoder) if encoder is None else text_block(encoder),
        identity=bytes_of(model.identity_encoder),
        transformer=bytes_of(model.transformer),
        block=max(bytes_of(block) for block in blocks),
        blocks=len(blocks),
        vae=bytes_of(model.vae),
    )


def text_block(encoder: torch.nn.Module) -> int:
    """Bytes of a T5 on the device while its blocks are streamed: all but its blocks, and two of those."""
    blocks = [bytes_of(block) for block in _t5_blocks(encoder)]
    return bytes_of(encoder) - sum(blocks) + sum(sorted(blocks)[-_STREAMED:])


def shape_of(vae: Any) -> DecoderShape:
    """Of a VAE module (AutoencoderKLCogVideoX or the mini's)."""
    channels = tuple(vae.config.get("block_out_channels", ()))
    return DecoderShape(channels, int(vae.config.get("layers_per_block", 0)))


def plans_for(model: FantasyIDModel, video: Video | None = None) -> list[MemoryPlan]:
    """One plan per preset for a loaded model and ``video``, or one of the model's own size."""
    asked = replace(video or own_video(model.config), itemsize=compute_itemsize(model.transformer))
    decoder = DecoderShape() if model.vae is None else shape_of(model.vae)
    return memory_plans(model.config, sizes_of(model), decoder, asked)


def own_video(config: ModelConfig) -> Video:
    """A video of the size that the model was made for."""
    dit = config.transformer
    return Video(dit.sample_frames, 8 * dit.sample_height, 8 * dit.sample_width)


def compute_itemsize(transformer: Any) -> int:
    """Bytes of the numbers that the transformer computes in; some of its weights may be kept in fewer."""
    return int(transformer.patch_embed.proj.weight.itemsize)


def _t5_blocks(encoder: Any) -> Any:
    return encoder.encoder.block


def bytes_of(module: torch.nn.Module | None) -> int:
    """Of its weights and buffers as they are kept, those that share memory counted once; 0 for None."""
    if module is None:
        return 0
    tensors = {tensor.data_ptr() or id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def _remembered(decoder: DecoderShape) -> tuple[float, float]:
    """What the decoder's convolutions keep of a chunk, in values per pixel: of the last block, of all below it."""
    widths = decoder.channels[::-1]  # coarse to fine
    per_level, before = [], widths[0]
    for width in widths:
        per_level.append(2 * (before + (2 * (decoder.layers + 1) - 1) * width))  # two frames of every input
        before = width
    per_level[0] += 2 * 4 * widths[0]  # the middle
    per_level[-1] += 2 * widths[-1]  # the way out
    shares = [4.0 ** (level - len(widths) + 1) for level in range(len(widths))]
    return per_level[-1], sum(share * kept for share, kept in zip(shares[:-1], per_level[:-1], strict=True))
