"""How well the licence-free head stands in for FLAME, on a mesh in FLAME's topology.

    python -m benchmarks.correspondence DIR

DIR holds mesh_hierarchy.npz (face_0, down_0, down_1) and vertices.npz (anne): a posed FLAME mesh. Prints the figures of
docs/geometry.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fantasyid_core.geometry.correspondence import Correspondence, register, to_flame_topology
from fantasyid_core.geometry.geometry import FLAME_TOPOLOGY, rotation_from_angles
from fantasyid_core.geometry.head import HeadModel, load_head
from fantasyid_core.geometry.registration import fit_similarity, lay_onto
from fantasyid_core.geometry.surface import Surface, outward_normals

Doubles = npt.NDArray[np.floating]
FRONT = 0.03  #: metres before the origin, FLAME's frame: the front of the face
RIDGE = 3e-8  #: of the best fit, per squared coefficient
PEOPLE = 40


def main(directory: Path) -> None:
    """Register, compare, print."""
    with np.load(directory / "mesh_hierarchy.npz") as mesh, np.load(directory / "vertices.npz") as vertices:
        triangles, read = mesh["face_0"], mesh["down_0"][mesh["down_1"]]
        anne = vertices["anne"]
    head = load_head()
    laid = register(head.geometry(), anne, triangles, FLAME_TOPOLOGY)
    matched = np.zeros(len(anne), bool)
    matched[read] = laid.matched[read] > 0
    lines = [f"surface distance, skin: median {1e3 * laid.distance:.2f} mm"]
    lines += [_distances(head, laid, anne, triangles, matched)]
    before = ((laid.rest - laid.shift) @ laid.rotation / laid.scale - anne)[:, 2]
    after = _best_fit(head, laid, anne)
    for name, error in (("our mean head", before), ("best fit of shape and expression", after)):
        front = matched & (anne[:, 2] > FRONT)
        lines.append(f"z, {name}: {_rms(error[matched]):.1f} mm rms, on the front {_rms(error[front]):.1f} mm")
    random = np.random.default_rng(0)
    people = [to_flame_topology(head.geometry(head.random_shape(random)), laid).vertices for _ in range(PEOPLE)]
    spread = np.stack([person[read, 2] for person in people])
    lines.append(f"z of the 314 among {PEOPLE} random people: {_rms(spread - spread.mean(axis=0)):.1f} mm rms")
    for yaw, pitch in ((10, 0), (0, 10)):
        turned = anne @ rotation_from_angles(yaw, pitch, 0).T - anne
        lines.append(
            f"z of the 314 when the head turns by yaw {yaw}°, pitch {pitch}°: {_rms(turned[read, 2]):.1f} mm rms"
        )
    sys.stdout.write("\n".join(lines) + "\n")


def _distances(
    head: HeadModel,
    laid: Correspondence,
    anne: Doubles,
    triangles: npt.NDArray[np.int32],
    matched: npt.NDArray[np.bool_],
) -> str:
    _, points = lay_onto(anne, triangles, head.base, head.triangles)
    surface = Surface(head.base, head.triangles)
    found = surface.nearest(points)
    agreement = (outward_normals(points, triangles) * surface.normals[found.triangle]).sum(axis=1)[matched]
    away = 1e3 * found.distance[matched]
    within = [f"{np.mean(agreement > np.cos(np.radians(angle))):.0%} within {angle}°" for angle in (60, 30)]
    return (
        f"of the 314: {matched.sum()} have a counterpart, median {np.median(away):.2f} mm, 95 % within "
        f"{np.percentile(away, 95):.1f} mm; normals {', '.join(within)}"
    )


def _best_fit(head: HeadModel, laid: Correspondence, anne: Doubles) -> Doubles:
    """[V] z error in FLAME's frame, metres, when our head takes the mesh's shape as well as it can."""
    corners = head.triangles[laid.triangle]
    basis = np.concatenate([head.shape_basis, head.expression_basis])[:, corners]
    basis = np.einsum("vc,svcd->svd", laid.barycentric, basis)  # [S + E, V, 3]
    seen, target = laid.matched > 0, laid.similarity.apply(anne)
    design = basis[:, seen].reshape(len(basis), -1).T
    weights = np.zeros(len(basis))
    for _ in range(5):
        now = laid.rest + np.einsum("s,svd->vd", weights, basis)
        align = fit_similarity(target, now, laid.matched.astype(np.float64), scaled=True)
        wanted = (align.apply(target) - laid.rest)[seen].ravel()
        ridge = RIDGE * np.eye(len(basis)) * seen.sum()
        weights = np.linalg.solve(design.T @ design + ridge, design.T @ wanted)
    now = laid.rest + np.einsum("s,svd->vd", weights, basis)
    error = (now - align.apply(target)) / (laid.scale * align.scale) @ (align.rotation @ laid.rotation)
    return error[:, 2]


def _rms(metres: Doubles) -> float:
    return float(np.sqrt(np.mean(np.square(metres)))) * 1e3


if __name__ == "__main__":
    main(Path(sys.argv[1]))
