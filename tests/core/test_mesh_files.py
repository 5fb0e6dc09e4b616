"""Meshes through files: what is written is read back, and each broken file gets one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from fantasyid_core.errors import InputError, MissingFileError
from fantasyid_core.geometry import mesh_files
from fantasyid_core.geometry.geometry import FLAME_TOPOLOGY, FREE_TOPOLOGY, FaceGeometry
from fantasyid_core.geometry.head import HEAD_TOPOLOGY, load_head
from fantasyid_core.geometry.mesh_files import load_mesh, save_mesh

HEAD = load_head()
TETRAHEDRON = FaceGeometry(
    np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]),
    np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]),
    FREE_TOPOLOGY,
)
PLY_HEADER = "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n"


@pytest.mark.parametrize("ending", [".ply", ".obj", ".glb"])
def test_a_head_survives_a_file_vertex_by_vertex(tmp_path, ending):
    geometry = HEAD.geometry(HEAD.random_shape(np.random.default_rng(0)))
    found = load_mesh(save_mesh(tmp_path / f"face{ending}", geometry))
    assert found.topology == HEAD_TOPOLOGY and np.array_equal(found.triangles, geometry.triangles)
    assert np.allclose(found.vertices, geometry.vertices, atol=1e-6)
    assert found.source == f"mesh file face{ending}" and found.pose is None and found.shape is None


@pytest.mark.parametrize("ending", [".ply", ".obj", ".glb"])
def test_colours_are_kept_where_the_vertices_are(tmp_path, ending):
    import trimesh

    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)
    path = save_mesh(tmp_path / f"colours{ending}", TETRAHEDRON, colours)
    mesh = trimesh.load(path, force="mesh", process=False)
    assert np.array_equal(mesh.visual.vertex_colors[:, :3], (colours * 255).astype(np.uint8))


@pytest.mark.parametrize("ending", [".stl", ".off"])
def test_other_formats_are_read_as_free_meshes(tmp_path, ending):
    import trimesh

    trimesh.Trimesh(TETRAHEDRON.vertices, TETRAHEDRON.triangles, process=False).export(tmp_path / f"mesh{ending}")
    found = load_mesh(tmp_path / f"mesh{ending}")
    assert found.topology == FREE_TOPOLOGY and len(found.triangles) == 4


def test_5023_vertices_with_faces_are_flame(tmp_path):
    generator = np.random.default_rng(1)
    vertices = generator.uniform(-0.1, 0.1, (5023, 3)).astype(np.float32)
    triangles = generator.permutation(5023)[:5022].reshape(-1, 3)
    path = save_mesh(tmp_path / "flame.ply", FaceGeometry(vertices, triangles, FREE_TOPOLOGY))
    assert load_mesh(path).topology == FLAME_TOPOLOGY


def test_the_heads_vertex_count_with_other_triangles_is_not_our_head(tmp_path):
    turned = FaceGeometry(HEAD.base, HEAD.triangles[::-1], FREE_TOPOLOGY)
    assert load_mesh(save_mesh(tmp_path / "other.ply", turned)).topology == FREE_TOPOLOGY


def test_a_point_cloud_of_another_size_is_refused(tmp_path):
    path = tmp_path / "cloud.ply"
    path.write_text(PLY_HEADER.format(5022) + "end_header\n" + "0.1 0.1 0.1\n" * 5022)
    with pytest.raises(InputError, match="no triangles and 5022 points; a point cloud must have FLAME's 5023"):
        load_mesh(path)


def test_a_flame_cloud_without_the_users_hierarchy_says_what_is_missing(tmp_path):
    path = tmp_path / "cloud.ply"
    path.write_text(PLY_HEADER.format(5023) + "end_header\n" + "0.1 0.1 0.1\n" * 5023)
    with pytest.raises(MissingFileError):
        load_mesh(path, [tmp_path / "models"])


def test_a_mesh_without_faces_is_refused(tmp_path):
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    with pytest.raises(InputError, match=r"points\.obj has no triangles|points\.obj is damaged"):
        load_mesh(tmp_path / "points.obj")


def test_positions_that_are_not_numbers_are_refused(tmp_path):
    (tmp_path / "nan.obj").write_text("v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(InputError, match="not numbers"):
        load_mesh(tmp_path / "nan.obj")


@pytest.mark.parametrize("ending", [".ply", ".obj", ".glb", ".stl", ".off"])
@pytest.mark.parametrize("kept", [0, 40, 0.5])
def test_a_truncated_file_is_refused_or_no_head(tmp_path, ending, kept):
    import trimesh

    path = tmp_path / f"half{ending}"
    trimesh.Trimesh(HEAD.base, HEAD.triangles, process=False).export(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    try:
        found = load_mesh(path)
    except InputError as error:
        assert path.name in str(error) and "\n" not in str(error)
    else:  # an .obj has no length; half of it may be a whole mesh, but never a head
        assert ending in (".obj", ".off") and found.topology == FREE_TOPOLOGY


@pytest.mark.parametrize("ending", [".ply", ".obj", ".glb", ".stl", ".off"])
def test_noise_is_refused_in_one_sentence(tmp_path, ending):
    path = tmp_path / f"noise{ending}"
    path.write_bytes(np.random.default_rng(2).bytes(4000))
    with pytest.raises(InputError) as caught:
        load_mesh(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def test_a_head_in_centimetres_is_not_taken_for_one_in_metres(tmp_path):
    path = save_mesh(tmp_path / "large.glb", FaceGeometry(HEAD.base * 100, HEAD.triangles, HEAD_TOPOLOGY))
    with pytest.raises(InputError, match="must be in metres"):
        load_mesh(path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh_files, "MAX_BYTES", 100)
    path = save_mesh(tmp_path / "huge.ply", TETRAHEDRON)
    with pytest.raises(InputError, match="too large for a head"):
        load_mesh(path)


def test_other_endings_and_absent_files_are_named(tmp_path):
    (tmp_path / "face.blend").write_bytes(b"x")
    with pytest.raises(InputError, match=r"face\.blend is no mesh file"):
        load_mesh(tmp_path / "face.blend")
    with pytest.raises(MissingFileError, match=r"no mesh file .*nowhere\.ply"):
        load_mesh(tmp_path / "nowhere.ply")
    with pytest.raises(InputError, match=r"cannot end in '\.stl'"):
        save_mesh(tmp_path / "face.stl", TETRAHEDRON)


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="Nothing can be written into"):
        save_mesh(tmp_path / "file" / "face.ply", TETRAHEDRON)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_export_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
    import trimesh

    path = save_mesh(tmp_path / "face.ply", TETRAHEDRON)
    before = path.read_bytes()

    def full_disk(self, file, file_type):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(trimesh.Trimesh, "export", full_disk)
    with pytest.raises(OSError, match="no space"):
        save_mesh(path, TETRAHEDRON)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
