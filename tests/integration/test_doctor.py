from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from markov_cot.alarms.logs.opening import find_log, open_log
from markov_cot.alarms.logs.step_rows import read_samples
from markov_cot.alarms.replay import examine
from markov_cot.cli.main import main
from markov_cot.utils.errors import UserError

# Two runs of the published code: a collapse under its PPO (ARC), and a healthy run (GSM8K).
ARC = {
    "Batch Index": [0, 99, 999, 2999, 5999],
    "Loss": [-0.0003, -0.0247, 6.6562, 9.75, -0.9688],
    "Normalized Reward": [0.2129, 0.2002, -39.25, -33.5, -33.75],
    "Actor Log Probs": [-1.6328, -1.875, -41.0, -35.25, -35.5],
    "PPO Ratio": [1.0, 1.1719, 21.75, 26.25, 8.125],
}
GSM8K = {
    "Batch Index": [0, 999, 3999, 7999],
    "Loss": [0.0457, 0.0099, -0.098, -0.153],
    "Normalized Reward": [-2.8125, -0.3145, 0.2314, 0.3945],
    "Actor Log Probs": [-3.8125, -3.3594, -1.5312, -0.0894],
}
HEADER = {"task_type": "arc", "use_ppo": True, "lr": 1e-4, "kl_penalty": 0.1, "cot_length": 50, "batch_size": 12}
OWN = {
    "Batch Index": "step",
    "Loss": "loss/total",
    "Normalized Reward": "reward/normalized",
    "Actor Log Probs": "reward/answer_logprob",
    "PPO Ratio": "policy/reference_ratio",
}


