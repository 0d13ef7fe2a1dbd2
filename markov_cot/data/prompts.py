"""The two contexts a model ever sees, and the only place that builds them.

* The *question context* ends where the actor starts to write its chain of thought (CoT).
* The *answer context* is what the answer is read from: a prompt, the CoT's token ids as they were sampled, and the
  answer's suffix. In Markovian mode its prompt is made from the problem's kind alone, so nothing of the question,
  its choices or its passage can leak into it.

Both are token ids. Text is encoded here once; a sampled CoT is never decoded and encoded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markov_cot.data.chat_template import ChatTemplate
from markov_cot.data.problem import Problem
from markov_cot.data.token_spans import encode_with_spans
from markov_cot.grading.kinds import LETTERS, Kind
from markov_cot.utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REDACTED = "[redacted]"
PLAIN_QUESTION = "Question: {question}\n"
PLAIN_PREFIX = "Reasoning:"

INSTRUCTIONS: dict[Kind, str] = {
    "numeric": "Write down the steps that lead to the answer, then the answer. "
    "Whoever answers will read your reasoning, not the question.",
    "choice": "Write down the reasoning that leads to the right choice, then its letter. "
    "Whoever answers will read your reasoning, not the question or its choices.",
    "continuation": "Write notes from which the text that follows this passage can be predicted. "
    "Whoever predicts it will read your notes, not the passage.",
}
SUFFIXES: dict[Kind, str] = {"numeric": "\nAnswer:", "choice": "\nAnswer:", "continuation": "\nContinuation:"}

# Encoded in front of a suffix and cut off again, so that tokenizers which treat the start of a text specially
# (SentencePiece adds a space) encode the suffix as they would in the middle of one. A letter never merges with "\n".
_ANCHOR = "x"


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """Token ids an answer is scored or generated from."""

    ids: tuple[int, ...]
    """Prompt, CoT and suffix: everything before the answer's first token."""
    answer_ids: tuple[int, ...]
    """The answer and, as a rule, the newline that ends it."""
    prompt_length: int = 0
    """How many of `ids` come before the CoT, and so are the same for CoTs of one problem, or of all; 0 if unknown."""


def question_text(problem: Problem) -> str:
    """Passage, question and lettered choices as one text."""
    lines = [part for part in (problem.passage, problem.question) if part]
    lines += [f"{label}) {text}" for label, text in zip(LETTERS, problem.choices, strict=False)]
    return "\n".join(lines)


def answer_suffix(problem: Problem) -> str:
    """The text between a CoT and the answer."""
    return SUFFIXES[problem.kind]


class Prompts:
    """Builds both contexts for one tokenizer.

    Uses the tokenizer's chat template, with the assistant's turn pre-filled, when it has one and `chat` allows it;
    plain text otherwise. Exactly one BOS is written where the tokenizer wants one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        markovian: bool = True,
        chat: bool = True,
        vocabulary: int | None = None,
    ) -> None:
        """Raises `UserError` for a chat template that cannot be used.

        Args:
            vocabulary: how many ids the model has embeddings for, where that is known; no others are ever returned.
        """
        self.tokenizer = tokenizer
        self.markovian = markovian
        self._template = ChatTemplate(tokenizer, PLAIN_PREFIX) if chat and tokenizer.chat_template else None
        self._vocabulary = vocabulary
        probe = tokenizer(_ANCHOR).input_ids
        self._wants_bos = tokenizer.bos_token_id is not None and probe[:1] == [tokenizer.bos_token_id]

    @property
    def chat(self) -> bool:
        """Whether the chat template is used."""
        return self._template is not None

    def question_context(self, problem: Problem) -> list[int]:
        """Ids the actor reads; its CoT comes next."""
        return self._prompt(question_text(problem), problem.kind)

    def answer_context(
        self, problem: Problem, cot_ids: Sequence[int], answer: str | None = None, *, newline: bool = True
    ) -> AnswerContext:
        """Ids the answerer reads after `cot_ids`, and the ids of `answer` (the true one by default).

        Without `newline` the answer may go on, as where lm-evaluation-harness scores the text of a choice.
        """
        shown = REDACTED if self.markovian else question_text(problem)
        written = (problem.answer if answer is None else answer) + "\n" * newline
        suffix, answer_ids = self._suffix_and_answer(problem.kind, written)
        prompt = self._prompt(shown, problem.kind)
        return AnswerContext((*prompt, *cot_ids, *suffix), tuple(answer_ids), len(prompt))

    def decode(self, cots: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of CoTs, for people and for rewards; contexts are built from their ids."""
        texts: list[str] = self.tokenizer.batch_decode(cots)
        return texts

    def _prompt(self, shown: str, kind: Kind) -> list[int]:
        if self._template:
            text = self._template.render(f"{shown}\n\n{INSTRUCTIONS[kind]}")
        else:
            text = PLAIN_QUESTION.format(question=shown) + PLAIN_PREFIX
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return self._checked(self._with_one_bos(ids))

    def _with_one_bos(self, ids: list[int]) -> list[int]:
        """Some templates write a BOS, some tokenizers add one, and some do both."""
        bos = self.tokenizer.bos_token_id
        start = next((i for i, token in enumerate(ids) if token != bos), len(ids))
        return [bos] * (start > 0 or self._wants_bos) + ids[start:]

    def _suffix_and_answer(self, kind: Kind, answer: str) -> tuple[list[int], list[int]]:
        head = _ANCHOR + SUFFIXES[kind]
        suffix: list[int] = []
        answer_ids: list[int] = []
        for token, (start, end) in zip(*encode_with_spans(self.tokenizer, f"{head} {answer}"), strict=True):
            if start < len(_ANCHOR) < end:
                raise UserError(
                    f"tokenizer {self.tokenizer.name_or_path}: merges a letter with the line after it, so an answer "
                    "cannot be told from its context; use another tokenizer"
                )
            if end > len(head):
                answer_ids.append(token)
            elif end > len(_ANCHOR):
                suffix.append(token)
        return self._checked(suffix), self._checked(answer_ids)

    def _checked(self, ids: list[int]) -> list[int]:
        """`ids`, all of which the model has embeddings for. Raises `UserError` otherwise."""
        if self._vocabulary is not None and ids and (unknown := max(ids)) >= self._vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(unknown)
            remedy = "call model.resize_token_embeddings(len(tokenizer)) and save the model"
            if self._template and token in self._template.render(""):
                remedy += ", or leave the chat template out with --set prompt.chat=false"
            raise UserError(
                f"tokenizer {self.tokenizer.name_or_path}: its token {token!r} has the id {unknown}, and the model has "
                f"embeddings for {self._vocabulary} tokens only; {remedy}"
            )
        return ids
