"""The benchmark harness: what it counts, what it writes, and what it refuses."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from markov_cot.cli.main import main
from tests.command_fixtures import SMALL
from tests.other_models import write_other

FOLDER = Path(__file__).parents[2] / "benchmarks"
P, G, L, PROMPT = 1, 2, 3, 4


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """The scripts as modules. They import one another by plain names, as they do when they are run."""
    names = ("measure", "roofline", "random_llama", "runner", "workload", "critic_reward")
    names += ("bench_step", "compare_trl", "bench_scaling", "bench_gpu", "bench_eval", "wordings")
    names += ("load_bearing",)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        modules = {name: __import__(name) for name in names}
        yield argparse.Namespace(**modules)
    for name in names:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def work(scripts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder of nano with prompts of 40 tokens."""
    folder: Path = tmp_path_factory.mktemp("work")
    scripts.workload.write("nano", folder, 40, 30, "float32")
    return folder


@pytest.fixture
def small(scripts: Any) -> Any:
    """A model small enough to count by hand.

    Linear maps: q 4x4, k and v 4x2 (one of two heads), o 4x4, gate and up 4x6, down 6x4: 16+8+8+16+24+24+24 = 120
    weights. Head 4x10 = 40.
    """
    return scripts.roofline.Model(hidden=4, layers=1, intermediate=6, heads=2, kv_heads=1, vocabulary=10, head_dim=2)


def test_weights_of_a_small_model(small: Any) -> None:
    assert small.layer_weights == 120
    assert small.head_weights == 40
    # Rank 8: 8 * ((4+4) + (4+2) + (4+2) + (4+4) + (4+6) + (4+6) + (6+4)) = 8 * 58
    assert small.adapter_weights == 464
    # Keys and values of one head of two numbers.
    assert small.cache_values == 4


def test_attention_counts_what_comes_before(small: Any) -> None:
    # Tokens 3 and 4 see 3 and 4 tokens: 7 pairs, of 2 products x 2 operations x 2 heads x 2 numbers = 16.
    assert small.attention(3, 4) == 7 * 16
    assert small.attention(1, 4) == small.attention(1, 2) + small.attention(3, 4)
    assert small.attention(5, 4) == 0


def test_operations_of_a_step(scripts: Any, small: Any) -> None:
    shape = scripts.roofline.Shape(P, G, L, PROMPT, redacted=2, tail=3, answer=2)
    phases = scripts.roofline.phases(small, shape, size=4)
    # Prompt: 4 tokens x 120 weights x 2 = 960; attention 1+2+3+4 = 10 pairs x 16 = 160; one row of logits 40 x 2 = 80.
    assert phases["prompt"].flops == 960 + 160 + 80
    assert phases["prompt"].bytes == 4 * (120 + 40)
    # Decode: 2 samples x 2 forwards x (120 + 40) x 2 = 1280; attention of tokens 5 and 6: 2 x 11 pairs x 16 = 352.
    assert phases["decode"].flops == 1280 + 352
    # 2 forwards read 160 weights each. Cache: the prompt's 4 tokens twice, and 1 + 2 own tokens of 2 samples, 4 values.
    assert phases["decode"].bytes == 4 * (2 * 160 + (8 + 6) * 4)
    # Reference: 4 + 2 x 2 tokens x 240 = 1920; attention 160 + 352; logits at 2 x 3 positions x 80 = 480.
    assert phases["reference"].flops == 1920 + 512 + 480
    # Reward: prompt 2, then 2 samples of 3 + 3 - 1 = 5 tokens: 12 tokens x 240 = 2880; attention 3 pairs, and tokens
    # 3 to 7: 2 x 25 pairs, 53 x 16 = 848; logits at 2 x 2 positions x 80 = 320.
    assert phases["reward"].flops == 2880 + 848 + 320
    # Update: twice linear and logits, three times attention, and the adapter's 3 products of 8 tokens x 464 x 2.
    assert phases["forward and backward"].flops == 2 * (1920 + 480) + 3 * 512 + 3 * 8 * 464 * 2


