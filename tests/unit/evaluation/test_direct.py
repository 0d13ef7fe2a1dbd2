"""Direct tasks: prompts word for word, scores by hand, and log-likelihoods that are those of the whole text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from markov_cot.config.schema import Data
from markov_cot.data.problem import Problem
from markov_cot.evaluation import direct_scoring
from markov_cot.evaluation.direct_records import DIRECT, DirectRecord, item_scores, sample_rows
from markov_cot.evaluation.direct_scoring import DirectScorer, encode_pair
from markov_cot.evaluation.direct_tasks import Asked, ask, heading, prepare_direct, worked
from markov_cot.evaluation.item_log import ItemLog
from markov_cot.evaluation.records import Likelihood
from markov_cot.evaluation.suites import SuiteTask, read_suite
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.utils.errors import UserError

CHOICE = Problem("c", "What is 2+3?", "B", "choice", ("4", "5", "six", "7"), subject="abstract_algebra")
SUM = Problem("s", "What is 2+3?", "5", "numeric", solution="2+3=<<2+3=5>>5\n#### 5")
TEXT = Problem("Cats-1a2b-3", "", "sit on mats", "continuation", passage="The cats of 1843")


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


def scorer(policy: Policy, role: Any = "actor") -> DirectScorer:
    return DirectScorer(policy, FixedBudget(16384), role)


def test_prompts_are_the_harnesss_word_for_word() -> None:
    endings = ask("endings", 0, CHOICE)
    assert (endings.context, endings.continuations) == ("What is 2+3?", (" 4", " 5", " six", " 7"))
    head = heading("letters", CHOICE) + worked("letters", CHOICE)
    letters = ask("letters", 0, CHOICE, head)
    assert letters.continuations == (" A", " B", " C", " D")
    assert letters.context == (
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
        "What is 2+3?\nA. 4\nB. 5\nC. six\nD. 7\nAnswer: B\n\n"
        "What is 2+3?\nA. 4\nB. 5\nC. six\nD. 7\nAnswer:"
    )
    generate = ask("generate", 0, SUM, worked("generate", SUM))
    assert generate.context == (
        "Question: What is 2+3?\nAnswer: 2+3=<<2+3=5>>5\n#### 5\n\nQuestion: What is 2+3?\nAnswer:"
    )
    assert generate.continuations == ()
    assert worked("endings", CHOICE) == "What is 2+3? 5\n\n"
    loss = ask("loss", 0, TEXT)
    assert (loss.context, loss.continuations, loss.group) == ("The cats of 1843", (" sit on mats",), "Cats-1a2b")
    assert endings.group is None and heading("letters", replace(CHOICE, subject="")) == ""


def test_scores_by_hand() -> None:
    logprobs = [-2.0, -2.5, -3.3, -9.0]
    record = DirectRecord(0, tuple(Likelihood(value, False) for value in logprobs), (1, 1, 1, 1))
    # By length, " six" has -1.1 a character, and the others have what they had.
    assert item_scores("endings", ask("endings", 0, CHOICE), record) == {"acc,none": 0.0, "acc_norm,none": 0.0}
    third = ask("endings", 0, replace(CHOICE, answer="C"))
    assert item_scores("endings", third, record) == {"acc,none": 0.0, "acc_norm,none": 1.0}
    assert item_scores("letters", ask("letters", 0, replace(CHOICE, answer="A")), record) == {"acc,none": 1.0}
    loss = DirectRecord(0, (Likelihood(-6.0, False),), (4,))
    assert item_scores("loss", ask("loss", 0, TEXT), loss) == {"nats_per_token,none": 1.5}
    for text, strict, flexible in ((" 2+3=5\n#### 5", 1, 1), ("It is 5.", 0, 1), ("#### 5 and 6", 1, 0), ("", 0, 0)):
        scores = item_scores("generate", ask("generate", 0, SUM), DirectRecord(0, text=text))
        assert scores == {"exact_match,strict-match": strict, "exact_match,flexible-extract": flexible}


def test_rows_and_records_survive_a_file(tmp_path: Path) -> None:
    record = DirectRecord(3, (Likelihood(-1.5, True),), (2,), "", 7)
    with ItemLog(tmp_path, {"a": 1}, DIRECT) as log:
        log.append([record])
    with ItemLog(tmp_path, {"a": 1}, DIRECT) as log:
        assert log.done == {3: record}
    [row] = sample_rows("loss", ask("loss", 3, TEXT), record)
    assert (row["doc_id"], row["nats_per_token"], row["group"], row["cut"]) == (3, 0.75, "Cats-1a2b", 7)
    strict, flexible = sample_rows("generate", ask("generate", 0, SUM), DirectRecord(0, text="It is 5."))
    assert (strict["filtered_resps"], flexible["filtered_resps"]) == (["[invalid]"], ["5."])
    assert strict["metrics"] == ["exact_match"] and strict["resps"] == [["It is 5."]]


@torch.no_grad()
def plainly(policy: Policy, context: str, continuation: str, role: Any) -> tuple[float, bool]:
    """The log-likelihood by transformers' own modules, without a cache, a batch, or padding."""
    whole = policy.tokenizer(context + continuation).input_ids
    first = len(policy.tokenizer(context.rstrip()).input_ids)
    with policy.by_plain_modules(role) as model:
        logp = model(input_ids=torch.tensor([whole])).logits[0].float().log_softmax(-1)
    ids = torch.tensor(whole[first:])
    rows = logp[first - 1 : len(whole) - 1]
    return float(rows.gather(1, ids[:, None]).sum()), bool((rows.argmax(-1) == ids).all())


