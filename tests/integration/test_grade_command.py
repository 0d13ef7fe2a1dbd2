from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.cli.main import main
from markov_cot.data.fields import number_text

ROWS: list[dict[str, Any]] = [
    {"id": 1, "response": "The answer is $70,000.", "gold": 70000},
    {"id": 2, "response": "5 + 4 = 9\n#### 9", "gold": "9"},
    {"id": 3, "response": "so \\boxed{7/2}", "gold": 3.5},
    {"id": 4, "response": "no idé \ud800", "gold": "18."},
]
CHOICE_ROWS: list[dict[str, Any]] = [
    {"response": "It is a C", "gold": "C", "choices": ["a dog", "a cat", "an eel", "a bee"]},
    {"response": "an eel", "gold": "(c)", "choices": ["a dog", "a cat", "an eel", "a bee"]},
    {"response": "The answer is E", "gold": "b", "choices": 4},
]

NUMERIC = ("--kind", "numeric", "--json")

Run = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `markov-cot grade ...`; exit code, stdout, stderr."""

    def call(*arguments: object) -> Run:
        with pytest.raises(SystemExit) as stop:
            main(["grade", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def refused(result: Run) -> str:
    """The one line of an error with exit code 2."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_json_has_exactly_the_contracted_shape(run: Any, tmp_path: Path) -> None:
    code, out, err = run(write(tmp_path / "a.jsonl", ROWS), "--kind", "numeric", "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert list(report) == ["n", "extractors"]
    assert report["n"] == 4
    assert list(report["extractors"]) == ["anchor", "simple", "strict-match", "flexible-extract", "boxed"]
    # Three of four right: mean 3/4, stderr sqrt(3/4 * 1/4 / 3) = 1/4.
    assert report["extractors"]["anchor"] == {"accuracy": 0.75, "stderr": 0.25, "invalid": 1}
    assert report["extractors"]["strict-match"] == {"accuracy": 0.25, "stderr": 0.25, "invalid": 3}
    assert report["extractors"]["boxed"] == {"accuracy": 0.25, "stderr": 0.25, "invalid": 3}


def test_choices(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CHOICE_ROWS)
    names = ("word-boundary", "choice-text", "legacy")
    code, out, _ = run(path, "--kind", "choice", "--json", *(part for name in names for part in ("--extractor", name)))
    report = json.loads(out)["extractors"]
    assert code == 0
    assert list(report) == list(names)
    assert {name: (round(3 * r["accuracy"]), r["invalid"]) for name, r in report.items()} == {
        "word-boundary": (2, 1),  # the second writes the option's text, and no letter
        "choice-text": (1, 2),
        "legacy": (0, 1),  # A, A of "AN", and E of "THE", which is no choice
    }


def test_number_of_choices(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"response": "E", "gold": "E"}, {"response": "F", "gold": "A"}])
    assert json.loads(run(path, "--kind", "choice", "--json")[1])["extractors"]["anchor"]["accuracy"] == 0.5
    assert "line 1: gold 'E' is not one of A-D" in refused(run(path, "--kind", "choice", "--choices", 4))
    assert "--choices" in refused(run(path, "--kind", "choice", "--choices", 1))
    assert "--choices" in refused(run(path, "--kind", "numeric", "--choices", 4))


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_out_holds_every_row_in_order(run: Any, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    arguments = ("--kind", "numeric", "--extractor", "anchor", "--extractor", "boxed", "--out", out)
    assert run(write(tmp_path / "a.jsonl", ROWS), *arguments)[0] == 0
    raw = out.read_bytes()
    text = (gzip.decompress(raw) if name.endswith(".gz") else raw).decode("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [{k: row[k] for k in ("id", "response", "gold")} for row in rows] == ROWS
    assert rows[0]["predicted"] == {"anchor": "70000", "boxed": None}
    assert rows[0]["correct"] == {"anchor": True, "boxed": False}
    assert rows[3]["predicted"] == {"anchor": None, "boxed": None}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.jsonl", name])
    assert run(tmp_path / "a.jsonl", *arguments)[0] == 0
    assert out.read_bytes() == raw


def test_table(run: Any, tmp_path: Path) -> None:
    code, out, _ = run(write(tmp_path / "a.jsonl", ROWS), "--kind", "numeric")
    assert code == 0
    assert "4 responses" in " ".join(out.split())
    assert "0.3006 to 0.9544" in out  # Wilson for 3 of 4
    assert "Only 4 items" in out


def test_gzip_bom_blank_lines_and_no_final_newline(run: Any, tmp_path: Path) -> None:
    text = "\ufeff" + "\n\n".join(json.dumps(row) for row in ROWS)
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8", newline="\r\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    plain, zipped = (run(tmp_path / name, "--kind", "numeric", "--json") for name in ("a.jsonl", "b.jsonl.gz"))
    assert plain == zipped
    assert json.loads(plain[1])["n"] == 4


def test_one_row_has_no_standard_error(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS[:1])
    assert json.loads(run(path, "--kind", "numeric", "--json")[1])["extractors"]["anchor"]["stderr"] is None
    assert run(path, "--kind", "numeric")[0] == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("7", "not a JSON object"),
        ('{"gold": 1}', "no `response`"),
        ('{"response": "1"}', "no `gold`"),
        ("{}", "no `response` and no `gold`"),
        ('{"response": 1, "gold": 1}', "`response` is not text but int"),
        ('{"response": "1", "gold": "many"}', "gold 'many' is not a number"),
        ('{"response": "1", "gold": true}', "gold True is not a number"),
        ('{"response": "1", "gold": NaN}', "gold nan is not a number"),
        ('{"response": "1", "gold": ' + "9" * 5000 + "}", "holds a number of absurd length"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_row(run: Any, tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(ROWS[0])}\n\n{line}\n{json.dumps(ROWS[1])}\n", encoding="utf-8")
    out = tmp_path / "out.jsonl"
    out.write_text("kept")
    message = refused(run(path, "--kind", "numeric", "--json", "--out", out))
    assert f"{path} line 3: {reason}" in message
    assert "every row needs `response` (text) and `gold` (a number)" in message
    assert out.read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "out.jsonl"]


def test_all_malformed_rows_are_counted(run: Any, tmp_path: Path) -> None:
    lines = [json.dumps(ROWS[0]), *["x"] * 3, json.dumps(ROWS[1]), *["{}"] * 4]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    message = refused(run(tmp_path / "a.jsonl", "--kind", "numeric"))
    assert "line 2: not JSON" in message
    assert "7 malformed rows (lines 2, 3, 4, 6, 7, ...)" in message


@pytest.mark.parametrize("choices", [1, 27, True, [], ["one"], [1, 2], "four", {}])
def test_malformed_choices(run: Any, tmp_path: Path, choices: object) -> None:
    path = write(tmp_path / "a.jsonl", [{"response": "A", "gold": "A", "choices": choices}])
    assert "line 1: `choices` is neither" in refused(run(path, "--kind", "choice"))


def test_not_utf8(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"response": "caf\xe9 7", "gold": 7}\n')
    assert "line 2: not UTF-8" in refused(run(path, "--kind", "numeric"))
    path.write_bytes(json.dumps(ROWS[0]).encode("utf-16"))
    assert "line 1: not UTF-8" in refused(run(path, "--kind", "numeric"))


def test_files_that_cannot_be_read(run: Any, tmp_path: Path) -> None:
    assert "does not exist" in refused(run(tmp_path / "missing.jsonl", "--kind", "numeric"))
    assert "cannot be read" in refused(run(tmp_path, "--kind", "numeric"))
    (tmp_path / "empty.jsonl").write_text("\n \n")
    assert "holds no rows" in refused(run(tmp_path / "empty.jsonl", "--kind", "numeric"))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROWS[0]).encode() * 99)[:-20])
    assert "cannot be read" in refused(run(tmp_path / "cut.jsonl.gz", "--kind", "numeric"))


