"""`markov-cot teachers` as a user meets it: figures against plain transformers, resuming, outcomes, bad input."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from markov_cot.analysis import teacher_scores
from markov_cot.analysis.teacher_report import TeachersRequest
from markov_cot.analysis.teacher_scores import HIGHEST_RANK
from markov_cot.cli.teachers import teachers_command
from markov_cot.evaluation.loaded_model import Overrides
from markov_cot.models.response_scores import ResponseScore
from markov_cot.models.source import resolve_source
from tests.command_fixtures import Cli
from tests.other_models import write_other

SUMS = [
    ("What is 12+35?", "12+35=47", "47"),
    ("What is 8+9+1?", "8+9=17\n17+1=18", "18"),
    ("What is 50+2?", "50+2=52", "52"),
]
GOOD = [{"question": q, "cot": f"{cot}\nSo {gold}.", "answer": gold, "gold": gold} for q, cot, gold in SUMS]
BAD = [
    {"question": q, "cot": "Bananas! 99 of them", "answer": "9" if i else gold, "gold": gold}
    for i, (q, _, gold) in enumerate(SUMS)
]
QUICK = ("--student", "nano", "--resamples", "200")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    return tmp_path


def write(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def document(cli: Cli, *arguments: str) -> dict[str, Any]:
    code, out, err = cli("teachers", *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out, parse_constant=pytest.fail)
    return found


def refused(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert (code, out) == (2, "") and "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("markov-cot: ")]
    assert len(lines) == 1
    return lines[0]


@cache
def plain(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def token_losses(model: Any, ids: Sequence[int], scored: int) -> tuple[list[float], list[int]]:
    """Losses and ranks of the last `scored` ids."""
    with torch.no_grad():
        logits = model(torch.tensor([list(ids)])).logits[0].double()
    losses, ranks = [], []
    for place in range(len(ids) - scored, len(ids)):
        log_probs = logits[place - 1].log_softmax(-1)
        losses.append(-float(log_probs[ids[place]]))
        ranks.append(1 + int((log_probs > log_probs[ids[place]]).sum()))
    return losses, ranks


def expected(folder: str, items: Sequence[tuple[str, str, float]], beta: float, clip: int) -> dict[str, float]:
    """The metrics of (prompt, response as it follows it, reward), from transformers alone."""
    tokenizer, model = plain(folder)
    bos = tokenizer("").input_ids
    rows = []
    for prompt, response, reward in items:
        before = tokenizer(prompt, add_special_tokens=False).input_ids
        both = tokenizer(prompt + response, add_special_tokens=False).input_ids
        assert both[: len(before)] == before
        own = both[len(before) :]
        losses, ranks = token_losses(model, [*bos, *both], len(own))
        # What nothing comes before has no probability.
        alone, _ = token_losses(model, [*bos, *own], len(own) if bos else len(own) - 1)
        loss, bare = sum(losses) / len(losses), sum(alone) / len(alone)
        rank = sum(min(each, clip) for each in ranks) / len(ranks)
        rows.append((reward, loss, math.exp(loss), loss / bare, math.exp(loss) / math.exp(bare), rank, len(own)))
    reward, loss, ppl, ifd_loss, ifd_ppl, rank, length = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    return {
        "reward": reward,
        "loss": loss,
        "car": reward / (1 + beta * loss),
        "ppl_self": ppl,
        "ifd_loss": ifd_loss,
        "ifd_ppl": ifd_ppl,
        "rsr": rank / loss,
        "length": length,
    }


def check(found: Mapping[str, Any], right: Mapping[str, float]) -> None:
    for metric, value in right.items():
        assert found[metric]["value"] == pytest.approx(value, rel=1e-5), metric


def test_figures_of_plain_transformers(here: Path, cli: Cli) -> None:
    good, bad = write("good.jsonl", GOOD), write("bad.jsonl", BAD)
    found = document(cli, good, bad, *QUICK, "--beta", "1.5", "--rank-clip", "20")
    for name, rows, rewards in (("good", GOOD, (1, 1, 1)), ("bad", BAD, (1, 0, 0))):
        items = [
            (f"Question: {row['question']}\nReasoning:", f" {row['cot']}\nAnswer: {row['answer']}", reward)
            for row, reward in zip(rows, rewards, strict=True)
        ]
        check(found["teachers"][name], expected(resolve_source("nano"), items, 1.5, 20))
    assert found["ranking"] == ["good", "bad"] and found["teachers"]["good"]["best"] == 1.0
    assert (found["n"], found["seed"], found["student"]["name"], found["student"]["dtype"]) == (3, 0, "nano", "float32")
    for name, path, each in zip(("good", "bad"), (good, bad), found["inputs"], strict=True):
        sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        assert each == {"file": path, "teacher": name, "sha256": sha256, "rows": 3, "questions": 3}
    settings = found["settings"]
    assert (settings["beta"], settings["rewards"], settings["kind"], settings["highest_rank"]) == (
        1.5,
        "verified",
        "numeric",
        20,
    )
    [kept] = (here / "runs" / "base-nano" / "analysis").glob("teachers-*.json")
    assert json.loads(kept.read_text()) == found


def test_figures_with_a_chat_template_and_no_bos(here: Path, cli: Cli) -> None:
    folder = str(write_other(here / "chat", chat=True))
    rows = [{"question": f"What is {i}?", "response": "It is " + "so " * i + "done.", "reward": i} for i in (1, 2, 5)]
    found = document(cli, write("t.jsonl", rows), "--student", folder, "--resamples", "50")
    tokenizer, _ = plain(folder)
    assert tokenizer("").input_ids == [] and found["settings"]["chat"]
    items = [
        (
            tokenizer.apply_chat_template(
                [{"role": "user", "content": row["question"]}], tokenize=False, add_generation_prompt=True
            ),
            row["response"],
            row["reward"],
        )
        for row in rows
    ]
    check(found["teachers"]["t"], expected(folder, items, 3.0, HIGHEST_RANK))
    assert (found["ranking"], found["teachers"]["t"]["rank"], found["beta_ranges"]) == (None, None, [])
    plain_prompt = document(cli, "t.jsonl", "--student", folder, "--set", "prompt.chat=false")
    items = [(f"Question: {row['question']}\nReasoning:", f" {row['response']}", row["reward"]) for row in rows]
    check(plain_prompt["teachers"]["t"], expected(folder, items, 3.0, HIGHEST_RANK))


def test_tables(here: Path, cli: Cli) -> None:
    evil = write("e\x1b[31mvil.jsonl", [{**row, "cot": f"{row['cot']} "} for row in BAD[:2]])
    code, out, _ = cli("teachers", write("good.jsonl", GOOD), evil, *QUICK)
    assert code == 0
    assert "student nano, plain prompts; n = 2 questions" in out
    assert "\x1b" not in out and "e\\x1b[31mvil" in out
    assert "good: 1 of its 3 questions are left out: not all teachers answer them" in out
    assert "ranking by CAR at beta = 3" in out and "the ranking by CAR is the same for every beta" in out
    assert "reward: the share of right answers, by the rows' gold" in out and "Only 2 items" in out
    assert "written: runs/base-nano/analysis/teachers-" in out
    for heading in ("PPL-Self", "IFD (losses)", "IFD (perplexities)", "RSR", "CAR", "reward", "loss", "tokens"):
        assert heading in out
    _, out, _ = cli("teachers", "good.jsonl", *QUICK)
    assert "one teacher: there is nothing to rank it against" in out and "behind" not in out


def test_at_which_beta_the_ranking_changes(here: Path, cli: Cli) -> None:
    generous = write("generous.jsonl", [{**row, "reward": 9.0} for row in BAD])
    modest = write("modest.jsonl", [{**row, "reward": 4.0} for row in GOOD])
    found = document(cli, generous, modest, *QUICK)
    (r, loss), (s, other) = (
        (found["teachers"][name]["reward"]["value"], found["teachers"][name]["loss"]["value"])
        for name in ("generous", "modest")
    )
    change = (s - r) / (r * other - s * loss)
    assert change > 0
    assert found["beta_ranges"] == [
        {"low": 0.0, "high": pytest.approx(change), "ranking": [["generous"], ["modest"]]},
        {"low": pytest.approx(change), "high": None, "ranking": [["modest"], ["generous"]]},
    ]
    assert document(cli, generous, modest, *QUICK, "--beta", str(change * 0.99))["ranking"][0] == "generous"
    _, out, _ = cli("teachers", generous, modest, *QUICK, "--beta", str(change * 1.01))
    assert f"modest is the first for beta from {change:.4g} on" in out


def test_outcomes(here: Path, cli: Cli) -> None:
    files = [write("a.jsonl", GOOD), write("b.jsonl", BAD), write("c.jsonl", [{**row, "cot": "So"} for row in GOOD])]
    Path("o.csv").write_text("teacher,gsm8k,mmlu\nb,1,3\nc,2,1\na,3,2\nz,9,9\n")
    found = document(cli, *files, *QUICK, "--outcomes", "o.csv")
    assert list(found["correlations"]) == ["gsm8k", "mmlu"]
    lengths = {name: each["length"]["value"] for name, each in found["teachers"].items()}
    assert sorted(lengths, key=lengths.__getitem__)[0] == "c"
    assert all(each["n"] == 3 for each in found["correlations"]["gsm8k"].values())
    # Right answers: all of a's and c's, one of b's. Ranks 2.5 1 2.5 against 3 1 2.
    assert found["correlations"]["gsm8k"]["reward"]["rho"] == pytest.approx(1.5 / (1.5 * 2) ** 0.5)
    assert found["inputs"][-1]["file"] == "o.csv" and found["inputs"][-1]["rows"] == 4
    found = document(cli, *files, *QUICK, "--outcomes", "o.csv", "--outcome", "gsm8k,mmlu")
    assert list(found["correlations"]) == ["gsm8k,mmlu"]
    code, out, _ = cli("teachers", *files, *QUICK, "--outcomes", "o.csv")
    assert code == 0 and "Spearman's rho with gsm8k" in out


def test_interrupted_it_continues_to_the_same_numbers(here: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write("good.jsonl", GOOD), write("bad.jsonl", BAD)]
    monkeypatch.setattr(teacher_scores, "AT_ONCE", 2)
    whole = document(cli, *files, *QUICK, "--out", "whole")
    original, calls = teacher_scores.Scorer.responses, list[int]()

    def counted(self: Any, contexts: Any, *rest: Any) -> list[ResponseScore]:
        if len(calls) == 1 and not (here / "again").exists():
            raise KeyboardInterrupt
        calls.append(len(contexts))
        return original(self, contexts, *rest)

    monkeypatch.setattr(teacher_scores.Scorer, "responses", counted)
    assert cli("teachers", *files, *QUICK, "--out", "parts")[0] == 130
    [log] = (here / "parts" / "cache").glob("*.jsonl")
    log.write_bytes(log.read_bytes() + b'{"index": 2, "tok')
    (here / "again").touch()
    assert document(cli, *files, *QUICK, "--out", "parts") == whole
    assert calls == [4, 2, 4, 2], "one of the four parts was not computed twice"
    assert document(cli, *files, *QUICK, "--out", "parts", "--beta", "0.1")["n"] == 3 and len(calls) == 4
    document(cli, *files, *QUICK, "--out", "parts", "--rank-clip", "7")
    assert len(calls) == 8, "ranks that are cut off elsewhere are other scores"


def test_questions_are_drawn_and_long_responses_cut(here: Path, cli: Cli) -> None:
    rows = [{"question": f"What is {i}?", "response": "word " * (3 * i + 1), "reward": 1} for i in range(9)]
    one, other = write("a.jsonl", rows), write("b.jsonl", [{**row, "response": "x"} for row in reversed(rows)])
    found = document(cli, one, other, *QUICK, "--n", "5", "--max-tokens", "40")
    assert (found["n"], found["shared_questions"]) == (5, 9)
    assert found["teachers"]["a"]["cut"] > 0 and found["teachers"]["b"]["cut"] == 0
    again = document(cli, other, one, *QUICK, "--n", "5", "--max-tokens", "40")
    assert again["teachers"]["a"]["loss"]["value"] == pytest.approx(found["teachers"]["a"]["loss"]["value"], rel=1e-6)
    other_seed = document(cli, one, other, *QUICK, "--n", "5", "--max-tokens", "40", "--seed", "1")
    assert other_seed["teachers"]["a"]["loss"]["value"] != found["teachers"]["a"]["loss"]["value"]
    assert "row 1: its question alone fills the context of 8 tokens" in refused(
        cli("teachers", one, *QUICK, "--max-tokens", "8")
    )


def test_a_table(here: Path, cli: Cli) -> None:
    Path("t.csv").write_text(
        "generator,base_model,car,ap\n"
        + "".join(f"{t},{s},{i},{i * k}\n" for s, k in (("s", 1), ("u", -1)) for i, t in enumerate("abcd"))
    )
    code, out, err = cli("teachers", "--table", "t.csv")
    assert (code, err) == (0, "")
    assert "Spearman's rho with ap" in out and "+1.000 -1.000 +0.000" in " ".join(out.split())
    assert "ap: mean over 2 students" in out and "rho of ap between students" in out
    found = json.loads(cli("teachers", "--table", "t.csv", "--json")[1])["outcomes"]["ap"]
    assert found["correlations"]["car"] == {
        "mean": 0.0,
        "students": {"s": {"n": 4, "rho": 1.0, "p": 2 / 24}, "u": {"n": 4, "rho": -1.0, "p": 2 / 24}},
    }
    assert found["best"] == {"s": "d", "u": "a"}
    assert found["between"] == [{"students": ["s", "u"], "n": 4, "rho": -1.0, "p": 2 / 24}]
    script = (
        "import sys\nfrom markov_cot.cli.main import main\n"
        "try: main(['teachers', '--table', 't.csv'])\n"
        "except SystemExit: print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_bad_input_is_one_line_and_exit_2(here: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("markov_cot.analysis.teacher_report.LoadedModel", None)  # all is found before the model is
    good = write("good.jsonl", GOOD)

    def fault(*arguments: str) -> str:
        return refused(cli("teachers", *arguments, *QUICK))

    Path("empty.jsonl").write_text("")
    assert "empty.jsonl: is empty; give a JSONL file" in fault("empty.jsonl", good)
    assert "empty.jsonl: is empty" in fault(good, "empty.jsonl")
    assert "nowhere.jsonl: does not exist" in fault("nowhere.jsonl")
    asked = write("question.jsonl", [{"response": "5", "gold": "5"}])
    assert "question.jsonl line 1: field 'question' is missing" in fault(good, asked)
    assert "line 1: no `response`" in fault(write("r.jsonl", [{"question": "a", "reward": 1}]))
    assert "no `gold` to verify by" in fault(write("g.jsonl", [{"question": "a", "response": "5"}]))
    negative = write("negative.jsonl", [{**row, "reward": -1.0} for row in GOOD])
    assert "teacher negative: its mean reward is -1, and below 0 a higher loss raises CAR" in fault(negative)
    assert "reward is nan, not a finite number" in fault(write("nan.jsonl", [{**GOOD[0], "reward": float("nan")}]))
    others = write("others.jsonl", [{**row, "question": f"Why {i}?"} for i, row in enumerate(GOOD)])
    assert "good.jsonl, others.jsonl: share no question" in fault(good, others)
    copy = write("copy.jsonl", GOOD)
    assert "copy.jsonl: has the same content as good.jsonl; give each teacher once" in fault(good, copy)
    rewarded = write("rewarded.jsonl", [{**row, "reward": 1} for row in BAD])
    assert "rewarded.jsonl line 1: has a `reward`, and others have none" in fault(good, rewarded)
    Path("o.csv").write_text("teacher,score\ngood,1\n")
    assert "1 teacher only, and a rank correlation needs 3" in fault(good, "--outcomes", "o.csv")
    assert "--outcome and --teacher: name columns of" in fault(good, "--outcome", "score")
    assert "--beta: nan is not a finite number" in fault(good, "--beta", "nan")
    assert "--dataset wiki: has texts to continue" in fault(good, "--dataset", "wiki")
    assert "--by: goes with --table" in fault(good, "--by", "x")
    assert "dataset 'nothing': not known" in fault(good, "--dataset", "nothing")
    assert "give --student MODEL, or --table" in refused(cli("teachers", good))
    assert "give a FILE.jsonl for each teacher" in refused(cli("teachers", "--student", "nano"))
    assert "--table: is instead of files" in refused(cli("teachers", good, "--table", "o.csv"))
    assert "1 teacher only" in refused(cli("teachers", "--table", "o.csv"))


def test_the_options_are_those_of_the_analysis() -> None:
    defaults = {each.name: each.default for each in teachers_command.params}
    request = TeachersRequest([], Overrides())
    for option, default in {
        "beta": request.beta,
        "rewards": request.rewards,
        "highest_rank": request.highest_rank,
        "resamples": request.sampling.resamples,
        "seed": request.sampling.seed,
    }.items():
        assert defaults[option] == default
