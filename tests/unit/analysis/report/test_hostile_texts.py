"""Texts of models and files that a browser, a Markdown renderer or a terminal would obey: shown, never obeyed."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from markov_cot.analysis.report import rendering
from markov_cot.analysis.report.cots import LONGEST
from markov_cot.analysis.report.document import report
from markov_cot.analysis.report.rendering import _literal, as_html, as_json, as_markdown
from markov_cot.analysis.report.sources import Source
from markov_cot.analysis.report.view import Value
from markov_cot.cli.main import main
from tests.report_documents import evaluation, forgetting, probe, teachers, transfer
from tests.report_pages import CONTROL, mistaken_numbers, parse, structure
from tests.report_runs import answers, healthy, validated, write_run

TEXTS = {
    "script": "</pre></code></details></main><script>alert(1)</script><img src=x onerror=alert(1)>\"' onclick='x",
    "addresses": "javascript:alert(1) [x](javascript:alert(1)) ![x](http://a.b/c) <https://a.b> www.a.b a@b.cd",
    "order": "\u202eabc\u2066def\u200b\u2069 \ufeff",
    "terminal": "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\r overwritten",
    "nothing": "a\x00b\ud800c\x7f",
    "markdown": "````\n~~~~\n| a | b |\n# h\n* i\n1. j\n---\n\\|\\\\| `|` <!-- $x$ #1 @me &lt; [^1]: **b**",
    "template": "{{ 7 * 7 }} {% raw %} {# # } ${x} %s {0}",
    "long": "a" * 1_000_000,
    "backquotes": "`" * 3000 + " | " + "~" * 50,
}
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
FIGURE = '<svg role="img"></svg>'


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "draw", lambda *_: FIGURE)


def run_of(folder: Path, text: str, *, name: str = "r") -> Source:
    """A run that has the text wherever it has one."""
    everywhere: dict[str, Any] = {
        "cot": text,
        "question": text,
        "passage": text,
        "choices": [text],
        "answer": text[:5000],
        "reader_answer": text,
        "predicted": text,
    }
    before, after = (answers([i < right for i in range(3)], **everywhere) for right in (1, 2))
    rows = [validated(0, 10), {"step": 1, "policy/kl": 0.1}, validated(2, 80)]
    alarm = {"alarm": text, "level": text, "step": 1, "since": 1, "diagnosis": text}
    software = {"recipe": text, "software": {text: text}, "base": {"name": text, "fingerprint": text}}
    own = probe(text, text, text) | {"dataset": text, "reader": text, "checkpoint": text}
    own["occlusion"][0]["answer"] = text
    tasks = forgetting(text) | {"verdict": text}
    source = write_run(
        folder / name,
        rows,
        validations={0: before, 2: after},
        final=(before, after),
        rollouts={1: [answers([True], **everywhere)[0] | {"step": 1, "reward": 0.5, "advantage": 0.1}]},
        lines={"alarms.jsonl": [alarm], "samples.jsonl": [{"step": 1} | everywhere]},
        documents={
            "environment.json": software | {"starts": [{"time": text, "device": text, "python": text, "system": text}]},
            "analysis/probe-x.json": own,
            "analysis/transfer-x.json": transfer(text) | {"dataset": text},
            "analysis/forgetting-x.json": tasks,
            "analysis/teachers-x.json": teachers(text) | {"student": {"name": text}},
            "eval/results_x.json": evaluation(text, text, f"{text},{text}"),
        },
    )
    own_text = text[:5000]
    config = {"data": {"dataset": own_text}, "model": {"name": own_text}, "own": {text[:100]: own_text}}
    # A JSON text is YAML as well, which is slow to be read.
    (folder / name / "config.yaml").write_text(json.dumps({"steps": 2, **config}))
    return source


@functools.cache
def document_of(kind: str) -> dict[str, Any]:
    """The report's document of a run with such a text."""
    with tempfile.TemporaryDirectory() as folder:
        return report([run_of(Path(folder, "runs"), TEXTS[kind])])


@functools.cache
def calm_document(length: int) -> dict[str, Any]:
    """That of a run whose texts are as many letters."""
    with tempfile.TemporaryDirectory() as folder:
        return report([run_of(Path(folder, "runs"), "b" * length)])


