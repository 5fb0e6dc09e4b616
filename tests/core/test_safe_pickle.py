"""Old model files are read whole, and a file that would run a program is refused before anything runs."""

import builtins
import collections
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from fantasyid_core.errors import CheckpointError
from fantasyid_core.weights.pickle_machine import MAX_OPCODES
from fantasyid_core.weights.safe_pickle import SparseMatrix, parse_pickle, read_pickle
from fantasyid_core.weights.torch_archive import read_torch_archive, state_dict_of

sparse = pytest.importorskip("scipy.sparse")


class Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_plain_values_come_back_as_they_were(protocol):
    value = {
        "c": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        "empty": np.zeros((0, 3), dtype=np.uint32),
        "bool": np.array([True, False]),
        "scalar": np.float32(1.5),
        "plain": [1, -2, 2**70, 1.5, None, True, "é\n", b"\x00x", (), (1,), (1, 2, 3, 4), [[]]],
        "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
        "set": {3},
    }
    read = parse_pickle(pickle.dumps(value, protocol), "x.pkl")
    for name in ("c", "fortran", "empty", "bool"):
        np.testing.assert_array_equal(read[name], value[name])
    assert read["plain"] == value["plain"] and read["scalar"] == 1.5 and read["set"] == [3]
    assert list(read["ordered"].items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
def test_a_sparse_matrix_comes_back_without_scipy(kind, monkeypatch):
    matrix = sparse.random(5, 9, 0.4, format=kind, random_state=0)
    data = pickle.dumps(matrix, 2)
    monkeypatch.setitem(sys.modules, "scipy", None)
    read = parse_pickle(data, "x.pkl")
    assert isinstance(read, SparseMatrix)
    np.testing.assert_array_equal(read.toarray(), matrix.toarray())


def python2_string(data: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(data)) + data


def python2_array(array: np.ndarray) -> bytes:
    """An array as Python 2's cPickle wrote it with protocol 2."""
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n(" + python2_string(array.dtype.str[1:].encode()) + b"K\x00K\x01tR"
    dtype += b"(K\x03" + python2_string(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01" + shape + dtype + b"\x89" + python2_string(array.tobytes()) + b"tb"
    return b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + python2_string(b"b") + b"tR" + state


@pytest.mark.parametrize(
    "call", [b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR", b"cchumpy.ch\nCh\n)\x81"]
)
def test_a_chumpy_array_of_python_2_keeps_its_data(call):
    array = np.arange(6.0).reshape(3, 2)
    state = b"}(" + python2_string(b"x") + python2_array(array)
    state += python2_string(b"_dirty_vars") + b"c__builtin__\nset\n(](" + python2_string(b"x") + b"etRu"
    data = b"\x80\x02}(" + python2_string(b"v_template") + call + state + b"bu."
    read = parse_pickle(data, "generic_model.pkl")
    np.testing.assert_array_equal(read["v_template"], array)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {}",)),
        (builtins.eval, ("open('{}', 'w')",)),
        (builtins.exec, ("open('{}', 'w')",)),
        (builtins.getattr, (np, "load")),
        (np.load, ("{}",)),
        (torch.load, ("{}",)),
        (builtins.print, ("x",)),
        (types.SimpleNamespace, ()),
    ],
)
def test_a_file_that_would_run_a_program_is_refused_and_names_it(function, arguments, protocol, tmp_path):
    victim = tmp_path / "ran"
    arguments = tuple(a.format(victim) if isinstance(a, str) else "numpy" for a in arguments)
    for value in (Calls(function, *arguments), {"weights": [({"deep": Calls(function, *arguments)},)]}):
        with pytest.raises(CheckpointError, match="nothing was run") as caught:
            parse_pickle(pickle.dumps(value, protocol), "bad.pkl")
        assert function.__name__ in str(caught.value) and "bad.pkl" in str(caught.value)
    assert not victim.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nndarray\n}X\x01\x00\x00\x00ad.",  # no state for a class
        b"cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",  # BUILD on a class
        b"\x80\x02]}b.",  # BUILD on a list
        b"\x80\x02}X\x01\x00\x00\x00aK\x01s}b.",  # BUILD on a dictionary
        b"(lcnumpy\nndarray\n0K\x01K\x02R.",  # calls a number
        b"\x80\x02K\x01a.",  # appends to nothing
        b"\x80\x02(((((.",  # marks for a value
        b"\x80\x02h\x07.",  # an empty memo
        b"\x80\x02]q\x00h\x00a.",  # a list that holds itself
        b"\x80\x02}]K\x01s.",  # a list as a key
        b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93.",  # a dotted name
        b"\x80\x02\x82\x01.",  # the extension registry
        b"\x80\x02X\x01\x00\x00\x00aQ.",  # a reference to outside
        b"\x80\x02T\xff\xff\xff\x7fabc.",  # a length of 2 GB in a file of 10 bytes
        b"\x80\x02\x8b\x00\x00\x00\x80.",  # a negative length
        b"\x80\x05\x95\x00\x00",  # ends early
        b"",
        b"not a pickle",
        b"cnumpy\nndarray\n.",  # a bare class as the result
        b"ccollections\nOrderedDict\n(K\x05tR.",
        b"cnumpy\ndtype\n(U\x01OtR.",
    ],
)
def test_trick_files_are_refused(data):
    with pytest.raises(CheckpointError):
        parse_pickle(data, "trick.pkl")


