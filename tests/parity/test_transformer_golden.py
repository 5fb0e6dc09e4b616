"""The DiT computes what the release computes (golden README, d and e), with weights made of their names."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from golden import assert_same_numbers, golden_json, golden_tensors

from fantasyid_core.config import RELEASE
from fantasyid_core.verify.models import golden_layer_attention
from fantasyid_core.verify.video import layer_attention_numbers, rotary_numbers, transformer_numbers
from fantasyid_core.video.transformer import LayerAdaptiveTransformer3DModel, official_key
from fantasyid_core.weights.golden_rule import tensor_input

TOLERANCE = 2e-5  # the golden README's


def golden_tokens(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The identity tokens [1, 115, 2048] of the golden face, from the release's own two branches."""
    face = golden_tensors("face_abstractor.safetensors")["output"]
    vertices = golden_tensors("vertex_spiral_net.safetensors")["anne.reduced"]
    return torch.cat([face, vertices], dim=1).to(dtype)


def test_layer_attention_gives_the_releases_numbers():
    golden = golden_tensors("layer_attention.safetensors")
    ours = dict(layer_attention_numbers())
    for key, expected in golden.items():
        assert_same_numbers(key, ours[key], expected, TOLERANCE)
    relative = (ours["output_bfloat16"] - ours["output"]).norm() / ours["output"].norm()
    assert relative < 0.0084  # what bfloat16 costs the release itself
    # the same identity for a batch of two: row by row what a batch of one gives
    attention = golden_layer_attention()
    pair = tensor_input("layer_attention.latents.b2", (2, 96, 3072))
    identity = attention.keys_values(tensor_input("layer_attention.x", (1, 115, 2048)))
    alone = torch.cat([attention(row[None], *identity) for row in pair])
    assert_same_numbers("output_batch2, row by row", ours["output_batch2"], alone, TOLERANCE)


def test_rotary_table_is_the_releases():
    golden = golden_tensors("rope_full.safetensors")
    for key, ours in rotary_numbers():
        assert_same_numbers(key, ours, golden[key], 1e-6)


@pytest.fixture(scope="module")
def base() -> dict[str, torch.Tensor]:
    return dict(transformer_numbers(SimpleNamespace(tokens=golden_tokens), ["base.output_bfloat16"]))


def test_whole_transformer_with_and_without_identity_gives_the_releases_numbers(base):
    for key, expected in golden_tensors("transformer.safetensors").items():
        whole, _, rows = key.partition("_first")  # of some the golden file keeps the first rows only
        ours = base[whole][:, : int(rows)] if rows else base[whole]
        assert_same_numbers(key, ours, expected, TOLERANCE)


def test_bfloat16_is_as_close_to_float32_as_the_releases(base):
    exact, low = base["base.output"], base["base.output_bfloat16"]
    assert (low - exact).norm() / exact.norm() < 0.013
    assert (low - exact).abs().max() < 0.047


def test_the_whole_checkpoint_is_covered_key_for_key_and_shape_for_shape():
    manifest = golden_json("manifest.json")["keys"]
    with torch.device("meta"):
        model = LayerAdaptiveTransformer3DModel(RELEASE)
    ours = {official_key(name): list(tensor.shape) for name, tensor in model.state_dict().items()}
    encoder = ("face_abstractor.", "vertex_spiral_net.", "vertex_reducer.")
    expected = {key: list(shape) for key, shape in manifest.items() if not key.startswith(encoder)}
    assert ours == expected
