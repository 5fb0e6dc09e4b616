"""Which texts of the nodes a translation lacks, or was made from an older English text.

``python tools/locale_texts.py`` asks a real ComfyUI (`.venv-comfyui`) for the English texts and prints a line for each
text to be written anew in locales/*/nodeDefs.json, and for each help page in web/docs. ``--record`` notes in
locales/english.json that all translations say what the English says now. The nodes' English stands in nodes/ alone: a
file for it would overrule them. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfyui_env import ROOT
from comfyui_server import running_server

LOCALES = ROOT / "locales"
PAGES = ROOT / "web" / "docs"  #: <node id>.md in English, <node id>/<language>.md
RECORD = LOCALES / "english.json"  #: fingerprints of the English texts that the translations were made from
PACK = "FantasyID"  #: every node id begins with it

#: "FantasyIDDecode.inputs.tiled.tooltip" → text, by the editor's own path of it; "FantasyIDDecode.page" → help page.
Texts = dict[str, str]


def languages() -> list[str]:
    """The folders of locales/, by ComfyUI's language codes."""
    return sorted(folder.name for folder in LOCALES.iterdir() if folder.is_dir())


def translated(language: str) -> Texts:
    """Every text of the nodes in one language."""
    return _flat(json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8")))


def english(object_info: Mapping[str, Mapping[str, Any]]) -> Texts:
    """Every text of the pack's nodes, from what ComfyUI answers to /object_info, and their help pages."""
    nodes = {name: _node_texts(info) for name, info in object_info.items() if name.startswith(PACK)}
    return _flat(nodes) | {f"{page.stem}.page": page.read_text(encoding="utf-8") for page in PAGES.glob("*.md")}


def translated_pages(language: str) -> Texts:
    """Every help page in one language."""
    return {f"{page.parent.name}.page": page.read_text(encoding="utf-8") for page in PAGES.glob(f"*/{language}.md")}


def fingerprints(texts: Mapping[str, str]) -> dict[str, str]:
    """Eight hexadecimal digits for each text."""
    return {key: hashlib.sha256(text.encode()).hexdigest()[:8] for key, text in sorted(texts.items())}


def to_do(source: Mapping[str, str]) -> list[str]:
    """One line for each text that is missing or left over in a language, or whose English changed since the record."""
    lines = []
    says = {key: text.partition("\n")[0] for key, text in source.items()}  # of a page its heading
    for language in languages():
        there = translated(language) | translated_pages(language)
        lines += [f"{language}: missing: {key}: {says[key]}" for key in source if key not in there]
        lines += [f"{language}: left over: {key}" for key in there if key not in source]
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    now = fingerprints(source)
    lines += [f"changed: {key}: {says[key]}" for key in source if recorded.get(key, now[key]) != now[key]]
    return lines + [f"not recorded: {key}" for key in sorted(set(recorded) ^ set(now))]


def _node_texts(info: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (info["input"].get(kind, {}) for kind in ("required", "optional"))
    ports = [(key, spec[1] if len(spec) > 1 else {}) for kind in kinds for key, spec in kind.items()]
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        # the editor finds an input of the id a.b under a_b
        "inputs": {
            key.replace(".", "_"): {"name": options.get("display_name") or key, "tooltip": options.get("tooltip", "")}
            for key, options in ports
        },
        "outputs": {str(place): {"name": name, "tooltip": tip} for place, (name, tip) in enumerate(outputs)},
    }


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Texts:
    texts: Texts = {}
    for key, value in tree.items():
        texts |= {prefix + key: value} if isinstance(value, str) else _flat(value, f"{prefix}{key}.")
    return texts


def main() -> int:
    """Print what is to do; 1 while there is something."""
    parser = argparse.ArgumentParser(description="Which texts of the nodes want a translation.")
    parser.add_argument("--record", action="store_true", help="every translation says what the English says now")
    record = parser.parse_args().record
    with (
        tempfile.TemporaryDirectory() as base,
        running_server(Path(base)) as server,
        urllib.request.urlopen(f"{server.address}/object_info") as answer,
    ):
        source = english(json.load(answer))
    if record:
        RECORD.write_text(json.dumps(fingerprints(source), indent=1) + "\n", encoding="utf-8")
    lines = to_do(source)
    sys.stdout.write("".join(f"{line}\n" for line in lines) or "Every text is translated.\n")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
