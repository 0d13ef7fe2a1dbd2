"""What of a response is its answer: not the reasoning before it, and not the next question that a model runs on to."""

from __future__ import annotations

import re

_NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|scratchpad|analysis|rationale|planning|cot"
    r"|(?:inner|internal)_(?:monologue|thoughts?)|antthinking|seed:think"
)
_TAG = re.compile(
    rf"""
    <\|? (?: (?P<close>/) | (?P<begin>begin|start)_of_ | (?P<end>end)_of_ )? (?:{_NAMES}) (?:\s[^<>]{{0,60}})? \|?>
    | \[ (?P<square_close>/)? THINK(?:ING)? \] | ◁ (?P<odd_close>/)? think ▷
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CHANNEL = re.compile(r"<\|channel\|>\s{0,2}(\w{1,20})[^<]{0,40}<\|message\|>")
_STOPS = ("<|im_end|>", "<|im_start|>user", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "</s>")
# Begins with a set of characters, to which the engine skips ahead.
_NEXT_HINT = re.compile(r"[QPEHUIqpehui](?i:uestion|roblem|xercise|uman|ser|nstruction|(?<=\bq))\b[^:\n]{0,12}:")
_NEXT = re.compile(
    r"""
    (?: \n | (?<=[.!?])\s | (?<=[.!?]["')*])\s )  [\s>*_\#-]{0,12}
    (?: (?:next|new|another) \s )? (?: question | q | problem | exercise | human | user | instruction )
    (?: \s{0,2} \#? [0-9]{1,4} )? [*_]{0,2} \s? :
    """,
    re.VERBOSE | re.IGNORECASE,
)


def visible(text: str) -> str:
    """`text` without reasoning in tags; "" where a block of it never ends, since no answer was reached.

    Blocks may hold blocks. A closing tag with no opening one ends reasoning that the prompt began.

    >>> visible("<think>5 or 7?</think> It is 7."), visible("so 7.</think>7"), visible("<think>It is 7.")
    (' It is 7.', '7', '')
    """
    if "<|channel|>" in text:
        return _final_channel(text)
    if "<" not in text and "[" not in text and "◁" not in text:
        return text
    kept: list[str] = []
    depth = start = 0
    for tag in _TAG.finditer(text):
        if tag["close"] or tag["end"] or tag["square_close"] or tag["odd_close"]:
            if depth <= 1:
                kept, start = (kept if depth else []), tag.end()
            depth = max(0, depth - 1)
        else:
            if depth == 0:
                kept.append(text[start : tag.start()])
            depth += 1
    return "" if depth else "".join([*kept, text[start:]])


def before_next_turn(text: str) -> str:
    """`text` up to a mark by which a chat template ends the model's turn."""
    if "<" not in text:
        return text
    ends = [at for stop in _STOPS if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def next_question(text: str) -> int | None:
    """Where a new "Question:" begins on its own line, or after a sentence; the one that `text` begins with is not new.

    >>> next_question("Question: 2+2? 4"), next_question("18\\n\\nQuestion 2: What"), next_question("no question")
    (None, 2, None)
    """
    if ":" not in text or not _NEXT_HINT.search(text):
        return None
    for match in _NEXT.finditer(text):
        if text[: match.start()].strip():
            return match.start()
    return None


def _final_channel(text: str) -> str:
    """The last "final" message of a response in channels; "" where there is none."""
    messages = [match for match in _CHANNEL.finditer(text) if match[1].lower() == "final"]
    if not messages:
        return ""
    return re.split(r"<\|(?:return|end|start)\|>", text[messages[-1].end() :], maxsplit=1)[0]
