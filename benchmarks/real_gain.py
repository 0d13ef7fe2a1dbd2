"""What training by reward gains on unseen items, what does not, and what the reader makes of other CoTs of the items.

For each seed a run by reward. Beside it, where answers are written, one whose rewards are shuffled within the step, and
one that is taught the true answers as CoTs; where passages are continued, one for which copying is dear. Each is
evaluated on the same items as its base, at the checkpoint that was best on others. Then the reader is given, on these
items, the trained CoTs of other questions and no CoT (`probe`), and CoTs that copy a piece of the passage
(copying_controls.py).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from copying_controls import CONTROLS, read_controls
from load_bearing import spread
from real_runs import Arm, Bench

from markov_cot.config.yaml_files import write_value
from markov_cot.evaluation.statistics import compare_paired

REWARD = Arm("reward", "by reward")
SHUFFLED = Arm("shuffled", "rewards shuffled", settings={"reward.function": "shuffled_reward:shuffled"})
GOLD = Arm("gold", "taught the answers", by="gold", settings={"sft.steps": 40})
"""As many questions as by reward: 80 steps of 8, and 40 batches of 16."""
DEAR = Arm("dear", "copying dear", settings={"reward.copy_penalty": 1.0})
READING_ARMS, CONTINUATION_ARMS = (REWARD, SHUFFLED, GOLD), (REWARD, DEAR)
READING: dict[str, Any] = {"alarms.action": "continue", "model.dtype": "bfloat16"}
"""Changes to the recipe squad."""
SHORT = "{problem}\n\nAnswer with a few words of the text."
BASE_PROMPTS: dict[str, dict[str, str]] = {
    "as trained": {},
    "bare question": {"prompt.cot_prefix": ""},
    "asked for few words": {"prompt.question": SHORT, "prompt.cot_prefix": ""},
    "asked for few words, answer begun": {"prompt.question": SHORT},
}
"""What the base is asked, as changes to what the trained actor is."""
CONTINUATION: dict[str, Any] = {
    "data.context_tokens": 60,
    "data.target_tokens": 30,
    "rollout.problems": 2,
    "rollout.samples": 8,
    "rollout.length": 20,
    "optim.lr": 1e-3,
    "alarms.action": "continue",
    "steps": 24,
    "validation.every": 8,
    "validation.problems": 32,
    "validation.final_problems": 32,
}
"""Changes to the recipe wiki."""
ANSWERS = {
    "exact_match,line": "EM",
    "f1,line": "F1",
    "answer_logprob,none": "log-prob",
    "answer_in_cot,none": "holds the answer",
}
PASSAGES = {"logprob_per_token,none": "log-prob", "informativeness,none": "informativeness"}
COPIED = "copied,none"
Seeds = Mapping[str, Mapping[str, Any]]


def measure_reading(bench: Bench, seed: int) -> dict[str, Any]:
    """All arms of one seed, with the controls."""
    found = _measure(bench, seed, READING_ARMS, tuple(CONTROLS))
    reward = found[REWARD.name]
    reward["probe"] = bench.probe(reward["run"], "--test", "swap", "--test", "empty")
    reward["best_base"] = _best_base(bench, reward["run"])
    return found


def measure_continuation(bench: Bench, seed: int) -> dict[str, Any]:
    """One seed, with the copying controls. A passage has no sentence that holds the answer."""
    return _measure(bench, seed, CONTINUATION_ARMS, ("last", "first", "window"))


def _measure(bench: Bench, seed: int, arms: Sequence[Arm], pieces: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for arm in arms:
        started = time.perf_counter()
        run = bench.train(arm, seed)
        first = bench.first_row(run)
        reader = {key: value for key, value in first.items() if key.startswith("reader/")}
        found[arm.name] = {"run": run, "evaluation": bench.evaluate(run), "reader": reader}
        if arm is REWARD:
            found[arm.name]["pieces"] = _pieces(bench, run, pieces)
        print(f"seed {seed}, {arm.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def _best_base(bench: Bench, run: str) -> dict[str, Any]:
    """The untrained base under the prompt that is best for it on the validation split (F1), on the unseen items."""
    path = bench.folder / "best_base.json"
    if not path.is_file():
        f1 = {name: _base(bench, run, name, "--split", "validation")["f1,line"]["mean"] for name in BASE_PROMPTS}
        best = max(f1, key=lambda name: f1[name])
        found = {"f1": f1, "best": best, "metrics": _base(bench, run, best, "--limit", str(bench.n))}
        path.write_text(json.dumps(found), encoding="utf-8")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _base(bench: Bench, run: str, prompt: str, *words: str) -> dict[str, Any]:
    """Metrics of the base, asked by a prompt of `BASE_PROMPTS`."""
    sets = [word for key, text in BASE_PROMPTS[prompt].items() for word in ("--set", f"{key}={write_value(text)}")]
    printed = bench.command("eval", "--run", run, "--checkpoint", "base", *words, *sets, "--json")
    [task] = json.loads(printed)["markov_cot"].values()
    metrics: dict[str, Any] = task["metrics"]
    return metrics


def _pieces(bench: Bench, run: str, names: Sequence[str]) -> dict[str, Any]:
    """Each copying control, and the trained CoTs' log-prob less its, on the same items."""
    path = bench.folder / "runs" / run / "analysis" / "copying.json"
    trained = bench.answers(run)
    if not path.is_file():
        rows = read_controls(bench.folder / "runs" / run, list(trained), names)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: _against(rows, trained) for name, rows in found.items()}


