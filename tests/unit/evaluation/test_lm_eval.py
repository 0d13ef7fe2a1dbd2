"""lm-evaluation-harness with this program's model, on tasks made of local files, against this program's own numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from markov_cot.evaluation.lm_eval import MarkovianLM
from markov_cot.utils.errors import UserError

Cli = Callable[..., tuple[int, str, str]]
"""(arguments) -> exit code, stdout, stderr."""

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
{rest}
metadata: {{version: 1}}
"""
MULTIPLE_CHOICE = """
doc_to_text: question
doc_to_choice: choices
doc_to_target: target
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
GENERATE = """
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: answer
generation_kwargs: {until: ["\\n"], do_sample: false}
metric_list: [{metric: exact_match}]
"""


def request(kind: str, *arguments: Any) -> Instance:
    return Instance(kind, {}, arguments, 0)  # type: ignore[arg-type]


def harness(folder: Path, model: MarkovianLM, kind: str, rest: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    data = folder / "task.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(TASK.format(name="local", data=data, kind=kind, rest=rest))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(model=model, tasks=["local"], task_manager=manager, bootstrap_iters=100)
    results: dict[str, Any] = found
    return results


def lettered(doc: dict[str, Any]) -> str:
    return "\n".join([doc["question"], *(f"{c}) {t}" for c, t in zip("ABCDE", doc["choices"], strict=False))])


def test_acc_and_acc_norm_agree(workplace: Path, cli: Cli) -> None:
    for checkpoint in ("base", "adapter_4"):
        options = ("--checkpoint", checkpoint, "--run", "r", "--dataset", "choices.jsonl", "--against", "none")
        code, out, _ = cli("eval", *options, "--json")
        assert code == 0
        ours = json.loads(out)["results"]["choices"]
        rows = [json.loads(line) for line in Path("runs/r/eval/samples_choices.jsonl").read_text().splitlines()]
        scored = [row for row in rows if row["filter"] == "none"]
        docs = [{"question": lettered(r["doc"]), "choices": r["doc"]["choices"], "target": r["target"]} for r in scored]
        model = MarkovianLM(checkpoint=checkpoint, run="r", batch_size=5)
        theirs = harness(workplace, model, "multiple_choice", MULTIPLE_CHOICE, docs)
        for key in ("acc,none", "acc_norm,none", "acc_stderr,none", "acc_norm_stderr,none"):
            assert ours[key] == pytest.approx(theirs["results"]["local"][key], abs=1e-6), key
        for row, sample in zip(scored, theirs["samples"]["local"], strict=True):
            assert row["filtered_resps"] == [
                [pytest.approx(logprob, abs=1e-4), greedy] for logprob, greedy in sample["filtered_resps"]
            ]


def test_generated_answers_agree(workplace: Path, cli: Cli) -> None:
    code, _, _ = cli("eval", "--checkpoint", "adapter_4", "--limit", "6", "--against", "none")
    assert code == 0
    rows = [json.loads(line) for line in Path("runs/r/eval/samples_arithmetic.jsonl").read_text().splitlines()]
    ours = [row for row in rows if row["filter"] == "anchor"]
    docs = [{"question": row["doc"]["question"], "answer": row["target"]} for row in ours]
    model = MarkovianLM(checkpoint="adapter_4", batch_size="auto")
    theirs = harness(workplace, model, "generate_until", GENERATE, docs)
    # The labels around the question are the task's own and are taken off.
    assert [s["resps"] for s in theirs["samples"]["local"]] == [row["resps"] for row in ours]


def test_it_is_registered_by_name(workplace: Path) -> None:
    from lm_eval.api.registry import get_model

    arguments = "checkpoint=adapter_2,run=r,length=6,dtype=float64"
    model = get_model("markov-cot").create_from_arg_string(arguments, {"device": "cuda:0", "batch_size": "2"})
    assert model.config.rollout.length == 6
    answers = model.generate_until([request("generate_until", "What is 1+2?", {"until": ["\n"]})])
    assert len(answers) == 1
    assert "\n" not in answers[0]


def test_stop_strings_cut_the_answer(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from markov_cot.rollouts import sampler

    model = MarkovianLM(checkpoint="base", length=4)
    monkeypatch.setattr(sampler, "greedy_answers", lambda policy, contexts, role, most: ["18. Then 7"] * len(contexts))
    for until, expected in ((["."], "18"), ("Then", "18. "), ([], "18. Then 7"), ([""], "18. Then 7")):
        assert model.generate_until([request("generate_until", "x", {"until": until})]) == [expected]


def test_what_it_cannot_do_is_said(workplace: Path) -> None:
    model = MarkovianLM(checkpoint="base", length=4)
    with pytest.raises(UserError, match="rolling log-likelihood has no question"):
        model.loglikelihood_rolling([request("loglikelihood_rolling", "text")])
    with pytest.raises(UserError, match="writes greedily"):
        model.generate_until([request("generate_until", "x", {"do_sample": True})])
    with pytest.raises(UserError, match="has no context"):
        model.loglikelihood([request("loglikelihood", "", " A")])
    with pytest.raises(UserError, match="longer than the model's context"):
        model.generate_until([request("generate_until", "word " * 2000, {})])
    with pytest.raises(UserError, match="longer than the model's context"):
        model.loglikelihood([request("loglikelihood", "Which?", " word" * 2000)])
