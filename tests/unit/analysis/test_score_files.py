"""Reading one side: lm-evaluation-harness's samples and results, ours, and tables; what is damaged is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from markov_cot.analysis.score_files import read_side, task_of
from markov_cot.utils.errors import UserError


def row(item: int, filter_name: str = "none", **metrics: Any) -> dict[str, Any]:
    known = {"doc_id": item, "doc": {"question": f"q{item}"}, "target": "1", "filter": filter_name}
    return {**known, "metrics": list(metrics), **metrics}


def write_rows(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def results(task: str, n: int = 2, **more: Any) -> dict[str, Any]:
    scores = {"alias": task, "acc,none": 0.5, "acc_stderr,none": 0.5, "sample_len": n}
    return {"results": {task: scores}, "n-samples": {task: {"effective": n}}, "n-shot": {task: 5}, **more}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("samples_gsm8k_2025-03-08T12-01-02.345678.jsonl", "gsm8k"),
        ("samples_mmlu_high_school_computer_science.jsonl", "mmlu_high_school_computer_science"),
        ("mine.jsonl.gz", "mine"),
    ],
)
def test_a_file_names_its_task(name: str, task: str) -> None:
    assert task_of(Path(name)) == task


def test_a_folder_of_samples_and_results(tmp_path: Path) -> None:
    time = "2025-03-08T12-01-02.345678"
    write_rows(tmp_path / f"samples_t_{time}.jsonl", row(0, acc=1.0), row(1, acc=0.0))
    write_rows(tmp_path / "samples_t_2024-03-08T12-01-02.345678.jsonl", row(0, acc=0.0), row(1, acc=0.0))
    document = results(
        "t",
        higher_is_better={"t": {"acc": True}},
        configs={"t": {"num_fewshot": 5, "metadata": 1, "fewshot_config": "<function f at 0x7f>"}},
    )
    document["results"]["group"] = {"acc,none": 0.4}
    (tmp_path / f"results_{time}.json").write_text(json.dumps(document))
    side = read_side(tmp_path)
    [task] = side.tasks.values()
    assert task.items is not None and task.items.scores == {"acc,none": {"0": 1.0, "1": 0.0}}
    assert task.reported["acc,none"].n == 2 and task.reported["acc,none"].stderr == 0.5
    assert task.settings == {
        "num_fewshot": 5,
        "n-shot": 5,
        "fewshot_config": "<function f>",
    } and task.higher_is_better == {"acc": True}
    assert [file.rows for file in side.files] == [1, 2] and len(side.files[0].sha256) == 64
    assert [note.split(": ")[1] for note in side.notes] == [
        "1 older samples file is passed over",
        "has totals alone of group, which are passed over beside samples",
    ]
    total = task.total("acc,none")
    assert (total.score, total.n) == (0.5, 2)


def test_a_folder_above(tmp_path: Path) -> None:
    write_rows(tmp_path / "model" / "samples_t.jsonl", row(0, acc=1.0))
    assert list(read_side(tmp_path).tasks) == ["t"]
    write_rows(tmp_path / "other" / "samples_t.jsonl", row(0, acc=1.0))
    with pytest.raises(UserError, match=r"holds several evaluations \(model, other\)"):
        read_side(tmp_path)
    write_rows(tmp_path / "eval" / "samples_u.jsonl", row(0, acc=1.0))
    assert list(read_side(tmp_path).tasks) == ["u"], "a run's own"


def test_rows_of_older_versions_and_of_perplexities(tmp_path: Path) -> None:
    old = {"doc_id": 0, "doc_hash": "a", "target_hash": "b", "prompt_hash": "p", "acc": True, "resps": [1], "n": None}
    side = read_side(write_rows(tmp_path / "samples_t.jsonl", old))
    assert side.tasks["t"].items is not None
    assert side.tasks["t"].items.scores == {"acc,none": {"0": 1.0}} and side.tasks["t"].items.prompts == {"0": "p"}
    rows = [row(i, word_perplexity=[-30.0 - i, 10], bits_per_byte=[-30.0, 60], f1=[1, 0]) for i in range(2)]
    items = read_side(write_rows(tmp_path / "samples_w.jsonl", *rows)).tasks["w"].items
    assert items is not None and items.scores == {"nats_per_word,none": {"0": 3.0, "1": 3.1}}
    assert items.left_out == {"f1"}


def test_totals_alone(tmp_path: Path) -> None:
    path = tmp_path / "results_x.json"
    path.write_text(json.dumps(results("t", 100)))
    for given in (path, tmp_path):
        task = read_side(given).tasks["t"]
        assert task.items is None and task.metrics == ["acc,none"]
        assert task.reported["acc,none"].half_unit == pytest.approx(0.05)
    table = tmp_path / "t.csv"
    table.write_text('task,metric,score,stderr,n\nm,acc,47.00%,±5.02%,100\nm,"exact_match,strict",0.335,,"1,319"\n')
    found = read_side(table).tasks["m"].reported
    assert (found["acc"].score, found["acc"].stderr, found["acc"].n) == (0.47, 0.0502, 100)
    assert found["acc"].half_unit == pytest.approx(5e-5) and found["acc"].stderr_half_unit == pytest.approx(5e-5)
    assert found["exact_match,strict"].n == 1319 and found["exact_match,strict"].stderr is None
    assert found["exact_match,strict"].half_unit == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        ([{"doc": 1, "acc": 1.0}], r"line 1: no `doc_id` \(the row has doc, acc\)"),
        ([row(0, acc=float("nan"))], "line 1: acc is nan"),
        ([row(0, acc=None)], "line 1: acc is null"),
        ([row(0, acc=1.0), row(0, acc=1.0)], "line 2: item 0 is there twice for filter none"),
        ([row(0, acc=1.0), {**row(0, "b", acc=1.0), "doc": 7}], "line 2: item 0 is there with another question"),
        ([{**row(0, acc=1.0), "metrics": ["acc", "f1"]}], "line 1: no `f1`, which is among its metrics"),
        ([row(0, acc=1.0), row(1, acc_norm=1.0)], "item 1 has no acc,none"),
        ([row(0, acc="right")], "no metric with a number"),
        ([row(0, acc=10**400)], "line 1: acc is inf"),
        ([row(0, word_perplexity=[-3.0, 0])], "line 1: word_perplexity: is of 0 words"),
    ],
)
def test_damaged_samples(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_side(write_rows(tmp_path / "samples_t.jsonl", *rows))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("results_x.json", "", "is empty"),
        ("results_x.json", "[", "is not JSON"),
        ("results_x.json", "{}", "has no `results`"),
        ("results_x.json", '{"results": {"t": 3}}', "results of t are 3"),
        ("results_x.json", '{"results": {"t": {"alias": "t"}}}', "holds no scores"),
        ("results_x.json", '{"results": {"t": {"acc,none": NaN}}}', "acc,none of t is nan"),
        ("results_x.json", '{"results": {"t": {"acc,none": 1, "acc_stderr,none": "x"}}}', "or its stderr is"),
        ("t.csv", "", "is empty"),
        ("t.csv", "task,metric\n", "line 1: no column score"),
        ("t.csv", "task,metric,score\n", "has no rows"),
        ("t.csv", "task,metric,score\na,b\n", "line 2: has not as many cells"),
        ("t.csv", "task,metric,score\na,b,many\n", "line 2: score is 'many', no number"),
        ("t.csv", "task,metric,score\na,b,nan\n", "line 2: score is NaN"),
        ("t.csv", "task,metric,score\na,b,1\na,b,1\n", "line 3: a has b twice"),
        ("t.csv", "task,metric,score,n\na,b,1,some\n", "line 2: n is 'some'"),
        ("t.csv", "task,metric,score,stderr\na,b,1,-1\n", "line 2: stderr is negative"),
        ("t.csv", "task,metric,score\n,b,1\n", "line 2: task or metric is empty"),
    ],
)
def test_damaged_totals(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_side(tmp_path / name)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_side(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no samples_\*\.jsonl"):
        read_side(tmp_path)
