from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.config.prompt import Prompt
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.templates import REDACTED, SUFFIXES, question_text
from markov_cot.utils.errors import UserError
from tests.dataset_problems import problems

COT = [40, 41, 42, 43]
PAPER = Prompt(preset="paper")
PROBLEMS = {
    "numeric": Problem("n", "What is 12+35?", "47", "numeric"),
    "choice": Problem("c", "Which is largest?", "B", "choice", choices=("7", "9", "8"), passage="Three numbers."),
    "continuation": Problem("w", "", "sat on the mat.", "continuation", passage="The cat"),
}
DATASETS = problems()
ANSWERS = ("7", "70", "1234567", "-3.5")
TOKENIZERS = (
    "gpt2",
    "mistral-instruct-v0.2",
    "phi-3-mini-instruct",
    "qwen2.5-instruct",
    "qwen3-instruct",
    "tinyllama-chat",
)
WANT_BOS = ("mistral-instruct-v0.2", "tinyllama-chat")
texts = st.text(min_size=1, max_size=60)


@pytest.fixture(params=["plain", "chat"])
def either_tokenizer(request: pytest.FixtureRequest, tokenizer: Any, chat_tokenizer: Any) -> Any:
    return tokenizer if request.param == "plain" else chat_tokenizer


@pytest.fixture(scope="session", params=TOKENIZERS)
def real_tokenizer(request: pytest.FixtureRequest) -> Any:
    folder = Path(os.environ.get("MARKOV_COT_DATA", "/nonexistent")) / "tokenizers" / request.param
    if not folder.is_dir():
        pytest.skip(f"MARKOV_COT_DATA has no tokenizers/{request.param}")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def read(tokenizer: Any, ids: Any) -> str:
    return tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


# --- what a context says


def test_question_text_holds_passage_question_and_lettered_choices() -> None:
    assert question_text(PROBLEMS["choice"]) == "Three numbers.\nWhich is largest?\nA) 7\nB) 9\nC) 8"
    assert question_text(PROBLEMS["continuation"]) == "The cat"


@pytest.mark.parametrize("kind", PROBLEMS)
def test_plain_contexts_word_for_word(tokenizer: Any, kind: str) -> None:
    problem, prompts = PROBLEMS[kind], Prompts(tokenizer)
    assert read(tokenizer, prompts.question_context(problem)) == f"<s>Question: {question_text(problem)}\nReasoning:"
    context = prompts.answer_context(problem, [])
    assert read(tokenizer, context.ids) == f"<s>Question: [redacted]\nReasoning:{SUFFIXES[problem.kind]}"
    assert read(tokenizer, context.answer_ids) == f" {problem.answer}\n"


def test_chat_contexts_prefill_the_assistants_turn(chat_tokenizer: Any) -> None:
    prompts = Prompts(chat_tokenizer, PAPER)
    shown = read(chat_tokenizer, prompts.question_context(PROBLEMS["numeric"]))
    assert shown.startswith("<s><user>\nWhat is 12+35?\n\nWrite down")
    assert shown.endswith("</user>\n<assistant>\nReasoning:")
    redacted = read(chat_tokenizer, prompts.answer_context(PROBLEMS["numeric"], []).ids)
    assert redacted.startswith("<s><user>\n[redacted]\n\nWrite down")
    assert redacted.endswith("<assistant>\nReasoning:\nAnswer:")


def test_a_chat_template_can_be_left_unused(tokenizer: Any, chat_tokenizer: Any) -> None:
    problem = PROBLEMS["choice"]
    assert Prompts(chat_tokenizer, Prompt(chat=False)).question_context(problem) == Prompts(tokenizer).question_context(
        problem
    )