@functools.cache
def calm_structure(is_long: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Elements of the page of a run whose texts are letters, too many of them to be shown or not."""
    return structure(parse(as_html(calm_document(LONGEST + 1 if is_long else 1))))


@pytest.mark.parametrize("kind", TEXTS)
def test_a_page_has_the_same_elements_whatever_its_texts(kind: str) -> None:
    text, document = TEXTS[kind], document_of(kind)
    page = as_html(document)
    root = parse(page)
    assert structure(root) == calm_structure(len(text) > LONGEST)
    assert not CONTROL.search(page)
    assert list(mistaken_numbers(root, document)) == []
    assert len(page.encode()) < 2_000_000
    assert len(list(root.iter("script"))) == 1


def cells(tokens: list[Token]) -> list[int]:
    """How many cells each row of each table has."""
    rows: list[int] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(0)
        rows[-1:] = [rows[-1] + 1] if token.type in ("th_open", "td_open") else rows[-1:]
    return rows


def outline(text: str) -> tuple[list[str], list[str]]:
    """Blocks of a Markdown text, and what is within lines, but for texts."""
    tokens = MARKDOWN.parse(text)
    blocks = [f"{token.type} {token.tag}" for token in tokens]
    inner = [child.type for token in tokens for child in token.children or ()]
    return blocks, [kind for kind in inner if kind not in ("text", "text_special", "softbreak")]


@pytest.mark.parametrize("kind", TEXTS)
def test_markdown_has_the_same_blocks_whatever_its_texts(kind: str) -> None:
    page = as_markdown(document_of(kind))
    calm = as_markdown(calm_document(LONGEST + 1 if len(TEXTS[kind]) > LONGEST else 1))
    assert outline(page) == outline(calm)
    assert cells(MARKDOWN.parse(page)) == cells(MARKDOWN.parse(calm))
    blocks, inner = outline(page)
    assert {"html_block", "html_inline", "link_open", "image"}.isdisjoint(inner)
    assert "html_block " not in blocks and not CONTROL.search(page)
    outside = re.sub(r"(?s)(`{3,})text\n.*?\n\1\n|(`+).*?\2", "", page)
    assert "<" not in outside and "://" not in outside.replace("\\://", "")
    assert len(page.encode()) < 2_000_000


def test_a_table_has_a_cell_for_each_heading() -> None:
    tokens = MARKDOWN.parse(as_markdown(document_of("markdown")))
    starts = [i for i, token in enumerate(tokens) if token.type == "table_open"]
    ends = [i for i, token in enumerate(tokens) if token.type == "table_close"]
    assert len(starts) > 5
    for start, end in zip(starts, ends, strict=True):
        assert len(set(cells(tokens[start:end]))) == 1


@settings(max_examples=60)
@given(st.text(alphabet=st.sampled_from("ab 1.)-+=\\`*_[]()<>!|#~$&:/w@\n\"'"), max_size=24))
def test_literal_text_is_text_in_markdown(text: str) -> None:
    plain = " ".join(text.split())
    [paragraph, inline, _] = MARKDOWN.parse(_literal(text) or "x")
    assert paragraph.type == "paragraph_open"
    assert {child.type for child in inline.children or ()} <= {"text", "text_special"}
    assert "".join(child.content for child in inline.children or ()) == (plain or "x")


@settings(max_examples=60)
@given(st.text(alphabet=st.sampled_from("ab`~\\| \n"), min_size=1, max_size=20))
def test_code_is_code_in_markdown(text: str) -> None:
    [fence] = MARKDOWN.parse(rendering._fenced(Value(text)))
    assert fence.type == "fence" and fence.content == f"{text}\n"
    table = MARKDOWN.parse(f"| a | b |\n|---|---|\n| {rendering._span(Value(text))} | c |\n")
    assert cells(table) == [2, 2]
    [code] = [child for token in table for child in token.children or () if child.type == "code_inline"]
    assert code.content.strip() == " ".join(text.split())


NAMES = ("<img src=x>", "[x](javascript:1)|`$x^", "\u202e1. a", "a\x1b[2Jb\nc", "'; rm -rf ~; '", "{{ 7 * 7 }}")


@pytest.mark.parametrize("name", NAMES)
def test_a_runs_name_is_shown_and_not_obeyed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy(tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    for ending in ("html", "md"):
        with pytest.raises(SystemExit) as stopped:
            main(["report", name, "--out", f"report.{ending}", "--cots", "2"])
        assert not stopped.value.code
        assert not CONTROL.search(capsys.readouterr().out)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    root = parse(page)
    assert not CONTROL.search(page) and not list(root.iter("img"))
    blocks, inner = outline((tmp_path / "report.md").read_text(encoding="utf-8"))
    assert blocks[:3] == ["heading_open h1", "inline ", "heading_close h1"]
    assert {"html_inline", "link_open", "image", "strong_open"} & set(inner) <= {"strong_open"}


def test_what_is_printed_is_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TEXTS["terminal"] + TEXTS["order"] + TEXTS["nothing"]
    run_of(tmp_path / "runs", text)
    monkeypatch.chdir(tmp_path)
    for arguments in (["--out", "r.html"], ["--json"]):
        with pytest.raises(SystemExit) as stopped:
            main(["report", "r", *arguments])
        assert not stopped.value.code
        captured = capsys.readouterr()
        assert captured.out and not CONTROL.search(captured.out + captured.err)
    assert json.loads(captured.out)["runs"][0]["dataset"] == text, "the document has it as it is"


def test_a_documents_values_of_other_types_are_shown_as_they_stand(tmp_path: Path) -> None:
    own = probe()
    own["tests"]["delete"]["overall"] = dict.fromkeys(("effect", "low", "high", "same_answer", "detectable"), "<b>")
    document = report([healthy(tmp_path / "r", documents={"analysis/probe-x.json": own})])
    assert not [each for each in parse(as_html(document)).iter("b") if each.text == "<b>" and each.get("data-at")]
    assert "&lt;b&gt;" in as_markdown(document) and "<b>" not in as_markdown(document)


def attributes(root: Element) -> set[str]:
    return {str(name) for each in root.iter() for name in each.attrib}


def test_no_attribute_is_made_of_a_text() -> None:
    found = attributes(parse(as_html(document_of("script"))))
    assert not {name for name in found if name.startswith("on")}


def test_json_of_broken_text_can_be_printed_anywhere() -> None:
    assert as_json(document_of("nothing")).isascii()
