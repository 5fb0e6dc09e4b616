"""The identity networks give the authors' numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from golden import assert_same_numbers, golden_arrays, golden_json, golden_tensors

from fantasyid_core.config import RELEASE
from fantasyid_core.geometry.hierarchy import MeshHierarchy
from fantasyid_core.identity import eva, face_abstractor, vertex_reducer, vertex_spiral_net
from fantasyid_core.identity.eva import FullEvaTower, eva_input
from fantasyid_core.identity.face_abstractor import FaceAbstractor
from fantasyid_core.identity.vertex_reducer import VertexReducer
from fantasyid_core.identity.vertex_spiral_net import VertexSpiralNet
from fantasyid_core.weights.golden_rule import fill_module, tensor_input


def released_abstractor() -> FaceAbstractor:
    module = FaceAbstractor(RELEASE.face_abstractor, RELEASE.eva.grid, RELEASE.identity_width)
    fill_module(module, face_abstractor.official_key)
    return module.eval()


def released_hierarchy() -> MeshHierarchy:
    arrays = golden_arrays("mesh_hierarchy.npz")
    return MeshHierarchy(
        "flame-5023",
        spirals=tuple(arrays[f"spiral_{level}"] for level in range(2)),
        down=tuple(arrays[f"down_{level}"] for level in range(2)),
        up_index=tuple(arrays[f"up_{level}_index"] for level in range(2)),
        up_weight=tuple(arrays[f"up_{level}_weight"] for level in range(2)),
    )


def released_vertex_nets() -> tuple[VertexSpiralNet, VertexReducer]:
    net = VertexSpiralNet(RELEASE.vertex_net, released_hierarchy()).eval()
    fill_module(net, vertex_spiral_net.official_key)
    reducer = VertexReducer(RELEASE.vertex_net).eval()
    fill_module(reducer, vertex_reducer.official_key)
    return net, reducer


@torch.no_grad()
def test_face_abstractor_gives_the_released_tokens():
    golden = golden_tensors("face_abstractor.safetensors")
    module = released_abstractor()
    features = tensor_input("id_vit_hidden.4", (1, 577, 1024))
    stages = module.stages(features)
    first = "mapping_4_patch_rows_plus_both_pos_emb_first8"
    assert_same_numbers(first, stages.entered[:, :8], golden[first], 1e-5)
    assert_same_numbers("stage1", stages.stage1[:, :8], golden["stage1_first_channels"], 2e-5)
    assert_same_numbers("pooled", stages.pooled, golden["pooled"], 1e-5)
    assert_same_numbers("stage2", stages.stage2, golden["stage2"], 2e-5)
    assert_same_numbers("cabstractor_out", stages.readout, golden["cabstractor_out"], 1e-5)
    assert_same_numbers("output", module(features), golden["output"], 1e-5)


@torch.no_grad()
def test_vertex_networks_give_the_released_tokens():
    golden = golden_tensors("vertex_spiral_net.safetensors")
    net, reducer = released_vertex_nets()
    vertices = torch.from_numpy(golden_arrays("vertices.npz")["anne"])[None]
    face_tokens = golden_tensors("face_abstractor.safetensors")["output"]
    coarse = net.coarse_vertices(vertices)
    assert_same_numbers("coarse_vertices", coarse, golden["anne.coarse_vertices"], 0.0)
    assert_same_numbers("depth_embedding", net.depth_embedding(coarse), golden["anne.depth_embedding"], 1e-6)
    assert_same_numbers("face_tokens", net.shrink(face_tokens), golden["anne.face_tokens"], 2e-5)
    attended = net.attend(vertices, face_tokens)
    assert_same_numbers("transformer_out", attended, golden["anne.transformer_out"], 2e-5)
    descriptor = net(vertices, face_tokens)
    assert_same_numbers("descriptor", descriptor, golden["anne.descriptor"], 2e-5)
    assert_same_numbers("reduced", reducer(descriptor), golden["anne.reduced"], 5e-5)


@torch.no_grad()
def test_vertex_network_without_face_tokens_is_the_queries_alone():
    golden = golden_tensors("vertex_spiral_net.safetensors")
    net, _ = released_vertex_nets()
    vertices = torch.from_numpy(golden_arrays("vertices.npz")["anne"])[None]
    key = "anne.descriptor_without_face_tokens_first16"
    assert_same_numbers(key, net(vertices, None)[:, :16], golden[key], 2e-5)


@torch.no_grad()
def test_two_people_at_once_are_two_people_one_by_one():
    net, reducer = released_vertex_nets()
    vertices = tensor_input("vertices", (2, 5023, 3), 0.1)
    face_tokens = tensor_input("id_vit_hidden.0", (2, 36, 2048))
    together = reducer(net(vertices, face_tokens))
    alone = torch.cat([reducer(net(vertices[i : i + 1], face_tokens[i : i + 1])) for i in range(2)])
    assert_same_numbers("batch of 2", together, alone, 5e-5)
    assert (together[0] - together[1]).abs().max() > 0.1


@torch.no_grad()
def test_eva_tower_gives_the_released_features():
    golden = golden_tensors("eva_visual.safetensors")
    tower = FullEvaTower(replace(RELEASE.eva, layers=eva.FULL_LAYERS)).eval()
    fill_module(tower, eva.official_key)
    assert_same_numbers("rope_cos", tower.rope_cos, golden["rope_cos"], 1e-6)
    assert_same_numbers("rope_sin", tower.rope_sin, golden["rope_sin"], 1e-6)
    features = tower.features(tensor_input("eva.image", (1, 3, 336, 336)))
    for level in range(4):
        key = f"hidden_{level}_first16"
        assert_same_numbers(key, features.hidden[level][:, :16], golden[key], 1e-4)
    assert_same_numbers("hidden_4", features.hidden[4], golden["hidden_4"], 1e-4)
    assert_same_numbers("cond_raw", features.embedding, golden["cond_raw"], 2e-5)
    normalised = features.embedding / features.embedding.norm(dim=-1, keepdim=True)
    assert_same_numbers("cond_normalised", normalised, golden["cond_normalised"], 1e-5)


def test_tower_names_are_those_of_the_eva_clip_checkpoint():
    manifest = golden_json("eva_visual_manifest.json")["keys"]
    learned = {key: shape for key, shape in manifest.items() if ".rope." not in key and "visual.rope" not in key}
    with torch.device("meta"):
        tower = FullEvaTower(replace(RELEASE.eva, layers=eva.FULL_LAYERS))
    ours = {eva.official_key(name): list(tensor.shape) for name, tensor in tower.state_dict().items()}
    assert ours == learned


def test_abstractor_names_are_those_of_the_released_checkpoint_and_only_the_live_ones():
    manifest = golden_json("manifest.json")["keys"]
    with torch.device("meta"):
        module = FaceAbstractor(RELEASE.face_abstractor, RELEASE.eva.grid, RELEASE.identity_width)
    ours = {face_abstractor.official_key(name): list(tensor.shape) for name, tensor in module.state_dict().items()}
    assert ours == {key: manifest[key] for key in ours}
    assert sum(tensor.numel() for tensor in module.state_dict().values()) == 17_698_880


def test_vertex_network_names_are_those_of_the_released_checkpoint():
    manifest = golden_json("manifest.json")["keys"]
    with torch.device("meta"):
        modules = {
            "vertex_spiral_net.": VertexSpiralNet(RELEASE.vertex_net, None),
            "vertex_reducer.": VertexReducer(RELEASE.vertex_net),
        }
    for prefix, module in modules.items():
        ours = {prefix + name: list(tensor.shape) for name, tensor in module.state_dict().items()}
        assert ours == {key: shape for key, shape in manifest.items() if key.startswith(prefix)}


def test_face_crop_is_prepared_as_the_release_prepares_it():
    golden = golden_arrays("face_preprocess.npz")
    crop = np.ascontiguousarray(golden["crop_bgr"][..., ::-1]).astype(np.float32) / 255
    prepared = eva_input(torch.from_numpy(crop).permute(2, 0, 1)[None], 336)
    assert_same_numbers("eva_input", prepared[:, :, ::4, ::4], torch.from_numpy(golden["eva_input"]), 1e-5)
    sums = prepared.double().sum((2, 3))
    assert_same_numbers("eva_input_sum", sums / 336**2, torch.from_numpy(golden["eva_input_sum"]) / 336**2, 1e-6)
