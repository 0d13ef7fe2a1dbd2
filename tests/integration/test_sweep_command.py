from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from markov_cot.cli.main import main
from tests.sweeps import SQUARE, STEPS, write_csv

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `markov-cot sweep show ...`; exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["sweep", "show", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def refused(result: tuple[int, str, str]) -> str:
    """The one line of an error with exit code 2."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1) and "Traceback" not in err
    return err


def test_json_names_inputs_settings_n_and_seed(run: Run, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", *STEPS)
    code, out, err = run(path, "--json", "--seed", 3)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert list(found["inputs"]) == [str(path)] and found["seed"] == 3
    assert (found["n"], found["rows"], found["method"]) == (4, 8, "anova")
    assert found["settings"] == {
        "metric": "score", "lower_is_better": False, "run": "run", "step": "step", "seeds": [], "where": [],
        "pattern": [], "resamples": 1000,
    }  # fmt: skip
    assert found["factors"] == {"a": ["0", "1"], "step": ["10", "20"]}
    assert found["shares"]["a"]["share"] == pytest.approx(32 / 48)
    assert found["means"]["a"]["1"] == {"n": 2, "mean": 7, "low": 7, "high": 7}
    assert found["contrasts"]["a"]["reference"] == "1"
    assert found["contrasts"]["a"]["levels"]["0"]["stderr"] == pytest.approx(1)
    assert found["steps"]["runs"] == 4 and found["best"]["row"] == 9
    assert run(path, "--json", "--seed", 3)[1] == out


def test_tables(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(write_csv(tmp_path / "a.csv", *SQUARE))
    assert code == 0
    assert "score (higher is better) of 4 runs" in out and "a (2), b (2); 4 of 4 combinations, 1 run each" in out
    assert "64.3%" in out and "28.6%" in out and "7.1%" in out, "36, 16 and 4 of 56"
    assert "a by b: mean (runs)" in out and "11.00 (1)" in out
    assert "best single value: 11.00 (a=1, b=1), of 4" in out
    assert "What these data do not carry:\n- one run a combination" in out
    steps = run(write_csv(tmp_path / "b.csv", *STEPS))[1]
    assert "checkpoints less the final one, within 4 runs" in steps


def test_options(run: Run, tmp_path: Path) -> None:
    rows = [(f"r{i}-lr{lr}e4-step{step}", lr, lr * step + i, i) for i in (1, 2) for lr in (1, 3) for step in (1, 2)]
    path = write_csv(tmp_path / "a.csv", "who score_a score_b i", *rows)
    arguments = ("--run", "who", "--pattern", "lr{lr:e-}", "--metric", "score_b", "--lower-is-better", "--json")
    found = json.loads(run(path, *arguments, "--settings", "lr,i")[1])
    assert found["factors"] == {"lr": ["0.0001", "0.0003"], "i": ["1", "2"], "step": ["1", "2"]}
    assert found["settings"]["lower_is_better"] and found["best"]["settings"] == {"lr": "0.0001", "i": "1"}
    assert found["n"] == 4
    kept = json.loads(run(path, *arguments, "--where", "i!=2", "--where", "step=2")[1])
    assert (kept["n"], kept["rows"], kept["steps"]) == (2, 2, None)


def test_names_from_files_are_shown_as_text(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('run,"\x1b[31mlr\n",score\n"[red]r\x9b",\x1b[2J,1\nq,"b\nc",2\ns,b c,4\n', encoding="utf-8")
    code, out, _ = run(path)
    assert code == 0 and "\x1b" not in out and "\x9b" not in out
    assert "\\x1b[31mlr b c" in out and "\\x1b[2J" in out
    assert run(path, "--json")[1].isascii()


@pytest.mark.parametrize(
    ("content", "arguments", "reason"),
    [
        ("", (), "has no rows under a header"),
        ("a,score\n1,2\n", (), "has one run only"),
        ("a,score\n1,nan\n2,3\n", (), "line 2: score is 'nan', not a finite number"),
        ("a,score\n1,2\n2,3\n", ("--metric", "sco"), "--metric sco: "),
        ("a,score\n1,2\n2,3\n", ("--settings", "b"), "--settings b: "),
        ("a,score\n1,2\n2,3\n", ("--where", "a=3"), "leaves none of the 2 rows"),
        ("a,score\n1,2\n2,3\n", ("--where", "a"), "expected COLUMN=VALUE"),
        ("a,score\n1,2\n2,3\n", ("--pattern", "r{x}"), "say --run COLUMN"),
        ('a,score\n1,"2\n', (), "not CSV"),
        ("a,a\n1,2\n", (), "the header has 'a' twice"),
    ],
)
def test_bad_input_is_one_line(run: Run, tmp_path: Path, content: str, arguments: tuple[str, ...], reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    assert reason in refused(run(path, *arguments))


def test_what_is_not_there_is_one_line(run: Run, tmp_path: Path) -> None:
    assert "does not exist" in refused(run(tmp_path / "none.csv"))
    assert "has no run" in refused(run(tmp_path))


def test_a_table_needs_no_torch(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", *STEPS)
    code = (
        "import sys; from markov_cot.cli.main import main\n"
        f"try: main(['sweep', 'show', {str(path)!r}])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert not modules & {"torch", "transformers", "pandas"}
