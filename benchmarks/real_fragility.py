"""Is a Markovian run's CoT the more load-bearing one, and do other models follow it?

The Markovian runs are those of the continuation. Beside each, one whose reader sees the passage too. Both are probed on
the same items, and the Markovian run's CoTs are read by two other models: a copy of the base that was fine-tuned on how
passages go on, and one whose layers' matrices are rounded to 4 bits.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from coarse_copy import save_coarse_copy
from load_bearing import originals, table
from real_gain import REWARD, Seeds
from real_runs import Arm, Bench

from markov_cot.analysis.perturbations import FAMILIES

OPEN = Arm("open", "reader sees the passage", settings={"prompt.markovian": False})
TAUGHT = Arm("taught", "taught how passages go on", by="gold", settings={"sft.steps": 10, "sft.batch": 8})
TESTS = (*FAMILIES, "empty", "swap")
READERS = ("taught", "coarse")


def measure(bench: Bench, seed: int) -> dict[str, Any]:
    """Both kinds of run, probed against each other, and the transfer to other readers."""
    started = time.perf_counter()
    own, other = (bench.train(arm, seed) for arm in (REWARD, OPEN))
    tests = [word for test in TESTS for word in ("--test", test)]
    probe = bench.probe(own, "--against", other, *tests)
    readers = _other_readers(bench)
    words = [word for reader in readers for word in ("--reader", reader)]
    transfer = json.loads(bench.command("transfer", own, *words, "--n", str(bench.n), "--json"))
    print(f"seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return {"probe": probe, "transfer": transfer}


def _other_readers(bench: Bench) -> list[str]:
    taught, coarse = (bench.folder / name for name in READERS)
    if not (taught / "config.json").is_file():
        bench.command("export", "--run", bench.train(TAUGHT, 0), "--merge", str(taught))
    save_coarse_copy(bench.settings["model.name"], coarse)
    return [str(taught), str(coarse)]


def tables(seeds: Seeds) -> list[str]:
    """Markdown of both kinds' results, of the tests, and of the readers."""
    probes = {int(seed): of["probe"] for seed, of in seeds.items()}
    return [originals(probes), table(probes), _transfer(seeds)]


def _transfer(seeds: Seeds) -> str:
    """The last checkpoint's CoTs, by reader."""
    lines = ["| reader | seed | base's CoTs, log-prob | trained CoTs less them | rank correlation with the base |"]
    lines.append("|---|---|---|---|---|")
    for seed, of in seeds.items():
        found = of["transfer"]
        own = next(iter(found["readers"]))
        rho = {each["readers"][1]: each for each in found["spearman"] if each["readers"][0] == own}
        for name, reader in found["readers"].items():
            start, last = reader["answer_logprob"][0], reader["informativeness"][-1]
            same = rho.get(name)
            correlation = f"{same['rho']:.2f} [{same['low']:.2f}, {same['high']:.2f}]" if same else "-"
            cells = f"{start['mean']:.3f} | {last['mean']:+.3f} [{last['low']:+.3f}, {last['high']:+.3f}]"
            lines.append(f"| {name} | {seed} | {cells} | {correlation} |")
    return "\n".join(lines)