def test_unknown_extractors_name_the_nearest(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    assert "did you mean boxed?" in refused(run(path, "--kind", "numeric", "--extractor", "boxd"))
    message = refused(run(path, "--kind", "choice", "--extractor", "strict-match"))
    assert "not known for choice answers" in message
    assert "there are word-boundary, anchor" in message


def test_outputs_that_cannot_be_written(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    before = path.read_bytes()
    assert "name another" in refused(run(path, "--kind", "numeric", "--out", path))
    assert "no folder" in refused(run(path, "--kind", "numeric", "--out", tmp_path / "none" / "b.jsonl"))
    assert "no folder" in refused(run(path, "--kind", "numeric", "--out", path / "b.jsonl"))
    assert "is a folder" in refused(run(path, "--kind", "numeric", "--out", tmp_path))
    assert path.read_bytes() == before


def test_a_null_response_is_invalid(run: Any, tmp_path: Path) -> None:
    rows = [{"response": "42", "gold": 42}, {"response": None, "gold": 42}]
    path, out = write(tmp_path / "a.jsonl", rows), tmp_path / "out.jsonl"
    report = json.loads(run(path, "--kind", "numeric", "--json", "--out", out)[1])
    assert report["n"] == 2
    assert report["extractors"]["anchor"] == {"accuracy": 0.5, "stderr": 0.5, "invalid": 1}
    assert report["extractors"]["flexible-extract"]["invalid"] == 1
    last = json.loads(out.read_text().splitlines()[1])
    assert (last["response"], last["predicted"]["anchor"], last["correct"]["anchor"]) == (None, None, False)
    assert "1 of the responses are null" in " ".join(run(path, "--kind", "numeric")[1].split())
    choice = write(tmp_path / "b.jsonl", [{"response": None, "gold": "A"}])
    assert json.loads(run(choice, "--kind", "choice", "--json")[1])["extractors"]["legacy"]["invalid"] == 1


@pytest.mark.parametrize(
    "gold", ["1/2", "50%", "18 dollars", "1.5e3", "a\n#### 72", "４２", "$\\frac{3}{4}$", "twelve"]
)
def test_grade_and_the_dataset_reader_take_the_same_golds(run: Any, tmp_path: Path, gold: str) -> None:
    plain = number_text(gold, "answer")
    report = json.loads(run(write(tmp_path / "a.jsonl", [{"response": plain, "gold": gold}]), *NUMERIC)[1])
    assert report["extractors"]["anchor"]["accuracy"] == 1


@pytest.mark.parametrize(
    ("locale", "response", "gold", "accuracy"),
    [
        (None, "Es sind 1.234,5 Euro.", 1234.5, 0),
        ("de", "Es sind 1.234,5 Euro.", 1234.5, 1),
        ("de_AT", "Es sind 1.234 Euro.", 1234, 1),
        ("de", "Es sind 3,5 Euro.", "3,5", 1),
        ("de", "Es sind 3.5 Euro.", 3.5, 1),  # not in thousands, so a decimal point
        ("de", "Es sind 1.234 Euro.", "1.234", 1),
        ("de", "Es sind 1.234 Euro.", 1.234, 0),
        ("fr", "Cela fait 1 234,5 euros.", 1234.5, 1),
        ("de-CH", "Es sind 1'234.5 Franken.", 1234.5, 1),
        ("en-GB", "It is 1,234.5 pounds.", 1234.5, 1),
        (None, "Es sind 1.234,5 Euro.", "1.234,5", 1),  # as the gold is written
    ],
)
def test_locale(run: Any, tmp_path: Path, locale: str | None, response: str, gold: object, accuracy: int) -> None:
    path = write(tmp_path / "a.jsonl", [{"response": response, "gold": gold}])
    report = json.loads(run(path, *NUMERIC, *(("--locale", locale) if locale else ()))[1])
    assert report["extractors"]["anchor"]["accuracy"] == accuracy


def test_unknown_locales(run: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    assert "--locale xx: not known; there are en," in refused(run(path, *NUMERIC, "--locale", "xx"))
    assert "only with --kind numeric" in refused(run(path, "--kind", "choice", "--locale", "de"))


def test_expressions_without_math_verify(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = write(tmp_path / "a.jsonl", [ROWS[0], {"response": "3", "gold": "3\\pi"}])
    message = refused(run(path, *NUMERIC))
    assert (
        "line 2: gold '3\\\\pi' is not a number but an expression; comparing expressions needs math-verify" in message
    )


SAMPLES: list[dict[str, Any]] = [
    {"doc_id": i, "doc": {"id": str(i)}, "target": "7", "resps": [answers], "filter": name, "predicted": []}
    for i, answers in enumerate([["It is 7.", "8"], ["<think>7", "7"]])
    for name in ("anchor", "simple")
]


def test_sample_files_can_be_graded_again(run: Any, tmp_path: Path) -> None:
    path, out = write(tmp_path / "samples_x.jsonl", SAMPLES), tmp_path / "out.jsonl"
    report = json.loads(run(path, *NUMERIC, "--out", out)[1])
    assert report["n"] == 4  # two items with two samples each, whatever was made of them
    assert report["extractors"]["anchor"] == {
        "accuracy": 0.5,
        "stderr": pytest.approx(0.288675, abs=1e-6),
        "invalid": 1,
    }
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["doc_id"], row["response"], row["correct"]["anchor"]) for row in rows] == [
        (0, "It is 7.", True),
        (0, "8", False),
        (1, "<think>7", False),
        (1, "7", True),
    ]


def test_samples_of_choices(run: Any, tmp_path: Path) -> None:
    doc = {"choices": ["osmosis", "diffusion"]}
    rows = [
        {"doc": doc, "target": "A", "resps": [["It is osmosis."]], "filter": "word-boundary"},
        {"doc": doc, "target": 0, "resps": [[[-1.0, False]], [[-2.0, False]]], "filter": "none"},
    ]
    report = json.loads(run(write(tmp_path / "a.jsonl", rows), "--kind", "choice", "--json")[1])
    assert (report["n"], report["extractors"]["word-boundary"]["accuracy"]) == (1, 1)
    assert "samples are likelihoods" in refused(run(write(tmp_path / "b.jsonl", rows[1:]), "--kind", "choice"))


@pytest.mark.parametrize("resps", [None, [], "7", ["7"], [[7]]])
def test_malformed_samples(run: Any, tmp_path: Path, resps: object) -> None:
    path = write(tmp_path / "a.jsonl", [{"doc": {}, "target": "7", "resps": resps, "filter": "anchor"}])
    assert "line 1: `resps` is not" in refused(run(path, *NUMERIC))


def test_help_names_the_options(run: Any) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(option in out for option in ("--kind", "--extractor", "--choices", "--locale", "--json", "--out"))