def _against(rows: Sequence[Mapping[str, Any]], trained: Mapping[str, float]) -> dict[str, Any]:
    n = len(rows)
    paired = compare_paired([row["logprob"] for row in rows], [trained[row["problem"]] for row in rows])
    credits = [row["f1"] for row in rows if row["f1"] is not None]
    return {
        "n": n,
        "accuracy": sum(row["right"] for row in rows) / n if credits else None,
        "f1": sum(credits) / n if credits else None,
        "logprob": sum(row["logprob"] for row in rows) / n,
        "copied": sum(row["copied"] for row in rows) / n,
        "trained_less": {"difference": paired.difference, "low": paired.low, "high": paired.high},
    }


def reading_tables(seeds: Seeds) -> list[str]:
    """Markdown of all arms, and of the controls."""
    return [_readers(seeds), gains(seeds, "squad", READING_ARMS, ANSWERS), _controls(seeds)]


def continuation_tables(seeds: Seeds) -> list[str]:
    """Markdown of the gain, and of the controls."""
    return [gains(seeds, "wiki", CONTINUATION_ARMS, PASSAGES), _controls(seeds)]


def _readers(seeds: Seeds) -> str:
    """The reader's ceiling and floor, and the base under its best prompt, which no training changes."""
    of = next(iter(seeds.values()))[REWARD.name]
    reader, base = of["reader"], of["best_base"]
    tried = ", ".join(f"{name} {f1:.3f}" for name, f1 in base["f1"].items())
    own = base["metrics"]
    return (
        f"The reader is right after a CoT that states the answer in {reader['reader/ceiling']:.3f} of cases "
        f"(log-prob {reader['reader/ceiling_logprob']:.2f}), after none in {reader['reader/floor']:.3f} "
        f"({reader['reader/floor_logprob']:.2f}). The base's best prompt is {base['best']} (validation F1: "
        f"{tried}), with EM {own['exact_match,line']['mean']:.3f}, F1 {own['f1,line']['mean']:.3f} and log-prob "
        f"{own['answer_logprob,none']['mean']:.3f} on the unseen items."
    )


def gains(seeds: Seeds, task: str, arms: Sequence[Arm], metrics: Mapping[str, str]) -> str:
    """Markdown: a row for each arm and seed, and one for an arm's mean, with the seeds' extreme differences."""
    names = [*metrics.values(), "copied"]
    keys, primary = [*metrics, COPIED], next(iter(metrics))
    lines = [f"| trained | seed | {' | '.join(names)} | difference of {names[0]} |", "|---" * (len(names) + 3) + "|"]
    for arm in arms:
        tasks = {seed: of[arm.name]["evaluation"]["markov_cot"][task] for seed, of in seeds.items()}
        for seed, own in tasks.items():
            change = own["against"]["paired"][primary]
            p = "" if change["p_value"] is None else f", p = {change['p_value']:.2g}"
            difference = f"{change['difference']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]{p}"
            lines.append(f"| {arm.about} | {seed} | {' | '.join(_before_after([own], keys))} | {difference} |")
        if len(tasks) > 1:
            differences = tuple(own["against"]["paired"][primary]["difference"] for own in tasks.values())
            cells = " | ".join(_before_after(list(tasks.values()), keys))
            lines.append(f"| {arm.about} | mean | {cells} | {spread(differences)} |")
    return "\n".join(lines)


def _before_after(tasks: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """Means of base and trained over evaluations of one task."""
    cells = []
    for key in keys:
        base = [metrics[key]["mean"] for task in tasks if key in (metrics := task["against"]["metrics"])]
        trained = [task["metrics"][key]["mean"] for task in tasks]
        cells.append(f"{fmean(base):.3f} → {fmean(trained):.3f}" if base else "-")
    return cells


def _controls(seeds: Seeds) -> str:
    """What the reader makes of other CoTs on the same items: means over the seeds, their extreme differences."""
    lines = ["| CoT | right | log-prob | copied | log-prob of the trained less it |", "|---" * 5 + "|"]
    rewarded = [of[REWARD.name] for of in seeds.values()]
    for name in rewarded[0]["pieces"]:
        pieces = [of["pieces"][name] for of in rewarded]
        right = "-" if pieces[0]["accuracy"] is None else f"{fmean(piece['accuracy'] for piece in pieces):.3f}"
        logprob, copies = (fmean(piece[key] for piece in pieces) for key in ("logprob", "copied"))
        less = spread(tuple(piece["trained_less"]["difference"] for piece in pieces))
        lines.append(f"| the passage's {name} | {right} | {logprob:.3f} | {copies:.3f} | {less} |")
    for test, about in (("swap", "of another question"), ("empty", "none")):
        probes = [(of["probe"]["original"], of["probe"]["tests"][test]["overall"]) for of in rewarded if "probe" in of]
        if probes:
            right = f"{fmean(own['accuracy'] - changed['accuracy_drop'] for own, changed in probes):.3f}"
            logprob = fmean(own["logprob"] - changed["effect"] for own, changed in probes)
            less = spread(tuple(changed["effect"] for _, changed in probes))
            lines.append(f"| {about} | {right} | {logprob:.3f} | - | {less} |")
    return "\n".join(lines)
