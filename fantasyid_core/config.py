"""One configuration for the three members of the family: release, paper, mini.

The defaults of every class are the public checkpoint's architecture (release.md of the authors' code, measured);
``PAPER`` adds the per-layer block F_l, ``MINI`` is the same code at a size that a CPU runs in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from .errors import InputError

Family = Literal["release", "paper", "mini"]
FaceBranch = Literal["abstractor", "q-former"]


@dataclass(frozen=True)
class EvaConfig:
    """The EVA02-CLIP vision tower, as far as it is read: the input of block ``layers`` is its output."""

    image_size: int = 336
    patch_size: int = 14
    width: int = 1024
    layers: int = 20  # of 24: the release reads the hidden state before block 20 and nothing behind it
    heads: int = 16
    mlp_hidden: int = 2730
    rope_reference_grid: int = 16  # rotary positions are index * 16 / grid

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class FaceAbstractorConfig:
    """The 2D branch (paper: C-Abstractor): a grid of image features → pooled_grid² tokens.

    kind: "abstractor", or "q-former", what the paper compares it with; the last two fields are the Q-Former's alone.
    """

    width: int = 1024  # the tower's width
    hidden: int = 256
    blocks_per_stage: int = 3
    pooled_grid: int = 6
    feed_forward_multiple: int = 4
    kind: FaceBranch = "abstractor"
    layers: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaceBranch):
            raise InputError(f"There is no 2D branch '{self.kind}'; choose one of: {', '.join(get_args(FaceBranch))}.")
        if self.kind == "q-former" and self.width % self.heads:
            raise InputError(f"A Q-Former of width {self.width} cannot be divided into {self.heads} heads.")

    @property
    def tokens(self) -> int:
        return self.pooled_grid**2


@dataclass(frozen=True)
class VertexNetConfig:
    """The 3D branch (paper: SpiralNet++): coarse vertices' depth → tokens on the fine mesh → 1-D reducer."""

    topology: str = "flame-5023"
    level_sizes: tuple[int, int, int] = (5023, 1256, 314)  # fine → coarse
    spiral_length: int = 9
    width: int = 128
    layers: int = 6
    heads: int = 4
    mlp_hidden: int = 256
    reducer_widths: tuple[int, ...] = (256, 512, 1024, 2048)  # kernels 5, 5, 3, 3; strides 4, 4, 2, 2
    depth_scale: float = 1.0  # of z in metres, before the sinusoid; the release reads plain metres

    @property
    def tokens(self) -> int:
        """How many tokens the reducer leaves (strides 4, 4, 2, 2, padding as 'same'): 79 of 5023."""
        length = self.level_sizes[0]
        for stride in (4, 4, 2, 2):
            length = (length - 1) // stride + 1
        return length


@dataclass(frozen=True)
class InjectionConfig:
    """The layer-adaptive injection: identity attention behind every ``interval``-th block."""

    interval: int = 1
    heads: int = 16
    head_dim: int = 128
    layer_block: bool = False  # the paper's F_l, convolution + normalisation of each layer's own


@dataclass(frozen=True)
class TransformerConfig:
    """The video DiT, in diffusers' CogVideoX terms. Heads × head_dim is its width."""

    heads: int = 48
    head_dim: int = 64
    layers: int = 42
    latent_channels: int = 16  # the input takes twice as many: noisy latents + reference latents
    time_embed_dim: int = 512
    text_embed_dim: int = 4096
    text_length: int = 226
    sample_height: int = 60
    sample_width: int = 90
    sample_frames: int = 49
    patch_size: int = 2
    temporal_compression: int = 4
    learned_positions: bool = True
    reference_everywhere: bool = False  # in the input of every latent frame; the release: of the first

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True)
class ModelConfig:
    """A whole FantasyID model: identity encoder half and DiT half."""

    family: Family = "release"
    identity_width: int = 2048
    eva: EvaConfig = field(default_factory=EvaConfig)
    face_abstractor: FaceAbstractorConfig = field(default_factory=FaceAbstractorConfig)
    vertex_net: VertexNetConfig = field(default_factory=VertexNetConfig)
    injection: InjectionConfig = field(default_factory=InjectionConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)

    def __post_init__(self) -> None:
        if self.eva.width != self.face_abstractor.width:
            raise InputError(
                f"The face abstractor reads features of width {self.face_abstractor.width}, "
                f"but the vision tower gives {self.eva.width}."
            )
        if self.vertex_net.reducer_widths[-1] != self.identity_width:
            raise InputError(
                f"The 3D branch ends at width {self.vertex_net.reducer_widths[-1]}, "
                f"but identity tokens have {self.identity_width}."
            )
        if self.eva.grid % self.face_abstractor.pooled_grid:
            raise InputError(
                f"A {self.eva.grid}² feature grid cannot be pooled to {self.face_abstractor.pooled_grid}²."
            )

    @property
    def identity_tokens(self) -> int:
        """2D tokens + 3D tokens of one reference (release: 36 + 79 = 115)."""
        return self.face_abstractor.tokens + self.vertex_net.tokens


RELEASE = ModelConfig()
PAPER = replace(RELEASE, family="paper", injection=replace(RELEASE.injection, layer_block=True))

#: 17 frames of 64×64 pixels (5×8×8 latents of 32 channels), for a CPU, on the mesh of the licence-free head. F_l is
#: in: the mini is trained from scratch, by the paper, with no released weights to agree with. Depth is scaled so that
#: the 4 mm by which people differ turn the fastest sinusoid by 0.7 of a radian: in plain metres the queries drown them.
#: A token is one latent value's place, 8×8 pixels: with the release's 2×2 a face 40 pixels wide would be three tokens.
#: The reference lies in every frame's input: to carry it from the first one to the last is more than so short a
#: training teaches (docs/training.md).
MINI = ModelConfig(
    family="mini",
    identity_width=256,
    eva=EvaConfig(image_size=112, width=192, layers=4, heads=3, mlp_hidden=512, rope_reference_grid=8),
    face_abstractor=FaceAbstractorConfig(width=192, hidden=64, blocks_per_stage=1, pooled_grid=4),
    vertex_net=VertexNetConfig(
        topology="makehuman-head-3202",
        level_sizes=(3202, 800, 200),
        width=32,
        layers=3,
        mlp_hidden=128,
        reducer_widths=(64, 96, 160, 256),
        depth_scale=60.0,
    ),
    injection=InjectionConfig(heads=4, head_dim=64, layer_block=True),
    transformer=TransformerConfig(
        heads=4,
        layers=8,
        latent_channels=32,
        time_embed_dim=64,
        text_embed_dim=128,
        text_length=32,
        sample_height=8,
        sample_width=8,
        sample_frames=17,
        patch_size=1,
        learned_positions=False,
        reference_everywhere=True,
    ),
)
