"""Alarms of the user's own: loading by name, checks of what their rules yield, and their place in the monitor."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from markov_cot.alarms.advice import remedy
from markov_cot.alarms.monitor import AlarmFailure, Monitor
from markov_cot.alarms.own import load_own
from markov_cot.alarms.replay import examine
from markov_cot.config.alarms import Alarms
from markov_cot.config.loading import build_config
from markov_cot.utils.errors import UserError

FILE = '''
from markov_cot.alarms.alarm import Alarm, HardLevels, Levels, Reading, Text, number

TEXTS = {"low": Text("The entropy is {entropy:.2f} nats", "It sharpens.", ("Raise <rollout.temperature>.",))}
LEVELS = Levels(warn=1, critical=2, patience=2)


def judge(row, context):
    """Worse with every row, by what the entropy lacks to 1."""
    entropy = number(row, "policy/entropy")
    if entropy is not None:
        total = context.memory["total"] = context.memory.get("total", 0) + 1 - entropy
        yield Reading("total", "low", total, context.levels.warn, context.levels.critical, seen={"entropy": entropy})


def changed(whole, **values):
    """With values that the tests' type checks would refuse, as nothing does elsewhere."""
    for name, value in values.items():
        object.__setattr__(whole, name, value)
    return whole


def made(name="made", warn=0.5):
    return Alarm(name, Levels(warn=warn, critical=2, patience=1), judge, TEXTS)


def raises(row, context):
    context.memory["half"] = 1.0
    yield from judge(row, context)
    if context.step == 3:
        raise RuntimeError("no luck\\nat all")


def nothing(row, context):
    return None


def numbers(row, context):
    yield 3.0


def other_kind(row, context):
    yield Reading("m", "lwo", 1.0, 1.0, 2.0)


def not_a_number(row, context):
    yield Reading("m", "low", float("nan"), 1.0, 2.0, seen={"entropy": 1.0})


def words(row, context):
    yield changed(Reading("m", "low", 1.0, 1.0, 2.0, seen={"entropy": 1.0}), value="much")


def untold(row, context):
    yield Reading("m", "low", 1.0, 1.0, 2.0, seen={"entrpy": 1.0})


def boundless(row, context):
    yield Reading("m", "low", 1.0, 1.0, 2.0, seen={"entropy": float("inf")})


def hoards(row, context):
    context.memory["rows"] = [dict(row)]
    return []


def writes(row, context):
    row["policy/entropy"] = 0.0
    return []


sharp = Alarm("sharp", LEVELS, judge, TEXTS)
twin = Alarm("sharp", LEVELS, judge, TEXTS)
off = Alarm("off", Levels(enabled=False, warn=1, critical=2, patience=1), judge, TEXTS)
called_kl = Alarm("kl", LEVELS, judge, TEXTS)
spaced = Alarm("too sharp", LEVELS, judge, TEXTS)
level_less = changed(Alarm("a", LEVELS, judge, TEXTS), levels={"warn": 1})
rule_less = changed(Alarm("a", LEVELS, judge, TEXTS), rule=None)
text_less = Alarm("a", LEVELS, judge, {})
plain_text = changed(Alarm("a", LEVELS, judge, TEXTS), texts={"low": "sharp"})
no_comma = changed(Alarm("a", LEVELS, judge, TEXTS), texts={"low": Text("seen", "cause", ("change"))})
cooler = Alarm("cooler", LEVELS, judge, TEXTS, remedy=lambda settings: {"rollout.temperature": settings["x.t"] * 2})
helpless = Alarm("helpless", LEVELS, judge, TEXTS, remedy=lambda settings: {"a.b": settings["a.b"]})
FAULTY = {
    rule.__name__: Alarm("faulty", LEVELS, rule, TEXTS)
    for rule in (raises, nothing, numbers, other_kind, not_a_number, words, untold, boundless, hoards, writes)
}
globals().update({f"alarm_{name}": alarm for name, alarm in FAULTY.items()})
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the user's module, forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "alarms_of_mine.py").write_text(FILE)
    yield tmp_path
    sys.modules.pop("alarms_of_mine", None)


