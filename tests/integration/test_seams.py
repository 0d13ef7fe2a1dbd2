"""The user's own code, in a file beside them, used by name from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markov_cot.cli.main import main
from tests.small_runs import warm

MINE = {
    "rows_of_mine": """
def rows(count=40):
    return [{"question": f"What is {i}+{i + 1}?", "answer": 2 * i + 1} for i in range(10, 10 + count)]
""",
    "reward_of_mine": '''
def brief(batch, weight=0.5):
    """The answer's mean log-prob, less a price on words that repeat."""
    scores = []
    for cot, logprobs in zip(batch.cots, batch.answer_logprobs):
        words = cot.split()
        repeated = 1 - len(set(words)) / max(len(words), 1)
        scores.append(sum(logprobs) / len(logprobs) - weight * repeated)
    return scores


def raises(batch):
    raise RuntimeError("no luck\\nat all")


def nan(batch):
    return [float("nan")] * len(batch)


def few(batch):
    return [1.0]


def late(batch):
    return [1.0] * len(batch) if batch.step < 3 else None
''',
    "form_of_mine": '''
def least(logp_BA, mask_BA):
    """The log-prob of the answer's least probable token."""
    return logp_BA.masked_fill(~mask_BA, 0.0).amin(1)
''',
    "advantage_of_mine": '''
def rloo(batch):
    """Each reward less the mean of the others of its group."""
    reward_PG = batch.reward_B.view(-1, batch.samples)
    others = (reward_PG.sum(1, keepdim=True) - reward_PG) / (batch.samples - 1)
    return (reward_PG - others).flatten()


rloo.needs_baseline = False
''',
    "loss_of_mine": '''
def squared(logp_BL, old_logp_BL, advantage_B, scale=1.0, **_):
    """Weighted regression of log-probs, to show the seam."""
    return scale * -advantage_B * logp_BL.mean(1) + 0.0 * (logp_BL - old_logp_BL).square().mean(1)
