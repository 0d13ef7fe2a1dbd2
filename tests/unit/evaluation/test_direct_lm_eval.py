"""Direct tasks against lm-evaluation-harness itself, item by item, on the bundled model; skipped where it is absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from markov_cot.config.schema import Config, Data, Model
from markov_cot.evaluation.direct_records import DirectRecord, item_scores
from markov_cot.evaluation.direct_scoring import DirectScorer
from markov_cot.evaluation.direct_tasks import DirectTask, prepare_direct
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.models.loading import add_adapter, load_base, load_tokenizer
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy

lm_eval = pytest.importorskip("lm_eval")

Rows = dict[tuple[int, str], dict[str, Any]]
COUNT = 6
SUBJECT = "high_school_computer_science"


@pytest.fixture(scope="module")
def nano() -> Policy:
    """The bundled model."""
    config = Config()
    base = load_base(Model(name="nano"), torch.device("cpu"))
    return Policy(add_adapter(base, config.lora, seed=0), load_tokenizer(Model(name="nano")))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three benchmarks in files of their authors' form, and in the hub's form for the harness."""
    folder = tmp_path_factory.mktemp("data")
    situations = [
        {
            "activity_label": f"Waving {i}",
            "ctx_a": f"[header] How to wave {i} [title] A man lifts  {i} hands.",
            "ctx_b": ["then the MAN", "", "he"][i % 3],
            "endings": [f"[step] waves {i}.", "is a boat", f"sums {i} + {i + 3} = {2 * i + 3}.", "é cooks it twice."],
            "label": str(i % 4),
        }
        for i in range(COUNT)
    ]
    questions = [
        {"question": f" What is {i} + {i + 1}?", "choices": [str(i), str(2 * i + 1), "7", f"{i} hundred"], "answer": 1}
        for i in range(COUNT)
    ]
    sums = [
        {"question": f"{i}+{2 * i}+3=?", "answer": f"{i}+{2 * i}=<<{i}+{2 * i}={3 * i}>>{3 * i}\n#### {3 * i + 3}"}
        for i in range(COUNT)
    ]
    write_rows(folder / "hellaswag" / "hellaswag_val.jsonl", situations)
    write_rows(folder / "gsm8k" / "test.jsonl", sums)
    write_rows(folder / "gsm8k" / "train.jsonl", sums[::-1])
    for split, rows in (("dev", questions[::-1]), ("test", questions)):
        write_rows(folder / "hub" / f"{split}.jsonl", rows)
        table = folder / "mmlu" / split / f"{SUBJECT}_{split}.csv"
        table.parent.mkdir(parents=True)
        cells = [[row["question"], *row["choices"], "ABCD"[row["answer"]]] for row in rows]
        table.write_text("".join(",".join(f'"{cell}"' for cell in each) + "\n" for each in cells))
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def theirs(nano: Policy, folder: Path, file: str, data: Mapping[str, Path], **changes: Any) -> Rows:
    """The samples, by item and filter, of the harness's own definition of a task, on local files."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    about = {
        "include": str(Path(lm_eval.__file__).parent / "tasks" / file),
        "task": "local",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(path) for split, path in data.items()}},
        **changes,
    }
    (folder / "local.yaml").write_text(yaml.safe_dump(about))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    with nano.by_plain_modules("critic") as plain:
        model = HFLM(pretrained=plain, tokenizer=nano.tokenizer, batch_size=2)
        found = lm_eval.simple_evaluate(model=model, tasks=["local"], task_manager=manager, bootstrap_iters=0)
    return {(row["doc_id"], row["filter"]): row for row in found["samples"]["local"]}


def ours(nano: Policy, files: Path, **task: Any) -> tuple[DirectTask, list[DirectRecord]]:
    asked = SuiteTask(**task)
    data = Data(dataset=asked.dataset, subset=asked.subset, data_dir=str(files), context_tokens=20, target_tokens=10)
    found = prepare_direct(asked, data, 0, nano.tokenizer)
    return found, DirectScorer(nano, FixedBudget(4096), "critic").records(found.items)


def same_likelihoods(record: DirectRecord, row: Mapping[str, Any]) -> None:
    assert [each.logprob for each in record.likelihoods] == pytest.approx(
        [float(response[0][0]) for response in row["resps"]], abs=2e-3
    )
    assert [each.greedy for each in record.likelihoods] == [bool(response[0][1]) for response in row["resps"]]


def test_endings(nano: Policy, files: Path, tmp_path: Path) -> None:
    data = {"validation": files / "hellaswag" / "hellaswag_val.jsonl"}
    rows = theirs(nano, tmp_path, "hellaswag/hellaswag.yaml", data, training_split=None)
    task, records = ours(nano, files, dataset="hellaswag", direct="endings")
    assert len(rows) == len(records) == COUNT
    for item, record in zip(task.items, records, strict=True):
        row = rows[item.index, "none"]
        assert [list(pair) for pair in row["arguments"]] == [[item.context, text] for text in item.continuations]
        same_likelihoods(record, row)
        scores = item_scores("endings", item, record)
        assert (scores["acc,none"], scores["acc_norm,none"]) == (row["acc"], row["acc_norm"])


def test_letters(nano: Policy, files: Path, tmp_path: Path) -> None:
    description = "The following are multiple choice questions (with answers) about high school computer science.\n\n"
    data = {split: files / "hub" / f"{split}.jsonl" for split in ("dev", "test")}
    changes = {"description": description, "num_fewshot": 5}
    rows = theirs(nano, tmp_path, "mmlu/default/_default_template_yaml", data, **changes)
    task, records = ours(nano, files, dataset="mmlu", subset=SUBJECT, direct="letters", shots=5)
    assert len(rows) == len(records) == COUNT
    for item, record in zip(task.items, records, strict=True):
        row = rows[item.index, "none"]
        assert [list(pair) for pair in row["arguments"]] == [[item.context, text] for text in item.continuations]
        same_likelihoods(record, row)
        assert item_scores("letters", item, record) == {"acc,none": row["acc"]}


def test_generated(nano: Policy, files: Path, tmp_path: Path) -> None:
    data = {split: files / "gsm8k" / f"{split}.jsonl" for split in ("train", "test")}
    rows = theirs(nano, tmp_path, "gsm8k/gsm8k.yaml", data, fewshot_config={"sampler": "first_n"})
    task, records = ours(nano, files, dataset="gsm8k", direct="generate", shots=5)
    assert len(rows) == 2 * len(records) == 2 * COUNT and any(record.text for record in records)
    for item, record in zip(task.items, records, strict=True):
        for name in ("strict-match", "flexible-extract"):
            row = rows[item.index, name]
            assert row["arguments"][0][0] == item.context
            assert row["resps"] == [[record.text]]
            assert item_scores("generate", item, record)[f"exact_match,{name}"] == row["exact_match"]


def test_loss(nano: Policy, files: Path) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    text = "= Cats =\n\n" + " ".join(f"cat {i} is {i} + 1 ." for i in range(40))
    (files / "wikitext2").mkdir(exist_ok=True)
    (files / "wikitext2" / "wiki.test.raw").write_text(text)
    task, records = ours(nano, files, dataset="wiki", direct="loss", limit=4)
    requests = [
        Instance("loglikelihood", {}, (item.context, item.continuations[0]), i) for i, item in enumerate(task.items)
    ]
    with nano.by_plain_modules("critic") as plain:
        found = HFLM(pretrained=plain, tokenizer=nano.tokenizer, batch_size=2).loglikelihood(requests)
    assert len(found) == 4
    assert [record.likelihoods[0].logprob for record in records] == pytest.approx([p for p, _ in found], abs=2e-3)
