"""lm-evaluation-harness through the Markovian bottleneck: question, CoT, redaction, answer from the CoT alone.

The harness finds models in its own registry only, so either import this module before calling `simple_evaluate`, or
use it in place of the `lm_eval` command, whose arguments it takes:

    python -m markov_cot.evaluation.lm_eval --model markov-cot --model_args checkpoint=best --tasks gsm8k

Needs the extra `lm-eval`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from markov_cot.config.loading import read_assignments
from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import AnswerContext
from markov_cot.distributed.launch import read_launch
from markov_cot.evaluation.answering import answer_from_cots
from markov_cot.evaluation.loaded_model import LoadedModel, Overrides, read_source
from markov_cot.evaluation.locate import default_name, locate
from markov_cot.evaluation.records import Item
from markov_cot.evaluation.runner import GenerationConfig, Runner
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.evaluation.task import fits_models
from markov_cot.grading.kinds import Kind
from markov_cot.models.roles import CRITIC
from markov_cot.utils.errors import UserError
from markov_cot.utils.text import visible

# Tasks write these around a question; this program's prompts write their own.
_LABEL_BEFORE = re.compile(r"\A\s*(?:Question|Q):\s*")
_LABEL_AFTER = re.compile(r"\n\s*(?:Answer|A):\s*\Z")

Batch = tuple[list[str], list[Problem], list[list[int]]]
"""Contexts, each with its problem and its CoT's token ids."""


