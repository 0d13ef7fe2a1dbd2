"""One problem of every dataset, read from a row of the dataset's own format."""

from __future__ import annotations

from typing import Any

from markov_cot.config.schema import Data
from markov_cot.data import jsonl
from markov_cot.data.catalog import BENCHMARKS
from markov_cot.data.dataset import RowContext
from markov_cot.data.generated import KINDS
from markov_cot.data.problem import Problem
from markov_cot.data.registry import load
from tests.pattern_tokenizer import PatternTokenizer

ROWS: dict[str, Any] = {
    "gsm8k": {"question": "Ann sold 48 clips, then half as many. How many?", "answer": "48/2=<<48/2=24>>24\n#### 72"},
    "svamp": {"ID": "c-1", "Body": "A pack costs 76 dollars.", "Question": "What are two packs?", "Answer": 152.0},
    "aqua": {"question": "90 km in 2 hours. Its speed?", "options": ["A)30", "B)45", "C)50", "D)60", "E)none"],
             "rationale": "90/2 = 45", "correct": "B"},
    "arc": {"id": "M1", "question": {"stem": "Which melts?", "choices": [
        {"text": "ice", "label": "1"}, {"text": "sand", "label": "2"}, {"text": "wood", "label": "3"}]},
        "answerKey": "1"},
    "mmlu": ["Which bone is the longest?", "femur", "tibia", "ulna", "radius", "A"],
    "mathqa": {"Problem": "how many ways are there ?", "Rationale": "5 * 5 = 25", "correct": "c",
               "options": "a ) 24 , b ) 120 , c ) 625 , d ) 720 , e ) 1024"},
    "hellaswag": {"activity_label": "Waving", "ctx_a": "A man lifts his hand.", "ctx_b": "he", "label": "2",
                  "endings": ["drinks it.", "is a boat.", "waves it.", "cooks it."]},
    "squad": {"title": "Ada", "paragraphs": [{"context": "Ada wrote it in 1843.", "qas": [
        {"id": "s-1", "question": "When?", "answers": [{"text": "1843"}, {"text": "in 1843"}]}]}]},
    "xquad": {"title": "Paris", "paragraphs": [{"context": "The tower is in Paris.", "qas": [
        {"id": "x-1", "question": "Where is the tower?", "answers": [{"text": "Paris", "answer_start": 16}]}]}]},
    "preference": {"id": 1, "model_a": "m", "model_b": "n", "prompt": '["Say hi.", "Again?"]',
                   "response_a": '["Hi.", "Hi again."]', "response_b": '["Good day.", "No."]',
                   "winner_model_a": "1", "winner_model_b": "0", "winner_tie": "0"},
    "wiki": "= Cats =\n\n" + " ".join(f"word{i}" for i in range(30)),
}  # fmt: skip
OWN = {"question": "Which is red?", "choices": ["leaf", "rose"], "answer": "rose", "passage": "A garden in May."}
SETTINGS = Data(context_tokens=10, target_tokens=5)


def _place(file: str) -> RowContext:
    return RowContext("test", 1, file, (), SETTINGS, PatternTokenizer(r"\s*\S+"))


def problems() -> dict[str, Problem]:
    """By the dataset's name; that of a file of one's own is "jsonl"."""
    published = {name: bench.original(ROWS[name], _place(f"{name}_test.csv"))[0] for name, bench in BENCHMARKS.items()}
    generated = {name: load(Data(dataset=name)).test[0] for name in KINDS}
    return {**published, **generated, "jsonl": jsonl.from_row(OWN, _place("own.jsonl"))}