@pytest.mark.parametrize("role", ["actor", "critic"])
def test_log_likelihoods_are_those_of_the_whole_text(policy: Policy, role: Any) -> None:
    items = [ask("endings", 0, CHOICE), ask("letters", 1, CHOICE, "x "), ask("loss", 2, TEXT)]
    for item, record in zip(items, scorer(policy, role).records(items), strict=True):
        for text, found in zip(item.continuations, record.likelihoods, strict=True):
            logprob, greedy = plainly(policy, item.context, text, role)
            assert found.logprob == pytest.approx(logprob, abs=1e-4) and found.greedy == greedy
    assert encode_pair(policy, "a ", "b") == encode_pair(policy, "a", " b")


def test_batches_and_interruptions_do_not_matter(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_scoring, "MOST_TOKENS", 20)
    items = [ask("endings", i, replace(CHOICE, question=f"What is {i}+{i}?")) for i in range(3)]
    items += [ask("generate", i, replace(SUM, question=f"What is {i}+{i}?")) for i in range(3, 5)]
    done: list[int] = []
    with ItemLog(tmp_path, {}, DIRECT) as log:
        whole = scorer(policy).run(items, log, 4, done.append)
    assert [record.index for record in whole] == list(range(5)) and done == [4, 1]
    [path] = tmp_path.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:9])
    with ItemLog(tmp_path, {}, DIRECT) as log:
        assert scorer(policy).run(items, log, 4, done.append) == whole
    with ItemLog(None, {}, DIRECT) as log:
        one = scorer(policy).run(items, log, 1, done.append)
    assert [record.text for record in one] == [record.text for record in whole]
    for a, b in zip(one, whole, strict=True):
        assert [x.logprob for x in a.likelihoods] == pytest.approx([x.logprob for x in b.likelihoods], abs=1e-4)