@pytest.mark.parametrize("kind", PROBLEMS)
def test_the_cots_ids_are_spliced_in_as_they_are(either_tokenizer: Any, kind: str) -> None:
    prompts = Prompts(either_tokenizer, PAPER)
    # Ids that no text would be encoded as, a special one among them.
    cot = [511, 3, 1, 200, 511]
    without = prompts.answer_context(PROBLEMS[kind], []).ids
    suffix = len(either_tokenizer(SUFFIXES[kind], add_special_tokens=False).input_ids)  # type: ignore[index]
    assert prompts.answer_context(PROBLEMS[kind], cot).ids == (*without[:-suffix], *cot, *without[-suffix:])


def test_another_answer_can_be_asked_for(tokenizer: Any) -> None:
    context = Prompts(tokenizer).answer_context(PROBLEMS["numeric"], COT, "-3")
    assert read(tokenizer, context.answer_ids) == " -3\n"


# --- the Markovian property


@pytest.mark.parametrize("original", DATASETS.values(), ids=DATASETS)
@given(question=texts, passage=texts, choices=st.lists(texts, min_size=3, max_size=5), rationale=texts)
def test_nothing_of_the_problem_reaches_the_answer_context(
    tokenizer: Any,
    chat_tokenizer: Any,
    original: Problem,
    question: str,
    passage: str,
    choices: list[str],
    rationale: str,
) -> None:
    other = Problem("other", question, original.answer, original.kind, tuple(choices), passage, "group", rationale)
    for some in (tokenizer, chat_tokenizer):
        prompts = Prompts(some)
        assert prompts.answer_context(other, COT) == prompts.answer_context(original, COT)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_the_non_markovian_answer_context_shows_the_question(either_tokenizer: Any, kind: str) -> None:
    problem, prompts = PROBLEMS[kind], Prompts(either_tokenizer, Prompt(markovian=False, preset="paper"))
    text = read(either_tokenizer, prompts.answer_context(problem, []).ids)
    assert question_text(problem) in text and REDACTED not in text
    markovian = Prompts(either_tokenizer, PAPER).answer_context(problem, [])
    assert prompts.answer_context(problem, []).answer_ids == markovian.answer_ids


@given(answer=texts)
def test_an_answer_of_any_text_round_trips(tokenizer: Any, answer: str) -> None:
    context = Prompts(tokenizer).answer_context(PROBLEMS["numeric"], [], answer)
    assert read(tokenizer, context.answer_ids) == f" {answer}\n"


# --- tokenizers


@pytest.mark.parametrize("written", [False, True])
def test_one_bos_whether_or_not_the_template_writes_it(chat_tokenizer: Any, written: bool) -> None:
    tokenizer = copy.deepcopy(chat_tokenizer)
    if not written:
        tokenizer.chat_template = tokenizer.chat_template.removeprefix("{{ bos_token }}")
    ids = Prompts(tokenizer).question_context(PROBLEMS["numeric"])
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1


