"""The runner: what it records does not depend on batches, interruptions or the company an item is in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from markov_cot.config.schema import Reward
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.synthetic import Generated, choices, words
from markov_cot.evaluation.record_log import RecordLog
from markov_cot.evaluation.records import Item, Likelihood, Record, Sample, from_json, to_json
from markov_cot.evaluation.runner import GenerationConfig, Runner
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.rewards.reader_models import make_readers
from markov_cot.rewards.readers import Readers
from markov_cot.utils.errors import UserError

LENGTH = 10
ITEMS = [Item(i, problem) for i, problem in enumerate([*Generated(words, "test", 5), *Generated(choices, "test", 5)])]


@pytest.fixture(scope="module")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


def runner(policy: Policy, writing: GenerationConfig, **options: Any) -> Runner:
    return Runner(policy, readers(policy), writing, **options)


def readers(policy: Policy, reader: str = "base") -> Readers:
    return make_readers(Reward(reader=reader), policy, Prompts(policy.tokenizer), FixedBudget(16384))


def texts(records: list[Record]) -> list[tuple[int, list[tuple[str, str]]]]:
    return [(r.index, [(s.cot, s.answer) for s in r.samples]) for r in records]


def evaluate(policy: Policy, folder: Path, batch: int, writing: GenerationConfig) -> list[Record]:
    with RecordLog(folder, {"batch": batch}) as log:
        return runner(policy, writing).run(ITEMS, log, batch)


@pytest.mark.parametrize(
    "writing", [GenerationConfig(LENGTH), GenerationConfig(LENGTH, samples=3, temperature=1.5, seed=1)]
)
def test_batches_do_not_matter(policy: Policy, tmp_path: Path, writing: GenerationConfig) -> None:
    one, seven, many = (evaluate(policy, tmp_path, batch, writing) for batch in (1, 7, 64))
    assert texts(one) == texts(seven) == texts(many)
    assert [r.index for r in one] == [item.index for item in ITEMS]
    for a, b in zip(one, many, strict=True):
        assert [s.answer_logprob for s in a.samples] == pytest.approx([s.answer_logprob for s in b.samples], abs=1e-4)
        assert a.baseline_logprob == pytest.approx(b.baseline_logprob, abs=1e-4)


def test_samples_differ_by_seed_and_item_but_not_by_company(policy: Policy) -> None:
    writing = GenerationConfig(LENGTH, samples=2, temperature=2.0, seed=1)
    alone = runner(policy, writing).write_cots(ITEMS[3:4])
    assert alone == runner(policy, writing).write_cots(ITEMS[:6])[6:8]
    assert alone[0] != alone[1]
    assert alone != runner(policy, replace(writing, seed=2)).write_cots(ITEMS[3:4])
    assert alone != runner(policy, writing).write_cots([Item(99, ITEMS[3].problem)])


def test_the_base_answers_itself_and_is_its_own_baseline(policy: Policy) -> None:
    records = runner(policy, GenerationConfig(LENGTH, writer="critic")).records(ITEMS[:4])
    assert [r.samples[0].answer_logprob for r in records] == [r.baseline_logprob for r in records]
    # The actor's baseline is the same number, computed or handed over.
    actor = runner(policy, GenerationConfig(LENGTH)).records(ITEMS[:4])
    assert [r.baseline_logprob for r in actor] == pytest.approx([r.baseline_logprob for r in records], abs=1e-5)
    assert any(r.samples[0].answer_logprob != r.baseline_logprob for r in actor)
    known = {r.index: float(r.index) for r in records}
    assert [
        r.baseline_logprob for r in runner(policy, GenerationConfig(LENGTH), baselines=known).records(ITEMS[:4])
    ] == [
        0,
        1,
        2,
        3,
    ]


def test_the_base_answers_itself_under_an_actor_reward(policy: Policy) -> None:
    writing = GenerationConfig(LENGTH, writer="critic")
    by_actor = Runner(policy, readers(policy, "actor"), writing).records(ITEMS[:3])
    assert by_actor == Runner(policy, readers(policy), writing).records(ITEMS[:3])


def test_the_answer_comes_from_the_cot_alone(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runner(policy, GenerationConfig(LENGTH))
    cots = made.write_cots(ITEMS[:2])
    monkeypatch.setattr(made, "write_cots", lambda _: cots)
    swapped = [Item(i.index, replace(i.problem, question="Something else?", passage="x")) for i in ITEMS[:2]]
    assert [r.samples for r in made.records(ITEMS[:2])] == [r.samples for r in made.records(swapped)]


def test_choices_are_scored_without_a_newline(policy: Policy) -> None:
    import torch

    item = ITEMS[-1]
    record = runner(policy, GenerationConfig(LENGTH)).records([item])[0]
    cot = runner(policy, GenerationConfig(LENGTH)).write_cots([item])[0]
    sample = record.samples[0]

    def encode(text: str) -> list[int]:
        ids: list[int] = policy.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    redacted = Prompts(policy.tokenizer).question_context(Problem("", "[redacted]", "", "numeric"))
    suffix = encode("x\nAnswer:")
    before = redacted + cot + suffix[1:]
    for choice, found in zip(item.problem.choices, sample.choices, strict=True):
        ids = encode(f"x\nAnswer: {choice}")[len(suffix) :]
        with torch.no_grad(), policy.acting_as("critic"):
            logp = policy.model(input_ids=torch.tensor([before + ids])).logits[0].log_softmax(-1)
        rows = logp[len(before) - 1 : -1]
        assert found.logprob == pytest.approx(sum(rows[i, t].item() for i, t in enumerate(ids)), abs=1e-4)
        assert found.greedy == (rows.argmax(-1).tolist() == ids)
    assert len(sample.letters) == len(item.problem.choices)


def test_greedy_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="3 samples need a temperature"):
        GenerationConfig(LENGTH, samples=3)


def test_an_interrupted_run_goes_on_at_its_item(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def path(folder: str) -> Path:
        with RecordLog(tmp_path / folder, {}) as log:
            return log.path

    writing = GenerationConfig(LENGTH)
    with RecordLog(tmp_path / "whole", {}) as log:
        whole = runner(policy, writing).run(ITEMS, log, 3)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with RecordLog(tmp_path / "torn", {}) as log, pytest.raises(KeyboardInterrupt):
        runner(policy, writing).run(ITEMS, log, 3, interrupt)
    # The machine fails in the middle of a line, and of a batch.
    lines = path("whole").read_bytes().splitlines(keepends=True)
    assert path("torn").read_bytes() == b"".join(lines[:4])
    path("torn").write_bytes(b"".join(lines[:6]) + lines[6][:20])
    computed: list[int] = []
    records = Runner.records
    monkeypatch.setattr(
        Runner, "records", lambda self, part: computed.extend(i.index for i in part) or records(self, part)
    )
    with RecordLog(tmp_path / "torn", {}) as log:
        assert sorted(log.done) == [0, 1, 2, 3, 4]
        assert runner(policy, writing).run(ITEMS, log, 3) == whole
    assert computed == list(range(3, 10)), "the batch that was cut is computed whole, nothing before it is"
    assert path("torn").read_bytes() == path("whole").read_bytes()
    computed.clear()
    with RecordLog(tmp_path / "torn", {}) as log:
        assert runner(policy, writing).run(ITEMS, log, 7) == whole
    assert not computed


def test_records_keep_nan_as_null() -> None:
    sample = Sample("cot", "7", float("nan"), 0.0, (Likelihood(float("nan"), False),), ())
    row = to_json(Record(3, 2, float("nan"), (sample,)))
    assert (row["baseline_logprob"], row["samples"][0]["answer_logprob"]) == (None, None)
    assert json.dumps(to_json(from_json(json.loads(json.dumps(row))))) == json.dumps(row)


@pytest.mark.parametrize("damage", [b"{}\n", b"not JSON\n", b'{"index": 1}\n', b"[]\n"])
def test_a_damaged_cache_is_named(tmp_path: Path, damage: bytes) -> None:
    with RecordLog(tmp_path, {}) as log:
        path = log.path
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(UserError, match=r"line 2: damaged; delete the file"):
        RecordLog(tmp_path, {})


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        RecordLog(tmp_path / "file" / "cache", {})


def test_continuations_are_scored_not_written(policy: Policy) -> None:
    problem = Problem("w", "", "the river runs", "continuation", passage="In the valley")
    record = runner(policy, GenerationConfig(LENGTH)).records([Item(0, problem)])[0]
    assert record.samples[0].answer == ""
    assert record.answer_tokens == len(Prompts(policy.tokenizer).answer_context(problem, []).answer_ids)
