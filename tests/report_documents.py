"""What other commands leave beside a run, made by hand in the form that their writers give it."""

from __future__ import annotations

from typing import Any


def measure(mean: float, n: int = 50) -> dict[str, Any]:
    """One metric of an evaluation."""
    return {"n": n, "mean": mean, "stderr": 0.05, "low": mean - 0.1, "high": mean + 0.1, "nan": 0}


def evaluation(task: str = "arithmetic", reader: str = "base", metric: str = "exact_match,anchor") -> dict[str, Any]:
    """As `eval` writes it, with two extractors, held against the base."""
    other = f"{metric.partition(',')[0]},first"
    paired = {"n": 50, "difference": 0.25, "low": 0.125, "high": 0.375, "p_value": 0.0004}
    return {
        "configs": {task: {"checkpoint": "adapter_12", "split": "test", "readers": [{"name": reader}]}},
        "markov_cot": {
            task: {
                "n": 50,
                "primary": metric,
                "metrics": {metric: measure(0.75), other: measure(0.7), "answer_logprob,none": measure(-0.5)},
                "against": {"checkpoint": "base", "metrics": {metric: measure(0.5)}, "paired": {metric: paired}},
            }
        },
    }


def probe(test: str = "delete", question: str = "What is 1 + 1?", token: str = " two") -> dict[str, Any]:
    """As `probe` writes it, with one example of occlusion."""
    overall = {"effect": 0.61, "low": 0.5, "high": 0.7, "same_answer": 0.25, "detectable": 0.05}
    return {
        "format": 1,
        "n": 24,
        "dataset": "arithmetic",
        "run": "r",
        "checkpoint": "adapter_12",
        "reader": "base",
        "original": {"logprob": -0.4, "low": -0.5, "high": -0.3, "accuracy": 0.8125},
        "tests": {test: {"n": 24, "severities": {}, "overall": overall}},
        "occlusion": [
            {
                "item": 3,
                "question": question,
                "answer": "2",
                "tokens": ["It is", token, "."],
                "effects": [-0.1, 1.5, 0.0],
            }
        ],
        "against": None,
    }


def transfer(reader: str = "other/model") -> dict[str, Any]:
    """As `transfer` writes it."""
    series = [
        {"step": step, "n": 30, "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        for step, mean in ((0, 0.0), (12, 0.4))
    ]
    return {
        "format": 1,
        "run": "r",
        "dataset": "arithmetic",
        "n": 30,
        "steps": [0, 12],
        "readers": {reader: {"informativeness": series, "answer_logprob": series, "training": []}},
    }


def forgetting(task: str = "hellaswag") -> dict[str, Any]:
    """As `forgetting` writes it."""
    metric = {
        "paired": True,
        "n": 200,
        "counts": True,
        "higher_is_better": True,
        "is_share": True,
        "margin": 0.02,
        "before": 0.43,
        "after": 0.415,
        "difference": -0.015,
        "low": -0.04,
        "high": 0.01,
        "p": 0.3,
        "p_holm": 0.6,
        "verdict": "undecided",
    }
    of_task = {"n": 200, "metric": "acc_norm", "verdict": "undecided", "metrics": {"acc_norm": metric}}
    return {"format": 1, "n": 200, "verdict": "undecided", "tasks": {task: of_task}}


def teachers(teacher: str = "large.jsonl") -> dict[str, Any]:
    """As `teachers` writes it."""
    car = {"value": 0.21, "low": 0.19, "high": 0.23}
    return {
        "format": 1,
        "n": 20,
        "student": {"name": "nano", "fingerprint": "ab"},
        "teachers": {teacher: {"responses": 20, "car": car, "loss": car}},
    }


def stage_documents() -> dict[str, Any]:
    """A document of each stage, by its file in a run's folder."""
    return {
        "eval/results_test.json": evaluation(),
        "analysis/probe-arithmetic-adapter_12-base-0a1b.json": probe(),
        "analysis/transfer-arithmetic-other.json": transfer(),
        "analysis/forgetting-general-adapter_12.json": forgetting(),
        "analysis/teachers-0123456789ab.json": teachers(),
    }