def test_long_prompts_lose_their_beginning(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    item = ask("endings", 0, replace(CHOICE, question="What is 1+1? " * 300))
    ids, continuation = encode_pair(policy, item.context, item.continuations[2])
    [record] = scorer(policy).records([item])
    room = policy.max_length + 1 - len(continuation)
    assert record.cut >= len(ids) - room > 0
    kept = torch.tensor([[*ids[-room:], *continuation][:-1]])
    with torch.no_grad(), policy.by_plain_modules("actor") as model:
        logp = model(input_ids=kept).logits[0].float().log_softmax(-1)[-len(continuation) :]
    expected = float(logp.gather(1, torch.tensor(continuation)[:, None]).sum())
    assert record.likelihoods[2].logprob == pytest.approx(expected, abs=1e-3)
    monkeypatch.setattr(direct_scoring, "MOST_TOKENS", policy.max_length)
    with pytest.raises(UserError, match="a solution may be"):
        scorer(policy).records([ask("generate", 0, SUM)])
    long = replace(TEXT, answer="so 7 " * policy.max_length)
    with pytest.raises(UserError, match="a text to be scored is"):
        scorer(policy).records([ask("loss", 0, long)])


def test_texts_end_at_a_stop(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_scoring, "MOST_TOKENS", 40)
    [free] = scorer(policy).records([ask("generate", 0, SUM)])
    assert len(free.text) > 20
    stop = free.text[10:14]
    monkeypatch.setattr(direct_scoring, "STOPS", ("never", stop))
    [stopped] = scorer(policy).records([ask("generate", 0, SUM)])
    assert stopped.text == free.text[: free.text.index(stop)]


def test_a_model_that_gives_nan_is_refused(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_scoring, "rounded", lambda _: math.nan)
    with pytest.raises(UserError, match=r"no finite log-likelihood .* for 1 of 1 items"):
        scorer(policy).records([ask("letters", 0, CHOICE)])


def prepared(folder: Path, tokenizer: Any, **task: Any) -> Any:
    asked = SuiteTask(**task)
    data = Data(dataset=asked.dataset, subset=asked.subset, data_dir=str(folder), context_tokens=5, target_tokens=5)
    return prepare_direct(asked, data, 0, tokenizer)


def test_items_and_shots(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    for split, count in (("dev", 5), ("val", 30), ("test", 40), ("auxiliary_train", 9)):
        folder = tmp_path / "mmlu" / split
        folder.mkdir(parents=True)
        name = "race.csv" if split == "auxiliary_train" else f"anatomy_{split}.csv"
        (folder / name).write_text("".join(f"{split} {i}?,1,2,3,4,A\n" for i in range(count)))
    of = {"dataset": "mmlu", "subset": "anatomy", "direct": "letters"}
    task = prepared(tmp_path, tokenizer, **of, shots=2, limit=7)
    assert (len(task.items), task.total, task.split) == (7, 40, "test")
    assert task.items[0].context.split("\n\n")[1].startswith("dev 0?") and "dev 1?" in task.items[0].context
    assert "dev 2?" not in task.items[0].context and task.items == sorted(task.items, key=lambda each: each.index)
    again = prepared(tmp_path, tokenizer, **of, shots=2, limit=7)
    assert again.fingerprint() == task.fingerprint() != prepared(tmp_path, tokenizer, **of, limit=7).fingerprint()
    assert prepared(tmp_path, tokenizer, **of, split="validation").total == 30
    for fault, message in (
        ({"shots": 6}, "needs 6 worked examples, and dev has 5"),
        ({"direct": "generate"}, "`direct: generate` is for numeric problems, and these are choice"),
        ({"direct": None}, "has no `direct`"),
        ({"direct": "loss", "dataset": "arithmetic", "subset": None}, "'arithmetic': is not a published one"),
    ):
        with pytest.raises(UserError, match=message):
            prepared(tmp_path, tokenizer, **{**of, **fault})


def test_the_suite() -> None:
    forms = {task.title: (task.direct, task.shots) for task in read_suite("general").tasks}
    assert forms == {
        "hellaswag": ("endings", 0),
        "mmlu_high_school_computer_science": ("letters", 5),
        "gsm8k": ("generate", 5),
        "wiki": ("loss", 0),
    }
    assert isinstance(ask("loss", 0, TEXT), Asked)
