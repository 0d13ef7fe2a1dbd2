"""`markov_cot` as a notebook uses it: the same as the command line, from Python."""

from __future__ import annotations

import doctest
import json
import logging
import math
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import markov_cot
from markov_cot import Run, UserError, evaluate, load_dataset, train
from markov_cot.cli.main import main
from tests.small_runs import warm

SMALL = {
    "rollout": {"length": 6, "samples": 3, "problems": 2},
    "validation": {"every": 2, "problems": 4, "final_problems": 4},
    "optim.lr": 3e-3,
    "model.device": "cpu",
    "tracking.rollouts": 1,
}
ROWS = [{"question": f"What is {i}+{j}?", "answer": i + j} for i in range(10, 30) for j in range(10, 14)]

BRIEF = """
def reward(batch):
    return [sum(of) / len(of) - 0.01 * len(cot) for of, cot in zip(batch.answer_logprobs, batch.cots)]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, with the bundled base loaded once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with warm():
        yield tmp_path


def commanded(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Lines of a log, without what a clock says."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in rows]


def left(run: str) -> list[Any]:
    """What a run leaves: its log, samples, rollouts, and the bytes of its last adapter."""
    folder = Run(run).folder
    adapter = Run(run).checkpoints()[-1] / "adapter_model.safetensors"
    logs = [rows_of(folder / name) for name in ("log.jsonl", "samples.jsonl", "alarms.jsonl")]
    return [*logs, Run(run).rollouts(), adapter.read_bytes()]


def python(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", script], capture_output=True, text=True, check=True)


def test_the_package_is_imported_in_a_blink() -> None:
    done = python("import markov_cot; print(dir(markov_cot), markov_cot.__version__)", "-X", "importtime")
    imported = {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "markov_cot" in imported
    assert not imported & {"torch", "transformers", "pydantic", "numpy", "peft", "datasets"}
    for name in ("EvalResult", "Run", "TrainResult", "UserError", "evaluate", "load_dataset", "train", "__version__"):
        assert f"'{name}'" in done.stdout


@pytest.mark.parametrize("module", ["markov_cot.api", "markov_cot.evaluation.run"])
def test_the_docstrings_examples(module: str) -> None:
    if module.endswith("run"):
        train(steps=2, run="example", settings={"rollout.length": 8, "validation.final_problems": 8})
    found = doctest.testmod(sys.modules[module])
    assert found.attempted >= 3 and not found.failed


def test_a_run_from_python_and_from_the_command_line_are_the_same(here: Path) -> None:
    (here / "brief.py").write_text(BRIEF)
    sys.path.insert(0, str(here))
    import brief  # type: ignore[import-not-found]

    train(dataset=ROWS, steps=4, seed=3, run="python", settings=SMALL, reward=brief.reward)
    rows = here / "rows.jsonl"
    rows.write_bytes((here / "runs" / "python" / "rows.jsonl").read_bytes())
    assert [json.loads(line) for line in rows.read_text().splitlines()] == ROWS
    options = ["--dataset=rows.jsonl", "--steps=4", "--seed=3", "--run=command", "--set=reward.function=brief:reward"]
    options += [f"--set={key}={json.dumps(value)}" for key, value in flat(SMALL).items()]
    assert commanded("train", "quickstart", *options) == 0
    python_left, command_left = left("python"), left("command")
    assert [row["step"] for row in python_left[0]] == [0, 1, 2, 3, 4]
    assert python_left == command_left
    written = {name: [line.split('"perf/')[0] for line in text(name)] for name in ("python", "command")}
    assert written["python"] == written["command"], "the lines as they are written, keys in the same order"
    manifest = json.loads((here / "checkpoints" / "python" / "adapter_4" / "manifest.json").read_text())
    assert manifest["config"]["reward"]["function"] == "brief:reward"
    assert manifest["software"]["brief:reward"].startswith("sha256 ")
    sys.modules.pop("brief")


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    from markov_cot.config.loading import by_key

    return by_key(settings)


def text(run: str) -> list[str]:
    return (Run(run).folder / "log.jsonl").read_text().splitlines()


def test_rows_are_trained_and_evaluated_on() -> None:
    result = train(dataset=ROWS, steps=2, run="r", settings=SMALL)
    assert result.run.config.data.dataset == str(Path("runs", "r", "rows.jsonl"))
    assert result.base is not None and result.trained is not None and result.base.n == 4
    questions = {row["question"] for row in result.run.rollouts()}
    assert questions and questions <= {row["question"] for row in ROWS}
    scored = evaluate(result, limit=3)
    assert (scored.n, scored.report.subject) == (3, "adapter_2")
    assert scored.accuracy is not None and scored.base is not None and scored.base.n == 3
    assert scored.low is not None and scored.low <= scored.accuracy <= (scored.high or 0)
    assert scored.as_json() == result.run.evaluations()[0]
    assert evaluate("best", run="r", limit=3, against="none").base is None
    assert evaluate(result, dataset="arithmetic", limit=2).n == 2


def constant(batch: Any) -> list[float]:
    return [float(i) for i in range(len(batch))]


class Constant:
    def __call__(self, batch: Any) -> list[float]:
        return constant(batch)


def local() -> Any:
    def reward(batch: Any) -> list[float]:
        return constant(batch)

    return reward


@pytest.mark.parametrize(
    ("reward", "name"),
    [
        (constant, "tests.integration.test_api:constant"),
        (lambda batch: constant(batch), "tests.integration.test_api:lambda"),
        (local(), "tests.integration.test_api:local.locals.reward"),
        (Constant(), "tests.integration.test_api:Constant"),
    ],
)
def test_a_reward_is_any_function(reward: Any, name: str) -> None:
    result = train(steps=1, run="r", settings=SMALL, reward=reward)
    assert [row["reward"] for row in result.run.rollouts(1)] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert result.run.metrics()["reward/value"][-1] == 2.5
    assert result.run.config.reward.function == name


class Kept:
    """A tracker of the caller's own."""

    def __init__(self) -> None:
        self.values: list[tuple[int, float]] = []
        self.closed = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.values.append((step, values.get("reward/answer_logprob", math.nan)))

    def close(self) -> None:
        self.closed = True


