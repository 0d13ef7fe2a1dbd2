"""A report's page: the same bytes for the same run, nothing loaded, one script, and a form that anybody can read."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from markov_cot.analysis.report import figures
from markov_cot.analysis.report.document import report
from markov_cot.analysis.report.figures import draw
from markov_cot.analysis.report.rendering import as_html, as_json, as_markdown
from tests.report_cases import everything
from tests.report_pages import body, parse, text_of
from tests.report_runs import collapsed, healthy

SVG = "{http://www.w3.org/2000/svg}"
URL = re.compile(r"https?:|//")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of two runs that are alike, one of them with whatever a report has a place for, and one that collapsed."""
    folder = tmp_path_factory.mktemp("runs")
    return report([everything(folder / "all"), collapsed(folder / "bad")], 20)


@pytest.fixture(scope="module")
def page(document: dict[str, Any]) -> str:
    return as_html(document)


@pytest.fixture(scope="module")
def root(page: str) -> Element:
    return parse(page)


RENDER = """
import json, sys
from markov_cot.analysis.report.rendering import as_html, as_markdown
document = json.load(sys.stdin)
sys.stdout.buffer.write((as_html(document) + as_markdown(document)).encode())
"""


def test_the_same_document_gives_the_same_bytes(document: dict[str, Any], page: str) -> None:
    again = json.loads(as_json(document))
    assert as_html(again) == page
    # Another process, with other hashes of texts.
    rendered = subprocess.run(
        [sys.executable, "-c", RENDER],
        input=as_json(document).encode(),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "12345"},
    ).stdout
    assert rendered == (page + as_markdown(document)).encode()


def test_the_same_run_gives_the_same_document(tmp_path: Path) -> None:
    one, other = (report([everything(tmp_path / name / "r")]) for name in ("a", "b"))
    assert as_json(one) == as_json(other)


