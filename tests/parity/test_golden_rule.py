"""The naming rule gives the very bytes that the release was filled with."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from golden import golden_json
from torch import nn

from fantasyid_core.weights.golden_rule import array_input, fill_module, weight


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def test_weights_have_the_digests_of_the_release_run():
    for key, wanted in golden_json("digests.json")["weights"].items():
        ours = weight(key, wanted["shape"])
        assert ours.ravel()[:3].tolist() == pytest.approx(wanted["first3"], abs=0), key
        assert digest(ours) == wanted["sha256"], key


def test_inputs_have_the_digests_of_the_release_run():
    wanted = golden_json("digests.json")["inputs"]
    assert wanted
    for label, entry in wanted.items():
        assert digest(array_input(label, entry["shape"], entry["scale"])) == entry["sha256"], label


def test_running_statistics_follow_their_own_lines_of_the_rule():
    assert weight("x.running_var", (50,)).min() >= 1.0
    assert weight("x.running_mean", (50,)).std() == pytest.approx(0.02, rel=0.5)
    assert weight("x.num_batches_tracked", ()) == 0
    assert weight("x.weight", (500,)).mean() == pytest.approx(1.0, abs=0.02)


def test_a_module_is_filled_by_the_checkpoint_names_of_its_tensors():
    layer = nn.Linear(4, 3).to(torch.bfloat16)
    fill_module(layer, lambda name: f"part.{name}")
    assert layer.weight.dtype == torch.bfloat16
    wanted = torch.from_numpy(weight("part.weight", (3, 4))).to(torch.bfloat16)
    assert torch.equal(layer.weight.data, wanted)
    assert not torch.equal(layer.weight.data, torch.from_numpy(weight("other.weight", (3, 4))).to(torch.bfloat16))
