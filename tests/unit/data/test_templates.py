from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from markov_cot.config.base import AnswerKind
from markov_cot.config.prompt import Prompt, fields_of
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.templates import filled, question_text, templates_of
from markov_cot.utils.errors import UserError

CHOICE = Problem("c", "Which is largest?", "B", "choice", choices=("7", "9"), passage="Two numbers.")
NUMERIC = Problem("n", "What is 12+35?", "47", "numeric")
COT = [40, 41, 42]
KINDS = get_args(AnswerKind)


def read(tokenizer: Any, ids: Any) -> str:
    text: str = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return text


# --- templates as text


@pytest.mark.parametrize(
    ("template", "choice", "numeric"),
    [
        ("{problem}", "Two numbers.\nWhich is largest?\nA) 7\nB) 9", "What is 12+35?"),
        ("{passage}\n{question}\n{choices}", "Two numbers.\nWhich is largest?\nA) 7\nB) 9", "What is 12+35?"),
        ("{passage}\n\n{question}", "Two numbers.\n\nWhich is largest?", "\nWhat is 12+35?"),
        ("Text: {passage}\n{question}", "Text: Two numbers.\nWhich is largest?", "Text: \nWhat is 12+35?"),
        ("{{braces}} {question}\n", "{braces} Which is largest?\n", "{braces} What is 12+35?\n"),
    ],
)
def test_fields_are_filled_in_and_empty_lines_left_out(template: str, choice: str, numeric: str) -> None:
    assert filled(template, CHOICE) == choice
    assert filled(template, NUMERIC) == numeric


@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_what_stands_in_a_field_is_never_a_template(passage: str, question: str) -> None:
    problem = Problem("p", "{choices} {nothing} " + question, "1", "numeric", passage="{question}" + passage)
    assert filled("{passage}|{question}", problem) == f"{problem.passage}|{problem.question}"


def test_fields_of_a_template() -> None:
    assert fields_of("{{no}} {cot} and {question}") == ["cot", "question"]


# --- what is wrong with a template


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"question": "Say {questoin}"}, "question: the field {questoin} is not known; there are {problem}"),
        ({"question": "Say it"}, "question: shows nothing of the question"),
        ({"question": "{question!r}"}, "is no plain name"),
        ({"question": "{question.__class__}"}, "is no plain name"),
        ({"question": "{question:>10}"}, "is no plain name"),
        ({"question": "{0}"}, "is no plain name"),
        ({"question": "{question"}, "question: "),
        ({"question": {"numeric": "{question}", "choice": "none"}}, "question.choice: shows nothing"),
        ({"system": "{question}"}, "system: the field {question} is not known; it takes none"),
        ({"cot_prefix": "{cot}"}, "cot_prefix: the field {cot} is not known; it takes none"),
        ({"answer": "{question} {cot}"}, "answer: names {question}, which the reader must not see in Markovian mode"),
        (
            {"answer": "{cot}", "answer_prefix": "{passage}"},
            "answer_prefix: names {passage}, which the reader must not",
        ),
        ({"answer": "{cot} {cot}"}, "answer: shows {cot} 2 times"),
        ({"examples": [{"cot": "x", "answer": " "}]}, "answer: is empty"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        Prompt(**values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "times"),
    [({"answer": "Nothing."}, 0), ({"answer": "{cot}", "answer_prefix": "{cot}"}, 2), ({"answer_prefix": "So:"}, 0)],
)
def test_the_cot_has_to_be_shown_once(values: dict[str, Any], times: int) -> None:
    with pytest.raises(UserError, match=rf"^prompt\.answer: for numeric answers .* \{{cot\}} {times} times"):
        templates_of(Prompt(**values), "numeric", chat=False)


# --- defaults


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("markovian", [True, False])
@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_templates(kind: AnswerKind, chat: bool, markovian: bool, preset: str) -> None:
    settings = Prompt(preset=preset, markovian=markovian)
    found = templates_of(settings, kind, chat=chat)
    shown = set(fields_of(found.answer + found.answer_prefix)) - {"cot"}
    assert bool(shown) is not markovian
    assert fields_of(found.question)
    # As a user would write them, they pass the checks that a user's do.
    texts = ("question", "cot_prefix", "answer", "answer_prefix")
    Prompt(markovian=markovian, examples=found.examples, **{name: getattr(found, name) for name in texts})