@register_model("markov-cot")
class MarkovianLM(LM):  # type: ignore[misc]
    """A checkpoint, or the base, that answers from its CoT alone.

    * `generate_until`: the request's context is the question; returns the answer, without the CoT.
    * `loglikelihood`: the same, but scores the continuation as the answer, its tokens summed, no newline.

    A context is written about once, however many continuations are scored. The CoT and the answer are greedy.
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        run: str | None = None,
        model: str | None = None,
        dataset: str | None = None,
        length: int | None = None,
        kind: Kind | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        checkpoints_dir: str = "checkpoints",
        runs_dir: str = "runs",
    ) -> None:
        """Arguments of `--model_args`; all but these are as for `markov-cot eval`.

        Args:
            dataset: whose recipe the base takes its settings from (the quickstart's by default).
            length: tokens of the CoT (by default the checkpoint's or the recipe's).
            kind: "numeric", "choice" or "continuation": which instruction and suffix the prompts use. By default
                "numeric" for generated and "choice" for scored answers.
            batch_size: CoTs in one forward; "auto" is the config's `validation.batch`.
            max_batch_size: not used; the harness passes it.
        """
        super().__init__()
        if read_launch(command="markov-cot").count > 1:
            raise UserError("markov-cot: the harness evaluates in one process; start it without torchrun or accelerate")
        settings: dict[str, Any] = {"checkpoint.checkpoints_dir": checkpoints_dir, "checkpoint.runs_dir": runs_dir}
        given = {"rollout.length": length, "model.dtype": dtype, "model.device": _device(device)}
        settings |= read_assignments(f"{key}={value}" for key, value in given.items() if value is not None)
        overrides = Overrides(model, None, settings)
        name = checkpoint or default_name(run, Path(checkpoints_dir))
        source = read_source(locate(name, run, Path(checkpoints_dir)), overrides)
        config = source.config(SuiteTask(dataset=dataset) if dataset else source.default_task())
        self._subject, self._config, self._kind = LoadedModel(source, config), config, kind
        # The harness hands over what was typed: a number as text, too, or "auto".
        self._batch = int(batch_size) if batch_size and str(batch_size).isdigit() else config.validation.batch
        readers = self._subject.readers(config)
        self._readers = readers.for_base() if source.writer == CRITIC else readers
        self._runner = Runner(
            self._subject.policy, readers, GenerationConfig(config.rollout.length, writer=source.writer)
        )

    @property
    def config(self) -> Config:
        """The settings in use."""
        return self._config

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each request's context, cut at its first stop string. Raises `UserError` for sampling."""
        for _, options in (request.args for request in requests):
            if options.get("do_sample") and options.get("temperature", 1.0) > 0:
                raise UserError("markov-cot: writes greedily; pass --gen_kwargs do_sample=False")
        answers: dict[str, str] = {}
        kind = self._kind or "numeric"
        contexts = list(dict.fromkeys(request.args[0] for request in requests))
        for part, problems, cots in self._written(contexts, kind, disable_tqdm):
            made = answer_from_cots(self._readers, problems, cots)
            answers |= {context: answer.text for context, answer in zip(part, made, strict=True)}
        return [_cut(answers[request.args[0]], request.args[1].get("until", ())) for request in requests]

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-prob in nats, whether greedy decoding would write it) of each continuation as the answer."""
        wanted: dict[str, list[str]] = {}
        for context, continuation in (request.args for request in requests):
            wanted.setdefault(context, []).append(continuation)
        scores: dict[tuple[str, str], tuple[float, bool]] = {}
        for part, problems, cots in self._written(list(wanted), self._kind or "choice", disable_tqdm):
            pairs = [(i, continuation) for i, context in enumerate(part) for continuation in wanted[context]]
            # A space is written before every answer, so the one the harness puts there is taken off.
            contexts = [self._continued(problems[i], cots[i], text) for i, text in pairs]
            made = self._readers.first.score(contexts, self._readers.budgets).summed()
            scores |= {(part[i], text): score for (i, text), score in zip(pairs, made, strict=True)}
        return [scores[request.args] for request in requests]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Not defined: whole texts leave no question to write about."""
        raise UserError(
            "markov-cot: a rolling log-likelihood has no question to write a chain of thought about; choose tasks that "
            "generate or score answers"
        )

    def _written(self, contexts: list[str], kind: Kind, quiet: bool) -> Iterator[Batch]:
        """Batches of contexts with their problems and CoTs."""
        with tqdm(total=len(contexts), desc="markov-cot", disable=quiet) as bar:
            for start in range(0, len(contexts), self._batch):
                part = contexts[start : start + self._batch]
                problems = [self._problem(context, kind) for context in part]
                cots = self._runner.write_cots([Item(start + i, problem) for i, problem in enumerate(problems)])
                yield part, problems, cots
                bar.update(len(part))

    def _continued(self, problem: Problem, cot: list[int], text: str) -> AnswerContext:
        """The context of one continuation, less the space it begins with: one is written before every answer."""
        context = self._readers.first.context(problem, cot, text.removeprefix(" "), newline=False)
        self._check(len(context.ids) + len(context.answer_ids) <= self._readers.first.policy.max_length, text)
        return context

    def _problem(self, context: str, kind: Kind) -> Problem:
        question = _LABEL_AFTER.sub("", _LABEL_BEFORE.sub("", context)).strip()
        if not question:
            raise UserError("markov-cot: a request has no context to write a chain of thought about")
        problem = Problem("request", question, answer="", kind=kind)
        fits = fits_models(self._subject.policy, self._readers, self._config.rollout.length, problem)
        self._check(fits, question)
        return problem

    def _check(self, fits: bool, text: str) -> None:
        if not fits:
            limit = self._subject.policy.max_length
            raise UserError(f"markov-cot: longer than the model's context of {limit} tokens: {text[:60]!r}")


def _device(name: str | None) -> str | None:
    """The harness names cuda:0 unless told otherwise; whether there is one is found out later."""
    return None if name is None or name.startswith("cuda") else name


def _cut(answer: str, until: Any) -> str:
    stops = [until] if isinstance(until, str) else until or ()
    for stop in filter(None, stops):
        answer = answer.split(stop, 1)[0]
    return answer


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except UserError as error:
        print(f"markov-cot: {visible(str(error))}", file=sys.stderr)
        sys.exit(2)
