"""The translations: complete, current, in their own language, and with the same facts as the English texts."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from locale_texts import LOCALES, PAGES, english, languages, to_do, translated

LANGUAGES = languages()
KANA = re.compile("[\u3040-\u30ff]")
#: A letter that only this script uses in our texts: simplified, or traditional Chinese.
SIMPLIFIED = set("这个张脸图频处编检测网权样为时强层从于输")
TRADITIONAL = set("這個張臉圖頻處編檢測網權樣為時強層從於輸")
SCRIPT = {"zh": (SIMPLIFIED, TRADITIONAL), "zh-TW": (TRADITIONAL, SIMPLIFIED)}
#: Names that are the same in every language.
NAMES_AS_THEY_ARE = {"clip", "Latent"}
HELP_PAGES = sorted(PAGES.glob("*/*.md"))


@pytest.fixture(scope="module")
def source(pack_nodes):
    """Every English text, by the editor's path of it."""
    return english({name: node.GET_NODE_INFO_V1() for name, node in pack_nodes.items()})


def test_the_languages_that_are_promised_are_there():
    assert LANGUAGES == ["ja", "zh", "zh-TW"]


def test_every_text_is_translated_from_the_english_of_today(source):
    lines = to_do(source)
    assert not lines, "\n".join(["translate, then run tools/locale_texts.py --record:", *lines])


def test_a_changed_new_or_vanished_english_text_is_noticed(source):
    changed, new, gone = "FantasyIDDecode.description", "FantasyIDNew.description", "FantasyIDScore.outputs.2.name"
    altered = {key: text for key, text in source.items() if key != gone} | {changed: "Other.", new: "Text."}
    page, new_page = "FantasyIDDecode.page", "FantasyIDNew.page"
    lines = to_do(altered | {page: f"{source[page]}More.\n", new_page: "# New\n\nText.\n"})
    assert f"changed: {changed}: Other." in lines and f"changed: {page}: # 6 · Decode Video" in lines
    for language in LANGUAGES:
        assert f"{language}: missing: {new}: Text." in lines and f"{language}: missing: {new_page}: # New" in lines
        assert f"{language}: left over: {gone}" in lines


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_editor_can_show_every_text(language):
    """Its message format reads these four letters as commands, and an empty text as none."""
    wrong = [key for key, text in translated(language).items() if re.search(r"[{}@|]", text) or text != text.strip()]
    assert not wrong and all(translated(language).values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_still_english(language, source):
    for key, text in translated(language).items():
        if key.endswith("name"):
            assert re.search("[\u3040-\u30ff\u4e00-\u9fff]", text) or text in NAMES_AS_THEY_ARE, f"{key}: {text}"
        else:
            assert len(re.findall("[\u3040-\u30ff\u4e00-\u9fff]", text)) >= 4, f"{key}: {text}"
            assert text.endswith(("。", ".")), f"{key} is no sentence: {text}"


def test_each_language_is_in_its_own_script():
    assert all(KANA.search(text) for key, text in translated("ja").items() if not key.endswith("name"))
    for language, (own, foreign) in SCRIPT.items():
        whole = "".join(translated(language).values())
        assert not KANA.search(whole)
        assert own & set(whole) and not foreign & set(whole), foreign & set(whole)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_numbers_are_the_same(language, source):
    for key, text in translated(language).items():
        numbers, ours = (set(re.findall(r"\d+(?:\.\d+)?", each)) for each in (source[key], text))
        assert ours == numbers, f"{key}: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_typed_or_saved_is_named_unchanged(language, source):
    """Literal values in quotes, ids, paths and file endings."""
    for key, text in translated(language).items():
        if key.endswith("name"):
            continue
        literals = re.findall(r"(?<!\w)'([^']+)'(?!\w)", source[key])
        literals += re.findall(r"\w+_\w+|\.\w{2,}|\w+/[\w/]+", source[key])
        missing = [word for word in literals if _typed(word) not in text]
        assert not missing, f"{key} does not name {missing}: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_choice_that_a_tooltip_names_is_a_real_one(language, pack_nodes):
    """Values are saved in workflows, so they stay English; a tooltip that quotes one must quote it exactly."""
    texts = translated(language)
    machine = {"FantasyIDSpeedOptions.attention": {"sage 2"}}  # offered where the machine has it
    for node_id, node in pack_nodes.items():
        for port in node.GET_SCHEMA().inputs:
            if port.get_io_type() == "COMBO":
                tooltip = texts[f"{node_id}.inputs.{port.id}.tooltip"]
                quoted = re.findall(r"""(?<!\w)'([^']+)'(?!\w)|"([^"]+)\"""", tooltip)
                named = {one or other for one, other in quoted}
                allowed = {*port.options, *machine.get(f"{node_id}.{port.id}", set())}
                assert named <= allowed, f"{node_id}.{port.id}: {named - allowed}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_another_node_is_called_by_the_name_that_the_editor_shows(language, source):
    texts = translated(language)
    shown = {_bare(source[key]): _bare(texts[key]) for key in source if key.endswith(".display_name")}
    for key, text in texts.items():
        rest = source[key] if not key.endswith("name") else ""
        for name in sorted(shown, key=len, reverse=True):  # "Plot Layer Strength" before "Layer Strength"
            if name in rest:
                rest = rest.replace(name, "")
                assert shown[name] in text, f"{key} does not name {shown[name]}: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_tell_the_sockets_of_a_node_apart(language):
    names = [(key.rsplit(".", 2)[0], text) for key, text in translated(language).items() if key.endswith(".name")]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)


