"""The command line as a user meets it: exit codes, one-line errors, what is printed where."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from markov_cot.checkpoints import run_dir
from markov_cot.cli.main import COMMANDS, main
from markov_cot.utils.profiling import PHASES, PREFIX
from tests.command_fixtures import SMALL


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    code = stopped.value.code
    return code if isinstance(code, int) else 0


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command that must fail on the user's input; returns its one line."""
    code = run(*arguments)
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert code == 2, captured.err
    assert captured.out == ""
    assert len(lines) == 1, captured.err
    return lines[0]


def test_help_imports_no_torch() -> None:
    code = "import sys; from markov_cot.cli.main import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert not modules & {"torch", "transformers", "numpy", "pydantic", "rich"}
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run(command, "--help") == 0
    assert "Usage: markov-cot " + command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["trian"], "No such command 'trian'; did you mean train?"),
        (["nothing"], "No such command"),
        (["train", "--run", ""], "not a plain name"),
        (["train", "--stepz", "3"], "No such option"),
        (["train", "--steps", "many"], "'many' is not a valid integer"),
        (["train", "quickstrat"], "did you mean quickstart?"),
        (["train", "missing.yaml"], "missing.yaml: does not exist"),
        (["train", "--dataset", "gsm9k"], "did you mean gsm8k?"),
        (["train", "--set", "optim.learning=1"], "unknown key optim.learning"),
        (["train", "--set", "rollout.lenght=9"], "did you mean rollout.length?"),
        (["train", "--set", "length=9"], "did you mean rollout.length?"),
        (["train", "--set", "optim.lr=fast"], "optim.lr: "),
        (["train", "--set", "optim.lr"], "expected key=value"),
        (["train", "--set", "steps.x=1"], "steps is a setting, not a group"),
        (["train", "--steps", "0"], "steps: "),
        (["train", "--set", "seed=true"], "seed: expected a number, got true"),
        (["train", "--run", "../up"], "not a plain name"),
        (["train", "--resume"], "there are no runs in runs/; leave it out"),
        (["train", "--resume", "--run", "none"], "there is no runs/none/config.yaml"),
        (["train", "--dataset", "gsm8k", "--model", "nano"], "MARKOV_COT_DATA"),
        (["train", "--dataset", "no.jsonl", "--model", "nano"], "no.jsonl: does not exist"),
        (["train", "--set", "rollout.length=1020"], "longer than the model's context"),
        (["train", "--set", "lora.target_modules=nothing"], "lora.target_modules"),
        (["train", "--set", "algorithm.actor_reward_weight=1"], "only with reward.reader=actor"),
        (["train", "--model", "nobody/nothing"], "--model nano"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert expected in fails(capsys, *arguments)
    assert not Path("runs").exists(), "nothing is left behind"


def test_missing_model_names_nano(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"question": "What is 1+1?", "answer": str(i)} for i in range(20)]
    Path("mine.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    Path("recipe.yaml").write_text("model: {name: meta-llama/Llama-3.1-8B-Instruct}\ndata: {dataset: mine.jsonl}\n")
    assert "--model nano" in fails(capsys, "train", "recipe.yaml")


def test_malformed_jsonl_row_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n{"question": "2+2?"\n')
    line = fails(capsys, "train", "--dataset", "bad.jsonl", "--model", "nano")
    assert "bad.jsonl line 2" in line


def test_skip_bad_rows_trains_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.dumps({"question": f"What is {i}+1?", "answer": str(i + 1)}) for i in range(30)]
    Path("mine.jsonl").write_text("\n".join([*rows, "{broken"]))
    assert run("train", "--dataset", "mine.jsonl", "--model", "nano", "--skip-bad-rows", "--run", "r", *SMALL) == 0
    assert "1 broken row" in capsys.readouterr().err
    line = json.loads(Path("runs/r/log.jsonl").read_text().splitlines()[-1])
    assert "eval/mine/accuracy" in line or "loss/total" in line


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, "no config.json"),
        ({"config.json": '{"model_type": "llama"}'}, "no weights"),
        ({"config.json": "{"}, "model"),
    ],
)
def test_model_folder_without_weights(capsys: pytest.CaptureFixture[str], files: dict[str, str], expected: str) -> None:
    Path("model").mkdir()
    for name, text in files.items():
        (Path("model") / name).write_text(text)
    assert expected in fails(capsys, "train", "--model", "./model")


def test_a_run_that_exists_needs_resume(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--run", "r", *SMALL) == 0
    captured = capsys.readouterr()
    assert "base" in captured.out and "trained" in captured.out and "checkpoints/r/adapter_1" in captured.out
    assert "pass --resume" in fails(capsys, "train", "--run", "r", *SMALL)
    assert run("train", "--run", "r", "--resume", "--steps", "2") == 0
    steps = [json.loads(line)["step"] for line in Path("runs/r/log.jsonl").read_text().splitlines()]
    assert steps == [0, 1, 2] or steps == [1, 2]


def test_a_checkpoint_of_another_base_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    from markov_cot.config.schema import Model
    from markov_cot.models.loading import load_base, load_tokenizer

    assert run("train", "--run", "r", *SMALL) == 0
    base = load_base(Model(), torch.device("cpu"))
    with torch.no_grad():
        base.get_input_embeddings().weight.mul_(1.1)
    base.save_pretrained("other")
    load_tokenizer(Model()).save_pretrained("other")
    capsys.readouterr()
    run("train", "--run", "r", "--resume", "--model", "./other")
    assert "was trained on the base nano" in capsys.readouterr().err.splitlines()[-1]


def test_unwritable_folder_at_start(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    line = fails(capsys, "train", "--set", "checkpoint.runs_dir=file/runs")
    assert "cannot be written" in line


def test_full_disk_at_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(run_dir, "write_synced", full)
    run("train", *SMALL)
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]


def test_interrupt_saves_and_exits_130() -> None:
    command = [sys.executable, "-u", "-m", "markov_cot", "train", "--run", "r", "--steps", "100000"]
    command += ["--set", "rollout.length=8", "--set", "rollout.samples=2", "--set", "validation.every=0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = Path("runs/r/log.jsonl")
    try:
        for _ in range(600):
            if log.exists() and log.read_text().count("\n") >= 2:
                break
            try:
                process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            break
        process.terminate()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "--resume" in err
    step = json.loads(log.read_text().splitlines()[-1])["step"]
    assert Path(f"checkpoints/r/adapter_{step}/manifest.json").is_file()


def test_a_rollback_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    alarms = "{action: rollback, rollback_limit: 1, kl: {warn: 1.0e-9, critical: 2.0e-9, hard: 3.0e-9}}"
    assert run("train", "--run", "r", *SMALL, "--steps", "4", "--set", f"alarms={alarms}", "--set", "optim.lr=0.1") == 3
    said = capsys.readouterr().err
    assert "checkpoints are 40 steps apart" in said
    assert "rolled back to step 0, and on with 0.2 times the learning rate" in said
    assert "stopped by a critical alarm" in said


def test_a_profile_shows_where_a_steps_time_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *SMALL, "--steps", "5", "--run", "p", "--profile", "--set", "validation.every=0") == 0
    shown = capsys.readouterr().err
    for name in (*PHASES, "rest"):
        assert name in shown
    [trace] = Path("runs/p/profile").glob("*.pt.trace.json.gz")
    marks = {event.get("name") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]}
    assert {PREFIX + name for name in PHASES} <= marks


def test_a_profile_needs_a_few_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *SMALL, "--run", "p", "--profile") == 2
    assert "--profile: needs 5 steps, and 1 are left; raise --steps" in capsys.readouterr().err
