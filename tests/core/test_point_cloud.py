"""Point clouds as the release writes them go in and out unchanged, and another mesh is told apart."""

import numpy as np
import pytest

from fantasyid_core.errors import InputError
from fantasyid_core.geometry.geometry import FaceGeometry
from fantasyid_core.geometry.hierarchy import MeshHierarchy
from fantasyid_core.geometry.point_cloud import point_cloud_geometry, read_point_cloud, write_point_cloud

TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


@pytest.fixture
def cloud():
    vertices = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    return FaceGeometry(vertices, TRIANGLES, "quad")


@pytest.fixture
def hierarchy():
    spirals = (np.array([[0, 1, 2], [1, 2, 0], [2, 3, 0], [3, 0, 2]], np.int32),)
    up = (np.zeros((4, 3), np.int32),)
    weight = (np.full((4, 3), 1 / 3, np.float32),)
    return MeshHierarchy("quad", spirals, (np.array([1, 3]),), up, weight, None, TRIANGLES)


def test_a_written_cloud_comes_back_exactly(cloud, hierarchy, tmp_path):
    path = tmp_path / "cloud.ply"
    write_point_cloud(cloud, path)
    header, points = path.read_bytes().split(b"end_header\n")
    assert b"binary_little_endian" in header and b"property double x" in header and len(points) == 4 * 3 * 8
    read = point_cloud_geometry(path, hierarchy)
    np.testing.assert_array_equal(read.vertices, cloud.vertices)
    assert read.topology == "quad" and read.source == "point cloud cloud.ply"


def test_clouds_of_other_programs_are_read_too(cloud, tmp_path):
    path = tmp_path / "x.ply"
    rows = "\n".join(f"{x:.9g} {y:.9g} {z:.9g} 255" for x, y, z in cloud.vertices)
    head = "ply\nformat {}\ncomment y\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    tail = "property uchar red\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n"
    path.write_text(head.format("ascii 1.0") + tail + rows + "\n3 0 1 2\n")
    np.testing.assert_array_equal(read_point_cloud(path), cloud.vertices)
    kind = np.dtype([("xyz", ">f4", 3), ("red", "u1")])
    table = np.zeros(4, kind)
    table["xyz"] = cloud.vertices
    path.write_bytes((head.format("binary_big_endian 1.0") + tail).encode() + table.tobytes())
    np.testing.assert_array_equal(read_point_cloud(path), cloud.vertices)


def test_a_cloud_with_a_point_too_few_is_refused(cloud, hierarchy, tmp_path):
    path = tmp_path / "short.ply"
    write_point_cloud(FaceGeometry(cloud.vertices[:3], [[0, 1, 2]], "quad"), path)
    with pytest.raises(InputError, match="3 points, but quad has 4"):
        point_cloud_geometry(path, hierarchy)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"not a mesh",
        lambda data: data[:-1],
        lambda data: data[:20],
        lambda data: data.replace(b"double z", b"double w"),
        lambda data: data.replace(b"property double z", b"property list uchar int z"),
        lambda data: data.replace(b"vertex 4", b"vertex 4000000000"),
        lambda data: data[:-8] + np.array([np.nan]).tobytes(),
        lambda data: data.replace(b"binary_little_endian", b"ascii"),
    ],
)
def test_a_damaged_cloud_is_refused_in_a_sentence(damage, cloud, tmp_path):
    path = tmp_path / "bad.ply"
    write_point_cloud(cloud, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"bad\.ply"):
        read_point_cloud(path)
