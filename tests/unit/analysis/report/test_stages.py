"""What other commands found about a run."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.report import stages
from markov_cot.analysis.report.sources import open_source
from tests.report_documents import evaluation, probe, stage_documents, teachers
from tests.report_runs import healthy


def test_each_stage_is_found(tmp_path: Path) -> None:
    found = stages.stages(healthy(tmp_path / "r", documents=stage_documents()))
    assert {name: len(rows) for name, rows in found.items()} == dict.fromkeys(stages.COMMANDS, 1)
    [row] = found["evaluation"]
    assert (row["task"], row["checkpoint"], row["split"], row["reader"]) == ("arithmetic", "adapter_12", "test", "base")
    assert (row["score"]["mean"], row["base"]["mean"], row["difference"]["difference"]) == (0.75, 0.5, 0.25)
    assert list(row["extractors"]) == ["anchor", "first"]
    assert found["probe"][0]["tests"]["delete"]["effect"] == 0.61
    assert found["transfer"][0]["readers"]["other/model"]["last"]["mean"] == 0.4
    assert found["forgetting"][0]["tasks"]["hellaswag"]["p_holm"] == 0.6
    assert found["teachers"][0]["teachers"]["large.jsonl"]["car"]["value"] == 0.21
    assert stages.missing(found, open_source(str(tmp_path / "r"), tmp_path)) == []


def test_teachers_of_the_base_are_looked_for_beside_the_run(tmp_path: Path) -> None:
    source = healthy(tmp_path / "r", settings={"model.name": "org/na no:1"})
    folder = tmp_path / "base-na-no-1" / "analysis"
    folder.mkdir(parents=True)
    (folder / "teachers-1.json").write_text(json.dumps(teachers()))
    assert [each["file"] for each in stages.stages(source)["teachers"]] == ["teachers-1.json"]


def test_occlusions_are_those_of_the_probes(tmp_path: Path) -> None:
    [found] = stages.occlusions(healthy(tmp_path / "r", documents=stage_documents()))
    assert (found["tokens"], found["effects"]) == (["It is", " two", "."], [-0.1, 1.5, 0.0])


def test_a_probe_of_continuations_has_no_accuracy_and_no_same_answer(tmp_path: Path) -> None:
    document = probe()
    del document["original"]["accuracy"], document["tests"]["delete"]["overall"]["same_answer"]
    [row] = stages.stages(healthy(tmp_path / "r", documents={"analysis/probe-x.json": document}))["probe"]
    assert row["tests"]["delete"] == {"effect": 0.61, "low": 0.5, "high": 0.7, "detectable": 0.05, "same_answer": None}


@pytest.mark.parametrize("name", ["eval/results_x.json", *(f"analysis/{s}-x.json" for s in list(stages.COMMANDS)[1:])])
@pytest.mark.parametrize("content", ["", "[1]", "7", '{"format": 99}', "[" * 100_000, '{"tests": 3, "tasks": [3]}'])
def test_a_file_that_is_no_such_document_is_passed_over(tmp_path: Path, name: str, content: str) -> None:
    source = healthy(tmp_path / "r")
    path = tmp_path / "r" / name
    path.parent.mkdir()
    path.write_text(content)
    assert not any(stages.stages(source).values()) and stages.occlusions(source) == []


@pytest.mark.parametrize("effects", [[1.0], ["x", 1, 2], [float("nan"), 1.0, 2.0], None])
def test_effects_that_do_not_fit_the_tokens_are_passed_over(tmp_path: Path, effects: Any) -> None:
    document = probe()
    document["occlusion"][0]["effects"] = effects
    source = healthy(tmp_path / "r", documents={"analysis/probe-x.json": document})
    assert stages.occlusions(source) == [] and len(stages.stages(source)["probe"]) == 1


def test_the_order_is_that_of_names_whenever_they_were_written(tmp_path: Path) -> None:
    source = healthy(tmp_path / "r", documents={f"eval/results_{name}.json": evaluation(name) for name in "cab"})
    os.utime(tmp_path / "r" / "eval" / "results_b.json", (0, 0))
    assert [row["task"] for row in stages.stages(source)["evaluation"]] == ["a", "b", "c"]


def test_what_is_not_measured_is_said_with_its_command(tmp_path: Path) -> None:
    source = healthy(tmp_path / "a run; rm", settings={"model.name": "my models/x"})
    found = stages.missing(stages.stages(source), source)
    assert [each["stage"] for each in found] == list(stages.COMMANDS)
    commands = [shlex.split(each["command"]) for each in found]
    where = ["--set", f"checkpoint.runs_dir={tmp_path}"]
    assert commands[0] == ["markov-cot", "eval", "--run", "a run; rm", *where]
    assert commands[2] == ["markov-cot", "transfer", "a run; rm", "--reader", "MODEL", *where]
    assert commands[-1][-2:] == ["--student", "my models/x"]


def test_a_log_alone_has_no_stages_and_misses_none(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"step": 1, "policy/kl": 0.1}\n')
    source = open_source(str(path), tmp_path)
    found = stages.stages(source)
    assert not any(found.values()) and stages.missing(found, source) == [] and stages.occlusions(source) == []