def test_a_phase_takes_as_long_as_the_slower_of_arithmetic_and_memory(scripts: Any) -> None:
    phase = scripts.roofline.Phase(flops=100, bytes=30)
    assert phase.seconds(50.0, 30.0) == 2.0
    assert phase.seconds(200.0, 10.0) == 3.0


def test_size_of_the_compared_model(scripts: Any) -> None:
    # Two embeddings of 32,000 x 512; 8 layers of 2 x 512^2 + 2 x 512 x 256 + 3 x 512 x 1408 + 2 x 512; the last norm.
    expected = 2 * 32_000 * 512 + 8 * (2 * 512**2 + 2 * 512 * 256 + 3 * 512 * 1408 + 2 * 512) + 512
    shape = scripts.random_llama.config("56m")
    assert expected == 56_369_664
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        assert sum(p.numel() for p in LlamaForCausalLM(shape).parameters()) == expected


def test_tokenizer_has_exactly_the_vocabulary(scripts: Any) -> None:
    tokenizer = scripts.random_llama.build_tokenizer(32_000)
    assert len(tokenizer) == 32_000
    text = "Question: 12+3?\nReasoning: and abcd żółć"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    with pytest.raises(ValueError, match="vocabulary 100"):
        scripts.random_llama.build_tokenizer(100)


def test_rows_hold_both_contexts(work: Path) -> None:
    from markov_cot.config.schema import Model
    from markov_cot.data.problem import Problem
    from markov_cot.data.prompts import Prompts
    from markov_cot.models.loading import load_tokenizer

    prompts = Prompts(load_tokenizer(Model(name=str(work / "model"))))
    rows = [json.loads(line) for line in (work / "problems.jsonl").read_text().splitlines()]
    assert len({row["question"] for row in rows}) == 30
    for row in rows:
        problem = Problem("", row["question"], row["answer"], "numeric")
        context = prompts.answer_context(problem, [7, 8])
        assert row["prompt_ids"] == prompts.question_context(problem)
        assert len(row["prompt_ids"]) == 40
        assert (*row["redacted_ids"], 7, 8, *row["suffix_ids"]) == context.ids
        assert tuple(row["answer_ids"]) == context.answer_ids


