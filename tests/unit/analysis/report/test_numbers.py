"""Every number on a page is one of the document that it is made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.report import rendering
from markov_cot.analysis.report.document import report
from markov_cot.analysis.report.rendering import as_html, as_json
from markov_cot.analysis.report.sources import Source
from markov_cot.utils.text import visible
from tests.report_cases import KINDS, everything
from tests.report_documents import stage_documents
from tests.report_pages import is_occlusion, missing_places, mistaken_numbers, parse, text_of
from tests.report_runs import healthy


def read_back(document: Any) -> Any:
    """As `--json` prints it."""
    return json.loads(as_json(document))


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_is_in_the_document(tmp_path: Path, kind: Callable[[Path], Source]) -> None:
    document = report([kind(tmp_path / "r2")])
    root = parse(as_html(document))
    assert list(mistaken_numbers(root, read_back(document))) == []
    assert missing_places(root, document) == set(), "a mistaken place would show as missing"
    assert len([element for element in root.iter() if element.get("data-at")]) > 20


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes most of a page's time, and has no number of the document outside it."""
    monkeypatch.setattr(rendering, "draw", lambda *_: '<svg role="img"></svg>')


def test_three_runs_share_a_page(tmp_path: Path) -> None:
    document = report([healthy(tmp_path / f"seed{i}") for i in range(3)], 30)
    root = parse(as_html(document))
    assert list(mistaken_numbers(root, read_back(document))) == []
    assert [len(run["cots"]) for run in document["runs"]] == [10, 10, 10]
    assert [text_of(each) for each in root.iter("h2")] == ["Compared", "seed0", "seed1", "seed2"]
    assert len(list(root.iter("article"))) == 3 and len(list(root.iter("main"))) == 1


def test_a_number_that_is_changed_is_found(tmp_path: Path) -> None:
    document = report([everything(tmp_path / "r")])
    page = as_html(document)
    accuracy = f'data-as="percent">{100 * document["runs"][0]["result"]["trained"]["accuracy"]:.1f} %<'
    assert accuracy in page
    for changed in (page.replace(accuracy, 'data-as="percent">75.1 %<', 1), page.replace("</h1>", " 3</h1>")):
        assert len(list(mistaken_numbers(parse(changed), document))) == 1


def test_each_part_of_the_document_is_on_the_page(tmp_path: Path) -> None:
    document = report([everything(tmp_path / "r")])
    places = {str(element.get("data-at")) for element in parse(as_html(document)).iter()}
    [run] = document["runs"]
    for part in run:
        if part not in ("kind", "method", "markovian", "judged", "missing"):
            assert any(place.startswith(f"runs/0/{part}") for place in places), part
    for part in ("result/difference/p_value", "reader/reader~1ceiling", "groups/groups/3/n", "cost/steps"):
        assert f"runs/0/{part}" in places
    for stage in run["stages"]:
        assert any(place.startswith(f"runs/0/stages/{stage}/0") for place in places), stage


def test_coloured_tokens_are_those_of_the_document(tmp_path: Path) -> None:
    document = report([everything(tmp_path / "r")])
    [found] = [element for element in parse(as_html(document)).iter() if is_occlusion(element)]
    [example] = document["runs"][0]["occlusions"]
    assert [text_of(token) for token in found] == [visible(token) for token in example["tokens"]]
    assert [token.get("title") for token in found] == ["-0.100 nats", "+1.500 nats", "+0.000 nats"]
    # The only one that counts is red, and one under a twentieth of it has no colour.
    styles = [token.get("style") for token in found]
    assert styles[1] == "background:#c9210f;color:#000" and styles[2] is None


def test_the_browser_has_each_cot_with_what_it_is_filtered_by(tmp_path: Path) -> None:
    document = report([everything(tmp_path / "r")])
    cots = document["runs"][0]["cots"]
    found = [each for each in parse(as_html(document)).iter("details") if each.get("class") == "cot"]
    assert len(found) == len(cots) == 40 + 2 * 40 + 1
    for element, cot in zip(found, cots, strict=True):
        reward = cot["answer_logprob"] if cot["reward"] is None else cot["reward"]
        assert element.get("data-reward") == str(reward)
        assert element.get("data-right") == {True: "right", False: "wrong", None: ""}[cot["right"]]
        assert element.get("data-step") == f"{cot['kind']} {'end' if cot['step'] is None else cot['step']}"


def test_the_document_is_strict_json(tmp_path: Path) -> None:
    stages = stage_documents()
    stages["analysis/forgetting-general-adapter_12.json"]["tasks"]["hellaswag"]["metrics"]["acc_norm"]["p"] = float(
        "inf"
    )
    document = report([healthy(tmp_path / "r", documents=stages)])
    [run] = read_back(document)["runs"]
    assert run["stages"]["forgetting"][0]["tasks"]["hellaswag"]["p"] is None
    assert read_back(document) == document