def test_the_policy_lets_one_script_run_and_nothing_load(page: str, root: Element) -> None:
    [script] = root.iter("script")
    assert script.attrib == {} and script.text
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    [meta] = [each for each in root.iter("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert meta.get("content") == policy
    # The policy holds for what comes after it.
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script>")


def test_nothing_is_loaded_from_elsewhere(page: str, root: Element) -> None:
    for element in root.iter():
        assert element.tag not in ("link", "iframe", "object", "embed", "base", "img", "video", "audio", "form-action")
        for name, value in element.attrib.items():
            assert not str(name).lower().startswith("on"), f"{element.tag} {name}"
            if str(name).rpartition("}")[2] in ("src", "href", "action", "formaction", "srcset", "data", "poster"):
                assert str(value).startswith("#"), f"{element.tag} {name}={value}"
            if str(name) != "data-at" and "xmlns" not in str(name):
                assert not URL.search(str(value)), f"{element.tag} {name}={value}"
    assert all(re.match(r"url\(#[\w-]+\)", found) for found in re.findall(r"url\([^)]*\)?", page))
    assert "@import" not in page


def test_every_figure_has_a_label(root: Element, document: dict[str, Any]) -> None:
    found = list(root.iter(f"{SVG}svg"))
    parts = (document["comparison"], *document["runs"])
    titles = [curve["title"] for part in parts for curve in part["curves"]]
    assert [each.get("aria-label") for each in found] == [f"{title} over the steps" for title in titles]
    assert {each.get("role") for each in found} == {"img"}
    assert [text_of(each)[: len(title)] for each, title in zip(root.iter("figcaption"), titles, strict=True)] == titles


def test_ids_are_unique_and_every_reference_leads_to_one(root: Element) -> None:
    ids = [str(each.get("id")) for each in root.iter() if each.get("id")]
    assert len(ids) == len(set(ids))
    attributes = [(str(name), str(value)) for each in root.iter() for name, value in each.attrib.items()]
    references = {value[1:] for name, value in attributes if name.endswith("href")}
    references |= {found for _, value in attributes for found in re.findall(r"url\(#([^)]*)\)", value)}
    assert references and references <= set(ids)


def test_equal_curves_of_two_runs_share_no_id(tmp_path: Path) -> None:
    document = report([healthy(tmp_path / name) for name in ("a", "b")], 0)
    for run in document["runs"]:
        del run["curves"][2:]
    ids = [each.get("id") for each in parse(as_html(document)).iter() if each.get("id")]
    assert len(ids) == len(set(ids)) > 6


def test_headings_step_down_one_at_a_time(root: Element) -> None:
    levels = [int(str(each.tag)[1]) for each in root.iter() if re.fullmatch(r"h[1-6]", str(each.tag))]
    assert levels[0] == 1 and levels.count(1) == 1 and levels.count(2) == 3
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_tables_scroll_by_themselves_and_by_keyboard(root: Element) -> None:
    regions = [each for each in root.iter("div") if each.get("class") == "scroll"]
    assert len(regions) == len(list(root.iter("table"))) > 10
    for region in regions:
        assert region.get("tabindex") == "0" and region.get("role") == "region"
        [caption] = region.iter("caption")
        assert region.get("aria-label") == " ".join(text_of(caption).split())
        assert len(region.findall("./table/tbody/tr")) >= 1


def test_each_table_has_a_cell_in_every_column(root: Element) -> None:
    for table in root.iter("table"):
        widths = [len(list(row)) for row in table.iter("tr")]
        assert len(set(widths)) == 1, text_of(table)[:100]


def test_the_page_says_what_it_is(root: Element) -> None:
    assert root.get("lang") == "en"
    [viewport] = [each for each in root.iter("meta") if each.get("name") == "viewport"]
    assert viewport.get("content") == "width=device-width, initial-scale=1"
    assert [each.text for each in root.iter("title")] == ["markov-cot: all, bad"]
    assert [text_of(each) for each in root.iter("h1")] == ["markov-cot report"]
    [skip] = [each for each in root.iter("a") if each.get("class") == "skip"]
    [main] = root.iter("main")
    assert skip.get("href") == f"#{main.get('id')}" and next(iter(body(root))) is skip


def test_without_its_script_the_page_has_the_cots_and_no_filters(root: Element) -> None:
    forms = list(root.iter("form"))
    assert forms and all("hidden" in form.attrib for form in forms)
    for field in (each for form in forms for each in form.iter() if each.tag in ("input", "select")):
        assert any(field in list(label) for form in forms for label in form.iter("label"))
    cots = [each for each in root.iter("details") if each.get("class") == "cot"]
    assert len(cots) == 20 and all("hidden" not in each.attrib for each in cots)


def test_the_colours_are_the_pages_own(root: Element, page: str) -> None:
    picture = page[page.index("<svg") : page.index("</svg>")]
    assert not re.search(r"#[0-9a-f]{6}\b", picture) and "var(--series-0)" in picture
    [style] = [each.text or "" for each in root.iter("style")]
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    light, dark = style.split("prefers-color-scheme: dark", 1)
    for name in used:
        assert f"{name}:" in light and f"{name}:" in dark


def test_a_name_with_signs_of_a_formula_is_drawn_as_it_stands() -> None:
    series = {"key": "x", "steps": [1, 2], "values": [1.0, 2.0], "low": None, "high": None}
    curve = {"title": "T", "unit": "u", "series": [series | {"name": "$\\frac{$ <b>"}, series | {"name": "b\x00"}]}
    picture = parse(f"<!doctype html><html><head><title>x</title></head><body>{figures.draw(curve)}</body></html>")
    assert "$\\frac{$ <b>" in text_of(picture) and "b\\x00" in text_of(picture)
    assert not list(picture.iter("b"))


def test_the_alarms_step_is_drawn(document: dict[str, Any]) -> None:
    curve = document["runs"][1]["curves"][1]
    assert "var(--alarm)" in figures.draw(curve, [8]) and "var(--alarm)" not in figures.draw(curve, [])


def test_every_series_is_drawn_however_many_there_are() -> None:
    series = [
        {"key": "k", "name": f"run{i}", "steps": [0, 1], "values": [i, i], "low": None, "high": None} for i in range(9)
    ]
    picture = draw({"title": "t", "unit": "u", "series": series})
    assert all(f">run{i}<" in picture for i in range(9))