def settings(*names: str, **args: dict[str, Any]) -> Alarms:
    own = [f"alarms_of_mine:{name}" for name in names]
    own_args = {f"alarms_of_mine:{name}": values for name, values in args.items()}
    return Alarms.model_validate({"own": own, "own_args": own_args})


def monitor(*names: str, **args: dict[str, Any]) -> Monitor:
    alarms = settings(*names, **args)
    return Monitor(alarms, {"rollout.temperature": 0.7}, own=load_own(alarms))


def rows(*entropies: float | None) -> list[dict[str, float | None]]:
    return [{"policy/entropy": entropy} for entropy in entropies]


# --- loading


def test_it_is_judged_as_the_built_in_ones_are() -> None:
    mine = monitor("sharp")
    events = [event for step, row in enumerate(rows(0.5, 0.5, 0.5, 0.5, 0.5), 1) for event in mine.update(step, row)]
    # 0.5 a row: at 1 from row 2 on and at 2 from row 4 on, with patience 2
    assert [(event.alarm, event.level, event.step, event.since) for event in events] == [
        ("sharp", "warn", 3, 2),
        ("sharp", "critical", 5, 2),
    ]
    assert events[1].values == {"entropy": 0.5}
    assert events[1].diagnosis == (
        "The entropy is 0.50 nats (since step 2, now step 5). Likely cause: It sharpens. "
        "What to change: Raise rollout.temperature (now 0.7)."
    )
    assert mine.scalars()["alarm/sharp"] == 2.0 and "sharp" in mine.judged()
    assert list(mine.scalars())[-1] == "alarm/sharp", "after the built-in ones"


def test_a_row_without_its_metric_is_not_judged() -> None:
    mine = monitor("sharp")
    events = [event for step, row in enumerate([{}, *rows(None, math.nan)], 1) for event in mine.update(step, row)]
    assert {event.alarm for event in events} == {"non_finite"} and mine.judged() == {"non_finite"}


def test_a_function_is_called_with_its_arguments() -> None:
    first, second = load_own(settings("made", "sharp", made={"name": "mine", "warn": 1.5}))
    assert (first.name, first.levels.warn, second.name) == ("mine", 1.5, "sharp")
    assert load_own(settings("made"))[0].levels.warn == 0.5


def test_one_that_is_not_enabled_does_not_judge() -> None:
    assert "alarm/off" not in monitor("off").scalars()


