"""Chat templates of every temper: what is rendered is checked by its text, and what cannot be used is named."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest

from markov_cot.config.prompt import Prompt
from markov_cot.data.chat_template import SYSTEM, Chat, ChatTemplate
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.templates import PLAIN_PREFIX, REDACTED
from markov_cot.utils.errors import UserError

QUESTION = 'Is 2 < 3 & "x" {{ y }}?\nA) 7\nB) é'
PROBLEM = Problem("n", QUESTION, "47", "numeric")
LOOP = "{% for m in messages %}"
PLAIN = LOOP + "[{{ m.role }}]{{ m.content }}[/{{ m.role }}]{% endfor %}"
PARTS = (
    LOOP + "[{{ m.role }}]{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}\n"
    "{% endfor %}"
)
USER_ONLY = (
    "{% if messages[-1].role != 'user' %}{{ raise_exception('the last turn must be from the user') }}{% endif %}"
    + PLAIN
)
OPENING = "{% if add_generation_prompt %}[assistant]{% endif %}"
SYSTEM_FIRST = "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}"

WORKING: dict[str, tuple[str, str]] = {
    "plain": (PLAIN, "[user]{}[/user][assistant]Reasoning:"),
    "trims white space": (PLAIN.replace("m.content", "m.content | trim"), "[user]{}[/user][assistant]Reasoning:"),
    "typed parts": (PARTS, "[user]{}[assistant]Reasoning:"),
    "refuses an assistant's turn at the end": (USER_ONLY + OPENING, "[user]{}[/user][assistant]Reasoning:"),
    "leaves an assistant's turn out": (
        "{% for m in messages if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n### Response:\n{% endfor %}",
        "### Instruction:\n{}\n\n### Response:\nReasoning:",
    ),
    "demands a system turn": (
        SYSTEM_FIRST + PLAIN,
        f"[system]{SYSTEM}[/system][user]{{}}[/user][assistant]Reasoning:",
    ),
    "takes the first turn for the system's": (
        "{{ messages[0].content }}|{% for m in messages[1:] %}[{{ m.role }}]{{ m.content }}{% endfor %}",
        f"{SYSTEM}|[user]{{}}[assistant]Reasoning:",
    ),
    "puts a system turn into the user's": (
        "[user]{% for m in messages %}{% if m.role == 'assistant' %}[/user][assistant]{% endif %}{{ m.content }}"
        "{% if m.role == 'system' %}\n\n{% endif %}{% endfor %}",
        "[user]{}[/user][assistant]Reasoning:",
    ),
    "demands a system turn and typed parts": (
        SYSTEM_FIRST + PARTS,
        f"[system]{SYSTEM}[user]{{}}[assistant]Reasoning:",
    ),
    "demands a system turn and refuses an assistant's": (
        SYSTEM_FIRST + USER_ONLY + OPENING,
        f"[system]{SYSTEM}[/system][user]{{}}[/user][assistant]Reasoning:",
    ),
}
BROKEN = {
    "raises whatever it gets": ("{{ raise_exception('not for you') }}", "fails (not for you)"),
    "opens no turn": (
        USER_ONLY.replace("[/{{ m.role }}]", ""),
        "fails (the last turn must be from the user), and with the user's turn alone opens no turn for the assistant",
    ),
    "ends the user's turn and opens no other": (
        USER_ONLY.replace("[/{{ m.role }}]", "</s>"),
        "opens no turn for the assistant",
    ),
    "leaves out the question": ("{{ messages[-1].content }}", "changes the user's text or leaves it out"),
    "escapes the question": (
        PLAIN.replace("m.content", "m.content | e"),
        "changes the user's text or leaves it out",
    ),
    "is no template": ("{% for m in messages %}", "fails (Unexpected end of template"),
    "adds text to a number": ("{{ 1 + messages[0].content }}", "fails (unsupported operand"),
    "asks for a key that is not there": ("{{ messages[0].name.first }}", "fails ("),
}


@pytest.fixture
def with_template(tokenizer: Any) -> Callable[[Any], Any]:
    def make(template: Any) -> Any:
        changed = copy.deepcopy(tokenizer)
        changed.chat_template = template
        return changed

    return make


@pytest.mark.parametrize("kind", WORKING)
def test_the_form_a_template_wants_is_found(kind: str, with_template: Callable[[Any], Any]) -> None:
    template, expected = WORKING[kind]
    assert ChatTemplate(with_template(template)).render(Chat(QUESTION, PLAIN_PREFIX)) == expected.replace(
        "{}", QUESTION
    )


@pytest.mark.parametrize("kind", WORKING)
def test_contexts_hold_what_they_should(kind: str, with_template: Callable[[Any], Any]) -> None:
    """The question where the actor reads, the CoT and not the question where the answer is read from."""
    tokenizer = with_template(WORKING[kind][0])
    prompts, cot = Prompts(tokenizer, Prompt(preset="paper")), [40, 41, 42]

    def read(ids: Any) -> str:
        text: str = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return text

    asked, answered = prompts.question_context(PROBLEM), prompts.answer_context(PROBLEM, cot)
    assert QUESTION in read(asked) and read(asked).endswith(PLAIN_PREFIX)
    assert asked[-1] not in tokenizer.all_special_ids and asked.count(tokenizer.bos_token_id) == 1
    assert list(answered.ids[answered.prompt_length :][:3]) == cot
    assert read(answered.ids).endswith(f"{PLAIN_PREFIX}{read(cot)}\nAnswer:") and REDACTED in read(answered.ids)
    assert "Is 2" not in read(answered.ids) and "A) 7" not in read(answered.ids)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_fault_is_named_with_the_way_out(kind: str, with_template: Callable[[Any], Any]) -> None:
    template, fault = BROKEN[kind]
    tokenizer = with_template(template)
    with pytest.raises(UserError) as error:
        Prompts(tokenizer)
    message = str(error.value)
    assert fault in message and message.endswith("or plain prompts with --set prompt.chat=false")
    assert "\n" not in message
    assert not Prompts(tokenizer, Prompt(chat=False)).chat


def test_a_question_that_a_template_changes_is_refused_when_it_comes(with_template: Callable[[Any], Any]) -> None:
    template = ChatTemplate(with_template(PLAIN.replace("m.content", "m.content | replace('<think>', '')")))
    assert template.render(Chat("2 < 3", "Yes:")).endswith("Yes:")
    with pytest.raises(UserError, match="changes the user's text or leaves it out"):
        template.render(Chat("What does <think> mean?", "Yes:"))


NAMED = {"tool_use": "{{ tools | length }}" + PLAIN, "chatml": PLAIN, "other": "x" + PLAIN}


def test_of_named_templates_the_default_is_used(
    with_template: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    template = ChatTemplate(with_template({**NAMED, "default": "D" + PLAIN}))
    assert template.render(Chat("Q", PLAIN_PREFIX)) == "D[user]Q[/user][assistant]Reasoning:" and not caplog.records


def test_without_a_default_the_first_for_plain_chats_is_used_and_named(
    with_template: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        template = ChatTemplate(with_template(NAMED))
    assert template.render(Chat("Q", PLAIN_PREFIX)) == "[user]Q[/user][assistant]Reasoning:"
    assert "(tool_use, chatml, other) none is the default; chatml is used" in caplog.text


def test_an_only_template_is_used_and_named_by_whatever_name(
    with_template: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ChatTemplate(with_template({"rag": PLAIN}))
    assert "rag is used" in caplog.text


def test_templates_for_tools_and_documents_alone_are_refused(with_template: Callable[[Any], Any]) -> None:
    with pytest.raises(UserError, match=r"\(tool_use, rag\) none is the default; .*prompt\.chat=false"):
        ChatTemplate(with_template({"tool_use": PLAIN, "rag": PLAIN}))


def test_a_system_turn_that_is_added_is_named(
    with_template: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ChatTemplate(with_template(SYSTEM_FIRST + PLAIN))
    assert f"wants a system turn; it gets {SYSTEM!r}" in caplog.text
