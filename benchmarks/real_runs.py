"""Runs of a claim about a real model, in a folder: trained, evaluated and probed by the commands that users have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from markov_cot.config.loading import apply, build_config, read_recipe
from markov_cot.config.yaml_files import write_value, write_yaml
from markov_cot.data.registry import load
from markov_cot.models.loading import load_tokenizer
from markov_cot.training.options import OWN_OF_SFT

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    about: str
    """In a few words, for tables."""
    by: Literal["reward", "gold", "published"] = "reward"
    """gold: taught the true answers as CoTs (`sft`); published: by the published PPO (published_ppo.py)."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Beside those of all arms."""


@dataclass(frozen=True)
class Bench:
    """Where runs are, and what all of them have in common. What is in the folder already is not made again."""

    folder: Path
    family: str
    """What the runs' names begin with."""
    recipe: str
    settings: Mapping[str, Any]
    """Changes to the recipe, by their keys."""
    n: int
    """Unseen items that are evaluated and probed."""

    def command(self, *words: str) -> str:
        """What one of markov-cot's commands prints."""
        return self._python("-m", "markov_cot", *words)

    def train(self, arm: Arm, seed: int) -> str:
        """Train one run, unless it has ended before, from where it was cut off. Returns its name."""
        name = f"{self.family}-{arm.name}-{seed}"
        ended = self.folder / f"{name}.ended"
        if ended.is_file():
            return name
        began = (self.folder / "checkpoints" / name).is_dir()
        settings = {**self.settings, **arm.settings}
        if arm.by == "published":
            self._train_published(name, seed, settings, began=began)
        else:
            self._train(arm, name, seed, settings, began=began)
        ended.touch()
        return name

    def evaluate(self, run: str) -> dict[str, Any]:
        """The results document of a run's best checkpoint against its base."""
        document: dict[str, Any] = json.loads(self.command("eval", "--run", run, "--limit", str(self.n), "--json"))
        return document

    def probe(self, run: str, *words: str) -> dict[str, Any]:
        """The document of a probe of the same items."""
        probed = self.command("probe", "--run", run, "--n", str(self.n), "--examples", "0", *words, "--json")
        document: dict[str, Any] = json.loads(probed)
        return document

    def answers(self, run: str) -> dict[str, float]:
        """By problem, the log-prob of the true answer after the CoT of a run's evaluated checkpoint."""
        lines = (self.folder / "runs" / run / "eval" / f"samples_{self.recipe}.jsonl").read_text("utf-8")
        rows = map(json.loads, lines.splitlines())
        return {row["doc"]["id"]: row["answer_logprobs"][0] for row in rows}

    def first_row(self, run: str) -> dict[str, float]:
        """What a run logged before its first step."""
        with (self.folder / "runs" / run / "log.jsonl").open(encoding="utf-8") as file:
            row: dict[str, float] = json.loads(file.readline())
        return row

    def _train(self, arm: Arm, name: str, seed: int, settings: dict[str, Any], *, began: bool) -> None:
        verb, recipe = "train", [self.recipe]
        if arm.by == "gold":
            rows = self.folder / "gold.jsonl"
            write_gold_rows(rows, self.recipe, self.settings)
            settings = {key: value for key, value in settings.items() if key not in OWN_OF_SFT}
            settings |= {"sft.rows": str(rows), "sft.loss_on": "cot", "sft.answer": ""}
            verb, recipe = "sft", ["--config", self.recipe]
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={write_value(value)}")]
        self.command(verb, *(["--resume"] if began else recipe), "--run", name, "--seed", str(seed), *sets)

    def _train_published(self, name: str, seed: int, settings: Mapping[str, Any], *, began: bool) -> None:
        config = self.folder / f"{name}.yaml"
        config.write_text(write_yaml(apply(read_recipe(self.recipe), {**settings, "seed": seed})), encoding="utf-8")
        script = [str(HERE / "published_ppo.py"), str(config), "--run", name]
        self._python(*script, *(["--resume"] if began else []))

    def _python(self, *words: str) -> str:
        paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"PYTHONPATH": paths}
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.PIPE, env=environment)
        return done.stdout.decode()


def write_gold_rows(path: Path, recipe: str, settings: Mapping[str, Any]) -> None:
    """The training split of texts, with each true answer as the CoT. A passage to be continued is its own question."""
    config = build_config(apply(read_recipe(recipe), settings), recipe)
    problems = load(config.data, load_tokenizer(config.model)).train
    rows = (
        {
            "passage": p.passage if p.question else "",
            "question": p.question or p.passage,
            "answer": list(p.accepted),
            "cot": f" {p.answer}",
            "kind": "text",
        }
        for p in problems
    )
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