def test_the_example_of_the_docs(here: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    assert code.count("\n") <= 20
    (here / "alarms_of_mine.py").write_text(code)
    mine = monitor("copied")
    events = [event for step in range(1, 7) for event in mine.update(step, {"cot/answer_in_cot": 0.9})]
    assert [(event.alarm, event.level, event.step) for event in events] == [("copied", "warn", 5)]
    assert events[0].diagnosis.startswith("90% of the CoTs hold the answer (since step 1, now step 5).")


def test_none_by_default() -> None:
    assert Alarms().own == () and load_own(Alarms()) == ()


@pytest.mark.parametrize(
    ("names", "args", "said"),
    [
        (["called_kl"], {}, "called_kl: is called kl, as a built-in alarm is; choose another name"),
        (["sharp", "twin"], {}, "twin: is called sharp, as alarms_of_mine:sharp is; choose another name"),
        (["made"], {"made": {"name": "kl"}}, "made: is called kl, as a built-in alarm is; choose another name"),
        (
            ["sharp"],
            {"sharp": {"warn": 1}},
            "sharp: is an Alarm and takes no arguments; take it out of alarms.own_args",
        ),
        (["made"], {"made": {"wran": 1}}, "made: raised TypeError: made() got an unexpected keyword argument 'wran'"),
        (["made"], {"made": {"warn": 3}}, "made: raised ValidationError: Levels: warn: must not be above critical"),
        (["LEVELS"], {}, "LEVELS: is Levels("),
        (["judge"], {}, "judge: raised TypeError: judge() missing 2 required positional arguments"),
        (["absent"], {}, "absent: alarms_of_mine has no absent; it has Alarm, "),
        (["spaced"], {}, "spaced: its name is 'too sharp'; use letters, digits and _, as in kl"),
        (
            ["level_less"],
            {},
            "level_less: its levels are {'warn': 1}; give Levels(warn=..., critical=..., patience=...)",
        ),
        (["rule_less"], {}, "rule_less: its rule is None; give a generator of readings"),
        (["text_less"], {}, "text_less: its texts are {}; give a Text for each kind of reading"),
        (["plain_text"], {}, "plain_text: its text 'low' is 'sharp'; give Text(seen, cause, changes)"),
        (["no_comma"], {}, "no_comma: the changes of its text 'low' are 'change'; give a tuple of sentences"),
    ],
)
def test_what_is_no_alarm_is_one_line(names: list[str], args: dict[str, dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError) as error:
        load_own(settings(*names, **args))
    assert str(error.value).startswith(f"alarm alarms_of_mine:{said}") and "\n" not in str(error.value)


def test_levels_in_disorder_say_so_while_the_module_is_imported(here: Path) -> None:
    (here / "alarms_of_mine.py").write_text(FILE.replace("LEVELS = Levels(warn=1,", "LEVELS = Levels(warn=3,"))
    with pytest.raises(UserError) as error:
        load_own(settings("sharp"))
    assert str(error.value) == (
        "alarm alarms_of_mine:sharp: Levels: warn: must not be above critical, which is 2.0; fix it"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"own": ["kl"]}, "alarms.own 'kl': not known; give your own as package.module:attribute"),
        ({"own": ["mine"]}, "alarms.own 'mine': not known; give your own as package.module:attribute"),
        (
            {"own_args": {"mine:a": {}}},
            "alarms.own_args: mine:a is not in alarms.own; add it there, or leave its arguments out",
        ),
    ],
)
def test_wrong_settings_name_the_key(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        build_config({"alarms": values}, "file.yaml")
    assert str(error.value) == f"file.yaml: {said}"


# --- rules that fail


@pytest.mark.parametrize(
    ("rule", "step", "said"),
    [
        ("raises", 3, "raised RuntimeError: no luck; fix it"),
        ("nothing", 1, "returned None, not readings; yield Reading(...)"),
        ("numbers", 1, "yielded 3.0, not a Reading"),
        ("other_kind", 1, "a reading's kind is 'lwo', which has no text; there are low"),
        ("not_a_number", 1, "a reading's value is nan; give a number"),
        ("words", 1, "a reading's value is 'much'; give a number"),
        ("untold", 1, "its text 'low' cannot be filled in (KeyError: 'entropy'); the reading's seen has entrpy"),
        ("boundless", 1, "a reading's seen 'entropy' is inf; give finite numbers"),
        ("hoards", 1, "context.memory['rows'] is [{'policy/entropy': 0.5}]; keep plain numbers by name"),
        ("writes", 1, "raised TypeError: 'mappingproxy' object does not support item assignment; fix it"),
    ],
)
def test_a_rule_that_fails_is_one_line(rule: str, step: int, said: str) -> None:
    mine = monitor(f"alarm_{rule}")
    with pytest.raises(AlarmFailure) as error:
        for now, row in enumerate(rows(0.5, 0.5, 0.5), 1):
            mine.update(now, row)
    assert str(error.value) == f"alarm alarms_of_mine:alarm_{rule}, step {step}: {said}"


def test_the_others_have_judged_the_step_and_the_failing_one_has_not() -> None:
    mine, healthy = monitor("alarm_raises", "sharp"), monitor("sharp")
    for step, row in enumerate(rows(0.5, 0.5), 1):
        mine.update(step, row)
        healthy.update(step, row)
    before = mine.state_dict()["faulty"]
    assert before["memory"] == {"half": 1.0, "total": 1.0}
    with pytest.raises(AlarmFailure) as error:
        mine.update(3, {"policy/entropy": 0.5, "policy/kl": 9.0})
    assert [(event.alarm, event.level) for event in error.value.events] == [("kl", "critical"), ("sharp", "warn")]
    state = mine.state_dict()
    assert state["faulty"] == before, "as if the row had not been there"
    healthy.update(3, {"policy/entropy": 0.5, "policy/kl": 9.0})
    assert {name: each for name, each in state.items() if name != "faulty"} == healthy.state_dict()


# --- state, remedy, replay


def test_state_goes_through_json() -> None:
    whole, parts = monitor("sharp"), monitor("sharp")
    for step, row in enumerate(rows(*[0.6] * 9), 1):
        expected = whole.update(step, row)
        saved = json.dumps(parts.state_dict())
        parts = monitor("sharp")
        parts.load_state_dict(json.loads(saved))
        assert parts.update(step, row) == expected
    assert whole.level("sharp") == 2 and whole.state_dict() == parts.state_dict()


def test_a_state_without_it_lets_it_start() -> None:
    mine = monitor("sharp")
    mine.load_state_dict(Monitor(Alarms()).state_dict())
    assert mine.level("sharp") == 0


def test_its_remedy_is_advised() -> None:
    mine = monitor("cooler", "sharp", "helpless").known
    assert remedy(["cooler"], {"x.t": 0.5}, mine) == {"rollout.temperature": 1.0}
    lower = remedy(["sharp"], {"optim.lr": 1e-4, "alarms.rollback_lr_factor": 0.2}, mine)
    assert lower == {"optim.lr": 2e-5}, "by default"
    with pytest.raises(UserError, match=r"alarm alarms_of_mine:helpless: raised KeyError: 'a\.b'; fix it"):
        remedy(["helpless"], {}, mine)


def log_of_a_run(here: Path, own: list[str], own_args: dict[str, Any]) -> Path:
    (here / "config.yaml").write_text(json.dumps({"alarms": {"own": own, "own_args": own_args}}))
    lines = [json.dumps({"step": step, **row}) for step, row in enumerate(rows(*[0.5] * 6), 1)]
    (here / "log.jsonl").write_text("\n".join(lines) + "\n")
    return here / "log.jsonl"


def test_a_replay_imports_only_what_is_named_again(here: Path) -> None:
    made = "alarms_of_mine:made"
    log = log_of_a_run(here, [made, "absent_module:alarm"], {made: {"name": "mine", "warn": 0.4}})
    report = examine(log)
    assert report.is_healthy and report.left_out == (made, "absent_module:alarm")
    assert "alarms_of_mine" not in sys.modules and "mine" not in report.known
    report = examine(log, {"alarms.own": [made]})
    assert report.left_out == ("absent_module:alarm",)
    # the run's own arguments: 0.5 at row 1 is at 0.4 with patience 1, and 2 is reached at row 4
    assert [(event.alarm, event.level, event.step) for event in report.events] == [
        ("mine", "warn", 1),
        ("mine", "critical", 4),
    ]
    assert report.judged[-1] == "mine"


def test_a_replay_with_other_settings(here: Path) -> None:
    log = log_of_a_run(here, [], {})
    sharp = {"alarms.own": ["alarms_of_mine:sharp"]}
    assert [event.step for event in examine(log, sharp).critical] == [5], "an alarm that the run did not have"
    assert examine(log).judged == ["entropy", "non_finite"]
    assert examine(log, {"alarms.non_finite.enabled": False}).judged == ["entropy"]
    with pytest.raises(UserError, match=r"^--set optim\.lr: a finished log is judged with other settings of alarms"):
        examine(log, {"optim.lr": 1.0})
    with pytest.raises(UserError, match=r"^--set: alarms\.kl\.warn: must not be above critical, which is 2\.0"):
        examine(log, {"alarms.kl.warn": 3.0})


def test_a_rule_that_fails_in_a_replay_is_one_line(here: Path) -> None:
    log = log_of_a_run(here, [], {})
    with pytest.raises(UserError, match=r"^alarm alarms_of_mine:alarm_raises, step 3: raised RuntimeError: no luck;"):
        examine(log, {"alarms.own": ["alarms_of_mine:alarm_raises"]})


def test_an_own_alarm_may_look_at_metrics_that_no_other_knows(here: Path) -> None:
    (here / "log.jsonl").write_text('{"step": 1, "data/too_long": 3}\n')
    with pytest.raises(UserError, match="has no metric that the alarms know"):
        examine(here / "log.jsonl")
    assert examine(here / "log.jsonl", {"alarms.own": ["alarms_of_mine:sharp"]}).is_healthy
