"""The official checkpoint, key by key: every name and shape, in its own order, and which of them the output needs.

One function per part, read off the release's state dict (release.md §3: 2412 keys at full size). A key is *dead* when
its value has exactly no effect on the release's output (release.md §1): such keys are known, tolerated, and neither
loaded nor kept. The converter drops them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..config import EvaConfig, FaceAbstractorConfig, ModelConfig, TransformerConfig, VertexNetConfig

Shape = tuple[int, ...]

EVA_BLOCKS = 24  #: blocks of the official vision tower; the model reads the first EvaConfig.layers
ABSTRACTOR_LAYERS = 10  #: layers of the official face abstractor; only the last one and layer 8's pos_emb count
ABSTRACTOR_MAPPINGS = 5  #: one per EVA hidden state; only the last one counts
_LATENTS = 144  #: rows of the dead ``latents``
_ID_COND = 1280  #: ArcFace 512 + CLIP 768, the dead second input


@dataclass(frozen=True)
class KeySpec:
    """What one key of the official checkpoint holds. live: whether the output depends on it."""

    shape: Shape
    live: bool = True


def official_layout(config: ModelConfig) -> dict[str, KeySpec]:
    """Every key of an official transformer checkpoint of this configuration, in state-dict order (without F_l)."""
    parts = (
        _video_transformer(config.transformer),
        _face_abstractor(config),
        _vertex_spiral_net(config.vertex_net, config.identity_width),
        _vertex_reducer(config.vertex_net),
        _layer_attention(config),
    )
    return {key: spec for part in parts for key, spec in part}


def official_eva_layout(config: EvaConfig) -> dict[str, KeySpec]:
    """Every ``visual.`` key of the official EVA02-CLIP-L-14-336 file (562); rotary tables are computed, so dead."""
    return dict(_eva(config))


def layer_attention_count(config: ModelConfig) -> int:
    """How many ``layer_attention`` modules the release builds: ⌊layers / interval⌋."""
    return config.transformer.layers // config.injection.interval


def _video_transformer(config: TransformerConfig) -> Iterator[tuple[str, KeySpec]]:
    width, embed, out = config.width, config.time_embed_dim, config.latent_channels
    patch = config.patch_size
    if config.learned_positions:
        yield "patch_embed.pos_embedding", KeySpec((1, position_rows(config), width))
    yield "patch_embed.proj.weight", KeySpec((width, 2 * out, patch, patch))
    yield "patch_embed.proj.bias", KeySpec((width,))
    yield from _linear("patch_embed.text_proj", width, config.text_embed_dim)
    yield from _linear("time_embedding.linear_1", embed, width)
    yield from _linear("time_embedding.linear_2", embed, embed)
    for index in range(config.layers):
        yield from _block(f"transformer_blocks.{index}", config)
    yield from _norm("norm_final", width)
    yield from _linear("norm_out.linear", 2 * width, embed)
    yield from _norm("norm_out.norm", width)
    yield from _linear("proj_out", patch * patch * out, width)


def position_rows(config: TransformerConfig) -> int:
    """Rows of the learned position table: text tokens + image tokens of the configured size (release: 17776)."""
    frames = (config.sample_frames - 1) // config.temporal_compression + 1
    height, width = config.sample_height // config.patch_size, config.sample_width // config.patch_size
    return config.text_length + frames * height * width


def _block(name: str, config: TransformerConfig) -> Iterator[tuple[str, KeySpec]]:
    width = config.width
    yield from _linear(f"{name}.norm1.linear", 6 * width, config.time_embed_dim)
    yield from _norm(f"{name}.norm1.norm", width)
    yield from _norm(f"{name}.attn1.norm_q", config.head_dim)
    yield from _norm(f"{name}.attn1.norm_k", config.head_dim)
    for projection in ("to_q", "to_k", "to_v", "to_out.0"):
        yield from _linear(f"{name}.attn1.{projection}", width, width)
    yield from _linear(f"{name}.norm2.linear", 6 * width, config.time_embed_dim)
    yield from _norm(f"{name}.norm2.norm", width)
    yield from _linear(f"{name}.ff.net.0.proj", 4 * width, width)
    yield from _linear(f"{name}.ff.net.2", width, 4 * width)


def _layer_attention(config: ModelConfig) -> Iterator[tuple[str, KeySpec]]:
    width, ids = config.transformer.width, config.identity_width
    inner = config.injection.heads * config.injection.head_dim
    for index in range(layer_attention_count(config)):
        name = f"layer_attention.{index}"
        yield from _norm(f"{name}.norm1", ids)
        yield from _norm(f"{name}.norm2", width)
        yield f"{name}.to_q.weight", KeySpec((inner, width))
        yield f"{name}.to_kv.weight", KeySpec((2 * inner, ids))
        yield f"{name}.to_out.weight", KeySpec((width, inner))


def _face_abstractor(config: ModelConfig) -> Iterator[tuple[str, KeySpec]]:
    branch, patches = config.face_abstractor, config.eva.grid**2
    width, last = branch.width, ABSTRACTOR_LAYERS - 1
    yield "face_abstractor.latents", KeySpec((1, _LATENTS, width), live=False)
    yield "face_abstractor.proj_out", KeySpec((width, config.identity_width))
    for index in range(ABSTRACTOR_LAYERS):
        name = f"face_abstractor.layers.{index}"
        yield f"{name}.0.pos_emb", KeySpec((1, patches, width), live=index >= last - 1)
        yield from _marked(_abstractor_layer(name, branch), index == last)
    for index in range(ABSTRACTOR_MAPPINGS):
        mapping = _mapping(f"face_abstractor.mapping_{index}", width, width, width)
        yield from _marked(mapping, index == ABSTRACTOR_MAPPINGS - 1)
    yield from _marked(_mapping("face_abstractor.id_embedding_mapping", _ID_COND, width, 5 * width), False)


def _abstractor_layer(name: str, branch: FaceAbstractorConfig) -> Iterator[tuple[str, KeySpec]]:
    for stage, stage_in in ((0, branch.width), (2, branch.hidden)):
        for block in range(branch.blocks_per_stage):
            channels = stage_in if block == 0 else branch.hidden
            yield from _bottleneck(f"{name}.0.net.{stage}.b{block + 1}", channels, branch.hidden)
    yield from _linear(f"{name}.0.readout.0", branch.width, branch.hidden)
    yield from _linear(f"{name}.0.readout.2", branch.width, branch.width)
    yield from _norm(f"{name}.1.0", branch.width)
    wide = branch.feed_forward_multiple * branch.width
    yield f"{name}.1.1.weight", KeySpec((wide, branch.width))
    yield f"{name}.1.3.weight", KeySpec((branch.width, wide))


def _bottleneck(name: str, channels: int, hidden: int) -> Iterator[tuple[str, KeySpec]]:
    squeezed = channels // 4
    yield from _conv_norm(f"{name}.conv1", (hidden, channels, 1, 1))
    yield from _conv_norm(f"{name}.conv2", (hidden, 1, 3, 3))
    yield f"{name}.se.fc1.weight", KeySpec((squeezed, hidden, 1, 1))
    yield f"{name}.se.fc1.bias", KeySpec((squeezed,))
    yield f"{name}.se.fc2.weight", KeySpec((hidden, squeezed, 1, 1))
    yield f"{name}.se.fc2.bias", KeySpec((hidden,))
    yield from _conv_norm(f"{name}.conv3", (hidden, hidden, 1, 1))
    if channels != hidden:
        yield from _conv_norm(f"{name}.downsample", (hidden, channels, 1, 1))


def _vertex_spiral_net(config: VertexNetConfig, identity_width: int) -> Iterator[tuple[str, KeySpec]]:
    width, root = config.width, "vertex_spiral_net"
    gathered = config.spiral_length * width
    yield f"{root}.vtx_query", KeySpec((1, config.level_sizes[-1], width))
    yield from _linear(f"{root}.vtx_upsampler.de_layers.0.conv.layer", width, gathered)
    yield from _linear(f"{root}.vtx_upsampler.de_layers.1.conv.layer", width, gathered)
    yield from _linear(f"{root}.vtx_upsampler.de_layers.2.layer", width, gathered)
    for index in range(config.layers):
        yield from _vertex_layer(f"{root}.transformer.layers.{index}", width, config.mlp_hidden)
    yield from _linear(f"{root}.vtx_descriptor_head.0", width, width)
    wide, index = identity_width, 0
    while wide > width:
        yield from _linear(f"{root}.hw_down.{index}.fc1", wide, wide)
        yield from _linear(f"{root}.hw_down.{index}.fc2", wide // 2, wide)
        wide, index = wide // 2, index + 1


def _vertex_layer(name: str, width: int, hidden: int) -> Iterator[tuple[str, KeySpec]]:
    yield from _norm(f"{name}.0.norm", width)
    yield f"{name}.0.fn.to_qkv.weight", KeySpec((3 * width, width))
    yield from _linear(f"{name}.0.fn.to_out.0", width, width)
    yield from _norm(f"{name}.1.norm", width)
    yield from _linear(f"{name}.1.fn.net.0", hidden, width)
    yield from _linear(f"{name}.1.fn.net.3", width, hidden)


def _vertex_reducer(config: VertexNetConfig) -> Iterator[tuple[str, KeySpec]]:
    before = config.width
    for index, (width, kernel) in enumerate(zip(config.reducer_widths, (5, 5, 3, 3), strict=True), start=1):
        name = f"vertex_reducer.conv_block{index}"
        for part, shape in (("conv_in", (width, before, kernel)), ("conv_out", (width, width, 3))):
            yield f"{name}.{part}.conv1d.weight", KeySpec(shape)
            yield f"{name}.{part}.conv1d.bias", KeySpec((width,))
            yield from _norm(f"{name}.{part}.group_norm", width)
        yield f"{name}.residual_conv.weight", KeySpec((width, before, kernel))
        yield f"{name}.residual_conv.bias", KeySpec((width,))
        before = width


def _eva(config: EvaConfig) -> Iterator[tuple[str, KeySpec]]:
    width, patches = config.width, config.grid**2
    head_dim = width // config.heads
    yield "visual.cls_token", KeySpec((1, 1, width))
    yield "visual.pos_embed", KeySpec((1, patches + 1, width))
    yield "visual.patch_embed.proj.weight", KeySpec((width, 3, config.patch_size, config.patch_size))
    yield "visual.patch_embed.proj.bias", KeySpec((width,))
    yield from _rope("visual.rope", patches, head_dim)
    for index in range(EVA_BLOCKS):
        yield from _marked(_eva_block(f"visual.blocks.{index}", config, patches, head_dim), index < config.layers)
    yield from _marked(_norm("visual.norm", width), False)
    yield from _marked(_linear("visual.head", 768, width), False)


def _eva_block(name: str, config: EvaConfig, patches: int, head_dim: int) -> Iterator[tuple[str, KeySpec]]:
    width, hidden = config.width, config.mlp_hidden
    yield from _norm(f"{name}.norm1", width)
    yield f"{name}.attn.q_bias", KeySpec((width,))
    yield f"{name}.attn.v_bias", KeySpec((width,))
    for projection in ("q_proj", "k_proj", "v_proj"):
        yield f"{name}.attn.{projection}.weight", KeySpec((width, width))
    yield from _norm(f"{name}.attn.inner_attn_ln", width)
    yield from _linear(f"{name}.attn.proj", width, width)
    yield from _rope(f"{name}.attn.rope", patches, head_dim)
    yield from _norm(f"{name}.norm2", width)
    yield from _linear(f"{name}.mlp.w1", hidden, width)
    yield from _linear(f"{name}.mlp.w2", hidden, width)
    yield from _norm(f"{name}.mlp.ffn_ln", hidden)
    yield from _linear(f"{name}.mlp.w3", width, hidden)


def _rope(name: str, patches: int, head_dim: int) -> Iterator[tuple[str, KeySpec]]:
    yield f"{name}.freqs_cos", KeySpec((patches, head_dim), live=False)
    yield f"{name}.freqs_sin", KeySpec((patches, head_dim), live=False)


def _mapping(name: str, wide_in: int, width: int, wide_out: int) -> Iterator[tuple[str, KeySpec]]:
    yield from _linear(f"{name}.0", width, wide_in)
    yield from _norm(f"{name}.1", width)
    yield from _linear(f"{name}.3", width, width)
    yield from _norm(f"{name}.4", width)
    yield from _linear(f"{name}.6", wide_out, width)


def _conv_norm(name: str, shape: Shape) -> Iterator[tuple[str, KeySpec]]:
    yield f"{name}.conv.weight", KeySpec(shape)
    yield from _norm(f"{name}.bn", shape[0])


def _linear(name: str, wide_out: int, wide_in: int) -> Iterator[tuple[str, KeySpec]]:
    yield f"{name}.weight", KeySpec((wide_out, wide_in))
    yield f"{name}.bias", KeySpec((wide_out,))


def _norm(name: str, width: int) -> Iterator[tuple[str, KeySpec]]:
    yield f"{name}.weight", KeySpec((width,))
    yield f"{name}.bias", KeySpec((width,))


def _marked(part: Iterable[tuple[str, KeySpec]], live: bool) -> Iterator[tuple[str, KeySpec]]:
    """The same keys, dead where the whole part is dead."""
    for key, spec in part:
        yield key, KeySpec(spec.shape, live and spec.live)
