"""Our head is laid onto a real FLAME mesh: one of the release's, since the mean mesh is not here."""

from __future__ import annotations

import numpy as np
from golden import golden_arrays

from fantasyid_core.geometry.correspondence import register, to_flame_topology
from fantasyid_core.geometry.head import load_head


def test_a_flame_mesh_is_laid_onto_our_head_and_people_come_across():
    mesh = golden_arrays("mesh_hierarchy.npz")
    anne = golden_arrays("vertices.npz")["anne"]
    head = load_head()
    laid = register(head.geometry(), anne, mesh["face_0"], "flame-5023")
    assert laid.distance < 5e-4  # metres, median over FLAME's skin
    assert 0.9 < laid.scale < 1.2 and laid.part.max() == 2
    picks = mesh["down_0"][mesh["down_1"]]  # the 314 whose z the network reads
    assert laid.matched[picks][laid.part[picks] == 0].mean() > 0.85
    person = to_flame_topology(head.geometry(head.random_shape(np.random.default_rng(0))), laid)
    depth = (person.vertices - anne)[picks, 2]
    assert 1e-3 < np.sqrt(np.mean(depth**2)) < 1e-2  # people differ by millimetres, in FLAME's scale and place
    np.testing.assert_allclose(to_flame_topology(head.geometry(), laid).vertices, anne, atol=1e-6)
