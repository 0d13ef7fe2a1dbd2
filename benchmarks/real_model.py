"""What training does to a real instruct model: gain, controls, and what its CoTs turn into. Three seeds, resumable.

    MARKOV_COT_DATA=... python benchmarks/real_model.py --model SMOLLM2 --claim gain --seeds 0 1 2 --out FOLDER
    MARKOV_COT_DATA=... python benchmarks/real_model.py --model SMOLLM2 --claim continuation --seeds 0 1 2 --out FOLDER

`gain` is reading comprehension with free-text answers (recipe squad, with shorter CoTs), `continuation` Wikipedia
(recipe wiki, made smaller). For each seed a run by reward; beside it, for `gain`, one whose rewards are shuffled
within the step, and one that is taught the true answers as CoTs. Each is evaluated on the same unseen items as its
base, at the checkpoint that was best on others. Then the reader is given, on these items, the trained CoTs of other
questions and no CoT (`probe`), and CoTs that copy a piece of the passage (copying_controls.py). FOLDER/CLAIM.json has
all of it, and the tables are printed as Markdown. What is in FOLDER already is not made again. `--set` changes
settings of all runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from copying_controls import CONTROLS, read_controls
from measure import positive

from markov_cot.config.loading import apply, build_config, read_assignments, read_recipe
from markov_cot.config.yaml_files import write_value
from markov_cot.data.registry import load
from markov_cot.evaluation.statistics import compare_paired
from markov_cot.models.loading import load_tokenizer

HERE = Path(__file__).parent
GAIN, CONTINUATION = "gain", "continuation"
REWARD, SHUFFLED, GOLD = "reward", "shuffled", "gold"
ARMS = {GAIN: (REWARD, SHUFFLED, GOLD), CONTINUATION: (REWARD,)}
ABOUT = {REWARD: "by reward", SHUFFLED: "rewards shuffled", GOLD: "taught the answers"}
RECIPES = {GAIN: "squad", CONTINUATION: "wiki"}
# Cut-off texts that begin with an answer, as a CoT of a few tokens is.
READER_EXAMPLES = [
    {"cot": ": 1889, when the tower in Paris was", "answer": "1889"},
    {"cot": ': "the farmers"\n\nThis is', "answer": "the farmers"},
    {"cot": ": Marie Curie\nThe prize of", "answer": "Marie Curie"},
    {"cot": ": by about 40 percent (20", "answer": "40 percent"},
    {"cot": ' "in the north of Italy", as', "answer": "the north of Italy"},
    {"cot": ": to pay for the new bridge. It", "answer": "pay for the new bridge"},
]
CHANGED: dict[str, dict[str, Any]] = {
    GAIN: {
        "prompt.cot_prefix": "The answer is:",
        "prompt.examples": READER_EXAMPLES,
        "rollout.problems": 8,
        "rollout.samples": 8,
        "rollout.length": 10,
        "optim.lr": 4e-4,
        "algorithm.kl_weight": 0.05,
        "alarms.action": "continue",
        "steps": 48,
        "validation.every": 16,
    },
    CONTINUATION: {
        "model.dtype": "bfloat16",
        "data.context_tokens": 100,
        "data.target_tokens": 50,
        "rollout.problems": 4,
        "rollout.samples": 8,
        "rollout.length": 50,
        "optim.lr": 5e-4,
        "validation.every": 20,
        "validation.problems": 50,
        "validation.final_problems": 50,
    },
}
"""Settings of a claim's runs that are not the recipe's."""
COPIED, IN_COT = "copied,none", "answer_in_cot,none"
METRICS = {
    GAIN: {"exact_match,line": "EM", "f1,line": "F1", "answer_logprob,none": "log-prob", IN_COT: "holds the answer"},
    CONTINUATION: {"logprob_per_token,none": "log-prob", "informativeness,none": "informativeness"},
}
PIECES = {GAIN: tuple(CONTROLS), CONTINUATION: ("last", "first", "window")}


class Bench:
    """A claim's runs, in a folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.claim, self.n, self.folder = args.claim, args.n, args.out.resolve()
        steps = {} if args.steps is None else {"steps": args.steps}
        asked = CHANGED[self.claim] | {"model.name": args.model} | steps
        self.settings = asked | read_assignments(args.settings)
        self.folder.mkdir(parents=True, exist_ok=True)

    def command(self, *words: str) -> str:
        """What one of markov-cot's commands prints."""
        done = subprocess.run(
            [sys.executable, "-m", "markov_cot", *words],
            cwd=self.folder,
            check=True,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])},
        )
        return done.stdout.decode()

    def train(self, arm: str, seed: int) -> str:
        """Train one run, unless it has ended before. Returns its name."""
        name = f"{self.claim}-{arm}-{seed}"
        if (self.folder / "runs" / name / "summary.json").is_file():
            return name
        resume = ["--resume"] if (self.folder / "checkpoints" / name).is_dir() else []
        settings, recipe = dict(self.settings), [RECIPES[self.claim]]
        if arm == SHUFFLED:
            settings["reward.function"] = "shuffled_reward:shuffled"
        if arm == GOLD:
            rows = self.folder / "gold.jsonl"
            write_gold_rows(rows, RECIPES[self.claim], self.settings)
            settings = {key: value for key, value in settings.items() if key != "steps"}
            settings |= {"sft.rows": str(rows), "sft.loss_on": "cot", "sft.answer": ""}
            recipe = ["--config", *recipe]
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={write_value(value)}")]
        verb = "sft" if arm == GOLD else "train"
        self.command(verb, *([] if resume else recipe), "--run", name, "--seed", str(seed), *resume, *sets)
        return name

    def evaluate(self, run: str) -> dict[str, Any]:
        """The results document of a run's best checkpoint against its base."""
        document: dict[str, Any] = json.loads(self.command("eval", "--run", run, "--limit", str(self.n), "--json"))
        return document

    def probe(self, run: str) -> dict[str, Any]:
        """The same items with the trained CoTs of other questions, and with none."""
        tests = ("--test", "swap", "--test", "empty", "--examples", "0")
        document: dict[str, Any] = json.loads(self.command("probe", "--run", run, "--n", str(self.n), *tests, "--json"))
        return document

    def pieces(self, run: str) -> dict[str, Any]:
        """Each copying control, and the trained CoTs' log-prob less its, on the same items."""
        path = self.folder / "runs" / run / "analysis" / "copying.json"
        trained = self._answers(run)
        if not path.is_file():
            rows = read_controls(self.folder / "runs" / run, list(trained), PIECES[self.claim])
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: _against(rows, trained) for name, rows in found.items()}

    def _answers(self, run: str) -> dict[str, float]:
        """By problem, the log-prob of the true answer after the CoT of a run's evaluated checkpoint."""
        lines = (self.folder / "runs" / run / "eval" / f"samples_{RECIPES[self.claim]}.jsonl").read_text("utf-8")
        rows = map(json.loads, lines.splitlines())
        return {row["doc"]["id"]: row["answer_logprobs"][0] for row in rows}