def test_a_bos_of_the_template_and_one_of_the_tokenizer_are_one(chat_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(chat_tokenizer)
    expected = Prompts(tokenizer).question_context(PROBLEMS["numeric"])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    assert Prompts(tokenizer).question_context(PROBLEMS["numeric"]) == expected
    assert expected.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("chat", [True, False])
def test_no_context_holds_an_id_without_an_embedding(tokenizer: Any, chat: bool) -> None:
    """Tokens were added to the tokenizer, and the model was not resized."""
    added = copy.deepcopy(tokenizer)
    size = len(added)
    added.add_special_tokens({"extra_special_tokens": ["<|turn|>"]})
    added.chat_template = "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}{% endfor %}"
    prompts = Prompts(added, Prompt(chat=chat, preset="paper"), vocabulary=size)
    if chat:
        with pytest.raises(
            UserError, match=rf"'<\|turn\|>' has the id {size}, .* {size} tokens only.*prompt.chat=false"
        ):
            prompts.question_context(PROBLEMS["numeric"])
        return
    plain = Prompts(tokenizer).question_context(PROBLEMS["numeric"])
    assert prompts.question_context(PROBLEMS["numeric"]) == plain
    written = Problem("n", "Write <|turn|>.", "47", "numeric")
    with pytest.raises(UserError, match=r"resize_token_embeddings\(len\(tokenizer\)\) and save the model$"):
        prompts.question_context(written)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("kind", PROBLEMS)
def test_real_tokenizers_contexts(real_tokenizer: Any, kind: str, chat: bool) -> None:
    problem, prompts = PROBLEMS[kind], Prompts(real_tokenizer, Prompt(chat=chat, preset="paper"))
    context = prompts.answer_context(problem, [])
    for ids in (prompts.question_context(problem), list(context.ids)):
        if Path(real_tokenizer.name_or_path).name in WANT_BOS:
            assert ids[0] == real_tokenizer.bos_token_id and ids.count(real_tokenizer.bos_token_id) == 1
        elif real_tokenizer.bos_token_id is not None:
            assert real_tokenizer.bos_token_id not in ids
    asked = read(real_tokenizer, prompts.question_context(problem))
    assert question_text(problem) in asked and asked.endswith("Reasoning:") and REDACTED not in asked
    redacted = read(real_tokenizer, context.ids)
    assert redacted.endswith(f"Reasoning:{SUFFIXES[problem.kind]}") and REDACTED in redacted
    for secret in (problem.question, problem.passage):
        assert not secret or secret not in redacted
    assert prompts.chat == (chat and bool(real_tokenizer.chat_template))


def test_real_tokenizers_chat_prompt_is_their_own_template(real_tokenizer: Any) -> None:
    problem, prompts = PROBLEMS["numeric"], Prompts(real_tokenizer, PAPER)
    if not real_tokenizer.chat_template:
        assert not prompts.chat
        return
    opened = real_tokenizer.apply_chat_template(
        [{"role": "user", "content": "QUESTION"}], tokenize=False, add_generation_prompt=True
    )
    head = opened[: opened.index("QUESTION")].strip()
    text = read(real_tokenizer, prompts.question_context(problem))
    assert "".join(head.split()) in "".join(text.split())
    # The assistant's turn is open: no end-of-turn token follows the pre-filled text.
    assert prompts.question_context(problem)[-1] not in real_tokenizer.all_special_ids


@pytest.mark.parametrize("answer", ANSWERS)
def test_real_tokenizers_digits_round_trip(real_tokenizer: Any, answer: str) -> None:
    prompts = Prompts(real_tokenizer, PAPER)
    answer_ids = prompts.answer_context(PROBLEMS["numeric"], [], answer).answer_ids
    assert read(real_tokenizer, (*_suffix(prompts), *answer_ids)) == f"\nAnswer: {answer}\n"


def test_real_tokenizers_no_answer_is_a_prefix_of_another(real_tokenizer: Any) -> None:
    prompts = Prompts(real_tokenizer, PAPER)
    seven, seventy = (prompts.answer_context(PROBLEMS["numeric"], [], a).answer_ids for a in ("7", "70"))
    assert seventy[: len(seven)] != seven
    assert "\n" in read(real_tokenizer, seven[-1:])


def test_real_tokenizers_spliced_context_reads_as_one_text(real_tokenizer: Any) -> None:
    prompts = Prompts(real_tokenizer, PAPER)
    cot = real_tokenizer("x 12+35=47\nSo 47.", add_special_tokens=False).input_ids
    cot = cot[len(real_tokenizer("x", add_special_tokens=False).input_ids) :]
    context = prompts.answer_context(PROBLEMS["numeric"], cot)
    text = read(real_tokenizer, (*context.ids, *context.answer_ids))
    assert text.endswith("Reasoning: 12+35=47\nSo 47.\nAnswer: 47\n")


def _suffix(prompts: Prompts) -> tuple[int, ...]:
    """What follows a CoT that occurs nowhere else in the context."""
    ids, cot = prompts.answer_context(PROBLEMS["numeric"], [9] * 8).ids, (9,) * 8
    start = next(i for i in range(len(ids)) if ids[i : i + 8] == cot)
    return ids[start + 8 :]
