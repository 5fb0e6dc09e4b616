"""Loading a model strictly: the right file, whole, in the asked dtype, without a second copy in memory.

    opened = open_checkpoint(Path("models/fantasyid/FantasyID"))
    transformer = load_transformer(opened, torch.bfloat16)
    encoder = load_identity_encoder(opened, hierarchy, dtype=torch.bfloat16)

Modules are built without weights and take memory-mapped tensors, so that opening a 13 GB checkpoint costs no more than
reading it once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..config import EvaConfig, ModelConfig
from ..errors import CheckpointError, InputError, MissingFileError
from ..geometry.hierarchy import MeshHierarchy
from .architecture import FORMAT, infer_config
from .assign import assign_weights, official_shapes, tolerated_dead_keys, uniform, without_weights
from .catalog import entry, locate_below
from .checkpoint import TRANSFORMER_FOLDERS, CheckpointIndex, check_keys, read_checkpoint
from .layout import official_eva_layout, official_layout
from .streaming import TensorReader

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    from ..identity.encoder import IdentityEncoder
    from ..video.transformer import LayerAdaptiveTransformer3DModel

EVA_PREFIX, VAE_PREFIX = "visual.", "vae."
VAE_CONFIG = "vae_config"  #: metadata key of a converted file that holds the VAE as well
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint whose keys were checked, ready to be loaded. No weight has been read.

    transformer, identity: official key → shape of what each half needs. The vision tower is not among them.
    """

    index: CheckpointIndex
    config: ModelConfig
    transformer: Mapping[str, tuple[int, ...]]
    identity: Mapping[str, tuple[int, ...]]

    @property
    def official_folder(self) -> Path:
        """The folder that holds transformer/, vae/, face_encoder/ … (or the folder of a single file)."""
        path = self.index.path
        return path if path.is_dir() and path.name not in TRANSFORMER_FOLDERS else path.parent

    @property
    def is_converted(self) -> bool:
        """Whether ``fantasyid convert`` wrote it."""
        return FORMAT in self.index.metadata


def open_checkpoint(path: Path, config: Mapping[str, Any] | None = None) -> OpenedCheckpoint:
    """Read the headers of a checkpoint, find its architecture, and check every key and shape strictly.

    config: a parsed config.json to use instead of the one beside the weights. Raises CheckpointError, with the first
    ten wrong keys and the family this looks like, or MissingFileError.
    """
    index = read_checkpoint(path)
    model = infer_config(index, config)
    transformer = transformer_shapes(model)
    identity = identity_shapes(model)
    main = {key: entry_ for key, entry_ in index.entries.items() if not key.startswith((EVA_PREFIX, VAE_PREFIX))}
    check_keys(
        CheckpointIndex(index.path, main, index.config, index.metadata),
        {**transformer, **identity},
        tolerated_dead_keys(official_layout(model)),
    )
    return OpenedCheckpoint(index, model, transformer, identity)


def transformer_shapes(config: ModelConfig) -> Shapes:
    """official key → shape of the DiT half with its identity attention."""
    return official_shapes(_empty_transformer(config), lambda name: _transformer_key(name, config))


def identity_shapes(config: ModelConfig) -> Shapes:
    """official key → shape of the identity encoder without the vision tower."""
    from ..identity.encoder import official_key

    shapes = official_shapes(_empty_encoder(config, None), official_key)
    return {key: shape for key, shape in shapes.items() if not key.startswith(EVA_PREFIX)}


def eva_shapes(config: EvaConfig) -> Shapes:
    """official key → shape of the part of the vision tower that counts."""
    from ..identity import eva

    with without_weights():
        tower = eva.EvaTower(config)
    return official_shapes(tower, eva.official_key)


def load_transformer(
    opened: OpenedCheckpoint, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu"
) -> LayerAdaptiveTransformer3DModel:
    """The DiT half, frozen, in eval mode. On the CPU in the file's own dtype its weights are views of the file."""
    module = _empty_transformer(opened.config)
    with TensorReader() as reader:
        assign_weights(
            module, opened.index, lambda name: _transformer_key(name, opened.config), uniform(dtype), reader, device
        )
    return module


def load_identity_encoder(
    opened: OpenedCheckpoint,
    hierarchy: MeshHierarchy | None,
    eva: Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
) -> IdentityEncoder:
    """The identity half. The vertex network's weights are rounded to ``dtype`` and kept in float32, as released.

    hierarchy: None where the mesh file is absent; then only the 2D branch works. eva: the vision tower's file, None to
    take the one in the checkpoint or beside it. Raises MissingFileError when there is none.
    """
    from ..identity.encoder import official_key

    tower = open_eva(opened, eva)
    entries = {key: opened.index.entries[key] for key in opened.identity} | dict(tower.entries)
    module = _empty_encoder(opened.config, hierarchy)
    both = CheckpointIndex(opened.index.path, entries)
    with TensorReader() as reader:
        assign_weights(module, both, official_key, uniform(dtype), reader, device)
    module.to(device=device)
    module.eva.to(dtype=dtype)  # its rotary tables, which no file holds
    module.vertex_spiral_net.keep_float32()
    return module