def test_prompts_too_short_for_a_sum_are_refused(scripts: Any, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        scripts.workload.write_problems(work / "model", work / "short.jsonl", 5, 1)
    assert stopped.value.code == 2
    assert "--prompt 5" in capsys.readouterr().err


def test_a_step_is_reported_as_json(
    scripts: Any, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--work", str(work), "--samples", "3", "--length", "8", "--steps", "1"]
    monkeypatch.setattr(sys, "argv", ["bench_step.py", *options])
    scripts.bench_step.main()
    report = json.loads(capsys.readouterr().out)
    assert report["side"] == "markov-cot"
    assert len(report["seconds"]) == 1
    assert report["median"] == report["seconds"][0]
    assert 0 < report["phases"]["collect"] + report["phases"]["update"] <= report["median"]
    assert report["peak_above_weights"] > 0
    assert report["prompt_tokens"] == [40, 40]
    assert report["work"]["samples"] == 3
    assert report["grad_norm"] > 0


def test_every_wording_is_measured(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    articles = [
        {"title": f"t{i}", "paragraphs": [{"context": f"It is {i} in Rome.", "qas": [
            {"question": "Where?", "id": f"{i}", "answers": [{"text": "Rome", "answer_start": 0}]}]}]}
        for i in range(10)
    ]  # fmt: skip
    (tmp_path / "xquad").mkdir()
    (tmp_path / "xquad" / "xquad.en.json").write_text(json.dumps({"data": articles}))
    monkeypatch.setenv("MARKOV_COT_DATA", str(tmp_path))
    model, out = write_other(tmp_path / "model", places=1024, chat=True), tmp_path / "out.json"
    options = ["--model", str(model), "--dataset", "xquad", "--n", "2", "--length", "4", "--dtype", "float32"]
    monkeypatch.setattr(sys, "argv", ["wordings.py", *options, "--out", str(out)])
    scripts.wordings.main()
    found = json.loads(out.read_text())["xquad"]
    assert found["n"] == 2
    assert list(found["readers"]) == list(scripts.wordings.READERS)
    assert list(found["actors"]) == list(scripts.wordings.QUESTIONS)
    assert all(0 <= row["ceiling"] <= 1 and row["logprob"] < 0 for row in found["readers"].values())
    assert capsys.readouterr().out.count("| paper | ") == 2


def test_both_modes_are_trained_and_compared(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [option.removeprefix("--set=") for option in SMALL if option.startswith("--set=")]
    monkeypatch.setattr(
        sys,
        "argv",
        ["load_bearing.py", "--out", str(tmp_path), "--seeds", "3", "--n", "4", "--set", "steps=1", *settings],
    )
    called: list[list[str]] = []

    def in_this_process(command: list[str], cwd: Path, **_: Any) -> Any:
        """What the commands do, without three starts of Python."""
        called.append(command)
        monkeypatch.chdir(cwd)
        with pytest.raises(SystemExit) as stopped:
            main(command[3:])
        assert stopped.value.code == 0
        return SimpleNamespace(stdout=capsys.readouterr().out)

    monkeypatch.setattr(scripts.load_bearing, "subprocess", SimpleNamespace(run=in_this_process, PIPE=-1))
    scripts.load_bearing.main()
    assert [command[:4] for command in called] == [
        [sys.executable, "-m", "markov_cot", name] for name in ("train", "train", "probe")
    ]
    out = capsys.readouterr().out
    assert out.count("| 3 | markovian |") == out.count("| 3 | non-markovian |") == 1
    assert "| delete | 3 | " in out and "| empty | 3 | " in out
    found = json.loads((tmp_path / "load_bearing.json").read_text())["3"]
    assert found["markovian"] is True and found["against"]["markovian"] is False and found["n"] == 4


def test_what_the_reader_of_a_report_sees_when_its_process_fails(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('the reason')")
    with pytest.raises(SystemExit) as stopped:
        scripts.runner.run(sys.executable, script, [])
    assert stopped.value.code == 2
    assert "the reason" in capsys.readouterr().err


def test_reward_given_to_trl_is_ours(scripts: Any, work: Path, make_policy: Any) -> None:
    from markov_cot.data.problem import Problem
    from markov_cot.data.prompts import Prompts
    from markov_cot.models.logprobs import score_answers

    policy = make_policy()
    prompts = Prompts(policy.tokenizer)
    # Answers of different lengths, so that the shorter ones are padded.
    problems = [Problem("", "1+1?", "2", "numeric"), Problem("", "99+99+1?", "199", "numeric")]
    cots = [[10, 20, 30], [40, 50, 60]]
    rows = [scripts.workload._row(prompts, problem) for problem in problems]
    reward = scripts.critic_reward.CriticReward(length=3)
    reward.model = policy.model
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    contexts = [prompts.answer_context(problem, cot) for problem, cot in zip(problems, cots, strict=True)]
    expected = score_answers(policy, contexts, "critic", "mean")
    assert reward(completion_ids=cots, **columns) == pytest.approx(expected.tolist(), abs=1e-5)
    with pytest.raises(SystemExit):
        reward(completion_ids=[[10, 20, 30], [40, 50]], **columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--work", "/nowhere"), "--work /nowhere: holds no model/"),
        (("--samples", "1"), "--samples 1: a group needs at least 2"),
        (("--steps", "0"), "must be at least 1, got 0"),
    ],
)
def test_bad_options_end_with_code_2(
    scripts: Any, work: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    scripts.measure.work_arguments(parser)
    with pytest.raises(SystemExit) as stopped:
        scripts.measure.work_of(parser.parse_args(["--work", str(work), *options]))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def reports(**changes: Any) -> dict[str, list[dict[str, Any]]]:
    common = {"work": {"samples": 2}, "prompt_tokens": [9, 9], "threads": 1}
    ours = common | {"side": "markov-cot", "seconds": [1.0, 2.0, 3.0], "peak_above_weights": 2**29, "cpu_seconds": 1.5}
    newest = common | {"side": "TRL 2", "seconds": [8.0, 9.0], "peak_above_weights": 2**31} | changes
    return {"ours": [ours, ours | {"seconds": [2.5]}], "newest": [newest]}


def test_table_of_a_comparison(scripts: Any) -> None:
    # Ours: median of 1, 2, 2.5, 3 = 2.25; TRL's 8.5 is 3.78 times that. Memory 0.5 of 2 GiB.
    ours, newest = scripts.compare_trl.table(reports()).splitlines()[2:]
    assert ours == "| markov-cot | 2.250 | 1.000 to 3.000 | 1.00 | 0.50 | 0.25 |"
    assert newest == "| TRL 2 | 8.500 | 8.000 to 9.000 | 3.78 | 2.00 | 1.00 |"


def test_utilisation_shows_what_other_processes_took(scripts: Any) -> None:
    # 3 steps and 1 step of 1.5 s of processor time in 6 + 2.5 s of one thread.
    assert scripts.compare_trl.utilisation(reports()["ours"]) == pytest.approx(6 / 8.5)


@pytest.mark.parametrize("change", [{"work": {"samples": 3}}, {"prompt_tokens": [9, 10]}, {"threads": 2}])
def test_unequal_work_is_not_compared(scripts: Any, change: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    scripts.compare_trl.check_same(reports())
    with pytest.raises(SystemExit):
        scripts.compare_trl.check_same(reports(**change))
    assert f"{next(iter(change))} is not the same" in capsys.readouterr().err


def test_growth_with_samples(scripts: Any, tmp_path: Path) -> None:
    scaling = scripts.bench_scaling
    chosen = list(scaling.points([4, 64], [50], [150, 600]))
    assert [(p.axis, p.samples, p.length, p.prompt) for p in chosen] == [
        ("G", 4, 50, 600),
        ("G", 64, 50, 600),
        ("L", 12, 50, 150),
        ("prompt", 12, 50, 150),
        ("prompt", 12, 50, 600),
    ]
    figures = [(p, {"median": float(p.samples) ** 0.5, "peak_above_weights": 2**30}) for p in chosen]
    # The square roots of 64 and 4: 8 / 2.
    assert scaling.growth(figures) == "Prompt 600, L 50: a step at G 64 costs 4.00 times one at G 4."
    scaling.plot(figures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_share_of_the_bandwidth_limit(scripts: Any, small: Any) -> None:
    work = {"problems": 1, "samples": 2, "length": 10, "dtype": "bfloat16"}
    report = {"work": work, "phases": {"rollouts (within collect)": 4.0}}
    # 20 tokens in 4 s. A forward reads 160 weights of 2 bytes: at 3200 bytes/s 10 forwards a second, 20 tokens.
    assert scripts.bench_gpu.bandwidth_share(report, small, 3200.0) == (5.0, 0.25)


def test_a_missing_gpu_is_said_and_ends_with_code_2(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu: ModuleType = scripts.bench_gpu
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", "--scratch", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    assert stopped.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_is_for_a_gpu_is_rehearsed(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    start = subprocess.run

    def starting_fewer(command: list[str], cwd: Path | None = None, **options: Any) -> Any:
        """Starts Python for pytest and for one script; another script and a training run are called."""
        if command[0] != sys.executable:  # platform asks the system what its processor is
            return start(command, cwd=cwd, **options)
        if command[1] == str(scripts.runner.OURS):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "argv", command[1:])
                capsys.readouterr()
                scripts.bench_step.main()
            return SimpleNamespace(returncode=0, stdout=capsys.readouterr().out, stderr="")
        if command[1:3] == ["-m", "markov_cot"]:
            with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
                patch.chdir(cwd or ".")
                main(command[3:])
            return SimpleNamespace(returncode=stopped.value.code, stderr="")
        started.append(command[1:3])
        return start(command, cwd=cwd, **options)

    started: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", starting_fewer)
    options = ["--scratch", str(tmp_path / "s"), "--device", "cpu", "--tiny", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", *options])
    scripts.bench_gpu.main()
    assert [command[0] for command in started] == ["-m", str(scripts.runner.PATHS)]
    found = json.loads(report.read_text())
    assert (found["device"], list(found["parts"])) == ("CPU", list(scripts.bench_gpu.PARTS))
    tests, paths, step, gain = found["parts"].values()
    assert tests["failures"] == tests["errors"] == 0 and tests["tests"] >= tests["skipped"] > 5
    for each in paths["dtypes"].values():
        assert {"fused", "shared cache", "cache", "even", "whole"} <= each["decoders"].keys() and not each["ruled_out"]
    exact = paths["dtypes"]["float32"]["decoders"].values()
    assert all(row["largest_difference"] < 1e-4 for row in exact)
    assert step["ours"]["median"] > 0 and step["trl"] is None and 0 < step["share_of_bandwidth"] < 1
    assert gain["model"] == "nano" and gain["base"]["n"] == gain["trained"]["n"] == 4


def test_a_part_that_fails_leaves_the_others(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scripts.bench_gpu, "GPU_TESTS", "tests/nothing.py")
    monkeypatch.setattr(scripts.bench_gpu.Bench, "paths", lambda self: {"dtypes": {}})
    options = ["--scratch", str(tmp_path / "s"), "--device", "cpu", "--only", "tests", "--only", "paths"]
    monkeypatch.setattr(sys, "argv", ["bench_gpu.py", *options, "--only", "gain"])
    scripts.bench_gpu.main()
    out, err = capsys.readouterr()
    assert "tests: failed, see above." in out and "gain: failed, see above." in out
    assert "gain: needs a real model's folder; give it with --real" in err


def test_an_evaluation_without_a_cot(scripts: Any, work: Path, tmp_path: Path) -> None:
    bench = scripts.bench_eval
    choices, questions = tmp_path / "choices.txt", tmp_path / "questions.jsonl"
    choices.write_text("".join(f"What is {i}+1?\n2\n7\nit is 8\n{i + 1}\nnothing\n" for i in range(5)))
    questions.write_text("".join(json.dumps({"question": f"What is {i}+1?"}) + "\n" for i in range(5)))
    options = ["--model", str(work / "model"), "--items", "5", "--tokens", "40"]
    args = bench.arguments(["--data", str(choices), *options])
    items = bench.read_items("choice", choices, 5)
    assert items[3] == {"context": "What is 3+1?", "label": 2, "endings": ["7", "it is 8", "4", "nothing"]}
    found = bench.measure_ours(args, items)
    whole = bench.measure_ours(bench.arguments(["--data", str(choices), *options[:4]]), items)
    assert bench.compare("choice", found, whole)[1], "the batches do not matter"
    found["sums"][0][0] += 0.01
    assert not bench.compare("choice", found, whole)[1]
    args = bench.arguments(["--kind", "generate", "--data", str(questions), *options])
    texts = bench.measure_ours(args, bench.read_items("generate", questions, 5))["texts"]
    assert len(texts) == 5 and any(texts)
    rows = bench.table({"ours": [whole], "harness": [whole | {"seconds": 2.5}]}, 5).splitlines()
    assert rows[-1].startswith("| harness | 2.00 | 2.00 to 2.00 | acc ")


def test_accuracies_by_hand(scripts: Any) -> None:
    items = [{"label": 0, "endings": ["ab", "abcdef"]}, {"label": 1, "endings": ["ab", "abcdef"]}]
    # -2/2 and -3/6 a character: the longer ending wins by length, the shorter one by the sum.
    assert scripts.bench_eval.accuracies(items, [[-2.0, -3.0], [-2.0, -3.0]]) == {"acc": 0.5, "acc_norm": 0.5}