def transposed(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def published(columns: dict[str, list[Any]], header: dict[str, Any] = HEADER) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [header]
    for row in transposed(columns):
        example = {"Actor Reasoning": "4" * 50 if row["Loss"] > 1 else "The sun is hot"}
        rows.append({"Batch Index": row.pop("Batch Index"), "Example": example, "Training Metrics": row})
    return rows


def own(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [{OWN[key]: value for key, value in row.items()} for row in transposed(columns)]


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", *arguments])
    code = stopped.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- the two published trajectories


@pytest.mark.parametrize("form", [published, own])
def test_the_collapsed_run_is_critical_at_batch_999(form: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("log.jsonl"), form(ARC))
    assert run("log.jsonl") == 3
    out = capsys.readouterr().out
    assert out.startswith("critical: ratio at step 999, reward at step 999\n")
    assert "21.8 times the probability" in out
    assert "reward/normalized is -39.25 nats" in out
    assert "healthy" not in out


@pytest.mark.parametrize("form", [published, own])
def test_the_healthy_run_is_healthy(form: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("log.jsonl"), form(GSM8K))
    assert run("log.jsonl") == 0
    out = capsys.readouterr().out
    assert out.startswith("healthy\n")
    assert "4 rows, steps 0 to 7999" in out
    assert "judged: reward, non_finite; no data for: ratio, " in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("log.jsonl"), published(ARC))
    assert run("log.jsonl", "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert report["healthy"] is False
    assert report["critical"] == {"ratio": 999, "reward": 999}
    assert (report["rows"], report["first_step"], report["last_step"]) == (5, 0, 5999)
    assert report["events"][0]["values"] == {"policy/reference_ratio": 21.75}


def test_the_diagnosis_of_a_published_log(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("log.jsonl"), published(ARC))
    run("log.jsonl")
    out = capsys.readouterr().out
    assert 'Example CoT: "44444444' in out
    assert "takes its ratio against the frozen base" in out
    assert "optim.lr (now 0.0001), raise algorithm.kl_weight (now 0.1)" in out


def test_warnings_are_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("log.jsonl"), [{"step": i, "policy/kl": 1.2} for i in range(5)])
    assert run("log.jsonl") == 0
    out = capsys.readouterr().out
    assert out.startswith("healthy, with warnings: kl at step 2\n")
    assert "[warn] kl, step 2: The KL divergence from the reference is 1.2 nats per token" in out


# --- what is read from a log


def entries(rows: Iterable[dict[str, Any]]) -> list[dict[str, float | None]]:
    return [entry.metrics for entry in open_log(write(Path("log.jsonl"), rows)).entries()]


def batch(metrics: dict[str, Any]) -> dict[str, Any]:
    return {"Batch Index": 7, "Training Metrics": metrics}


def test_keys_of_the_published_code() -> None:
    full = {
        "Loss": 1.0,
        "Policy Gradient Loss": 2.0,
        "Actor Log Probs": -0.5,
        "Actor Answer Log Probs": -3.0,
        "Critic Answer Log Probs": -4.0,
        "Normalized Reward": 1.0,
        "KL": 0.06,
        "KL Type": "Weighted KL",
        "PPO Ratio": None,
        "Gradient Norm": 0.5,
        "Active Samples": {"Count": 1, "Fraction": 1.0},
    }
    assert entries([HEADER, batch(full)]) == [
        {
            "loss/total": 1.0,
            "loss/policy": 2.0,
            "policy/cot_logprob": -0.5,
            "reward/answer_logprob": -3.0,
            "reward/baseline_logprob": -4.0,
            "reward/normalized": 1.0,
            "policy/kl": pytest.approx(0.6),  # 0.06 / kl_penalty
            "optim/grad_norm": 0.5,
        }
    ]


def test_kl_is_left_out_where_its_weight_is_not_known() -> None:
    kl = {"KL": 0.06, "KL Type": "Weighted KL"}
    assert entries([{"lr": 1e-4}, batch(kl)]) == [{}]
    assert entries([{"lr": 1e-4}, batch(kl | {"KL Type": "Raw KL"})]) == [{"policy/kl": 0.06}]


def test_the_oldest_published_form() -> None:
    row = {"Aggregate loss": 0.1, "Batch Index": 3, "Action": "Reasoning: 1", "Avg Log Prob": -5.0, "PPO Ratio": 1.1}
    assert entries([{"model_learning_rate": 1e-4}, row]) == [
        {"loss/total": 0.1, "reward/answer_logprob": -5.0, "policy/reference_ratio": 1.1}
    ]


def test_null_is_not_finite_in_our_logs_and_missing_in_theirs() -> None:
    assert examine(write(Path("a.jsonl"), [{"step": 1, "loss/total": None}])).critical[0].alarm == "non_finite"
    assert examine(write(Path("b.jsonl"), [HEADER, batch({"Loss": 0.1, "KL": None})])).is_healthy
    assert not examine(write(Path("c.jsonl"), [HEADER, batch({"Loss": float("nan")})])).is_healthy


def test_text_and_truth_values_are_no_metrics() -> None:
    row = {"step": 1.0, "loss/total": 0.1, "note": "x", "flag": True, "list": [1], "huge": 10**400}
    assert entries([row]) == [{"loss/total": 0.1, "huge": None}]


def test_examples_come_from_the_samples_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("run/log.jsonl"), own(ARC))
    samples = [{"step": 900, "cot": "fine"}, {"step": 999, "cot": "\x1b[31m444"}, {"step": 1000, "cot": "late"}]
    write(Path("run/samples.jsonl"), samples)
    run("run")
    out = capsys.readouterr().out
    assert 'Example CoT: "\\x1b[31m444"' in out and "\x1b" not in out


def test_another_steps_sample_is_no_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("run/log.jsonl"), own(ARC))
    write(Path("run/samples.jsonl"), [{"step": 1, "cot": "healthy"}, {"step": 2999, "cot": "later"}])
    run("run")
    out = capsys.readouterr().out
    assert "There is no sample CoT of step 999 to quote." in out
    assert "healthy" not in out and "Example CoT" not in out


def test_advice_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("log.jsonl"), published(ARC))
    assert run("log.jsonl") == 3
    out = capsys.readouterr().out
    assert out.count("Lower optim.lr (now 0.0001), raise algorithm.kl_weight (now 0.1).") == 1
    assert out.count("This run used the published code's PPO") == 1


def test_without_a_name_it_is_the_newest_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "there are no runs in runs/; train first" in capsys.readouterr().err
    for name, age in (("new", 0), ("old", 100)):
        log = write(Path(f"runs/{name}/log.jsonl"), own(GSM8K))
        os.utime(log, (1e9 - age, 1e9 - age))
    Path("runs/newer-but-no-run/eval").mkdir(parents=True)
    assert run() == 0
    captured = capsys.readouterr()
    assert captured.err == "the newest run is new\n"
    assert "runs/new/log.jsonl: 4 rows" in captured.out


