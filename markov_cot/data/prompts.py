"""The two contexts a model ever sees, and the only place that builds them.

* The *question context* ends where the actor starts to write its chain of thought (CoT).
* The *answer context* is what the reader answers from: a prompt that shows the CoT's token ids as they were sampled. In
  Markovian mode all the rest of it is made from the problem's kind alone, so nothing of the question, its choices or
  its passage can leak into it.

Both are token ids. Text is encoded here once; a sampled CoT is never decoded and encoded again, unless its reader has
another tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markov_cot.config.prompt import Prompt
from markov_cot.data.chat_template import Chat, ChatTemplate
from markov_cot.data.problem import Problem
from markov_cot.data.templates import Templates, filled, templates_of
from markov_cot.data.token_spans import encode_with_spans
from markov_cot.grading.kinds import Kind
from markov_cot.utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Stands for the CoT while a template is rendered. Of letters and digits only, which no template escapes.
_PLACE = "CoT8f3a1c"
# One of them is encoded in front of what follows a CoT and cut off again, so that tokenizers which treat the start of a
# text specially (SentencePiece adds a space) encode it as they would in the middle of one.
_ANCHORS = ("x", "7", ".", "\n")


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """Token ids an answer is scored or generated from."""

    ids: tuple[int, ...]
    """Prompt, CoT and suffix: everything before the answer's first token."""
    answer_ids: tuple[int, ...]
    """The answer and, as a rule, the newline that ends it."""
    prompt_length: int = 0
    """How many of `ids` come before the CoT, and so are the same for CoTs of one problem, or of all; 0 if unknown."""


