"""A model's configuration, read from config.json and from the keys, and written into converted files.

The authors' real config.json is not known to us, so nothing is assumed that the keys can tell: the number of blocks,
the interval of the identity attention, learned positions, F_l, and every width come from the keys; config.json is
asked for the rest and must not contradict them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from ..config import (
    RELEASE,
    EvaConfig,
    FaceAbstractorConfig,
    InjectionConfig,
    ModelConfig,
    TransformerConfig,
    VertexNetConfig,
)
from ..errors import CheckpointError, InputError
from .checkpoint import CheckpointIndex
from .families import guess_family
from .layout import position_rows

FORMAT = "fantasyid_format"  #: metadata key of a converted file; its value is the format's version
FORMAT_VERSION = "1"

#: What this implementation computes; another value in config.json means another network.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu-approximate",),
    "timestep_activation_fn": ("silu",),
    "attention_bias": (True,),
    "norm_elementwise_affine": (True,),
    "norm_eps": (1e-5,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "use_rotary_positional_embeddings": (True,),
    "is_train_face": (True,),
    "is_kps": (False,),
    "patch_size_t": (None,),
    "ofs_embed_dim": (None,),
    "patch_bias": (True,),
    "spatial_interpolation_scale": (1.875,),
    "temporal_interpolation_scale": (1.0,),
}
_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.")
_LAYER = re.compile(r"layer_attention\.(\d+)\.")


def infer_config(index: CheckpointIndex, config: Mapping[str, Any] | None = None) -> ModelConfig:
    """The architecture of a checkpoint, from its metadata (converted file) or from config.json and the keys.

    config: a parsed diffusers config.json; None takes the one beside the weights. Raises CheckpointError when this is
    no FantasyID checkpoint, or when keys and configuration contradict each other.
    """
    if FORMAT in index.metadata:
        return _from_metadata(index)
    config = config if config is not None else index.config or {}
    _check_family(index)
    _check_fixed(config)
    try:
        transformer = _transformer(index, config)
        identity_width = index.shapes["layer_attention.0.norm1.weight"][0]
        model = replace(
            RELEASE,
            identity_width=identity_width,
            face_abstractor=_face_abstractor(index),
            eva=_eva(index),
            vertex_net=_vertex_net(index),
            injection=_injection(index, transformer, config),
            transformer=transformer,
        )
    except KeyError as error:
        raise _misfit(index, f"the key {error} is missing") from error
    except (InputError, IndexError) as error:
        raise _misfit(index, str(error).rstrip(".")) from error
    return replace(model, family="paper") if model.injection.layer_block else model


#: Fields that files of the first version do not hold; each default is what was meant then.
_CAME_LATER = {
    "VertexNetConfig": {"depth_scale"},
    "FaceAbstractorConfig": {"kind", "layers", "heads"},
    "TransformerConfig": {"reference_everywhere"},
}


def config_to_text(config: ModelConfig) -> str:
    """The configuration as JSON, for a file's metadata."""
    return json.dumps(asdict(config), sort_keys=True)


def config_from_text(text: str) -> ModelConfig:
    """Read ``config_to_text``'s JSON; CheckpointError for anything else."""
    try:
        return _filled(ModelConfig, json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"The configuration in the file's metadata is not readable ({error}).") from error


def _filled(kind: Any, values: Mapping[str, Any]) -> Any:
    """A configuration dataclass of plain JSON values; every field must be there (but those that came later: files
    from before mean their defaults) and no other."""
    names = {f.name for f in fields(kind)}
    values = {**{name: getattr(kind(), name) for name in names & _CAME_LATER.get(kind.__name__, set())}, **values}
    if set(values) != names:
        raise KeyError(f"{kind.__name__} has the fields {sorted(names)}, the file {sorted(values)}")
    default = {f.name: getattr(RELEASE if kind is ModelConfig else kind(), f.name) for f in fields(kind)}

    def value(name: str) -> Any:
        if is_dataclass(default[name]):
            return _filled(type(default[name]), values[name])
        return tuple(values[name]) if isinstance(default[name], tuple) else type(default[name])(values[name])

    return kind(**{name: value(name) for name in names})


def _from_metadata(index: CheckpointIndex) -> ModelConfig:
    version = index.metadata[FORMAT]
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{index.path.name} was converted by another version (format {version}, this one reads {FORMAT_VERSION}); "
            "convert the official folder again."
        )
    return config_from_text(index.metadata.get("config", ""))


def _check_family(index: CheckpointIndex) -> None:
    needed = ("patch_embed.proj.weight", "layer_attention.0.to_q.weight", "face_abstractor.proj_out")
    if not all(key in index.entries for key in needed):
        raise CheckpointError(
            f"{index.path.name} is not a FantasyID checkpoint; it looks like {guess_family(index.shapes)}."
        )


def _check_fixed(config: Mapping[str, Any]) -> None:
    for name, accepted in _FIXED.items():
        if name in config and config[name] not in accepted:
            raise CheckpointError(
                f"config.json says {name} = {config[name]!r}, but FantasyID computes with {accepted[0]!r}; "
                "this is another model's config.json, or a newer model than this version knows."
            )


