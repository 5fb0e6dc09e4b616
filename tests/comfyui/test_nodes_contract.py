"""What every node promises: texts on everything, an unchanging interface, core types used as the core means them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
INTERFACE = Path(__file__).parent / "interface.json"
NODE_IDS = (
    "FantasyIDLoadModel",
    "FantasyIDLoadDetector",
    "FantasyIDDetectFaces",
    "FantasyIDFaceFromCrop",
    "FantasyIDExtractGeometry",
    "FantasyIDLoadMesh",
    "FantasyIDSaveMesh",
    "FantasyIDAugmentViews",
    "FantasyIDViewsFromImages",
    "FantasyIDFuseFeatures",
    "FantasyIDSaveIdentity",
    "FantasyIDLoadIdentity",
    "FantasyIDMixIdentities",
    "FantasyIDIdentityCard",
    "FantasyIDAddPerson",
    "FantasyIDLayerStrength",
    "FantasyIDPlotStrength",
    "FantasyIDSpeedOptions",
    "FantasyIDTextEncode",
    "FantasyIDSampler",
    "FantasyIDDecode",
    "FantasyIDCoreModel",
    "FantasyIDScore",
    "FantasyIDSeeds",
    "FantasyIDKeepBest",
)
OWN_SOCKETS = ("DETECTOR", "FACE", "GEOMETRY", "VIEWS", "IDENTITY", "MODEL", "PEOPLE", "STRENGTH", "SPEED")
OWN_TYPES = {f"FANTASYID_{name}" for name in OWN_SOCKETS}
CORE_TYPES = {"MODEL", "IMAGE", "MASK", "LATENT", "CONDITIONING", "CLIP", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def everything(node):
    """Every input and output of a node, as (what, object)."""
    schema = node.GET_SCHEMA()
    return [(f"input {i.id}", i) for i in schema.inputs] + [(f"output {o.id}", o) for o in schema.outputs]


def interface_of(node):
    """What saved workflows depend on."""
    schema = node.GET_SCHEMA()
    return {
        "inputs": [[i.id, i.get_io_type(), "optional" if i.optional else "required"] for i in schema.inputs],
        "widgets": [i.id for i in schema.inputs if hasattr(i, "default") and not getattr(i, "force_input", False)],
        "outputs": [[o.id, o.io_type] for o in schema.outputs],
    }


def test_every_promised_node_is_there_and_no_other(pack_nodes):
    assert sorted(pack_nodes) == sorted(NODE_IDS)


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_everything_on_a_node_is_explained(pack_nodes, node_id):
    schema = pack_nodes[node_id].GET_SCHEMA()
    assert schema.category == "FantasyID"
    assert schema.display_name
    assert re.fullmatch(r"[A-Z].{40,}\.", schema.description, re.DOTALL)
    for what, port in everything(pack_nodes[node_id]):
        assert port.tooltip and len(port.tooltip) > 15, f"{node_id}: {what} has no tooltip"
        assert port.tooltip.endswith("."), f"{node_id}: the tooltip of {what} is no sentence"


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_a_number_has_a_range_and_a_default_within_it(pack_nodes, node_id):
    for what, port in everything(pack_nodes[node_id]):
        if what.startswith("input") and port.io_type in ("INT", "FLOAT") and not port.force_input:
            assert port.min <= port.default <= port.max, f"{node_id}: {what}"
        if what.startswith("input") and port.io_type == "COMBO" and port.default is not None:
            assert port.default in port.options, f"{node_id}: {what}"


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_a_node_has_a_help_page_about_all_its_sockets(pack_nodes, node_id):
    page = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    schema = pack_nodes[node_id].GET_SCHEMA()
    assert page.startswith(f"# {schema.display_name}\n")
    missing = [what for what, port in everything(pack_nodes[node_id]) if f"**{port.id}**" not in page]
    assert not missing, f"{node_id}.md does not mention {missing}"


def test_the_pictures_of_the_help_pages_are_there_and_small():
    """The editor looks a relative name up below docs/, whatever page it stands on (make browser opens them all)."""
    pages = ROOT / "web" / "docs"
    shown = {name for page in pages.rglob("*.md") for name in re.findall(r"!\[.+?\]\((.+?)\)", page.read_text("utf-8"))}
    there = {path.relative_to(pages).as_posix(): path.stat().st_size for path in pages.rglob("*.jpg")}
    assert shown == set(there), "remade by tools/build_help_pictures.py"
    assert 0 < sum(there.values()) < 600_000


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_sockets_carry_our_types_or_the_cores_own(pack_nodes, node_id):
    for what, port in everything(pack_nodes[node_id]):
        kinds = set(str(port.io_type).split(","))
        foreign = {"INSIGHTFACE", "FACEANALYSIS", "FACE_ANALYSIS", "CURVE"} if what.startswith("input") else set()
        assert kinds <= OWN_TYPES | CORE_TYPES | foreign, f"{node_id}: {what} is {port.io_type}"


def test_saved_workflows_keep_working(pack_nodes):
    """Ids, inputs, widget order and outputs only ever grow at their end; a new release records what it adds."""
    now = {name: interface_of(node) for name, node in sorted(pack_nodes.items())}
    recorded = json.loads(INTERFACE.read_text(encoding="utf-8")) if INTERFACE.exists() else {}
    for name, then in recorded.items():
        for part, ports in then.items():
            kept = now.get(name, {}).get(part, [])[: len(ports)]
            assert kept == ports, f"{name}: its {part} changed, which breaks every saved workflow"
    if os.environ.get("RECORD_INTERFACE"):
        INTERFACE.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        recorded = now
    assert recorded == now, "the nodes grew; run this test once with RECORD_INTERFACE=1 and commit interface.json"


def test_search_aliases_reach_cores_that_know_them(pack_nodes, monkeypatch):
    import inspect
    import sys

    from comfy_api.latest import io

    compat = sys.modules[pack_nodes["FantasyIDSampler"].__module__.rsplit(".", 1)[0] + ".compat"]
    if "search_aliases" in inspect.signature(io.Schema).parameters:  # a core of 2026
        assert all(node.GET_SCHEMA().search_aliases for node in pack_nodes.values())

    class Schema2026:
        def __init__(self, node_id, category, search_aliases=None):
            self.given = (node_id, category, search_aliases)

    monkeypatch.setattr(compat.io, "Schema", Schema2026)
    assert compat.schema(node_id="X", search_aliases=["y"]).given == ("X", "FantasyID", ["y"])


def test_the_pack_adds_nothing_but_its_own_names(core):
    assert not hasattr(core, "fantasyid_core")
    import sys

    assert "fantasyid_core" not in sys.modules, "the pack must import its core under its own package name"