def test_comfyui_serves_them(server, source):
    with urllib.request.urlopen(f"{server.address}/i18n") as answer:
        served = json.load(answer)
    assert "en" not in served, "an English file would overrule the texts in nodes/"
    for language in LANGUAGES:
        written = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert served[language]["nodeDefs"] == written


def _bare(name):
    """The name as other nodes' texts use it: "5 · Layer-Adaptive Sampler" → "Layer-Adaptive Sampler"."""
    return re.sub(r"^\d · | ?[(（].*$", "", name)


def _typed(word):
    """As a translation writes it: an @ would be a command to the editor; the node takes its wide form as well."""
    return word.replace("@", "＠")


def test_every_node_has_a_help_page_in_every_language(pack_nodes):
    promised = {(node_id, language) for node_id in pack_nodes for language in LANGUAGES}
    assert {(page.parent.name, page.stem) for page in HELP_PAGES} == promised


@pytest.mark.parametrize("page", HELP_PAGES, ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_a_help_page_repeats_what_the_node_says_and_the_english_pages_facts(page, pack_nodes):
    texts, words = translated(page.stem), page.read_text(encoding="utf-8")
    node_id, schema = page.parent.name, pack_nodes[page.parent.name].GET_SCHEMA()
    assert words.startswith(f"# {texts[f'{node_id}.display_name']}\n")
    ports = [(f"inputs.{port.id}", port.id) for port in schema.inputs]
    ports += [(f"outputs.{place}", port.id) for place, port in enumerate(schema.outputs)]
    for path, port_id in ports:
        name, tooltip = (re.escape(texts[f"{node_id}.{path}.{part}"]) for part in ("name", "tooltip"))
        line = rf"^- \*\*{name}\*\* `{port_id}`（[^）]+）：{tooltip}$"
        assert re.search(line, words, re.MULTILINE), f"{node_id}: {path}"
    english_words = (page.parent.parent / f"{node_id}.md").read_text(encoding="utf-8")
    for facts in (r"\d+(?:\.\d+)?", r"!\[.+?\]\((.+?)\)"):  # numbers and pictures
        theirs, ours = (set(re.findall(facts, text)) for text in (english_words, words))
        assert ours == theirs


def test_comfyui_serves_the_help_pages(server):
    from comfyui_server import PACK_FOLDER

    page = HELP_PAGES[0]
    address = f"{server.address}/extensions/{PACK_FOLDER}/docs/{page.parent.name}/{page.name}"
    with urllib.request.urlopen(address) as answer:
        assert "html" not in answer.headers["Content-Type"]
        assert answer.read() == page.read_bytes()
