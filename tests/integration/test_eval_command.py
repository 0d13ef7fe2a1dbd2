"""`markov-cot eval` as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from markov_cot.checkpoints.manifest import read_manifest
from markov_cot.evaluation.locate import default_name, locate, runs_by_age
from markov_cot.utils.errors import UserError

Cli = Callable[..., tuple[int, str, str]]
"""(arguments) -> exit code, stdout, stderr."""
RESULTS = Path("runs/r/eval")


def samples(folder: Path = RESULTS, name: str = "arithmetic") -> bytes:
    return (folder / f"samples_{name}.jsonl").read_bytes()


def test_a_checkpoint_against_its_base(workplace: Path, cli: Cli) -> None:
    code, out, err = cli("eval", "--limit", "8", "--seed", "1", "--checkpoint", "latest")
    assert code == 0
    assert "latest is " in err
    for expected in ("8 of 2,000 items", "[95 %]", "difference", "base", "flexible-extract", "Only 8 items"):
        assert expected in out, expected
    document = json.loads(next(RESULTS.glob("results_*.json")).read_text())
    own = document["markov_cot"]["arithmetic"]
    assert (own["n"], own["total"], own["against"]["checkpoint"]) == (8, 2000, "base")
    assert set(own["against"]["paired"]["exact_match,anchor"]) == {"n", "difference", "low", "high", "p_value"}
    assert document["configs"]["arithmetic"]["length"] == 12, "the run's own, not the recipe's"
    rows = [json.loads(line) for line in samples().splitlines()]
    assert len(rows) == 8 * 5
    assert [row["doc_id"] for row in rows[::5]] == sorted({row["doc_id"] for row in rows})


def test_the_same_seed_gives_the_same_file(workplace: Path, cli: Cli) -> None:
    command = ("eval", "--limit", "6", "--samples", "2", "--checkpoint", "adapter_4", "--against", "none")
    for folder, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert cli(*command, "--seed", seed, "--out", folder)[0] == 0
    assert samples(Path("a")) == samples(Path("b")) != samples(Path("c"))


def test_what_was_computed_is_kept(workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from markov_cot.evaluation.runner import Runner

    command = ("eval", "--limit", "5", "--json", "--batch", "2")
    first = json.loads(cli(*command)[1])
    before = samples()
    monkeypatch.setattr(Runner, "records", lambda *_: pytest.fail("was computed already"))
    again = json.loads(cli(*command)[1])
    assert again["results"] == first["results"]
    assert samples() == before


def test_json_is_one_document_and_the_results_file(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("eval", "--checkpoint", "base", "--run", "r", "--limit", "4", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(next(RESULTS.glob("results_*.json")).read_text())
    assert "against" not in json.loads(out)["markov_cot"]["arithmetic"]


def test_choices_continue_to_be_scored_by_likelihood(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("eval", "--dataset", "choices.jsonl", "--split", "validation", "--json", "--against", "none")
    results = json.loads(out)["results"]["choices_validation"]
    assert code == 0
    assert {"acc,none", "acc_norm,none", "acc_stderr,none", "acc,letter", "exact_match,word-boundary"} <= set(results)


def test_two_checkpoints_of_a_run(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("eval", "--checkpoint", "latest", "--against", "adapter_2", "--limit", "4", "--json")
    own = json.loads(out)["markov_cot"]["arithmetic"]
    assert code == 0
    assert own["against"]["checkpoint"] == "adapter_2"
    assert own["against"]["paired"]["answer_logprob,none"]["difference"] != 0


def test_the_base_of_no_run(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("eval", "--checkpoint", "base", "--limit", "2", "--json", "--set", "rollout.length=5")
    document = json.loads(out)
    assert code == 0
    assert document["configs"]["arithmetic"]["length"] == 5
    assert document["configs"]["arithmetic"]["data"]["terms"] == [4, 4], "the quickstart's"
    assert list(Path("runs/base-nano/eval").glob("results_*.json"))


def test_a_plain_peft_folder(workplace: Path, cli: Cli) -> None:
    plain = Path("elsewhere")
    plain.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(Path("checkpoints/r/adapter_4") / name, plain)
    options = ("--against", "none", "--limit", "4", "--json", "--set", "rollout.length=12", "--set", "data.terms=[2,3]")
    code, _, _ = cli("eval", "--checkpoint", "./elsewhere", "--dataset", "arithmetic", "--model", "nano", *options)
    assert code == 0
    theirs = samples(Path("runs/elsewhere/eval"))
    assert cli("eval", "--checkpoint", "adapter_4", *options)[0] == 0
    assert theirs == samples()


def test_every_checkpoint_of_a_run(workplace: Path, cli: Cli) -> None:
    code, out, _ = cli("eval", "--all-checkpoints", "--limit", "6", "--json")
    curve = json.loads(out)["datasets"]["arithmetic"]
    assert code == 0
    assert [point["step"] for point in curve["points"]] == [0, 2, 4]
    best = max(curve["points"], key=lambda point: point["score"]["mean"])
    assert curve["best"] == best["step"]
    assert any("--split validation" in note for note in curve["notes"])
    assert (RESULTS / "accuracy_arithmetic.png").read_bytes().startswith(b"\x89PNG")
    board = EventAccumulator("runs/r").Reload()
    points = board.Scalars("eval_all/arithmetic/accuracy")
    assert [(p.step, p.value) for p in points] == [
        (p["step"], pytest.approx(p["score"]["mean"])) for p in curve["points"]
    ]
    assert {f"eval_all/arithmetic/{k}" for k in ("accuracy_low", "accuracy_high", "answer_logprob")} <= set(
        board.Tags()["scalars"]
    )
    code, out, _ = cli("eval", "--all-checkpoints", "--limit", "6")
    assert code == 0
    assert " best" in out


def test_the_best_says_by_what_it_was_chosen(workplace: Path, cli: Cli) -> None:
    """The run chooses on its validation problems, --all-checkpoints on what it evaluates: they may disagree."""
    link = Path("checkpoints/r/best")
    link.unlink(missing_ok=True)
    link.symlink_to("adapter_2")
    code, out, _ = cli("eval", "--all-checkpoints", "--limit", "6", "--json")
    curve = json.loads(out)["datasets"]["arithmetic"]
    assert code == 0
    assert curve["best_by"] == "exact_match,anchor on 6 items of the test split"
    assert (curve["run_best"], curve["run_best_by"]) == (2, "held-out score on 4 problems of the validation split")
    assert f"best here: step {curve['best']}, by {curve['best_by']}." in curve["notes"]
    own = "the run's own best (--checkpoint best): step 2, by held-out score on 4 problems of the validation split"
    assert f"{own}, while training." in curve["notes"]
    _, out, _ = cli("eval", "--all-checkpoints", "--limit", "6")
    assert own in out and " best here" in out
    link.unlink()
    _, out, _ = cli("eval", "--all-checkpoints", "--limit", "6", "--json")
    assert json.loads(out)["datasets"]["arithmetic"]["run_best"] is None


def test_the_table_says_what_each_row_is_and_which_one_counts(
    workplace: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = cli("eval", "--limit", "8", "--checkpoint", "latest")
    lines = out.splitlines()
    table = lines[: lines.index("")]
    assert code == 0
    assert max(map(len, table)) <= 80 and "…" not in out
    rows = {line.split("  ")[0]: line for line in table[-12:-1]}
    assert rows["anchor *"].endswith("what follows the last answer label, else the last number")
    assert rows["strict-match"].endswith("only what follows ####, as in lm-evaluation-harness: none here")
    assert rows["boxed"].endswith("only what stands in \\boxed{...}: none here")
    assert not rows["flexible-extract"].endswith("none here")
    assert table[-1] == "* is the one that counts; the others read the same answers by other rules"
    assert len(rows) == 11, "every row of the table has its line"


def test_every_extractor_and_metric_has_a_meaning(workplace: Path, cli: Cli) -> None:
    from markov_cot.evaluation.meanings import EXTRACTORS, meaning
    from markov_cot.grading.extractors import extractor_names

    for kind in ("numeric", "choice", "text"):
        assert [name for name in extractor_names(kind) if (kind, name) not in EXTRACTORS] == []
    command = (
        "eval",
        "--dataset",
        "choices.jsonl",
        "--split",
        "validation",
        "--limit",
        "2",
        "--samples",
        "2",
        "--json",
    )
    measures = json.loads(cli(*command)[1])["markov_cot"]["choices_validation"]["metrics"]
    assert [key for key in measures if not meaning("choice", key)] == []


def test_a_suite(workplace: Path, cli: Cli) -> None:
    Path("s.yaml").write_text("tasks:\n  - {dataset: words, limit: 3}\n  - {dataset: choices, limit: 90}\n")
    code, out, _ = cli("eval", "--suite", "s.yaml", "--limit", "2", "--checkpoint", "latest", "--json")
    assert code == 0
    assert {k: v["n"] for k, v in json.loads(out)["markov_cot"].items()} == {"words": 2, "choices": 2}


def test_too_long_problems_are_counted(workplace: Path, cli: Cli) -> None:
    rows = [{"question": "word " * (900 if i % 2 else 1) + f"What is {i}+1?", "answer": i + 1} for i in range(60)]
    Path("long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = cli("eval", "--checkpoint", "base", "--dataset", "long.jsonl", "--json", "--set", "rollout.length=4")
    own = json.loads(out)["markov_cot"]["long"]
    assert code == 0
    assert own["skipped_too_long"] > 0
    assert own["n"] + own["skipped_too_long"] == own["total"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--checkpoint", "adapter_9"],
            "adapter_9: not found in any run in checkpoints/; r has adapter_0, adapter_2, adapter_4",
        ),
        (["--checkpoint", "adapter_9", "--run", "r"], "adapter_9: not found in run r"),
        (["--checkpoint", "bset"], "did you mean best"),
        (["--checkpoint", "no/such/folder"], "no/such/folder: is no folder"),
        (["--checkpoint", "runs"], "has no adapter_config.json"),
        (["--run", "q"], "run q: has no checkpoints in checkpoints/q"),
        (["--run", "../r"], "not a plain name"),
        (["--checkpoint", "base", "--run", "q"], "there is no runs/q/config.yaml"),
        (["--checkpoint", "base", "--against", "base"], "--against base: is what is evaluated"),
        (["--checkpoint", "base", "--dataset", "gsm8k"], "MARKOV_COT_DATA"),
        (["--dataset", "gsm9k"], "did you mean gsm8k?"),
        (["--suite", "quikc"], "did you mean quick"),
        (["--suite", "quick", "--dataset", "arc"], "leave out --dataset"),
        (["--samples", "2", "--temperature", "0"], "give a --temperature above 0"),
        (["--limit", "0"], "--limit"),
        (["--all-checkpoints", "--checkpoint", "best"], "leave out --checkpoint"),
        (["--extractor", "boxd"], "did you mean boxed?"),
        (["--set", "rollout.lenght=3"], "did you mean rollout.length?"),
        (["--set", "rollout.length=1020"], "fits into the model's context of 1024 tokens"),
        (["--set", "model.device=cuda"], "no cuda device here"),
        (["--model", "nowhere"], "model nowhere: the hub is switched off (HF_HUB_OFFLINE)"),
    ],
)
def test_the_users_errors_are_one_line(workplace: Path, cli: Cli, arguments: list[str], expected: str) -> None:
    code, out, err = cli("eval", *arguments)
    assert code == 2, err
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith("markov-cot: ")
    assert expected in line


def test_without_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["--checkpoint", "adapter_1"], ["--all-checkpoints"]):
        code, _, err = cli("eval", *arguments)
        assert code == 2
        assert "there are no checkpoints in checkpoints; train first, or pass --checkpoint base" in err


def test_a_damaged_checkpoint_is_named(workplace: Path, cli: Cli) -> None:
    weights = Path("checkpoints/r/adapter_4/adapter_model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    code, _, err = cli("eval", "--checkpoint", "adapter_4")
    assert code == 2
    assert "adapter_model.safetensors is damaged" in err


def test_another_base_is_refused(workplace: Path, cli: Cli) -> None:
    folder = Path("checkpoints/r/adapter_4")
    manifest = read_manifest(folder)
    other = replace(manifest, base=manifest.base | {"fingerprint": "0" * 64})
    (folder / "manifest.json").write_bytes(other.render())
    code, _, err = cli("eval", "--checkpoint", "adapter_4")
    assert code == 2
    assert "was trained on the base nano" in err


def test_a_step_is_looked_up_in_the_newest_run_that_has_it(workplace: Path, cli: Cli) -> None:
    checkpoints = Path("checkpoints")
    shutil.copytree(checkpoints / "r", checkpoints / "newer", symlinks=True)
    shutil.rmtree(checkpoints / "newer" / "adapter_2")
    os.utime(checkpoints / "newer" / "adapter_4", (4e9, 4e9))
    assert runs_by_age(checkpoints) == ["newer", "r"]
    assert locate("adapter_4", None, checkpoints).run == "newer"
    assert locate("adapter_2", None, checkpoints).run == "r"
    assert locate("latest", None, checkpoints).run == "newer"
    assert locate("latest", "r", checkpoints).run == "r"
    assert locate("checkpoints/r/adapter_4", None, checkpoints).run == "r"
    found = locate("latest", None, checkpoints)
    assert (found.name, found.folder) == ("adapter_4", (checkpoints / "newer" / "adapter_4").resolve())
    with pytest.raises(UserError, match="adapter_2: not found in run newer"):
        locate("adapter_2", "newer", checkpoints)


def test_without_a_best_the_latest_is_the_default(workplace: Path) -> None:
    checkpoints, best = Path("checkpoints"), Path("checkpoints/r/best")
    best.unlink(missing_ok=True)
    assert default_name(None, checkpoints) == "latest"
    with pytest.raises(
        UserError, match=r"run r has none \(no validation since step 0, .*; it has adapter_0, adapter_2, "
    ):
        locate("best", None, checkpoints)
    best.symlink_to("adapter_2")
    assert default_name("r", checkpoints) == "best"
    assert locate("best", "r", checkpoints).name == "adapter_2"
