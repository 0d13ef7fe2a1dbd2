"""Generated input, in process: config files, JSONL data and command lines. Never a traceback, always a line or a run.

python benchmarks/fuzz.py [--cases 10000] [--seed 0]

A third of the cases each. What is allowed: to be read, or a `UserError`; for command lines an exit code of the
contract, and one last line of ours on stderr when it is 2. Commands are stopped once their input has been accepted, but
for one in 200, which trains a step with the bundled model.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from markov_cot.cli import training
from markov_cot.cli.main import COMMANDS, main
from markov_cot.config.loading import build_config, dump_config, flatten, read_recipe, recipe_names
from markov_cot.config.schema import Config, Data
from markov_cot.data.registry import load
from markov_cot.utils.errors import UserError

EXIT_CODES = {0, 2, 3, 130}
TRAINED = 200
"""One command line in so many is carried out."""
SMALL = (
    "rollout.length=4",
    "rollout.samples=2",
    "rollout.problems=1",
    "validation.problems=1",
    "validation.final_problems=1",
)
DEFAULTS = flatten(Config().model_dump(mode="json"))
KEYS = sorted(DEFAULTS)
ODD = [
    "",
    " ",
    "\x00",
    "\x1b[31m",
    "\ud800",
    "..",
    "/",
    "[bold]",
    "null",
    "~",
    "1e999",
    "nan",
    "-1",
    "0x10",
    "\u2028",
    "é",
]

text = st.one_of(st.sampled_from(ODD), st.text(max_size=12))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text | st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
assignments = st.builds(
    lambda key, value: f"{key}={value}",
    st.sampled_from(KEYS) | text,
    st.one_of(text, scalars.map(str), values.map(str)),
)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, last = key.split(".")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                break
        else:
            inner[last] = value
    return tree


configs = st.one_of(
    st.text(max_size=80).map(lambda t: t.encode(errors="surrogatepass")),
    st.binary(max_size=60),
    st.dictionaries(st.sampled_from(KEYS), values, max_size=4).map(lambda flat: yaml.dump(nested(flat)).encode()),
    values.map(lambda value: yaml.dump(value).encode()),
    # Mostly right: default values at their places, and at most one that is not.
    st.builds(
        lambda keys, key, value: yaml.dump(nested({k: DEFAULTS[k] for k in keys} | {key: value})).encode(),
        st.lists(st.sampled_from(KEYS), max_size=8),
        st.sampled_from(KEYS),
        st.integers(0, 9) | st.floats(0, 1) | st.booleans() | scalars,
    ),
)
fields = st.sampled_from(["question", "answer", "choices", "passage", "id", "rationale", "Question", "text"])
rows = st.one_of(
    st.fixed_dictionaries(
        {"question": text | values, "answer": st.integers().map(str) | values},
        optional={"choices": st.lists(text, max_size=7) | values, "passage": text | values, "id": values},
    ),
    st.dictionaries(fields | text, values, max_size=5),
    values,
)
right = st.builds(
    lambda number, add, note: {"question": f"What is {number}+{add}?{note}", "answer": str(number + add)},
    st.integers(0, 10**6),
    st.integers(0, 99),
    text,
)
tables = st.one_of(
    st.builds(
        lambda whole, odd: "\n".join(map(json.dumps, [*whole, *odd])).encode(),
        st.lists(right, min_size=4, max_size=12),
        st.lists(rows, max_size=1),
    ),
    st.binary(max_size=80),
    st.lists(rows.map(json.dumps), max_size=12).map(lambda r: "\n".join(r).encode()),
    st.lists(rows.map(lambda r: json.dumps(r, ensure_ascii=False)), max_size=6).map(
        lambda r: "\r\n".join(r).encode(errors="surrogatepass")
    ),
    st.builds(
        lambda r, cut: "\n".join(r).encode()[:cut], st.lists(rows.map(json.dumps), min_size=1), st.integers(0, 200)
    ),
)
options = st.one_of(
    st.tuples(st.just("--set"), assignments),
    st.tuples(
        st.sampled_from(
            ["--dataset", "--model", "--steps", "--run", "--seed", "--data-dir", "--checkpoint", "--limit", "--suite"]
        ),
        text | scalars.map(str) | st.sampled_from(["arithmetic", "gsm8k", "nano", "mine.jsonl", "best", "base"]),
    ),
    st.tuples(st.sampled_from(["--resume", "--skip-bad-rows", "--accept-changes", "--json", "--help", "--no-such"])),
    st.tuples(text | st.sampled_from([*recipe_names(), "mine.yaml", "mine.jsonl"])),
)
commands = st.builds(
    lambda command, parts: [command, *(part for option in parts for part in option)],
    # Most of all the one with the most settings.
    st.sampled_from(["train"] * 6 + [*COMMANDS, "trian"]),
    st.lists(options, max_size=5),
)


class Accepted(Exception):
    """A command's input was found to be in order."""


