"""A tokenizer's chat template, with the assistant's turn opened by text of ours, whatever form the template wants.

Templates disagree about what they take: content as text or as a list of typed parts, a system turn first or none, a
last turn of the assistant's or of the user's only. The first form is used whose rendering really holds the user's
text and ends in the assistant's; where none does, the template's fault is the user's to know.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from markov_cot.utils.errors import UserError
from markov_cot.utils.text import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

DEFAULT = "default"
SYSTEM = "You are a helpful assistant."
"""Only for templates that refuse or lose a chat without a system turn."""
REMEDY = "use another tokenizer or template, or plain prompts with --set prompt.chat=false"
# Some templates (Llama 3.2) print today's date unless given one; prompts must not change overnight.
_DATE = "01 Jan 2025"
# What templates escape, split or evaluate, if they do.
_PROBE = 'Is 2 < 3 & "4" > 1?\nA) {{ 7 }}\nB) it\'s é'
_PROBE_PREFIX = "Reasoning:"
# Variants of these names wrap the chat in tools or documents.
_SPECIAL_PURPOSE = ("tool", "rag", "function")
_DROPPED = "continue_final_message is set"


class _Fault(ValueError):
    """What is wrong with a rendering, as the end of a sentence about the template."""


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to hand the chat to a template."""

    system: bool
    """A system turn comes first."""
    opened: bool
    """The template opens the assistant's turn and our text is appended; else that is a turn it continues."""
    parts: bool
    """Content is a list of typed parts."""

    def message(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if self.parts else text}


# The plainest form first, so that templates which take several are used as most libraries use them.
_FORMS = tuple(_Form(*flags) for flags in itertools.product((False, True), repeat=3))


@dataclass(frozen=True, slots=True)
class Chat:
    """What is said before the assistant's turn is continued."""

    user: str
    prefix: str
    """What the assistant's turn begins with; may be empty."""
    system: str = ""
    """Empty for no system turn of ours."""
    examples: tuple[tuple[str, str], ...] = ()
    """Earlier turns of the user and the assistant."""


class ChatTemplate:
    """Renders a user's turn and the beginning of the assistant's."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Finds the form that fits. Raises `UserError`, which names the template's fault, when none does."""
        self._tokenizer = tokenizer
        self._template, self._form = self._find()
        if self._form.system:
            logger.warning("%s: its chat template wants a system turn; it gets %r", self._name, SYSTEM)

    @property
    def _name(self) -> str:
        return f"tokenizer {self._tokenizer.name_or_path}"

    def render(self, chat: Chat) -> str:
        """Return the chat as text. Raises `UserError` when the template does something else to it."""
        # An empty turn is one that some templates leave out.
        prefix = chat.prefix or _PROBE_PREFIX
        try:
            text = self._render(self._template, self._form, replace(chat, prefix=prefix))
            return text if chat.prefix else text.removesuffix(prefix)
        except _Fault as fault:
            raise UserError(f"{self._name}: its chat template {fault}; {REMEDY}") from None

    def _find(self) -> tuple[str, _Form]:
        template = self._tokenizer.chat_template
        if not isinstance(template, Mapping):
            return template, self._find_form(template)
        if DEFAULT in template:
            return template[DEFAULT], self._find_form(template[DEFAULT])
        names = [name for name in template if not any(word in name.lower() for word in _SPECIAL_PURPOSE)]
        for name in names or (list(template) if len(template) == 1 else []):
            form = self._find_form(template[name])
            logger.warning(
                "%s: of its chat templates (%s) none is the default; %s is used", self._name, ", ".join(template), name
            )
            return template[name], form
        raise UserError(f"{self._name}: of its chat templates ({', '.join(template)}) none is the default; {REMEDY}")

    def _find_form(self, template: str) -> _Form:
        faults: list[str] = []
        for form in _FORMS:
            try:
                self._render(template, form, Chat(_PROBE, _PROBE_PREFIX))
                if not form.system:
                    self._check_place(template, form)
            except _Fault as fault:
                faults.append(str(fault))
            else:
                return form
        # Of the two plainest forms; the others' are mostly consequences.
        prefilled, alone = (faults[_FORMS.index(_Form(False, opened, False))] for opened in (False, True))
        wrong = prefilled if alone == prefilled else f"{prefilled}, and with the user's turn alone {alone}"
        raise UserError(f"{self._name}: its chat template {wrong}; {REMEDY}")

    def _check_place(self, template: str, form: _Form) -> None:
        """Whether a template takes the first turn for the system's, whatever its role.

        It then writes our user's text where it would write a system turn's, and something else after it.
        """
        user = form.message("user", _PROBE)
        try:
            text = self._apply(template, [user])
            longer = self._apply(template, [form.message("system", SYSTEM), user])
        except _Fault:
            return
        before, _, after = text.partition(_PROBE)
        if longer.partition(SYSTEM)[0] == before and longer.rpartition(_PROBE)[2] != after:
            raise _Fault("takes the user's turn for the system's")

    def _render(self, template: str, form: _Form, chat: Chat) -> str:
        system = chat.system or (SYSTEM if form.system else "")
        turns = [form.message("system", system)] if system else []
        for user, assistant in chat.examples:
            turns += [form.message("user", user), form.message("assistant", assistant)]
        turns.append(form.message("user", chat.user))
        if form.opened:
            text = self._apply(template, turns, add_generation_prompt=True)
            if text == self._apply(template, turns):
                self._check_opened(text, chat.user)
            text += chat.prefix
        else:
            turns.append(form.message("assistant", chat.prefix))
            text = self._apply(template, turns, continue_final_message=True)
        self._check_whole(text, chat)
        return text

    def _check_whole(self, text: str, chat: Chat) -> None:
        """Whether all that is said stands in the chat, and the assistant's turn goes on at its end."""
        said = _squeeze(text.removesuffix(chat.prefix))
        if _squeeze(chat.user) not in said:
            raise _Fault("changes the user's text or leaves it out")
        if _squeeze(chat.system) not in said:
            raise _Fault("leaves out the system turn; put prompt.system into prompt.question and prompt.answer")
        if any(_squeeze(each) not in said for example in chat.examples for each in example):
            raise _Fault("leaves out earlier turns, and with them prompt.examples")
        if not text.endswith(chat.prefix):
            raise _Fault("does not end in the assistant's pre-filled text")

    def _check_opened(self, text: str, content: str) -> None:
        """Whether a template without a generation prompt says anything after the user's text that opens a turn."""
        tail = _squeeze(text).rpartition(_squeeze(content))[2]
        eos = self._tokenizer.eos_token
        if not tail or (eos and tail.endswith(_squeeze(eos))):
            raise _Fault("opens no turn for the assistant")

    def _apply(self, template: str, turns: list[dict[str, Any]], **options: bool) -> str:
        import jinja2

        try:
            text: str = self._tokenizer.apply_chat_template(
                turns, chat_template=template, tokenize=False, date_string=_DATE, **options
            )
        except (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if str(error).startswith(_DROPPED):
                raise _Fault("leaves out the assistant's pre-filled turn") from None
            raise _Fault(f"fails ({first_line(error)})") from None
        return text


def _squeeze(text: str) -> str:
    """`text` without whitespace, which many templates trim."""
    return "".join(text.split())