def load_identity_networks(
    opened: OpenedCheckpoint, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu"
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The identity half without the vision tower: face abstractor, vertex network (float32), vertex reducer."""
    from ..identity.encoder import PART_KEYS

    encoder = _empty_encoder(opened.config, None)
    parts = (encoder.face_abstractor, encoder.vertex_spiral_net, encoder.vertex_reducer)
    with TensorReader() as reader:
        for name, part in zip(("face_abstractor", "vertex_spiral_net", "vertex_reducer"), parts, strict=True):
            assign_weights(part, opened.index, PART_KEYS[name], uniform(dtype), reader, device)
    encoder.vertex_spiral_net.keep_float32()
    return parts


def open_eva(opened: OpenedCheckpoint, path: Path | None = None) -> CheckpointIndex:
    """The vision tower's keys: of ``path``, or of the checkpoint itself, or of the file beside it; strictly checked."""
    inside = opened.index.with_prefix(EVA_PREFIX)
    if path is None and inside.entries:
        return _checked_eva(inside, opened.config.eva)
    path = path or find_eva(opened)
    if path is None:
        raise MissingFileError(entry("eva").missing_message())
    return _checked_eva(read_checkpoint(path).with_prefix(EVA_PREFIX), opened.config.eva)


def find_eva(opened: OpenedCheckpoint) -> Path | None:
    """The vision tower's file in the official folder, or None."""
    return locate_below(entry("eva"), opened.official_folder)


def load_vae(
    source: OpenedCheckpoint | Path, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu"
) -> AutoencoderKLCogVideoX:
    """CogVideoX's VAE from its diffusers folder, or from a converted file that holds it; strict.

    Raises MissingFileError when there is none, CheckpointError when the keys do not fit its config.json.
    """
    index, prefix, config = open_vae(source)
    module = _empty_vae(config)
    key_of = prefix.__add__
    check_keys(index, official_shapes(module, key_of), {})
    with TensorReader() as reader:
        assign_weights(module, index, key_of, uniform(dtype), reader, device)
    return module


def open_vae(source: OpenedCheckpoint | Path) -> tuple[CheckpointIndex, str, Mapping[str, Any]]:
    """The VAE's keys, their prefix, and its config, from a folder or a converted file."""
    if isinstance(source, OpenedCheckpoint):
        if VAE_CONFIG in source.index.metadata:
            return source.index.with_prefix(VAE_PREFIX), VAE_PREFIX, json.loads(source.index.metadata[VAE_CONFIG])
        folder = locate_below(entry("vae"), source.official_folder) if source.index.path.is_dir() else None
        if folder is None:
            raise MissingFileError(entry("vae").missing_message())
        source = folder
    index = read_checkpoint(source)
    if not index.config:
        raise CheckpointError(f"{source} has no config.json beside the VAE's weights; copy the whole vae folder.")
    return index, "", index.config


def vae_shapes(config: Mapping[str, Any]) -> Shapes:
    """key → shape of a VAE of that config.json, without a prefix."""
    return official_shapes(_empty_vae(config), str)


def eva_tolerated(config: EvaConfig) -> Shapes:
    """The vision tower's keys that nothing needs: its last blocks, norm, head and rotary tables."""
    return tolerated_dead_keys(official_eva_layout(config))


def _checked_eva(index: CheckpointIndex, config: EvaConfig) -> CheckpointIndex:
    expected = eva_shapes(config)
    check_keys(index, expected, eva_tolerated(config))
    return CheckpointIndex(index.path, {key: index.entries[key] for key in expected})


def _transformer_key(name: str, config: ModelConfig) -> str:
    from ..video.transformer import official_key

    return official_key(name, config.injection.interval)


def _empty_transformer(config: ModelConfig) -> LayerAdaptiveTransformer3DModel:
    from ..video.transformer import LayerAdaptiveTransformer3DModel

    with without_weights():
        return LayerAdaptiveTransformer3DModel(config)


def _empty_encoder(config: ModelConfig, hierarchy: MeshHierarchy | None) -> IdentityEncoder:
    from ..identity.encoder import IdentityEncoder

    try:
        with without_weights():
            return IdentityEncoder(config, hierarchy)
    except InputError as error:
        raise CheckpointError(f"The identity networks of this checkpoint are none of FantasyID's: {error}") from error


def _empty_vae(config: Mapping[str, Any]) -> Any:  # AutoencoderKLCogVideoX, which has no types to speak of
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    if config.get("_class_name", "AutoencoderKLCogVideoX") != "AutoencoderKLCogVideoX":
        raise CheckpointError(
            f"This is a {config['_class_name']}, not CogVideoX's VAE; use CogVideoX-5B-I2V's vae folder."
        )
    from ..video.lean_vae import lean

    values = {key: value for key, value in config.items() if not key.startswith("_")}
    with without_weights():
        return lean(AutoencoderKLCogVideoX.from_config(values))