def _transformer(index: CheckpointIndex, config: Mapping[str, Any]) -> TransformerConfig:
    shapes, base = index.shapes, RELEASE.transformer
    patch = shapes["patch_embed.proj.weight"]  # (width, 2 · latent channels, patch, patch)
    head_dim = shapes["transformer_blocks.0.attn1.norm_q.weight"][0]
    if len(patch) != 4 or patch[0] % head_dim or patch[1] % 2:
        raise InputError(f"the patch projection {list(patch)} is none of FantasyID's")
    transformer = TransformerConfig(
        heads=patch[0] // head_dim,
        head_dim=head_dim,
        layers=_count(index, _BLOCK, "transformer_blocks"),
        latent_channels=patch[1] // 2,
        time_embed_dim=shapes["time_embedding.linear_1.weight"][0],
        text_embed_dim=shapes["patch_embed.text_proj.weight"][1],
        text_length=int(config.get("max_text_seq_length", base.text_length)),
        sample_height=int(config.get("sample_height", base.sample_height)),
        sample_width=int(config.get("sample_width", base.sample_width)),
        sample_frames=int(config.get("sample_frames", base.sample_frames)),
        patch_size=patch[2],
        temporal_compression=int(config.get("temporal_compression_ratio", base.temporal_compression)),
        learned_positions="patch_embed.pos_embedding" in shapes,
    )
    _check_positions(index, transformer)
    _check_against_config(transformer, config)
    return transformer


def _check_positions(index: CheckpointIndex, transformer: TransformerConfig) -> None:
    if transformer.learned_positions:
        rows, wanted = index.shapes["patch_embed.pos_embedding"][1], position_rows(transformer)
        if rows != wanted:
            raise InputError(
                f"the learned position table has {rows} rows, but the sample size in config.json (or the usual "
                f"60×90, 49 frames) needs {wanted}; put the checkpoint's own config.json beside it"
            )


def _check_against_config(transformer: TransformerConfig, config: Mapping[str, Any]) -> None:
    said = {
        "num_attention_heads": transformer.heads,
        "attention_head_dim": transformer.head_dim,
        "num_layers": transformer.layers,
        "in_channels": 2 * transformer.latent_channels,
        "out_channels": transformer.latent_channels,
        "time_embed_dim": transformer.time_embed_dim,
        "text_embed_dim": transformer.text_embed_dim,
        "patch_size": transformer.patch_size,
    }
    for name, found in said.items():
        if name in config and config[name] != found:
            raise InputError(
                f"config.json says {name} = {config[name]}, but the keys say {found}: "
                "a shard is missing or half-downloaded, or config.json belongs to another model"
            )


def _injection(index: CheckpointIndex, transformer: TransformerConfig, config: Mapping[str, Any]) -> InjectionConfig:
    """The interval is the one whose ⌊layers / interval⌋ is the number of modules; the head size stays 128."""
    base, count = RELEASE.injection, _count(index, _LAYER, "layer_attention")
    inner = index.shapes["layer_attention.0.to_q.weight"][0]
    interval = transformer.layers // count if count else 0
    if not interval or interval * count != transformer.layers:
        raise InputError(
            f"{count} layer_attention modules do not go evenly into {transformer.layers} blocks: a shard is missing"
        )
    if config.get("cross_attn_interval", interval) != interval:
        raise InputError(
            f"config.json says cross_attn_interval = {config['cross_attn_interval']}, but {count} modules on "
            f"{transformer.layers} blocks mean {interval}"
        )
    block = any(key.startswith("layer_block.") for key in index.entries)
    return replace(base, interval=interval, heads=inner // base.head_dim, layer_block=block)


def _eva(index: CheckpointIndex) -> EvaConfig:
    """The vision tower that the face abstractor was trained on: its width; the rest is in no key of this file."""
    width = index.shapes["face_abstractor.proj_out"][0]
    if width % (4 * RELEASE.eva.heads):
        raise InputError(f"no vision tower of width {width} is known")
    return replace(RELEASE.eva, width=width)


def _face_abstractor(index: CheckpointIndex) -> FaceAbstractorConfig:
    last = "face_abstractor.layers.9"
    return replace(
        RELEASE.face_abstractor,
        width=index.shapes["face_abstractor.proj_out"][0],
        hidden=index.shapes[f"{last}.0.readout.0.weight"][1],
        feed_forward_multiple=index.shapes[f"{last}.1.1.weight"][0] // index.shapes[f"{last}.1.1.weight"][1],
    )


def _vertex_net(index: CheckpointIndex) -> VertexNetConfig:
    base = RELEASE.vertex_net
    query = index.shapes["vertex_spiral_net.vtx_query"]  # (1, coarse vertices, width)
    layers = re.compile(r"vertex_spiral_net\.transformer\.layers\.(\d+)\.")
    widths = tuple(index.shapes[f"vertex_reducer.conv_block{i}.residual_conv.bias"][0] for i in (1, 2, 3, 4))
    return replace(
        base,
        level_sizes=(*base.level_sizes[:2], query[1]),
        width=query[2],
        layers=_count(index, layers, "vertex_spiral_net.transformer.layers"),
        mlp_hidden=index.shapes["vertex_spiral_net.transformer.layers.0.1.fn.net.0.bias"][0],
        reducer_widths=widths,
    )


def _count(index: CheckpointIndex, pattern: re.Pattern[str], name: str) -> int:
    """How many modules of that name there are; InputError when their numbers have gaps."""
    numbers = {int(match.group(1)) for match in map(pattern.match, index.entries) if match}
    gaps = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
    if gaps:
        raise InputError(f"{name}.{gaps[0]} is missing though {name}.{max(numbers)} is there: a shard is missing")
    return len(numbers)


def _misfit(index: CheckpointIndex, reason: str) -> CheckpointError:
    return CheckpointError(f"{index.path.name} cannot be loaded: {reason}. It looks like {guess_family(index.shapes)}.")