def test_templates_for_one_kind_leave_the_others(tokenizer: Any) -> None:
    settings = Prompt(question={"choice": "Choose: {problem}"}, answer={"choice": "It says:{cot}"})
    choice, numeric = (templates_of(settings, kind, chat=False) for kind in ("choice", "numeric"))
    assert choice.question == "Choose: {problem}" and choice.answer_prefix == "The answer is:"
    assert numeric == templates_of(Prompt(), "numeric", chat=False)


# --- contexts made of them


@pytest.mark.parametrize("chat", [False, True])
def test_contexts_word_for_word(tokenizer: Any, chat_tokenizer: Any, chat: bool) -> None:
    settings = Prompt(
        system="Be brief.",
        question="Think: {question}",
        cot_prefix="Well,",
        answer="Read:{cot}.",
        answer_prefix="So:",
        examples=[{"cot": " 1+1=2", "answer": "2"}],
    )
    some = chat_tokenizer if chat else tokenizer
    prompts = Prompts(some, settings)
    asked, context = prompts.question_context(NUMERIC), prompts.answer_context(NUMERIC, COT)
    cot = read(some, COT)
    if chat:
        system = "<s><system>\nBe brief.\n</system>\n"
        assert read(some, asked) == f"{system}<user>\nThink: What is 12+35?\n</user>\n<assistant>\nWell,"
        example = "<user>\nRead: 1+1=2.\n</user>\n<assistant>\nSo: 2\n</assistant>\n"
        assert read(some, context.ids) == f"{system}{example}<user>\nRead:{cot}.\n</user>\n<assistant>\nSo:"
    else:
        assert read(some, asked) == "<s>Be brief.\n\nThink: What is 12+35?Well,"
        assert read(some, context.ids) == f"<s>Be brief.\n\nRead: 1+1=2.So: 2\n\nRead:{cot}.So:"
    assert read(some, context.answer_ids) == " 47\n"
    assert list(context.ids[context.prompt_length :][: len(COT)]) == COT


def test_the_readers_prompt_may_be_plain_where_the_actors_is_a_chat(chat_tokenizer: Any) -> None:
    prompts = Prompts(chat_tokenizer, Prompt(answer="{cot}\n", answer_prefix="Answer:", answer_chat=False))
    assert "<user>" in read(chat_tokenizer, prompts.question_context(NUMERIC))
    ids = prompts.answer_context(NUMERIC, COT).ids
    assert read(chat_tokenizer, ids) == f"<s>{read(chat_tokenizer, COT)}\nAnswer:"


def test_an_empty_prefix_leaves_the_turn_to_the_model(chat_tokenizer: Any) -> None:
    prompts = Prompts(chat_tokenizer, Prompt(question="{problem}", cot_prefix="", answer="{cot}", answer_prefix=""))
    assert read(chat_tokenizer, prompts.question_context(NUMERIC)).endswith("</user>\n<assistant>\n")
    context = prompts.answer_context(NUMERIC, COT)
    assert read(chat_tokenizer, context.answer_ids) == "47\n"


def test_without_markovian_mode_a_template_that_names_no_question_shows_it_all_the_same(tokenizer: Any) -> None:
    prompts = Prompts(tokenizer, Prompt(markovian=False, answer="Notes:{cot}\n"))
    assert read(tokenizer, prompts.answer_context(CHOICE, []).ids).startswith(f"<s>{question_text(CHOICE)}\n\nNotes:")


@pytest.mark.parametrize("cot", [" 12+35=47", " é 数字", ""])
def test_a_cot_as_text_reads_as_one_as_ids(tokenizer: Any, cot: str) -> None:
    prompts = Prompts(tokenizer)
    whole = prompts.answer_context(NUMERIC, cot)
    spliced = prompts.answer_context(NUMERIC, tokenizer(cot, add_special_tokens=False).input_ids)
    assert read(tokenizer, whole.ids) == read(tokenizer, spliced.ids)
    assert whole.answer_ids == spliced.answer_ids