def write_gold_rows(path: Path, recipe: str, settings: Mapping[str, Any]) -> None:
    """The training split with each true answer as the CoT."""
    config = build_config(apply(read_recipe(recipe), settings), recipe)
    problems = load(config.data, load_tokenizer(config.model)).train
    rows = (
        {"passage": p.passage, "question": p.question, "answer": list(p.accepted), "cot": f" {p.answer}"}
        for p in problems
    )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


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


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    """All of one seed."""
    found: dict[str, Any] = {}
    for arm in ARMS[bench.claim]:
        started = time.perf_counter()
        run = bench.train(arm, seed)
        found[arm] = {"run": run, "evaluation": bench.evaluate(run), "reader": _reader(bench.folder / "runs" / run)}
        if arm == REWARD:
            found[arm] |= {"pieces": bench.pieces(run)}
            if bench.claim == GAIN:
                found[arm] |= {"probe": bench.probe(run)}
        print(f"seed {seed}, {arm}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def _reader(run: Path) -> dict[str, float]:
    """The reader's ceiling and floor at the run's start."""
    with (run / "log.jsonl").open(encoding="utf-8") as file:
        row = json.loads(file.readline())
    return {key: row[key] for key in row if key.startswith("reader/")}


def gains(claim: str, seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each arm and seed."""
    names = [*METRICS[claim].values(), "copied"]
    lines = [f"| trained | seed | {' | '.join(names)} | difference of {names[0]}, p |", "|---" * (len(names) + 3) + "|"]
    for arm in ARMS[claim]:
        for seed, of in seeds.items():
            own = of[arm]["evaluation"]["markov_cot"][RECIPES[claim]]
            keys = [*METRICS[claim], COPIED]
            base, trained = own["against"]["metrics"], own["metrics"]
            cells = [f"{base[key]['mean']:.3f} → {trained[key]['mean']:.3f}" if key in base else "-" for key in keys]
            change = own["against"]["paired"][keys[0]]
            p = "" if change["p_value"] is None else f", p = {change['p_value']:.2g}"
            cells.append(f"{change['difference']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}]{p}")
            lines.append(f"| {ABOUT[arm]} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def controls(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: what the reader makes of other CoTs on the same items."""
    lines = [
        "| CoT | seed | right | log-prob | copied | trained less it, log-prob |",
        "|---|---|---|---|---|---|",
    ]
    for seed, of in seeds.items():
        for name, piece in of[REWARD]["pieces"].items():
            less = piece["trained_less"]
            interval = f"{less['difference']:+.3f} [{less['low']:+.3f}, {less['high']:+.3f}]"
            right = "-" if piece["accuracy"] is None else f"{piece['accuracy']:.3f}"
            cells = f"{right} | {piece['logprob']:.3f} | {piece['copied']:.3f} | {interval}"
            lines.append(f"| the passage's {name} | {seed} | {cells} |")
        probe = of[REWARD].get("probe")
        for test, about in (("swap", "of another question"), ("empty", "none")):
            if probe and probe["tests"].get(test):
                overall = probe["tests"][test]["overall"]
                right = probe["original"]["accuracy"] - overall["accuracy_drop"]
                effect = f"{overall['effect']:+.3f} [{overall['low']:+.3f}, {overall['high']:+.3f}]"
                logprob = probe["original"]["logprob"] - overall["effect"]
                lines.append(f"| {about} | {seed} | {right:.3f} | {logprob:.3f} | - | {effect} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an instruct model's folder or hub id")
    parser.add_argument("--claim", choices=list(ARMS), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=positive, help="of training by reward [the recipe's]")
    parser.add_argument("--n", type=positive, default=200, help="unseen items")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    bench, path = Bench(args), args.out / f"{args.claim}.json"
    seeds: dict[str, Any] = {}
    for seed in args.seeds:
        seeds[str(seed)] = measure(bench, seed)
        path.write_text(json.dumps({"settings": bench.settings, "n": args.n, "seeds": seeds}, indent=1), "utf-8")
        print(gains(args.claim, seeds), controls(seeds), sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
