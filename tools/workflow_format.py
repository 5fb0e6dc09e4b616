"""ComfyUI's UI workflow format (0.4), written from a short description and the node definitions of a running server."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
PACK_ID = "fantasyid"
MUTED = 2  #: of a node's mode
_NAMESPACE = uuid.UUID("9f0c6f0a-6f5e-4a58-9f0d-6b7d5e1f2a3c")  # so that the same workflow gets the same id again

Definitions = Mapping[str, Mapping[str, Any]]  #: what GET /object_info answers


@dataclass(frozen=True)
class Node:
    """One node. inputs: name → a value for a widget, or ("node key", "output name") for a link. muted: not run until
    somebody switches it on (Ctrl+M)."""

    kind: str
    position: tuple[int, int]
    size: tuple[int, int]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    colour: str = ""
    muted: bool = False


@dataclass(frozen=True)
class Group:
    """A titled frame. box: x, y, width, height."""

    title: str
    box: tuple[int, int, int, int]
    colour: str


def build_workflow(
    name: str, nodes: Mapping[str, Node], groups: Sequence[Group], definitions: Definitions
) -> dict[str, Any]:
    """The workflow as the editor would save it. ``nodes`` by key; links run between keys."""
    builder = _Builder({key: number for number, key in enumerate(nodes, start=1)}, nodes, definitions)
    drawn = [builder.node(key) for key in nodes]
    return {
        "id": str(uuid.uuid5(_NAMESPACE, name)),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(builder.links),
        "nodes": drawn,
        "links": builder.links,
        "groups": [_group(number, group) for number, group in enumerate(groups, start=1)],
        "config": {},
        "extra": {"ds": {"scale": 0.6, "offset": [60, 120]}},
        "version": 0.4,
    }


class _Builder:
    """Numbers the links while the nodes are drawn; outputs are filled in as links appear."""

    def __init__(self, numbers: Mapping[str, int], nodes: Mapping[str, Node], definitions: Definitions) -> None:
        self.numbers, self.nodes, self.definitions = numbers, nodes, definitions
        self.links: list[list[Any]] = []
        for key, node in nodes.items():
            for slot, (name, kind, _) in enumerate(_sockets(node, definitions)):
                if _is_link(node.inputs.get(name)):
                    self._link(key, slot, kind, *node.inputs[name])

    def _link(self, target: str, slot: int, kind: str, source: str, output: str) -> None:
        number = len(self.links) + 1
        definition = self.definitions[self.nodes[source].kind]
        source_slot = definition["output_name"].index(output)
        kind = definition["output"][source_slot] if "," in kind or kind == "*" else kind
        self.links.append([number, self.numbers[source], source_slot, self.numbers[target], slot, kind])

    def node(self, key: str) -> dict[str, Any]:
        """One node as the editor saves it."""
        node, number = self.nodes[key], self.numbers[key]
        drawn: dict[str, Any] = {
            "id": number,
            "type": node.kind,
            "pos": list(node.position),
            "size": list(node.size),
            "flags": {},
            "order": number - 1,
            "mode": MUTED if node.muted else 0,
            "inputs": [self._input(number, slot, *port) for slot, port in enumerate(_sockets(node, self.definitions))],
            "outputs": self._outputs(node, number),
            "properties": _properties(node),
            "widgets_values": _widget_values(node, self.definitions),
        }
        if node.title:
            drawn["title"] = node.title
        if node.colour:
            drawn |= {"color": node.colour, "bgcolor": node.colour}
        return drawn

    def _input(self, number: int, slot: int, name: str, kind: str, form: dict[str, Any]) -> dict[str, Any]:
        link = next((link[0] for link in self.links if link[3:5] == [number, slot]), None)
        return {"name": name, "type": kind, **form, "link": link}

    def _outputs(self, node: Node, number: int) -> list[dict[str, Any]]:
        nothing: dict[str, Any] = {"output": [], "output_name": []}
        definition = nothing if node.kind.endswith("Note") else self.definitions[node.kind]
        ports = zip(definition["output_name"], definition["output"], strict=True)
        return [
            {"name": name, "type": kind, "links": [link[0] for link in self.links if link[1:3] == [number, slot]]}
            for slot, (name, kind) in enumerate(ports)
        ]


def _ports(node: Node, definitions: Definitions) -> list[tuple[str, Any, dict[str, Any], bool]]:
    """(name, type, options, optional) of every input, in the node's own order."""
    ports = []
    for section in ("required", "optional"):
        for name, spec in definitions.get(node.kind, {}).get("input", {}).get(section, {}).items():
            ports.append((name, spec[0], spec[1] if len(spec) > 1 else {}, section == "optional"))
    return ports


def _is_widget(kind: Any, options: Mapping[str, Any]) -> bool:
    return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")


def _sockets(node: Node, definitions: Definitions) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, type, form) of the inputs drawn as sockets: real ones, then widgets that a link replaces."""
    ports = _ports(node, definitions)
    real = [
        (name, kind, {"shape": 7} if optional else {})
        for name, kind, options, optional in ports
        if not _is_widget(kind, options)
    ]
    linked = [
        (name, "COMBO" if isinstance(kind, list) else kind, {"widget": {"name": name}})
        for name, kind, options, _ in ports
        if _is_widget(kind, options) and _is_link(node.inputs.get(name))
    ]
    return real + linked


def _widget_values(node: Node, definitions: Definitions) -> list[Any]:
    if node.kind.endswith("Note"):  # exists in the editor only
        return [node.inputs["text"]]
    values: list[Any] = []
    for name, kind, options, _ in _ports(node, definitions):
        if not _is_widget(kind, options):
            continue
        given = node.inputs.get(name)
        values.append(_default(kind, options) if given is None or _is_link(given) else given)
        if options.get("control_after_generate"):
            values.append("fixed")
        if options.get("image_upload"):
            values.append("image")
    return values


def _default(kind: Any, options: Mapping[str, Any]) -> Any:
    choices = kind if isinstance(kind, list) else options.get("options")
    if "default" in options:
        return options["default"]
    return choices[0] if choices else {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}[kind]


def _is_link(value: Any) -> bool:
    return isinstance(value, tuple)


def _properties(node: Node) -> dict[str, str]:
    if node.kind.startswith("FantasyID"):
        return {"cnr_id": PACK_ID, "Node name for S&R": node.kind}
    return {"cnr_id": "comfy-core", "Node name for S&R": node.kind} if not node.kind.endswith("Note") else {}


def _group(number: int, group: Group) -> dict[str, Any]:
    return {
        "id": number,
        "title": group.title,
        "bounding": list(group.box),
        "color": group.colour,
        "font_size": 24,
        "flags": {},
    }
