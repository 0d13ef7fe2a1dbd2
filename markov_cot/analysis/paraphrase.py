"""CoTs in the words of another model, which does not see the question."""

from __future__ import annotations

from collections.abc import Sequence

from markov_cot.config.prompt import Prompt
from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.models.memory import TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import CRITIC
from markov_cot.rewards.reader_models import load_model
from markov_cot.rollouts.sampler import Sampler
from markov_cot.utils.errors import UserError

REQUEST = "Say the following in other words. Keep every fact, name and number, and add nothing.\n\n{question}"
PLAIN = "A text:\n{question}\n\nThe same text in other words:\n"
ROOM = 1.5
"""Times the tokens of a text that its paraphrase may have."""
LEAST_ROOM = 16
"""Tokens."""
TOKENS = 16384
"""Most tokens at once."""


class Paraphraser:
    """A chat model, or a base model that continues a plain prompt, decoded greedily."""

    def __init__(self, name: str, config: Config, policy: Policy) -> None:
        """Load the model, beside the one that is probed. Raises `UserError` when it cannot be had."""
        try:
            loaded = load_model(name, config, policy)
        except UserError as error:
            raise UserError(f"--paraphraser: {error}") from None
        self.about = loaded.about
        self._policy = loaded.policy
        self._tokenizer = loaded.policy.tokenizer
        asks = Prompt(question=REQUEST if self._tokenizer.chat_template else PLAIN, cot_prefix="")
        self._prompts = Prompts(self._tokenizer, asks, vocabulary=self._policy.vocabulary)
        self._sampler = Sampler(self._policy, TokenBudgets(TOKENS))

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return each text in other words, beginning with white space where the text does."""
        asked = [Problem("", text.strip(), answer="", kind="text") for text in texts]
        contexts = [self._prompts.question_context(each) for each in asked]
        rooms = [max(LEAST_ROOM, int(ROOM * len(self._encode(text)))) for text in texts]
        most = max(rooms)
        if (longest := max(map(len, contexts)) + most) > self._policy.max_length:
            raise UserError(
                f"--paraphraser: a CoT, the request and {most} tokens of paraphrase are {longest} tokens, and its "
                f"context has {self._policy.max_length}; use another model, or lower rollout.length"
            )
        written = self._sampler.greedy_texts(contexts, CRITIC, most)
        return [
            text[: len(text) - len(text.lstrip())] + self._cut(other, room)
            for text, other, room in zip(texts, written, rooms, strict=True)
        ]

    def _cut(self, text: str, room: int) -> str:
        """A paraphrase of so many tokens at most; what continues a plain prompt ends at a blank line."""
        whole = text.strip() if self._prompts.chat else text.strip().split("\n\n")[0]
        cut: str = self._tokenizer.decode(self._encode(whole)[:room])
        return cut.strip()

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids
