"""``fantasyid verify DIR``: compute every golden number that DIR holds, and compare.

The golden numbers were made by running the authors' release with weights that are a pure function of their names, so
they check a whole installation (this code, torch, the hardware) without anybody's checkpoint. Every key of every golden
file is computed; a key that nothing computes is a failure, not a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from ..errors import FantasyIDError, InputError
from .check import Array, Check, compare, exact
from .golden import Golden, first_rows, read_arrays
from .identity import IdentityNets, eva_numbers, face_abstractor_numbers, vertex_numbers

__all__ = ["Check", "run_verify", "verify"]

_DATA = (".safetensors", ".npz", ".json")
_NOT_REPRODUCIBLE = "resized_long_8x"  # its input picture is in no golden file
_PREPROCESS_INPUTS = ("image_rgb", "landmarks")


def verify(directory: Path, report: Callable[[Check], None] = lambda check: None) -> list[Check]:
    """One check per golden key below ``directory``; ``report`` is called with each as it is done.

    Needs about 4 GB of memory and a few minutes on two cores. Raises InputError when there are no golden files.
    """
    directory = Path(directory)
    files = sorted(p for p in directory.iterdir() if p.suffix in _DATA) if directory.is_dir() else []
    if not files:
        raise InputError(f"{directory} holds no golden numbers (.safetensors, .npz, .json); give their folder.")
    golden = Golden(directory)
    nets = IdentityNets(golden)
    checks: list[Check] = []
    for path in files:
        for check in _file_checks(path, golden, nets):
            checks.append(check)
            report(check)
    return checks


def run_verify(directory: Path, write: Callable[[str], object] = print) -> int:
    """Print one line per key, then the sum. 0 when everything passed, 1 otherwise."""

    def report(check: Check) -> None:
        write(check.line())

    checks = verify(directory, report)
    failed = [check for check in checks if check.failed]
    passed = sum(check.verdict == "pass" for check in checks)
    inputs = len(checks) - passed - len(failed)
    write(f"\n{passed} passed, {len(failed)} failed, {inputs} inputs; torch {torch.__version__}")
    for check in failed:
        write(check.line())
    return 1 if failed else 0


def _file_checks(path: Path, golden: Golden, nets: IdentityNets) -> Iterator[Check]:
    """The checks of one file. What goes wrong while computing fails its keys instead of ending the run."""
    try:
        if path.suffix == ".json":
            yield from _json_checks(path)
        elif path.name.startswith("mesh_hierarchy"):
            from .geometry import hierarchy_checks

            yield from hierarchy_checks(path.name, read_arrays(path), golden)
        else:
            yield from _array_checks(path, golden, nets)
    except FantasyIDError as error:
        yield Check(path.name, "(file)", "FAIL", note=str(error))


def _json_checks(path: Path) -> Iterator[Check]:
    from ..weights.checkpoint import read_json
    from . import names

    kinds = {
        "manifest": names.manifest_checks,
        "eva_visual_manifest": names.eva_manifest_checks,
        "deca_manifest": names.deca_manifest_checks,
        "digests": names.digest_checks,
        "pipeline": names.pipeline_settings_checks,
    }
    if path.stem in kinds:
        yield from kinds[path.stem](path.name, read_json(path))
    else:
        yield exact(path.name, "(file)", False, "not computed: this version knows no golden file of that name")


def _array_checks(path: Path, golden: Golden, nets: IdentityNets) -> Iterator[Check]:
    """Compare each key as soon as it is computed; what remains was not computed."""
    arrays = read_arrays(path)
    left = dict(arrays)
    for key in list(left):
        if key == _NOT_REPRODUCIBLE:
            left.pop(key)
            yield Check(path.name, key, "input", note="ignored: its input picture is not among the golden numbers")
        elif _is_input(path, key):
            array = left.pop(key)
            good = bool(np.isfinite(array).all()) and array.size > 0
            yield Check(path.name, key, "input" if good else "FAIL", note="used as an input of other keys")
    if left:
        for name, ours in _numbers(path, arrays, golden, nets):
            for key in [key for key in left if key == name or _is_first_rows(key, name)]:
                tensor = first_rows(key, {name: ours})
                yield compare(path.name, key, None if tensor is None else _array(tensor), left.pop(key))
    for key, array in left.items():
        yield compare(path.name, key, None, array)


def _is_input(path: Path, key: str) -> bool:
    if path.name.startswith("vertices"):
        return True
    if path.name.startswith("face_preprocess"):
        return key in _PREPROCESS_INPUTS
    return path.name.startswith("pipeline") and key == "image_uint8"


def _is_first_rows(key: str, name: str) -> bool:
    return key.startswith(name + "_first") and key.removeprefix(name + "_first").isdigit()


def _array(tensor: torch.Tensor) -> Array:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def _numbers(
    path: Path, arrays: Mapping[str, Array], golden: Golden, nets: IdentityNets
) -> Iterator[tuple[str, torch.Tensor]]:
    """Our values of the keys of one golden file, by the file's name."""
    from . import geometry, pipeline, video

    name = path.stem
    if name.startswith("face_abstractor"):
        return face_abstractor_numbers(nets, arrays)
    if name.startswith("vertex_spiral_net"):
        return vertex_numbers(nets, arrays)
    if name.startswith("layer_attention"):
        return video.layer_attention_numbers()
    if name.startswith("transformer"):
        return video.transformer_numbers(nets, arrays)
    if name.startswith("rope_full"):
        return video.rotary_numbers()
    if name.startswith("eva_visual"):
        return eva_numbers()
    if name.startswith("face_preprocess"):
        return ((key, torch.from_numpy(np.array(a))) for key, a in geometry.preprocess_numbers(dict(arrays)))
    if name.startswith("deca"):
        return ((key, torch.from_numpy(np.array(a))) for key, a in geometry.deca_numbers(golden))
    if name.startswith("pipeline"):
        return pipeline.pipeline_numbers(nets.tokens, pipeline.pipeline_image(arrays, golden), arrays)
    return iter(())