def test_observers_and_trackers_see_every_step(here: Path) -> None:
    seen: list[tuple[int, float]] = []
    levels: list[str] = []

    def observe(step: int, metrics: dict[str, float], events: Sequence[Any]) -> None:
        seen.append((step, metrics["reward/answer_logprob"]))
        levels.extend(event.level for event in events)

    kept = Kept()
    (here / "mine.py").write_text(
        "class Named:\n    def __init__(self, run): self.file = open(run.folder / 'named', 'w')\n"
        "    def scalars(self, step, values): print(step, file=self.file)\n    def close(self): self.file.close()\n"
    )
    trackers = [kept, "mine:Named", "tensorboard"]
    result = train(steps=3, run="r", settings=SMALL, observers=[observe], trackers=trackers)
    columns = result.run.metrics()
    assert seen == list(zip(columns["step"], columns["reward/answer_logprob"], strict=True))[1:]
    assert kept.values[1:] == seen and kept.closed
    assert (result.run.folder / "named").read_text().split() == ["0", "1", "2", "3"]
    assert result.run.config.tracking.trackers == ("tensorboard", "mine:Named")
    assert len(list(result.run.folder.glob("events.out.tfevents.*"))) == 1
    assert levels == [row["level"] for row in result.run.alarms()]
    with pytest.raises(UserError, match=r"tracking.trackers=mine:Named, which is code"):
        train(steps=4, run="r", resume=True, trackers=["tensorboard"])
    again = train(steps=4, run="r", resume=True, trackers=["mine:Named"])
    assert again.run.config.tracking.trackers == ("tensorboard", "mine:Named")
    sys.modules.pop("mine")


