"""Which family of checkpoint a set of keys looks like: said to the user when a file is not a FantasyID model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Shapes = Mapping[str, tuple[int, ...]]


def guess_family(shapes: Shapes) -> str:
    """A phrase for "this looks like …", from key names and shapes alone. shapes: key → shape."""
    if _any(shapes, contains=("lora_A.", "lora_B.", "lora_up.", "lora_down.", ".lora.", "lokr_w", "hada_w")):
        return "a LoRA: load it with a LoRA loader on top of the model"
    if _any(shapes, starts=("local_facial_extractor.", "perceiver_cross_attention.")):
        return "a ConsisID transformer, another identity model on CogVideoX"
    if _any(shapes, starts=("layer_attention.", "face_abstractor.", "vertex_spiral_net.", "vertex_reducer.")):
        return _incomplete_fantasyid(shapes)
    if "patch_embed.text_proj.weight" in shapes or _any(shapes, starts=("transformer_blocks.",)):
        return _cogvideox(shapes)
    return _others(shapes)


def _incomplete_fantasyid(shapes: Shapes) -> str:
    parts = {
        "the video DiT": "transformer_blocks.",
        "the face abstractor": "face_abstractor.",
        "the vertex network": "vertex_spiral_net.",
        "the vertex reducer": "vertex_reducer.",
        "the layer attention": "layer_attention.",
    }
    absent = [name for name, prefix in parts.items() if not _any(shapes, starts=(prefix,))]
    if absent:
        return f"a FantasyID checkpoint without {', '.join(absent)}: a shard is missing or half-downloaded"
    return "a FantasyID checkpoint whose parts do not fit together: a shard is missing, or config.json is another one's"


def _cogvideox(shapes: Shapes) -> str:
    patch = shapes.get("patch_embed.proj.weight")
    if patch is None or "patch_embed.text_proj.weight" not in shapes:
        return "a part of a CogVideoX-like transformer: a shard is missing or half-downloaded"
    if len(patch) == 2:
        return "plain CogVideoX 1.5 (no identity networks)"
    if patch[0] == 1920:
        return "plain CogVideoX-2B (width 1920, no identity networks)"
    if patch[0] == 3072:
        variant = {16: "CogVideoX-5B", 32: "CogVideoX-5B-I2V, the model FantasyID was trained from"}
        name = variant.get(patch[1], f"a CogVideoX-5B variant with {patch[1]} input channels")
        return f"plain {name} (no identity networks)"
    return f"a plain CogVideoX-like transformer of width {patch[0]} (no identity networks)"


def _others(shapes: Shapes) -> str:
    if not shapes:
        return "an empty file"
    rules: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
        ("a T5 text encoder", ("encoder.block.0.layer.0.SelfAttention",), ()),
        ("an EVA-CLIP or CLIP file, the vision tower", ("visual.", "vision_model."), ()),
        ("DECA's encoder", ("E_flame.",), ()),
        ("a CogVideoX VAE", ("decoder.mid_block.", "encoder.down_blocks.", "decoder.up_blocks."), (".conv_y.",)),
        ("a VAE", ("decoder.mid_block.", "encoder.down_blocks.", "decoder.up_blocks.", "first_stage_model."), ()),
        ("a checkpoint in ComfyUI's single-file form of another model", ("model.diffusion_model.",), ()),
        ("a Flux model", ("double_blocks.", "single_blocks."), ()),
        ("a Wan video model", ("patch_embedding.", "blocks.0.cross_attn."), ()),
        ("a ControlNet or CogVideoX control branch", ("controlnet", "control_"), ()),
        ("a U-Net (Stable Diffusion family)", ("down_blocks.", "input_blocks."), ()),
    )
    for name, starts, contains in rules:
        if _any(shapes, starts=starts) and (not contains or _any(shapes, contains=contains)):
            return name
    return "none of the families known here"


def _any(keys: Iterable[str], starts: tuple[str, ...] = (), contains: tuple[str, ...] = ()) -> bool:
    return any((starts and key.startswith(starts)) or any(part in key for part in contains) for key in keys)
