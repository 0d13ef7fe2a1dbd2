"""A report's page in a browser: its policy stops nothing, its filters work, and it fits a phone."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.report import rendering
from markov_cot.analysis.report.document import report
from markov_cot.analysis.report.rendering import as_html
from tests.report_cases import everything
from tests.report_runs import answers, healthy

BROWSER = shutil.which("chromium")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)
WIDTHS = (1280, 390)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs chromium")

ASKED = """
const filters = document.querySelector(".filters"), cots = [...document.querySelectorAll(".browser .cot")];
const left = (wanted) => {
  filters.reset();
  for (const [name, value] of Object.entries(wanted)) filters.elements[name].value = value;
  filters.dispatchEvent(new Event("input", { bubbles: true }));
  return cots.map((cot, i) => (cot.hidden ? -1 : i)).filter((i) => i >= 0);
};
const asked = [{}, {right: "right"}, {right: "wrong"}, {step: "validation 12"}, {from: "-1"},
  {to: "-1", right: "wrong"}, {text: "BEGINS WITH A LINE"}, {text: "no such text"}];
const found = asked.map(left);
const counted = filters.querySelector("output").textContent;
left({});
for (const each of document.querySelectorAll("details")) each.open = true;
addEventListener("load", () => parent.postMessage({found, counted, hidden: filters.hidden, inner: innerWidth,
  scroll: document.documentElement.scrollWidth, steps: [...filters.elements.step.options].map((each) => each.value),
  open: document.querySelectorAll(".group[open]").length}, "*"));
"""
"""Filters the CoTs in several ways, and tells the page around it what was left."""
AROUND = """<!doctype html><title>frames</title>{frames}<script>
const said = [];
addEventListener("message", (event) => {{
  said.push(event.data); document.documentElement.dataset.said = JSON.stringify(said); }});
</script>"""


WITHOUT_SCRIPTS = """<!doctype html><title>frame</title><iframe sandbox="allow-same-origin" srcdoc="{page}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const inner = frame.contentDocument, all = [...inner.querySelectorAll(".browser .cot")];
  const group = inner.querySelector(".group"), height = group.offsetHeight;
  group.open = true;
  document.documentElement.dataset.said = JSON.stringify({{
    shown: all.filter((cot) => !cot.hidden).length,
    texts: all.filter((cot) => cot.querySelector("pre").textContent).length,
    filters: inner.querySelector(".filters").offsetHeight > 0,
    opens: group.offsetHeight > height }});
}};
</script>"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report([everything(tmp_path_factory.mktemp("runs") / "r")])


@pytest.fixture(scope="module")
def page(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(as_html(document), encoding="utf-8")
    return path


def opened(page: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """Return what the page has become in a browser, and what that has to say of it."""
    command = [str(BROWSER), *OPTIONS, f"--user-data-dir={profile}", *options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode(), [line for line in done.stderr.decode().splitlines() if "CONSOLE" in line]


def with_script(page: str, more: str) -> str:
    """The page with more in its script, and a policy that lets it run."""
    script = rendering._template_file("browser.js")
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (script, script + more)]
    assert script in page and digests[0] in page
    return page.replace(script, script + more).replace(*digests)


@needs_browser
def test_the_script_runs_and_the_policy_stops_nothing(page: Path, document: dict[str, Any], tmp_path: Path) -> None:
    dom, said = opened(page, tmp_path)
    assert said == []
    [filters] = re.findall(r'<form class="filters"[^>]*>', dom)
    assert "hidden" not in filters
    cots = len(document["runs"][0]["cots"])
    assert f">{cots} of {cots}</output>" in dom


@needs_browser
def test_a_script_that_is_not_named_does_not_run(page: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.html"
    text = page.read_text(encoding="utf-8").replace("<h1>", "<script>document.title = 'owned'</script><h1>", 1)
    stranger.write_text(text, encoding="utf-8")
    dom, said = opened(stranger, tmp_path / "profile")
    assert "<title>owned" not in dom and len(said) == 1 and "Content Security Policy" in said[0]


@needs_browser
def test_without_scripts_all_cots_are_there(page: Path, document: dict[str, Any], tmp_path: Path) -> None:
    text = html.escape(page.read_text(encoding="utf-8"))
    # A frame in which no script runs, and into which the page around it can look.
    (tmp_path / "around.html").write_text(WITHOUT_SCRIPTS.format(page=text), encoding="utf-8")
    dom, _ = opened(tmp_path / "around.html", tmp_path / "profile")
    [told] = re.findall(r'data-said="([^"]*)"', dom)
    cots = len(document["runs"][0]["cots"])
    assert json.loads(html.unescape(told)) == {"shown": cots, "texts": cots, "filters": False, "opens": True}


@needs_browser
def test_filters_and_widths(page: Path, document: dict[str, Any], tmp_path: Path) -> None:
    cots = document["runs"][0]["cots"]
    (tmp_path / "asked.html").write_text(with_script(page.read_text(encoding="utf-8"), ASKED), encoding="utf-8")
    frame = '<iframe src="asked.html" width="{}" height="800" style="border:0"></iframe>'
    frames = "".join(frame.format(width) for width in WIDTHS)
    (tmp_path / "around.html").write_text(AROUND.format(frames=frames), encoding="utf-8")
    dom, said = opened(tmp_path / "around.html", tmp_path / "profile", "--virtual-time-budget=10000")
    assert said == []
    [told] = re.findall(r'data-said="([^"]*)"', dom)
    frames_said = json.loads(html.unescape(told))
    assert sorted(each["inner"] for each in frames_said) == sorted(WIDTHS)
    for each in frames_said:
        assert each["scroll"] <= each["inner"], "the page is wider than the window"
    one, other = frames_said
    assert one["found"] == other["found"] and not one["hidden"]
    assert one["counted"] == f"0 of {len(cots)}"
    assert one["steps"] == ["", "final end", "validation 0", "validation 12", "training 3"]

    def where(fits: Any) -> list[int]:
        return [i for i, cot in enumerate(cots) if fits(cot)]

    def value(cot: dict[str, Any]) -> float:
        found: float = cot["answer_logprob"] if cot["reward"] is None else cot["reward"]
        return found

    assert one["found"] == [
        where(lambda cot: True),
        where(lambda cot: cot["right"] is True),
        where(lambda cot: cot["right"] is False),
        where(lambda cot: (cot["kind"], cot["step"]) == ("validation", 12)),
        where(lambda cot: value(cot) >= -1),
        where(lambda cot: value(cot) <= -1 and cot["right"] is False),
        where(lambda cot: "begins with a line" in cot["cot"].lower()),
        [],
    ]
    assert all(0 < len(found) < len(cots) for found in one["found"][1:-1])


def test_a_page_of_2000_cots_is_under_10_mb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "draw", lambda *_: '<svg role="img"></svg>')
    words = "so 48 / 2 = 24 clips, and " * 48  # of 300 tokens or so
    before, after = (answers([i % 2 == right for i in range(2000)], cot=words) for right in (0, 1))
    document = report([healthy(tmp_path / "r", validations={}, final=(before, after))])
    assert len(document["runs"][0]["cots"]) == 2000
    page = as_html(document)
    assert page.count('class="cot"') == 2000 and len(page.encode()) < 10_000_000
