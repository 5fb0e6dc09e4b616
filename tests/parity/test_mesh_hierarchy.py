"""The release's mesh levels are read out of its own kind of file, and our ring walk finds its spirals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from golden import golden_arrays
from python2_pickle import dumps

from fantasyid_core.errors import CheckpointError, MissingFileError
from fantasyid_core.geometry.hierarchy import load_hierarchy, save_hierarchy
from fantasyid_core.geometry.spirals import OneRings, build_spirals
from fantasyid_core.geometry.transform_file import find_flame_hierarchy, read_transform_pickle


@pytest.fixture(scope="module")
def mesh():
    return golden_arrays("mesh_hierarchy.npz")


@pytest.fixture(scope="module")
def transform_pickle(mesh, tmp_path_factory):
    """A file of the release's layout (python-2 pickle, scipy matrices) from the golden arrays."""
    vertices = [golden_arrays("vertices.npz")["anne"].astype(np.float64)]
    for level in range(4):
        vertices.append(vertices[-1][mesh[f"down_{level}"]])
    content = {
        "vertices": vertices,
        "face": [mesh[f"face_{level}"].astype(np.uint32) for level in range(5)],
        "adj": [scipy.sparse.identity(len(v), dtype=np.float32, format="csc") for v in vertices],
        "down_transform": [down_matrix(mesh[f"down_{i}"], len(vertices[i])) for i in range(4)],
        "up_transform": [
            up_matrix(mesh[f"up_{i}_index"], mesh[f"up_{i}_weight"], len(vertices[i + 1])) for i in range(4)
        ],
    }
    path = tmp_path_factory.mktemp("fantasyid") / "transform.pkl"
    path.write_bytes(dumps(content))
    return path


def down_matrix(picks: np.ndarray, fine: int) -> scipy.sparse.csc_matrix:
    rows = np.arange(len(picks))
    return scipy.sparse.csc_matrix((np.ones(len(picks), np.float32), (rows, picks)), (len(picks), fine))


def up_matrix(index: np.ndarray, weight: np.ndarray, coarse: int) -> scipy.sparse.csc_matrix:
    rows = np.repeat(np.arange(len(index)), 3)
    return scipy.sparse.csc_matrix((weight.ravel(), (rows, index.ravel())), (len(index), coarse))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_spirals_are_the_released_ones(mesh, level):
    spirals = build_spirals(mesh[f"face_{level}"], len(mesh[f"spiral_{level}"]))
    np.testing.assert_array_equal(spirals, mesh[f"spiral_{level}"])


def test_the_two_faces_that_are_not_manifold_are_left_out(mesh):
    rejected = [OneRings(mesh[f"face_{i}"], len(mesh[f"spiral_{i}"])).rejected for i in range(4)]
    assert [len(faces) for faces in rejected] == [0, 0, 2, 0]


def test_spirals_that_the_mesh_cannot_fill_take_the_nearest_vertices(mesh):
    """Level 3 falls back for nine vertices; the mean mesh is not here, so the order of those is another head's."""
    template = golden_arrays("vertices.npz")["anne"][mesh["down_0"]][mesh["down_1"]][mesh["down_2"]]
    spirals = build_spirals(mesh["face_3"], len(template), vertices=template)
    assert (spirals != mesh["spiral_3"]).any(axis=1).sum() <= 9


def test_the_released_file_gives_the_released_levels(mesh, transform_pickle):
    hierarchy = read_transform_pickle(transform_pickle)
    assert hierarchy.level_sizes == (5023, 1256, 314) and hierarchy.topology == "flame-5023"
    for level in range(2):
        np.testing.assert_array_equal(hierarchy.spirals[level], mesh[f"spiral_{level}"])
        np.testing.assert_array_equal(hierarchy.down[level], mesh[f"down_{level}"])
        np.testing.assert_array_equal(hierarchy.up_index[level], mesh[f"up_{level}_index"])
        np.testing.assert_array_equal(hierarchy.up_weight[level], mesh[f"up_{level}_weight"])
    np.testing.assert_array_equal(hierarchy.triangles, mesh["face_0"])


def test_the_converted_file_is_found_first_and_holds_the_same(transform_pickle, tmp_path):
    folder = tmp_path / "fantasyid" / "flame"
    folder.mkdir(parents=True)
    with pytest.raises(MissingFileError, match=r"transform\.pkl.*non-commercial.*fantasyid/flame"):
        find_flame_hierarchy([tmp_path])
    (folder / "transform.pkl").write_bytes(transform_pickle.read_bytes())
    read = find_flame_hierarchy([tmp_path])
    save_hierarchy(read, folder / "mesh_hierarchy.safetensors")
    (folder / "transform.pkl").write_bytes(b"must not be read")
    again = find_flame_hierarchy([tmp_path])
    np.testing.assert_array_equal(again.coarse_vertices, read.coarse_vertices)
    np.testing.assert_array_equal(again.template, read.template)
    assert len(load_hierarchy(folder / "mesh_hierarchy.safetensors").spirals) == 2


@pytest.mark.parametrize("content", [{}, [], {"vertices": [None] * 5}, {"vertices": []}])
def test_another_pickle_is_refused(content, tmp_path):
    path = tmp_path / "transform.pkl"
    path.write_bytes(dumps(content))
    with pytest.raises(CheckpointError, match="mesh levels"):
        read_transform_pickle(path)