def test_an_interrupt_finishes_the_step_and_the_run_resumes(capfd: pytest.CaptureFixture[str]) -> None:
    whole = train(dataset=ROWS, steps=4, run="whole", settings=SMALL)

    def stop(step: int, *_: object) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    result = train(dataset=ROWS, steps=4, run="r", settings=SMALL, observers=[stop])
    assert result.interrupted and result.checkpoint.name == "adapter_3" and result.trained is None
    assert "stopping after this step" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ended = train(dataset=ROWS, run="r", resume=True)
    assert not ended.interrupted and ended.checkpoint.name == "adapter_4"
    assert left("r") == left("whole") and whole.trained == ended.trained


def test_a_second_interrupt_is_raised() -> None:
    def insist(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(steps=4, run="r", settings=SMALL, observers=[insist])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_an_observer_raises_reaches_the_caller_and_the_run_is_saved() -> None:
    def raises(step: int, *_: object) -> None:
        if step == 3:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        train(steps=4, run="r", settings=SMALL, observers=[raises])
    assert [folder.name for folder in Run("r").checkpoints()][-1] == "adapter_3"
    assert train(run="r", resume=True).checkpoint.name == "adapter_4"


def test_columns_are_as_long_as_the_log() -> None:
    run = train(steps=3, run="r", settings=SMALL).run
    columns = run.metrics()
    assert columns["step"] == [0, 1, 2, 3]
    assert {len(column) for column in columns.values()} == {4}
    assert math.isnan(columns["loss/total"][0]) and not math.isnan(columns["loss/total"][1])
    accuracy = columns["eval/arithmetic/accuracy"]
    assert [math.isnan(value) for value in accuracy] == [False, True, False, True]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(columns)
    assert frame.shape == (4, len(columns)) and frame.step.tolist() == [0, 1, 2, 3]


def test_a_run_is_read_from_its_folder(here: Path) -> None:
    train(steps=2, run="r", settings=SMALL)
    run = Run(here / "runs" / "r")
    assert (run.name, run.config.steps, [folder.name for folder in run.checkpoints()]) == (
        "r",
        2,
        ["adapter_0", "adapter_2"],
    )
    first, second = run.rollouts(1), run.rollouts(2)
    assert len(first) == len(second) == 6 and run.rollouts() == first + second
    row = first[0]
    assert len(row["cot_ids"]) == len(row["behaviour_logprob"]) == 6 and row["step"] == 1
    assert {"step", "question", "answer", "cot", "answer_logprob"} <= set(run.samples()[0])
    assert run.summary() is not None and run.evaluations() == []


def test_a_damaged_rollout_is_one_line(here: Path) -> None:
    train(steps=1, run="r", settings=SMALL)
    path = here / "runs" / "r" / "rollouts" / "step_000001.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"step_000001.jsonl.gz: is damaged"):
        Run("r").rollouts(1)


def test_datasets_are_loaded(here: Path) -> None:
    splits = load_dataset("arithmetic")
    assert splits.train[0].kind == "numeric"
    (here / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "broken\n")
    splits = load_dataset(Path("mine.jsonl"), skip_bad_rows=True)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == len(ROWS) and splits.skipped == 1
    with pytest.raises(UserError, match=f"mine.jsonl line {len(ROWS) + 1}: "):
        load_dataset("mine.jsonl")
    with pytest.raises(UserError, match="dataset 'nope': not known"):
        load_dataset("nope")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"settings": {"rollout.lengt": 8}}, "unknown key rollout.lengt; did you mean rollout.length?"),
        ({"settings": {"rollout": {"lengt": 8}}}, "unknown key rollout.lengt; did you mean rollout.length?"),
        ({"steps": 0}, "steps: input should be greater than 0, got 0"),
        ({"recipe": "quickstar"}, "recipe 'quickstar': not known; did you mean quickstart?"),
        ({"dataset": "nope"}, "dataset 'nope': not known"),
        ({"dataset": []}, "dataset: there are no rows"),
        ({"dataset": [{"question": "1+1?"}]}, "dataset: row 1: field 'answer' is missing"),
        ({"dataset": [{"question": "1+1?", "answer": {1, 2}}]}, "dataset: row 1: Object of type set is not JSON"),
        ({"run": "a/b"}, "is not a plain name"),
        ({"dataset": ROWS, "run": "../r"}, "is not a plain name"),
        ({"trackers": ["wandbb"]}, "'wandbb': not known; did you mean wandb?"),
        ({"run": "r", "resume": True}, "run r: there is no runs/r/config.yaml to resume from"),
        ({"resume": True}, "resume=True: needs the run's name; pass run=..."),
        ({"reward": lambda _: [1.0]}, "step 1: returned 1 values for 6 CoTs"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments: dict[str, Any], said: str, here: Path) -> None:
    with pytest.raises(UserError) as raised:
        train(**{"run": "r", "settings": SMALL} | arguments if "resume" not in arguments else arguments)
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert isinstance(raised.value, ValueError)
    assert list(here.iterdir()) == []


