"""Problems a second without a CoT, against lm-evaluation-harness's HF backend, as a Markdown table.

    python benchmarks/bench_eval.py --kind choice --model FOLDER --data hellaswag_val_first2000.txt \\
        --harness /path/to/environment
    python benchmarks/bench_eval.py --kind generate --model FOLDER --data gsm8k/test.jsonl --harness ...

choice: HellaSwag's plain text (context, label, four endings; lines in turn). Each ending's summed log-likelihood after
its context; acc by the sum, acc_norm by the sum per character, as the harness defines them. generate: JSONL with
`question`; what is written after "Question: ...\\nAnswer:", greedily, up to a newline or 16 tokens.

One process after another and in turn, `--rounds` times; loading and a few items are not timed. What the two sides find
is compared: in float32 a difference of more than rounding ends the program with code 1. In bfloat16 the sides round
differently, and the difference is only printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from measure import DTYPES, fail, positive
from runner import EVAL, interpreter, run, warn_if_busy

LARGEST_DIFFERENCE = 1e-3
"""Nats, in float32, between sums over an ending's tokens..."""
LEAST_SAME = 0.99
"""...and the share of texts that must be the same: a tie of two tokens may go either way."""
CHOICE, GENERATE = "choice", "generate"
NEW_TOKENS = 16
WARM_UP = 4
"""Items that are computed before the clock starts."""
LINES_AN_ITEM = 6
OURS, HARNESS = "ours", "harness"
TASK = """
task: direct
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: context
{rest}
metadata: {{version: 1}}
"""
REST = {
    CHOICE: """
output_type: multiple_choice
doc_to_choice: endings
doc_to_target: label
target_delimiter: " "
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    GENERATE: f"""
output_type: generate_until
doc_to_target: answer
generation_kwargs: {{until: ["\\n"], do_sample: false, max_gen_toks: {NEW_TOKENS}}}
metric_list: [{{metric: exact_match}}]
""",
}


def read_items(kind: str, path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` items."""
    if kind == GENERATE:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
        if len(rows) < count:
            fail(f"{path}: has fewer than {count} lines; use --items")
        return [{"context": f"Question: {row['question'].strip()}\nAnswer:", "answer": ""} for row in rows]
    lines = path.read_text(encoding="utf-8").splitlines()[: count * LINES_AN_ITEM]
    if len(lines) < count * LINES_AN_ITEM:
        fail(f"{path}: has fewer than {count} items of {LINES_AN_ITEM} lines; use --items")
    starts = range(0, len(lines), LINES_AN_ITEM)
    return [
        {"context": lines[i].strip(), "label": int(lines[i + 1]), "endings": [e.strip() for e in lines[i + 2 : i + 6]]}
        for i in starts
    ]


def measure_ours(args: argparse.Namespace, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By this project's scorer and sampler."""
    import torch

    from markov_cot.config.schema import Lora, Model
    from markov_cot.data.prompts import AnswerContext
    from markov_cot.models import loading
    from markov_cot.models.memory import FixedBudget
    from markov_cot.models.policy import Policy
    from markov_cot.models.roles import CRITIC
    from markov_cot.models.scorer import Scorer
    from markov_cot.rollouts.sampler import Sampler

    settings = Model(name=str(args.model), dtype=args.dtype, device=args.device)
    tokenizer = loading.load_tokenizer(settings)
    base = loading.load_base(settings, torch.device(args.device))
    policy, budget = Policy(loading.add_adapter(base, Lora(), 0), tokenizer), FixedBudget(args.tokens)
    scorer, sampler = Scorer(policy, budget), Sampler(policy, budget)

    def write(items: Sequence[dict[str, Any]]) -> list[str]:
        contexts = [tokenizer(item["context"]).input_ids for item in items]
        order = sorted(range(len(contexts)), key=lambda i: (len(contexts[i]), i))
        texts = sampler.greedy_answers([contexts[i] for i in order], CRITIC)
        return [text for _, text in sorted(zip(order, texts, strict=True))]

    def score(items: Sequence[dict[str, Any]]) -> list[float]:
        contexts = []
        for item in items:
            ids = tokenizer(item["context"]).input_ids
            # As the harness cuts: the ending's tokens are those that the whole has more than the context.
            for ending in item["endings"]:
                whole = tokenizer(f"{item['context']} {ending}").input_ids
                contexts.append(AnswerContext(tuple(ids), tuple(whole[len(ids) :]), len(ids) - 1))
        order = sorted(range(len(contexts)), key=lambda i: (len(contexts[i].ids), i))  # endings of one stay together
        scores = scorer.answers([contexts[i] for i in order], CRITIC)
        found = [0.0] * len(contexts)
        for i, value in zip(order, scores.sum_B.tolist(), strict=True):
            found[i] = value
        return found

    if args.kind == GENERATE:
        write(items[:WARM_UP])
        seconds, texts = _timed(lambda: write(items))
        return {"seconds": seconds, "texts": texts}
    score(items[:WARM_UP])
    seconds, sums = _timed(lambda: score(items))
    per_item = [sums[i : i + 4] for i in range(0, len(sums), 4)]
    return {"seconds": seconds, "sums": per_item, **accuracies(items, per_item)}


def measure_harness(args: argparse.Namespace, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By the harness, whose environment this runs in."""
    import torch
    import transformers
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=DTYPES[args.dtype]).to(args.device)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    backend = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=args.batch, device=args.device)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        data = Path(folder, "items.jsonl")
        data.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
        Path(folder, "task.yaml").write_text(TASK.format(data=data, rest=REST[args.kind]), encoding="utf-8")
        manager = TaskManager(include_path=folder, include_defaults=False)

        def evaluate(limit: int | None = None) -> Any:
            return simple_evaluate(
                model=backend, tasks=["direct"], task_manager=manager, bootstrap_iters=0, limit=limit
            )

        evaluate(WARM_UP)
        seconds, found = _timed(evaluate)
    samples = sorted(found["samples"]["direct"], key=lambda sample: sample["doc_id"])
    if args.kind == GENERATE:
        return {"seconds": seconds, "texts": [sample["resps"][0][0].strip() for sample in samples]}
    sums = [[float(response[0]) for response in sample["filtered_resps"]] for sample in samples]
    results = found["results"]["direct"]
    return {"seconds": seconds, "sums": sums, "acc": results["acc,none"], "acc_norm": results["acc_norm,none"]}


def accuracies(items: Sequence[dict[str, Any]], sums: Sequence[Sequence[float]]) -> dict[str, float]:
    """acc and acc_norm."""
    right = right_by_length = 0
    for item, values in zip(items, sums, strict=True):
        each = [value / len(ending) for value, ending in zip(values, item["endings"], strict=True)]
        right += values.index(max(values)) == item["label"]
        right_by_length += each.index(max(each)) == item["label"]
    return {"acc": right / len(items), "acc_norm": right_by_length / len(items)}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(REST), default=CHOICE)
    parser.add_argument("--model", type=Path, required=True, help="folder of a model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--harness", help="virtual environment, or Python, with lm-evaluation-harness")
    parser.add_argument("--items", type=positive, default=200)
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=positive, default=16, help="the harness's batch size")
    parser.add_argument("--tokens", type=positive, default=8192, help="tokens of our batches")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--side", choices=[OURS, HARNESS], help="only this one, in this environment, as JSON")
    return parser.parse_args(argv)


def table(reports: dict[str, list[dict[str, Any]]], items: int) -> str:
    """Markdown, a row a side."""
    lines = ["| side | problems a second (median) | least to most | found |", "|---|---|---|---|"]
    for name, side in reports.items():
        rates = [items / report["seconds"] for report in side]
        found = ", ".join(f"{key} {side[0][key]:.3f}" for key in ("acc", "acc_norm") if key in side[0])
        lines.append(f"| {name} | {statistics.median(rates):.2f} | {min(rates):.2f} to {max(rates):.2f} | {found} |")
    return "\n".join(lines)


def compare(kind: str, ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[str, bool]:
    """What is to be said of a difference, and whether it is within rounding in float32."""
    if kind == GENERATE:
        same = statistics.fmean(a == b for a, b in zip(ours["texts"], theirs["texts"], strict=True))
        return f"{same:.1%} of the texts are the same", same >= LEAST_SAME
    pairs = zip(ours["sums"], theirs["sums"], strict=True)
    difference = max(abs(a - b) for x, y in pairs for a, b in zip(x, y, strict=True))
    return f"log-likelihoods differ by {difference:.2g} nats at most", difference <= LARGEST_DIFFERENCE


def main() -> None:
    args = arguments()
    if args.side:
        items = read_items(args.kind, args.data, args.items)
        report = measure_ours(args, items) if args.side == OURS else measure_harness(args, items)
        print(json.dumps(report))
        return
    if not args.harness:
        fail("--harness: give the environment that lm-evaluation-harness is in")
    warn_if_busy()
    names = ("kind", "model", "data", "items", "dtype", "device", "batch", "tokens")
    options = [part for name in names for part in (f"--{name}", str(getattr(args, name)))]
    pythons = {OURS: sys.executable, HARNESS: interpreter(args.harness)}
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
    for _ in range(args.rounds):
        for name, python in pythons.items():
            reports[name].append(run(python, EVAL, [*options, "--side", name]))
    medians = [statistics.median(report["seconds"] for report in side) for side in reports.values()]
    said, is_right = compare(args.kind, *(side[0] for side in reports.values()))
    print(table(reports, args.items))
    print(
        f"\n{args.kind}, {args.items} items, {args.dtype} on {args.device}, {args.rounds} rounds: "
        f"{medians[1] / medians[0]:.2f} times as fast; {said}."
    )
    if args.dtype == "float32" and not is_right:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