def test_broken_samples_go_unused(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"step": 1, "cot": "a"}\nnot json\n{"step": "x", "cot": "b"}\n[1]\n{"step": 5, "cot": "c"}\n')
    samples = read_samples(path)
    assert {step: [cot.text for cot in cots] for step, cots in samples.items()} == {1: ["a"], 5: ["c"]}
    assert read_samples(tmp_path / "none") == {}


# --- where a log is looked for, and how the alarms are set


def test_runs_folders_and_files() -> None:
    log = write(Path("runs/mine/log.jsonl"), own(GSM8K))
    for name in ("mine", "runs/mine", "runs/mine/log.jsonl"):
        assert find_log(name, Path("runs")) == log
    assert find_log("mine", Path("runs").resolve()) == log.resolve()
    Path("mine").mkdir()  # a folder without a log does not hide the run of its name
    assert find_log("mine", Path("runs")) == log


def test_runs_dir_option(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("elsewhere/mine/log.jsonl"), own(GSM8K))
    assert run("mine", "--runs-dir", "elsewhere") == 0
    assert "healthy" in capsys.readouterr().out


def test_alarms_are_set_as_in_the_config_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("run/log.jsonl"), own(GSM8K))
    config = Path("run/config.yaml")
    config.write_text("optim: {lr: 3e-5}\nsome_newer_setting: 1\nalarms: {reward: {hard: 2, critical: 1.5}}\n")
    assert run("run") == 3
    assert "optim.lr (now 3e-05)" in capsys.readouterr().out
    config.write_text("alarms: {reward: {hrad: 2}}\n")
    assert run("run") == 2
    assert "config.yaml: unknown key alarms.reward.hrad; did you mean alarms.reward.hard?" in capsys.readouterr().err


# --- bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("\n\n", "has no rows"),
        (json.dumps(HEADER) + "\n", "has no rows"),
        ('{"step": 1, "perf/x": 1}\n', "has no metric that the alarms know"),
        ("step,loss\n1,2\n", "line 1: is not JSON"),
        ('{"step": 1}\nnot json', "line 2: is not JSON"),
        ('{"step": 1}\n{"step": 2\n{"step": 3}\n', "line 2: is not JSON"),
        ('{"step": 1}\n[1]\n', "line 2: is not a JSON object"),
        ('{"step": 1}\n{"stp": 2}\n', 'line 2: has neither "step" nor "Training Metrics"'),
        ('{"step": "one"}\n', 'line 1: "step" should be a whole number'),
        ('{"step": 1.5}\n', 'line 1: "step" should be a whole number'),
        ('{"step": NaN}\n', 'line 1: "step" should be a whole number'),
        ('{"step": Infinity}\n', 'line 1: "step" should be a whole number'),
        ('{"step": true}\n', 'line 1: "step" should be a whole number'),
        ('{"a": 1}\n{"Training Metrics": {}}\n', 'line 2: "Batch Index" should be a whole number'),
        ('{"a": 1}\n{"Batch Index": 1, "Training Metrics": 3}\n', 'line 2: "Training Metrics" is not a mapping'),
        ("[" * 100_000, "line 1: is not JSON"),
        ("\ud800", "line 1: is not JSON"),
    ],
)
def test_bad_logs_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], text: str, message: str) -> None:
    Path("log.jsonl").write_bytes(text.encode("utf-8", errors="surrogatepass"))
    assert run("log.jsonl") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.strip().splitlines()) == 1
    assert "log.jsonl" in captured.err and message in captured.err


def test_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("none") == 2
    assert "none: is no file, no folder, and no run in runs/ (it has no runs)" in capsys.readouterr().err
    write(Path("runs/mine/log.jsonl"), own(GSM8K))
    assert run("none") == 2
    assert "there are mine" in capsys.readouterr().err
    Path("empty").mkdir()
    assert run("empty") == 2
    assert "folder empty: has no log.jsonl" in capsys.readouterr().err


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        list(open_log(tmp_path / "none").entries())


def test_a_torn_last_line_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    path = write(Path("log.jsonl"), own(GSM8K))
    path.write_text(path.read_text() + '{"step": 8000, "loss/to')
    assert run("log.jsonl") == 0
    captured = capsys.readouterr()
    assert "4 rows" in captured.out and "cut off" in captured.err


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 0, "loss/total": 1.0}\n' + data)
    try:
        examine(path)
    except UserError as error:
        assert "line" in str(error)