''',
    "tracker_of_mine": """
class CsvTracker:
    def __init__(self, run, key="reward/value"):
        self.file, self.key = open(run.folder / "mine.csv", "w"), key

    def scalars(self, step, values):
        if self.key in values:
            print(step, values[self.key], sep=",", file=self.file)

    def close(self):
        self.file.close()
""",
    "alarm_of_mine": (Path(__file__).parents[1] / "own_alarms.py").read_text(),
    "failing_alarms": """
from dataclasses import replace

from alarm_of_mine import growing, patience


def late(row, context):
    if context.step == 3:
        raise RuntimeError("no luck\\nat all")
    yield from growing(row, context)


late_one = replace(patience, rule=late)
silent = replace(patience, rule=lambda row, context: None)
taken = replace(patience, name="entropy")
""",
    "decoder_of_mine": """
from markov_cot.rollouts.plain import WholeSequences


class Whole:
    def fits(self, policy, places):
        return True

    def start(self, policy, contexts, samples, room):
        import torch

        index = torch.arange(len(contexts.ids_BT)).repeat_interleave(samples)
        return WholeSequences(policy, contexts.take(index), room)


whole = Whole()
""",
}
SMALL = [
    "--run=r",
    "--steps=2",
    "--set=rollout.length=6",
    "--set=rollout.samples=3",
    "--set=validation.every=0",
    "--set=validation.final_problems=4",
    "--set=model.device=cpu",
]
ALL = [
    "--dataset=rows_of_mine:rows",
    "--set=data.args.count=60",
    "--set=reward.function=reward_of_mine:brief",
    "--set=reward.args={weight: 0.25}",
    "--set=algorithm.advantage=advantage_of_mine:rloo",
    "--set=algorithm.loss=loss_of_mine:squared",
    "--set=algorithm.loss_args.scale=2",
    "--set=tracking.trackers=[tensorboard, 'tracker_of_mine:CsvTracker']",
    "--set=rollout.decoder=decoder_of_mine:whole",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the user's modules, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in MINE.items():
        (tmp_path / f"{name}.py").write_text(text)
    yield tmp_path
    for name in MINE:
        sys.modules.pop(name, None)


def train(*arguments: str) -> int:
    with warm(), pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "runs" / "r" / "log.jsonl").read_text().splitlines()]


def test_each_is_used_by_name_in_at_most_twenty_lines(here: Path) -> None:
    for text in (text for name, text in MINE.items() if name not in ("reward_of_mine", "failing_alarms")):
        assert text.strip().count("\n") < 20
    assert train(*SMALL, *ALL) == 0
    rows = logged(here)
    assert [row["step"] for row in rows] == [1, 2]
    assert all(row["reward/value"] <= row["reward/answer_logprob"] for row in rows), "the price on repetition"
    written = [line.split(",") for line in (here / "runs" / "r" / "mine.csv").read_text().splitlines()]
    assert [(int(step), float(value)) for step, value in written] == [
        (row["step"], row["reward/value"]) for row in rows
    ]
    manifest = json.loads((here / "checkpoints" / "r" / "adapter_2" / "manifest.json").read_text())
    for name in ("rows_of_mine:rows", "reward_of_mine:brief", "loss_of_mine:squared", "tracker_of_mine:CsvTracker"):
        assert manifest["software"][name].startswith("sha256 "), name


def test_a_form_is_what_is_rewarded_and_the_logprob_is_still_logged(here: Path) -> None:
    assert train(*SMALL, "--set=reward.form=form_of_mine:least", "--set=tracking.rollouts=1") == 0
    from markov_cot import Run

    for row in Run("r").rollouts():
        assert row["reward"] <= row["answer_logprob"] + 1e-6, "the least is not above the mean"
    assert all(row["reward/value"] < row["reward/answer_logprob"] for row in logged(here))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", "reward reward_of_mine:raises, step 1: raised RuntimeError: no luck"),
        ("nan", "reward reward_of_mine:nan, step 1: value 0 is nan; return finite numbers"),
        ("few", "reward reward_of_mine:few, step 1: returned 1 values for 12 CoTs; return one a CoT"),
    ],
)
def test_a_reward_that_fails_is_one_line(name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, f"--set=reward.function=reward_of_mine:{name}") == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and "at all" not in err


def test_a_reward_that_fails_later_leaves_a_run_that_resumes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL[:1], "--steps=4", *SMALL[2:]]
    assert train(*arguments, "--set=reward.function=reward_of_mine:late") == 2
    assert "reward reward_of_mine:late, step 3: returned None, not a list of numbers" in capsys.readouterr().err
    assert (here / "checkpoints" / "r" / "adapter_2").is_dir(), "what was trained before is saved"
    text = (here / "reward_of_mine.py").read_text().replace("if batch.step < 3 else None", "")
    (here / "reward_of_mine.py").write_text(text)
    sys.modules.pop("reward_of_mine")
    assert train("--run=r", "--resume", "--set=reward.function=reward_of_mine:late") == 0
    assert [row["step"] for row in logged(here)] == [1, 2, 3, 4]


def test_code_of_a_run_is_not_run_again_unless_it_is_named_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*SMALL, "--set=algorithm.advantage=advantage_of_mine:rloo") == 0
    sys.modules.pop("advantage_of_mine")
    (here / "advantage_of_mine.py").write_text("raise SystemExit('imported')")
    capsys.readouterr()
    assert train("--run=r", "--resume", "--steps=3") == 2
    assert (
        "run r: was started with algorithm.advantage=advantage_of_mine:rloo, which is code; to run it again pass "
        "--set algorithm.advantage=advantage_of_mine:rloo" in capsys.readouterr().err
    )
    assert "advantage_of_mine" not in sys.modules


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("alarms.own=[kl]", "alarms.own 'kl': not known; give your own as package.module:attribute"),
        ("alarms.own=[failing_alarms:taken]", "alarm failing_alarms:taken: is called entropy, as a built-in alarm is"),
        ("algorithm.loss=pppo", "algorithm.loss 'pppo': not known; did you mean ppo? there are policy_gradient, ppo"),
        ("tracking.trackers=[wandbb]", "'wandbb': not known; did you mean wandb?"),
        ("reward.function=absent_mine:f", "reward absent_mine:f: absent_mine cannot be imported"),
        ("data.dataset=rows_of_mine:absent", "dataset rows_of_mine:absent: rows_of_mine has no absent; it has rows"),
    ],
)
def test_names_that_stand_for_nothing(setting: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, f"--set={setting}") == 2
    assert said in capsys.readouterr().err
    assert not (here / "runs" / "r").exists(), "nothing is left that blocks the corrected command"


ALARM = "--set=alarms.own=[alarm_of_mine:patience]"


def alarms(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "runs" / "r" / "alarms.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["alarm"] == "patience"]


def test_an_alarm_warns_stops_the_run_and_is_restored(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--run=r", "--steps=5", *SMALL[2:]]
    assert train(*arguments, ALARM) == 3
    err = " ".join(capsys.readouterr().err.split())
    assert "patience, step 3, critical: The entropy is " in err and "stopped by a critical alarm (patience)" in err
    again = "--resume --checkpoint adapter_0 --accept-changes --set optim.lr=6e-05"
    assert f"{again} --set 'alarms.own=[alarm_of_mine:patience]'" in err, "the code is named again"
    assert [row["alarm/patience"] for row in logged(here)] == [0, 1, 2]
    first, second = alarms(here)
    assert (first["level"], first["step"]) == ("warn", 2) and (second["level"], second["step"]) == ("critical", 3)
    assert second["values"] == {"entropy": logged(here)[2]["policy/entropy"]} and second["since"] == 2
    assert second["diagnosis"].endswith("Likely cause: It took long. What to change: Lower optim.lr (now 0.0003).")
    state = json.loads((here / "checkpoints" / "r" / "adapter_3" / "trainer" / "state.json").read_text())
    assert state["alarms"]["patience"]["memory"] == {"rows": 3}
    assert train("--run=r", "--resume", ALARM) == 0, "raised already, so that it does not sound again"
    assert [row["alarm/patience"] for row in logged(here)] == [0, 1, 2, 2, 2] and len(alarms(here)) == 2
    state = json.loads((here / "checkpoints" / "r" / "adapter_5" / "trainer" / "state.json").read_text())
    assert state["alarms"]["patience"]["memory"] == {"rows": 5}
    software = json.loads((here / "checkpoints" / "r" / "adapter_5" / "manifest.json").read_text())["software"]
    assert software["alarm_of_mine:patience"].startswith("sha256 ")


def test_an_alarm_takes_arguments(here: Path) -> None:
    own = ["--set=alarms.own=[alarm_of_mine:alarm]", "--set=alarms.own_args.alarm_of_mine:alarm.warn=1"]
    assert train(*SMALL, *own) == 0
    assert [row["alarm/patience"] for row in logged(here)] == [1, 1]


def doctor(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "r", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_doctor_and_resume_leave_an_alarm_out_until_it_is_named_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--run=r", "--steps=3", *SMALL[2:], ALARM) == 3
    sys.modules.pop("alarm_of_mine")
    capsys.readouterr()
    assert doctor() == 0
    out, err = capsys.readouterr()
    assert out.startswith("healthy\n") and "patience" not in out and "alarm_of_mine" not in sys.modules
    assert "left out alarm_of_mine:patience" in err and "--set 'alarms.own=[alarm_of_mine:patience]'" in err
    assert train("--run=r", "--resume", "--steps=4") == 2
    assert "to run it again pass --set 'alarms.own=[alarm_of_mine:patience]'" in capsys.readouterr().err
    assert "alarm_of_mine" not in sys.modules
    assert doctor("--json", ALARM) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["critical"] == {"patience": 3} and err == ""
    assert json.loads(out)["events"] == [{k: v for k, v in row.items() if k != "rollbacks"} for row in alarms(here)]


def test_an_alarm_that_fails_leaves_a_run_that_resumes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--run=r", "--steps=4", *SMALL[2:], "--set=alarms.action=continue"]
    assert train(*arguments, "--set=alarms.own=[failing_alarms:late_one]") == 2
    err = capsys.readouterr().err
    assert "alarm failing_alarms:late_one, step 3: raised RuntimeError: no luck; fix it" in err
    assert "Traceback" not in err and "at all" not in err
    assert [row["step"] for row in logged(here)] == [1, 2, 3], "the step is logged"
    assert (here / "checkpoints" / "r" / "adapter_3").is_dir(), "and saved"
    text = (here / "failing_alarms.py").read_text().replace("context.step == 3", "False")
    (here / "failing_alarms.py").write_text(text)
    sys.modules.pop("failing_alarms")
    assert train("--run=r", "--resume", "--set=alarms.own=[failing_alarms:late_one]") == 0
    assert [(row["step"], row["alarm/patience"]) for row in logged(here)] == [(1, 0), (2, 1), (3, 1), (4, 2)]


def test_an_alarm_that_fails_at_once_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SMALL, "--set=validation.every=1", "--set=alarms.own=[failing_alarms:silent]") == 2
    err = capsys.readouterr().err
    assert "alarm failing_alarms:silent, step 0: returned None, not readings; yield Reading(...)" in err
    assert not (here / "runs" / "r").exists()