class Fuzz:
    """Runs the cases in an empty folder and counts what came of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def config(self, content: bytes) -> None:
        """A config file."""
        path = Path("mine.yaml")
        path.write_bytes(content)
        try:
            config = build_config(read_recipe(str(path)), str(path))
        except UserError as error:
            return self._refused("config", error)
        path.write_text(dump_config(config), encoding="utf-8")
        assert build_config(read_recipe(str(path)), "again") == config
        return self._count("config", "accepted")

    def data(self, content: bytes, skip: bool) -> None:
        """A JSONL file."""
        path = Path("mine.jsonl")
        path.write_bytes(content)
        try:
            splits = load(Data(dataset=str(path), skip_bad_rows=skip), None)
        except UserError as error:
            return self._refused("data", error)
        splits.fingerprint()
        return self._count("data", "accepted")

    def command(self, arguments: list[str]) -> None:
        """A command line."""
        number = sum(count for name, count in self.counts.items() if name.startswith("command"))
        small = [
            "--steps",
            "1",
            "--set",
            "rollout.length=4",
            "--set",
            "rollout.samples=2",
            "--set",
            "rollout.problems=1",
        ]
        small += ["--set", "validation.problems=1", "--set", "validation.final_problems=1"]
        trains = number % TRAINED == 0
        arguments = ["train", "--run", f"r{number}", *small] if trains else arguments
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.nullcontext() if trains else mock.patch.object(training, "open_session", side_effect=Accepted),
            contextlib.nullcontext() if trains else _nothing_is_loaded(),
        ):
            try:
                main(arguments)
                code: Any = 0
            except Accepted:
                return self._count("command", "accepted")
            except SystemExit as end:
                code = end.code
        assert code in EXIT_CODES, (arguments, code)
        if code == 2 and out.getvalue() == "":
            said = [line for line in err.getvalue().splitlines() if line.strip()]
            assert said[-1].startswith("markov-cot: ") and "Traceback" not in err.getvalue(), (arguments, said)
        assert not trains or code == 0, err.getvalue()
        return self._count("command", "ran" if trains else f"exit {code}")

    def _refused(self, kind: str, error: UserError) -> None:
        assert str(error), kind
        self._count(kind, "refused")

    def _count(self, kind: str, result: str) -> None:
        self.counts[f"{kind}: {result}"] += 1


@contextlib.contextmanager
def _nothing_is_loaded() -> Iterator[None]:
    """Commands that would load a model have been given a model that is there."""
    with mock.patch("markov_cot.models.loading.load_base", side_effect=Accepted):
        yield


def fuzz(cases: int, number: int) -> Counter[str]:
    """Runs `cases` cases, a third of each kind, in a folder that is deleted. Raises at the first that fails."""
    run = Fuzz()
    profile = settings(
        max_examples=cases // 3,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    tests: list[Callable[[], None]] = [
        seed(number)(profile(given(configs)(run.config))),
        seed(number)(profile(given(tables, st.booleans())(run.data))),
        seed(number)(profile(given(commands)(run.command))),
    ]
    here = Path.cwd()
    offline = {"HF_HUB_OFFLINE": "1", "MARKOV_COT_DATA": ""}
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, offline),
        mock.patch("huggingface_hub.constants.HF_HUB_OFFLINE", True),
        mock.patch("datasets.config.HF_HUB_OFFLINE", True),
    ):
        os.chdir(folder)
        try:
            for test in tests:
                test()
        finally:
            os.chdir(here)
    return run.counts


def start() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_002)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.monotonic()
    counts = fuzz(args.cases, args.seed)
    print(json.dumps({"cases": counts.total(), "seconds": round(time.monotonic() - started), **counts}))
    sys.exit(counts.total() < args.cases - 2)


if __name__ == "__main__":
    start()