def test_arguments_of_the_wrong_kind() -> None:
    # A process of its own, without the tests' checks of types.
    done = python(
        "from markov_cot import UserError, evaluate, train\n"
        "for call in (lambda: train(reward='brief'), lambda: train(observers=print), lambda: train(trackers='wandb'),\n"
        "             lambda: train(trackers=[dict]), lambda: train(observers=[1]), lambda: train(dataset=[1]),\n"
        "             lambda: evaluate(dataset=[{}]), lambda: evaluate('base', limit=0)):\n"
        "    try: call()\n"
        "    except UserError as error: print(error)\n"
    )
    expected = [
        "reward: 'brief'",
        "observers: expected a list",
        "trackers: expected a list",
        "trackers: <class 'dict'>",
    ]
    expected += ["observers: 1 is not", "dataset: row 1: ", "dataset: evaluate takes", "limit: 0 problems"]
    lines = done.stdout.splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True)), lines


def test_a_run_that_exists_keeps_its_rows(here: Path) -> None:
    train(dataset=ROWS, steps=1, run="r", settings=SMALL)
    kept = (here / "runs" / "r" / "rows.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"run r: .* exists already"):
        train(dataset=ROWS[:40], steps=1, run="r", settings=SMALL)
    with pytest.raises(UserError, match="dataset: these are not the rows that run r was started with"):
        train(dataset=ROWS[:40], steps=2, run="r", resume=True)
    assert (here / "runs" / "r" / "rows.jsonl").read_bytes() == kept
    assert train(steps=2, run="r", resume=True).checkpoint.name == "adapter_2"


def test_code_has_to_be_handed_over_again_to_resume() -> None:
    train(steps=1, run="r", settings=SMALL, reward=constant)
    with pytest.raises(UserError, match=r"run r: was started with reward.function=.*:constant, which is code"):
        train(steps=2, run="r", resume=True)
    assert train(steps=2, run="r", resume=True, reward=constant).checkpoint.name == "adapter_2"


def test_a_run_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(UserError, match=r"run r: there is no runs/r/config.yaml; give a run's name or its folder"):
        Run("r")
    train(steps=1, run="mine", settings=SMALL)
    with pytest.raises(UserError, match=r"run r: there is no runs/r/config.yaml; there are mine"):
        Run("r")


def test_nothing_of_the_libraries_is_shown_and_their_settings_come_back(
    here: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.utils import logging as transformers_logging

    bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_warning()
    filters = list(warnings.filters)

    def noise(*_: object) -> None:
        assert not transformers_logging.is_progress_bar_enabled()
        transformers_logging.get_logger("transformers.mine").warning("a library's")
        logging.getLogger("markov_cot.mine").warning("ours")

    try:
        train(steps=1, run="r", settings=SMALL, observers=[noise])
        assert transformers_logging.is_progress_bar_enabled()
        assert transformers_logging.get_verbosity() == logging.WARNING
    finally:
        (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()
        transformers_logging.set_verbosity(verbosity)
    assert warnings.filters == filters
    assert "ours" in caplog.messages and "a library's" not in caplog.messages
    captured = capfd.readouterr()
    assert "Loading" not in captured.err and captured.out == ""


def test_the_version_is_the_distributions() -> None:
    import importlib.metadata

    assert markov_cot.__version__ == importlib.metadata.version("markov-cot")
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        markov_cot.trian  # noqa: B018