def test_an_array_of_python_objects_is_refused():
    with pytest.raises(CheckpointError):
        parse_pickle(pickle.dumps(np.array([{}, "x"], dtype=object)), "objects.pkl")


def test_an_array_that_claims_more_than_its_bytes_is_refused():
    data = pickle.dumps(np.arange(10.0), 2)
    assert parse_pickle(data, "x").shape == (10,)
    with pytest.raises(CheckpointError, match="shape"):
        parse_pickle(data.replace(b"K\x0a\x85", b"K\x7f\x85"), "x")


def test_a_sparse_matrix_that_points_outside_itself_is_refused():
    matrix = sparse.csc_matrix(np.eye(3))
    matrix.indices[1] = 77
    with pytest.raises(CheckpointError, match="sparse"):
        parse_pickle(pickle.dumps(matrix, 2), "x")


def test_deep_nesting_and_unfolding_are_bounded():
    with pytest.raises(CheckpointError):
        parse_pickle(b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", "deep")
    doubled = b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"."
    read = parse_pickle(doubled, "doubled")  # shared, not copied 2**60 times
    assert read[0] is read[1]
    text = b"X" + struct.pack("<I", 1_000_000) + b"a" * 1_000_000 + b"q\x000"
    many = b"\x80\x02" + text + b"](" + b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR" * 1000 + b"e."
    with pytest.raises(CheckpointError, match="unfolds"):
        parse_pickle(many, "many")
    with pytest.raises(CheckpointError, match="instructions"):
        parse_pickle(b"\x80\x02" + b"N0" * (MAX_OPCODES // 2 + 1) + b".", "endless")


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(b"\x80\x02" + b"N0" * 100 + b"N.")
    assert read_pickle(path) is None
    with pytest.raises(CheckpointError, match="bytes"):
        read_pickle(path, max_bytes=100)


def weights():
    torch.manual_seed(0)
    return {
        "w": torch.randn(4, 3),
        "transposed": torch.randn(4, 5).T,
        "bf16": torch.randn(5).bfloat16(),
        "half": torch.randn(3).half(),
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "steps": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "slice": torch.randn(99)[3:80:2],
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_old_and_new_come_back_bit_for_bit(zipped, tmp_path):
    path, saved = tmp_path / "x.pt", weights()
    torch.save({"module": saved}, path, _use_new_zipfile_serialization=zipped)
    read = state_dict_of(read_torch_archive(path), path.name)
    assert list(read) == list(saved)
    for name, tensor in saved.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name
    before = path.read_bytes()
    read["w"].zero_()
    assert path.read_bytes() == before


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_that_would_run_a_program_is_refused(zipped, tmp_path):
    path, victim = tmp_path / "x.pt", tmp_path / "ran"
    torch.save(
        {"w": torch.ones(2), "x": Calls(os.system, f"touch {victim}")}, path, _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(CheckpointError, match=r"system.*nothing was run"):
        read_torch_archive(path)
    assert not victim.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_torch_file_is_refused(zipped, tmp_path):
    path = tmp_path / "x.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for part in (0, 3, 100, len(whole) // 2, len(whole) - 8):
        path.write_bytes(whole[:part])
        with pytest.raises(CheckpointError):
            read_torch_archive(path)


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"w": torch.ones(7, 3)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = next(part for part in parts if part.endswith("data.pkl"))
    assert b"K\x07K\x03\x86" in parts[name]
    parts[name] = parts[name].replace(b"K\x07K\x03\x86", b"K\xffK\x03\x86")
    with zipfile.ZipFile(path, "w") as archive:
        for part, data in parts.items():
            archive.writestr(part, data)
    with pytest.raises(CheckpointError, match="does not fit"):
        read_torch_archive(path)


def test_compressed_archives_and_other_zips_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch_archive(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="zip"):
        read_torch_archive(path)
    with pytest.raises(CheckpointError, match="no weights"):
        state_dict_of({"epoch": 3}, "x.pt")


def test_damage_anywhere_gives_a_sentence_and_never_another_error():
    value = {"a": np.arange(12.0).reshape(3, 4), "m": sparse.eye(4, format="csc"), "o": collections.OrderedDict(k=[1])}
    random = np.random.default_rng(0)
    for protocol in (0, 2, 4):
        whole = pickle.dumps(value, protocol)
        for _ in range(1500):
            data = bytearray(whole)
            for at in random.integers(0, len(data), 2):
                data[at] = random.integers(0, 256)
            try:
                parse_pickle(bytes(data), "x")
            except CheckpointError as error:
                assert "x" in str(error)