class Prompts:
    """Builds both contexts for one tokenizer, from the templates in use.

    Uses the tokenizer's chat template, with the assistant's turn pre-filled, when it has one and `settings.chat` allows
    it; plain text otherwise. Exactly one BOS is written where the tokenizer wants one.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, settings: Prompt | None = None, *, vocabulary: int | None = None
    ) -> None:
        """Raises `UserError` for a chat template that cannot be used.

        Args:
            settings: the config's; the defaults when not given.
            vocabulary: how many ids the model has embeddings for, where that is known; no others are ever returned.
        """
        self.tokenizer, self.settings = tokenizer, settings or Prompt()
        self._template = ChatTemplate(tokenizer) if self.settings.chat and tokenizer.chat_template else None
        self._vocabulary = vocabulary
        self._templates: dict[Kind, Templates] = {}
        # Of Markovian answer contexts, of which there is one for each kind.
        self._answer_texts: dict[Kind, tuple[str, str]] = {}
        self._heads: dict[str, tuple[int, ...]] = {}
        probe = tokenizer(_ANCHORS[0]).input_ids
        self._wants_bos = tokenizer.bos_token_id is not None and probe[:1] == [tokenizer.bos_token_id]

    @property
    def chat(self) -> bool:
        """Whether the chat template is used."""
        return self._template is not None

    @property
    def markovian(self) -> bool:
        """Whether the answer context hides the question."""
        return self.settings.markovian

    def templates(self, kind: Kind) -> Templates:
        """Return the templates of one kind's contexts. Raises `UserError` where they do not go together."""
        if kind not in self._templates:
            found = templates_of(self.settings, kind, chat=self.chat)
            if found.answer_chat and not self.chat:
                raise UserError(
                    f"tokenizer {self.tokenizer.name_or_path}: has no chat template, and the reader's prompt is to use "
                    "it; set prompt.answer_chat=false"
                )
            self._templates[kind] = found
        return self._templates[kind]

    # --- as text

    def question_text(self, problem: Problem) -> str:
        """What the actor reads; its CoT continues it."""
        texts = self.templates(problem.kind)
        user, prefix = filled(texts.question, problem), filled(texts.cot_prefix)
        return self._render(Chat(user, prefix, filled(texts.system)), uses_chat=self.chat)

    def answer_text(self, problem: Problem) -> tuple[str, str]:
        """What the reader reads before the CoT, and between it and the answer."""
        texts = self.templates(problem.kind)
        chat = Chat(
            user=filled(texts.answer, problem, _PLACE),
            prefix=filled(texts.answer_prefix, problem, _PLACE),
            system=filled(texts.system),
            examples=tuple(_worked(texts, example.cot, example.answer) for example in texts.examples),
        )
        before, place, after = self._render(chat, uses_chat=texts.answer_chat).rpartition(_PLACE)
        if not place:
            raise UserError(
                f"tokenizer {self.tokenizer.name_or_path}: its chat template leaves out or changes the CoT; set "
                "prompt.answer_chat=false"
            )
        return before, after

    def _render(self, chat: Chat, *, uses_chat: bool) -> str:
        if uses_chat and self._template:
            return self._template.render(chat)
        examples = "".join(f"{user}{assistant}\n\n" for user, assistant in chat.examples)
        return f"{chat.system}\n\n" * bool(chat.system) + examples + chat.user + chat.prefix

    # --- as token ids

    def question_context(self, problem: Problem) -> list[int]:
        """Ids the actor reads; its CoT comes next."""
        return self._head(self.question_text(problem))

    def answer_context(
        self, problem: Problem, cot: Sequence[int] | str, answer: str | None = None, *, newline: bool = True
    ) -> AnswerContext:
        """Return the ids the reader reads after `cot`, and those of `answer` (the first true one by default).

        A CoT given as text, by an actor of another tokenizer, is encoded together with what is around it. Without
        `newline` the answer may go on, as where lm-evaluation-harness scores the text of a choice.
        """
        before, after = self._answer_texts.get(problem.kind) or self.answer_text(problem)
        if self.markovian:
            self._answer_texts[problem.kind] = before, after
        written = (problem.answer if answer is None else answer) + "\n" * newline
        if isinstance(cot, str):
            return self._encoded(before + cot + after, written)
        suffix, answer_ids = self._suffix_and_answer(after, written)
        head = self._heads.get(before)
        if head is None:
            head = tuple(self._head(before))
            if self.markovian:
                self._heads[before] = head
        return AnswerContext((*head, *cot, *suffix), tuple(answer_ids), len(head))

    def written_cot(self, problem: Problem, cot: str, statement: str = "") -> tuple[list[int], list[int]]:
        """Return the ids of a written CoT as they continue its question context, and of what is stated after it.

        The CoT may be empty.
        """
        start = _answer_after(self.question_text(problem), cot.strip()) if cot.strip() else ""
        return self._continuation(start, lambda _: statement)

    def response_context(self, problem: Problem, response: str) -> AnswerContext:
        """Return the ids the actor reads, and those of a `response` of somebody else's, encoded together with them."""
        return self._encoded(self.question_text(problem), response)

    def opening(self) -> tuple[int, ...]:
        """Ids that the tokenizer begins every text with: its BOS, or none."""
        return tuple(self._with_one_bos([]))

    def decode(self, cots: Sequence[Sequence[int]]) -> list[str]:
        """Return the texts of CoTs, for people and for rewards; contexts are built from their ids."""
        texts: list[str] = self.tokenizer.batch_decode(cots)
        return texts

    def _head(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return self._checked(self._with_one_bos(ids))

    def _with_one_bos(self, ids: list[int]) -> list[int]:
        """Some templates write a BOS, some tokenizers add one, and some do both."""
        bos = self.tokenizer.bos_token_id
        start = next((i for i, token in enumerate(ids) if token != bos), len(ids))
        return [bos] * (start > 0 or self._wants_bos) + ids[start:]

    def _encoded(self, context: str, answer: str) -> AnswerContext:
        """Context and answer encoded as one text, cut where the answer begins."""
        encoded = encode_with_spans(self.tokenizer, context + _answer_after(context, answer))
        ids = [token for token, (_, end) in zip(*encoded, strict=True) if end <= len(context)]
        answer_ids = encoded[0][len(ids) :]
        return AnswerContext(tuple(self._checked(self._with_one_bos(ids))), tuple(self._checked(answer_ids)))

    def _suffix_and_answer(self, after: str, answer: str) -> tuple[list[int], list[int]]:
        """Ids of the text between a CoT and its answer, and of the answer."""
        return self._continuation(after, lambda head: _answer_after(head, answer))

    def _continuation(self, after: str, last: Callable[[str], str]) -> tuple[list[int], list[int]]:
        """Ids of a text as it continues another one, and of `last` of all that comes before it."""
        for anchor in _ANCHORS:
            head = anchor + after
            first_ids: list[int] = []
            last_ids: list[int] = []
            for token, (start, end) in zip(*encode_with_spans(self.tokenizer, head + last(head)), strict=True):
                if start < len(anchor) < end:
                    break
                if end > len(head):
                    last_ids.append(token)
                elif end > len(anchor):
                    first_ids.append(token)
            else:
                return self._checked(first_ids), self._checked(last_ids)
        raise UserError(
            f"tokenizer {self.tokenizer.name_or_path}: merges what continues a text ({after[:20]!r}) with whatever "
            "comes before it, so they cannot be told apart; begin it with a new line or use another tokenizer"
        )

    def _checked(self, ids: list[int]) -> list[int]:
        """`ids`, all of which the model has embeddings for. Raises `UserError` otherwise."""
        if self._vocabulary is not None and ids and (unknown := max(ids)) >= self._vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(unknown)
            remedy = "call model.resize_token_embeddings(len(tokenizer)) and save the model"
            if self._template and token in self._template.render(Chat("?", "!")):
                remedy += ", or leave the chat template out with --set prompt.chat=false"
            raise UserError(
                f"tokenizer {self.tokenizer.name_or_path}: its token {token!r} has the id {unknown}, and the model has "
                f"embeddings for {self._vocabulary} tokens only; {remedy}"
            )
        return ids


def _worked(texts: Templates, cot: str, answer: str) -> tuple[str, str]:
    """The turns of a worked example."""
    prefix = filled(texts.answer_prefix, cot=cot)
    return filled(texts.answer, cot=cot), prefix + _answer_after(prefix, answer)


def _answer_after(prefix: str, answer: str) -> str:
    """An answer as it stands in a text: after a space, unless white space or nothing comes before it."""
    return answer if not prefix or prefix[-1].isspace() else f" {answer}"
