"""`markov-cot winrate` as a user meets it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.judgements import CHOICES
from markov_cot.analysis.resampling import UNITS, Sampling
from markov_cot.analysis.winrate_document import Request
from markov_cot.cli.winrate import winrate_command
from tests.command_fixtures import Cli

BASELINE, MODEL = "gpt-4-0314", "m"


def judgement(question: int, *labels: str | None, model: str = MODEL) -> dict[str, Any]:
    games = [{"user_prompt": "?", "judgment": "", "score": label} for label in labels]
    return {"question_id": str(question), "model": model, "judge": "j", "games": games}


def battle(question: int, model_a: str, model_b: str, winner: str) -> dict[str, Any]:
    return {"question_id": str(question), "model_a": model_a, "model_b": model_b, "winner": winner}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def write(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def refused(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert (code, out) == (2, "") and err.count("\n") == 1 and "Traceback" not in err
    return err


def test_json(here: Path, cli: Cli) -> None:
    path = write("m.jsonl", judgement(1, "A>>B", "A>B"), judgement(2, "A=B", "A>>A"), judgement(3, None, "A>B"))
    code, out, err = cli("winrate", path, "--json", "--seed", "3", "--resamples", "500")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["n"], found["seed"]) == (3, 3)
    assert found["settings"] == {
        "format": "auto",
        "baseline": None,
        "opponent": BASELINE,
        "strong": 3,
        "resample": "questions",
        "resamples": 500,
        "level": 95,
    }
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert found["inputs"] == [{"file": path, "sha256": sha256, "format": "arena-hard-v0.1", "rows": 3}]
    assert list(found["models"]) == [MODEL] and found["baselines"] == [BASELINE]
    model = found["models"][MODEL]
    # Votes for the model: 0 of 3 and 1 of 1, a half, and 1 of 1.
    assert (model["n"], model["votes"], model["malformed"]) == (3, 6, 2)
    assert model["win_rate"] == pytest.approx(100 * 2.5 / 6)
    assert 0 <= model["low"] < model["win_rate"] < model["high"] <= 100
    assert found["malformed"]["n"] == 2
    assert {each["label"]: each["n"] for each in found["malformed"]["labels"]} == {"A>>A": 1, None: 1}
    assert found["position"]["n"] == 1
    assert cli("winrate", path, "--json", "--seed", "3", "--resamples", "500") == (code, out, err)


def test_what_is_infinite_is_null(here: Path, cli: Cli) -> None:
    _, out, _ = cli("winrate", write("m.jsonl", judgement(1, "A>B"), judgement(2, "A>B")), "--json")
    found = json.loads(out, parse_constant=pytest.fail)
    rating = {"rating": None, "low": None, "high": None, "win_rate": 0.0, "undetermined": 0}
    assert found["bradley_terry"]["models"][MODEL] == rating
    _, out, _ = cli("winrate", "m.jsonl")
    assert "every vote went one way" in out and "-inf" in out


def test_tables(here: Path, cli: Cli) -> None:
    evil = "m\x1b[31m"
    rows = [judgement(i, "A>B" if i % 2 else "B>A", "B>A", model=evil) for i in range(4)]
    code, out, err = cli("winrate", write("m.jsonl", *rows, judgement(9, "\x1b]0;x", model=evil)))
    assert (code, err) == (0, "")
    assert f"win rate against {BASELINE}, percent [95 % over questions], n = 4" in out
    assert "\x1b" not in out and "m\\x1b[31m" in out and "in their place stands \\x1b]0;x (1)" in out
    assert "25.00 [0.00, 50.00]" in out
    assert "by order: 50.0 %" in out and "the one shown second: 2," in out
    assert "Only 4 items" in out
    _, out, _ = cli("winrate", write("one.jsonl", judgement(1, "A>B", "A>>B")))
    assert "75.00" in out and "1191" in out, "three of four votes"
    assert "75.00 [" not in out and "1191 [" not in out, "one question has no interval"


def test_models_that_play_each_other(here: Path, cli: Cli) -> None:
    sides = [("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("c", "b"), ("a", "c")]
    path = write("v.jsonl", *(battle(i, *sides[i % 6], "model_a" if i % 5 else "tie") for i in range(60)))
    found = json.loads(cli("winrate", path, "--json")[1])
    ratings = found["bradley_terry"]
    assert (ratings["anchor"], ratings["mean"], found["baselines"]) == (None, 1000, [])
    assert sum(each["rating"] for each in ratings["models"].values()) == pytest.approx(3000)
    assert all(each["n"] == 40 for each in found["models"].values())
    found = json.loads(cli("winrate", path, "--json", "--baseline", "b")[1])
    assert (list(found["models"]) == ["a", "c"]) or list(found["models"]) == ["c", "a"]
    assert found["bradley_terry"]["models"]["b"]["rating"] == 1000 and found["left_out"] == 20
    code, out, _ = cli("winrate", path, "--baseline", "b", "--resample", "votes", "--level", "90")
    assert code == 0 and "[90 % over votes]" in out
    assert "20 verdicts on pairs without the baseline" in out and "too narrow" in out


def test_files_together(here: Path, cli: Cli) -> None:
    own = write("own.jsonl", judgement(1, "A>B", "A>B"), judgement(2, "B>A", "A>B"))
    others = write("battles.jsonl", battle(1, BASELINE, "n", "model_a"), battle(2, BASELINE, "n", "model_b"))
    found = json.loads(cli("winrate", own, others, "--json")[1])
    assert {name: each["win_rate"] for name, each in found["models"].items()} == {MODEL: 75.0, "n": 50.0}
    assert found["baselines"] == [BASELINE] and [each["rows"] for each in found["inputs"]] == [2, 2]
    assert "of 2 kinds of files are counted together" in cli("winrate", own, others)[1]
    Path("copy.jsonl").write_bytes(Path(own).read_bytes())
    assert "has the same content as own.jsonl; give each file once" in refused(cli("winrate", own, "copy.jsonl"))


def test_baselines_by_category(here: Path, cli: Cli) -> None:
    rows = [
        {"uid": str(i), "category": category, "judge": "j", "model": MODEL, "baseline": baseline, "games": games}
        for i, (category, baseline, label) in enumerate(
            [("hard_prompt", "o3", "B>A"), ("hard_prompt", "o3", "A>B"), ("creative", "gemini", "B>A")]
        )
        for games in [[{"score": label, "judgment": {"answer": ""}}, None]]
    ]
    path = write("m.jsonl", *rows)
    categories = json.loads(cli("winrate", path, "--json")[1])["models"][MODEL]["categories"]
    assert {name: each["win_rate"] for name, each in categories.items()} == {"hard_prompt": 50.0, "creative": 100.0}
    out = cli("winrate", path)[1]
    assert "win rate against o3 or gemini" in out and "by category" in out and "hard_prompt" in out
    found = json.loads(cli("winrate", path, "--json", "--baseline", "o3")[1])
    assert found["models"][MODEL]["win_rate"] == 50.0


def test_bad_input_is_one_line_and_exit_2(here: Path, cli: Cli) -> None:
    good = write("good.jsonl", battle(1, "x", "m", "tie"))
    Path("empty.jsonl").write_text("")
    assert "empty.jsonl: is empty" in refused(cli("winrate", "empty.jsonl"))
    assert "nowhere.jsonl: does not exist" in refused(cli("winrate", "nowhere.jsonl"))
    assert "--baseline y: has no game in these files" in refused(cli("winrate", good, "--baseline", "y"))
    assert "is of format arena-hard-battles" in refused(cli("winrate", good, "--format", "alpaca-eval"))
    assert "with one model only" in refused(cli("winrate", write("one.jsonl", battle(1, "m", "m", "tie"))))
    unread = write("unread.jsonl", judgement(1, "A>>A", None))
    assert "none of the 2 verdicts can be read" in refused(cli("winrate", unread))
    Path("nan.csv").write_text("question,model_a,model_b,score\n1,a,b,nan\n")
    assert "nan.csv line 2: score is nan" in refused(cli("winrate", "nan.csv"))
    Path("column.csv").write_text("question,model_a,model_b\n1,a,b\n")
    assert "column.csv line 2: no `winner` or `score`" in refused(cli("winrate", "column.csv"))
    assert "Missing argument" in refused(cli("winrate"))
    for option in (("--level", "100"), ("--resamples", "0"), ("--strong", "0"), ("--resample", "models")):
        assert option[0] in refused(cli("winrate", good, *option))


def test_the_options_are_those_of_the_analysis() -> None:
    choices = {each.name: getattr(each.type, "choices", None) for each in winrate_command.params}
    assert choices["expected"] is not None and set(choices["expected"]) == set(CHOICES)
    assert choices["unit"] is not None and tuple(choices["unit"]) == UNITS
    defaults = {each.name: each.default for each in winrate_command.params}
    request, sampling = Request([]), Sampling()
    assert (defaults["expected"], defaults["opponent"], defaults["strong"]) == (
        request.expected,
        request.opponent,
        request.strong,
    )
    assert (defaults["unit"], defaults["resamples"], defaults["level"], defaults["seed"]) == (
        sampling.unit,
        sampling.resamples,
        sampling.level,
        sampling.seed,
    )


def test_no_torch_is_imported(here: Path) -> None:
    path = write("good.jsonl", battle(1, "x", "m", "tie"), battle(2, "x", "m", "model_a"))
    script = (
        "import sys\nfrom markov_cot.cli.main import main\n"
        f"try: main(['winrate', {path!r}])\n"
        "except SystemExit: print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
