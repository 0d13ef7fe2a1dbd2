"""Files of verdicts: what is read of each format, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.judgements import CHOICES, Source, read_verdicts
from markov_cot.analysis.tally import Tally
from markov_cot.analysis.verdicts import Verdict
from markov_cot.utils.errors import UserError

Row = dict[str, Any]
V1: Row = {
    "question_id": "q1",
    "model": "m",
    "judge": "j",
    "games": [
        {"user_prompt": "?", "judgment": "so [[A>>B]]", "score": "A>>B"},
        {"user_prompt": "?", "judgment": "so [[A=B]]", "score": "A=B"},
    ],
}
V2: Row = {
    "uid": "u1",
    "category": "hard_prompt",
    "judge": "j",
    "model": "m",
    "baseline": "o3-mini",
    "games": [
        {"score": "B>A", "judgment": {"answer": "[[B>A]]"}, "prompt": []},
        {"score": None, "judgment": {"answer": "I would say [b>>a]."}, "prompt": []},
    ],
}
BATTLE: Row = {"question_id": "q1", "model_a": "x", "model_b": "m", "winner": "model_b"}
ALPACA: Row = {
    "dataset": "koala",
    "instruction": "Say hello.",
    "output_1": "Hi",
    "generator_1": "gpt4",
    "output_2": "Hello",
    "generator_2": "m",
    "annotator": "j",
    "preference": 1.75,
}


def write(path: Path, *rows: Any) -> Path:
    """As the name ends: a JSON list, a CSV file, or JSON lines."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path, **options: Any) -> tuple[list[Verdict], Source]:
    found: list[Verdict] = []
    return found, read_verdicts(path, found.append, **options)


def test_judgements_v01(tmp_path: Path) -> None:
    found, source = read(write(tmp_path / "a.jsonl", V1))
    assert found == [
        Verdict("q1", "gpt-4-0314", "m", 1.0, 3, "gpt-4-0314", judge="j"),
        Verdict("q1", "m", "gpt-4-0314", 0.5, 1, "gpt-4-0314", judge="j"),
    ]
    assert (source.format, source.rows) == ("arena-hard-v0.1", 1)
    found, _ = read(tmp_path / "a.jsonl", opponent="other", strong=1)
    assert found[0] == Verdict("q1", "other", "m", 1.0, 1, "other", judge="j")


def test_judgements_v20(tmp_path: Path) -> None:
    creative = V2 | {
        "uid": "u2",
        "category": "creative_writing",
        "baseline": "gemini",
        "games": [None, {"score": "A>>A"}],
    }
    found, source = read(write(tmp_path / "a.jsonl", V2, creative))
    assert found == [
        Verdict("u1", "o3-mini", "m", 0.0, 1, "o3-mini", "hard_prompt", "j"),
        Verdict("u1", "m", "o3-mini", 0.0, 3, "o3-mini", "hard_prompt", "j"),
        Verdict("u2", "gemini", "m", None, 1, "gemini", "creative_writing", "j"),
        Verdict("u2", "m", "gemini", None, 1, "gemini", "creative_writing", "j", "A>>A"),
    ]
    assert (source.format, source.rows) == ("arena-hard-v2.0", 2)


@pytest.mark.parametrize("row", [V1, V2])
def test_a_label_that_means_nothing_is_malformed_in_both_versions(tmp_path: Path, row: Row) -> None:
    games = [{"score": "A>>A", "judgment": "[[A>>A]]"}, {"score": None, "judgment": "no verdict"}]
    found, _ = read(write(tmp_path / "a.jsonl", row | {"games": games}))
    assert [(each.share, each.label) for each in found] == [(None, "A>>A"), (None, None)]


def test_battles(tmp_path: Path) -> None:
    rows = [BATTLE | {"winner": winner} for winner in ("model_a", "tie", "tie (bothbad)", None, "neither")]
    found, source = read(write(tmp_path / "a.jsonl", BATTLE, *rows))
    assert source.format == "arena-hard-battles"
    assert [each.share for each in found] == [0.0, 1.0, 0.5, 0.5, None, None]
    assert [each.label for each in found] == [None] * 5 + ["neither"]
    assert found[0] == Verdict("q1", "x", "m", 0.0)


def test_annotations(tmp_path: Path) -> None:
    rows = [ALPACA | {"preference": value} for value in (1, 2.0, 0, 1.5, None, 3, -1)]
    found, source = read(write(tmp_path / "annotations.json", ALPACA, *rows))
    assert source.format == "alpaca-eval"
    assert found[0] == Verdict("Say hello.", "gpt4", "m", 0.25, 1, "gpt4", "koala", "j")
    assert [each.share for each in found[1:]] == [1.0, 0.0, 0.5, 0.5, None, None, None]
    assert [each.label for each in found[5:]] == [None, "3", "-1"]
    assert read(write(tmp_path / "a.csv", ALPACA))[0] == found[:1], "as a table too"


def test_votes_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "question;model_a;model_b;winner;votes;category\n"
        "1;a;b;model_a;;x\n"
        "1;b;a;A;2;x\n\n"
        "2;a;b;b;1;y\n"
        '"3\nlong";a;b;A>>B;2;\n'
        "4;a;b;;;\n",
        encoding="utf-8-sig",
        newline="",
    )
    found, source = read(path)
    assert found == [
        Verdict("1", "a", "b", 1.0, category="x"),
        Verdict("1", "b", "a", 1.0, 2, category="x"),
        Verdict("2", "a", "b", 0.0, category="y"),
        Verdict("3\nlong", "a", "b", 1.0, 6),
        Verdict("4", "a", "b", None),
    ]
    assert (source.format, source.rows) == ("csv", 5)
    path.write_text("question,model_a,model_b,score\n1,a,b,0.25\n2,a,b,1\n3,a,b,7\n4,a,b,\n")
    assert [(each.share, each.label) for each in read(path)[0]] == [
        (0.25, None),
        (1.0, None),
        (None, "7"),
        (None, None),
    ]


def test_gzip_blank_lines_and_the_checksum(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.jsonl", BATTLE, BATTLE)
    zipped = tmp_path / "b"
    zipped.write_bytes(gzip.compress(b"\xef\xbb\xbf\n\n" + plain.read_bytes().replace(b"\n", b"\r\n\r\n")))
    assert read(zipped)[0] == read(plain)[0]
    plain.write_bytes(b"[]\n")
    with pytest.raises(UserError, match="holds no rows"):
        read(plain)
    path = write(tmp_path / "c.jsonl", BATTLE)
    path.write_text('{"question_id": 7, "model_a": "x", "model_b": "m", "winner": "tie"}')
    # sha256sum of that line, computed apart.
    assert read(path)[1].sha256 == "edfb89ff94da5213df74653af9dfeaafd25f0d78b24af73053495c708e58b427"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=1) as file:
        for i in range(200):
            games = [{"score": "A>B", "judgment": "x" * 100_000}]
            file.write(json.dumps(V1 | {"question_id": str(i), "games": games}) + "\n")
    tally = Tally()
    tracemalloc.start()
    read_verdicts(path, tally.add)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tally.questions == 200 and peak < 2_000_000, "of twenty million characters"


BROKEN: list[tuple[str, str, str]] = [
    ("empty.jsonl", "", "empty.jsonl: is empty"),
    ("blank.jsonl", "\n \n", "is empty"),
    ("header.csv", "question,model_a,model_b,winner\n", "holds no rows"),
    ("zeros", "\0\0", "not text in UTF-8"),
    ("pointer", "version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ("other.jsonl", '{"question": "q", "answer": "a"}\n', "of no known format (its fields: question, answer)"),
    ("other.csv", "a,b\n1,2\n", "of no known format (its fields: a, b)"),
    ("list.json", "[1, 2]", "row 1: not a JSON object"),
    ("broken.json", "[{", "broken.json line 1: not JSON"),
    ("broken.jsonl", "{\n", "line 1: not JSON"),
    ("second.jsonl", json.dumps(BATTLE) + "\n{]\n", "line 2: not JSON"),
    ("column.csv", "question,model_a,model_b\n1,a,b\n", "line 2: no `winner` or `score`, which csv has in every row"),
    ("columns.jsonl", '{"uid": "1", "games": []}\n', "line 1: no `model` and no `baseline`, which arena-hard-v2.0"),
    ("later.jsonl", f'{json.dumps(BATTLE)}\n{{"question_id": "q"}}\n', "line 2: no `model_a` and no `model_b` and no"),
    ("cells.csv", "question,model_a,model_b,winner\n1,a,b\n", "line 2: expected 4 cells, as in the header, got 3"),
    ("twice.csv", "question,model_a,model_a,winner\n", "the header has 'model_a' twice"),
    ("quote.csv", 'question,model_a,model_b,winner\n1,a,b,"tie\n', "not CSV"),
    ("nan.csv", "question,model_a,model_b,score\n1,a,b,nan\n", "line 2: score is nan"),
    ("nan2.csv", "question,model_a,model_b,winner\n1,a,b,NaN\n", "line 2: winner is NaN"),
    ("inf.csv", "question,model_a,model_b,score\n1,a,b,inf\n", "score is inf"),
    ("text.csv", "question,model_a,model_b,score\n1,a,b,high\n", "score 'high' is not a number"),
    ("votes.csv", "question,model_a,model_b,winner,votes\n1,a,b,tie,1.5\n", "votes '1.5' is not a whole number from 1"),
    ("name.csv", "question,model_a,model_b,winner\n1,b,a,a\n", "is the name of one model and the place of the other"),
    ("none.csv", "question,model_a,model_b,winner\n1,,b,tie\n", "line 2: model_a is empty"),
    ("nan.json", json.dumps([ALPACA | {"preference": float("nan")}]), "row 1: preference is nan"),
    ("true.json", json.dumps([ALPACA | {"preference": True}]), "preference: expected a number, got true"),
    ("one.jsonl", json.dumps(BATTLE | {"model_b": "x"}), "'x' is held against itself: with one model only there is"),
    ("own.jsonl", json.dumps(V1 | {"model": "gpt-4-0314"}), "'gpt-4-0314' is held against itself"),
    ("games.jsonl", json.dumps(V1 | {"games": []}), "games: expected a list of one or two"),
    ("game.jsonl", json.dumps(V1 | {"games": ["A>B"]}), "games: number 1: expected an object, got text"),
    ("score.jsonl", json.dumps(V1 | {"games": [{"score": 7}]}), "score 7 is not the label of a verdict"),
    ("bare.jsonl", json.dumps(V1 | {"games": [{"verdict": "A>B"}]}), "number 1 has neither `score` nor `judgment`"),
    ("winner.jsonl", json.dumps(BATTLE | {"winner": 1}), "winner: expected model_a, model_b or tie, got a number"),
]


@pytest.mark.parametrize(("name", "content", "reason"), BROKEN, ids=[name for name, *_ in BROKEN])
def test_what_is_refused(tmp_path: Path, name: str, content: str, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    with pytest.raises(UserError) as refused:
        read(path)
    assert str(refused.value).startswith(str(path))
    assert reason in str(refused.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder, not a file"):
        read(tmp_path)
    with pytest.raises(UserError, match="does not exist; give the path of a file of verdicts"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "latin.csv").write_bytes("question,model_a,model_b,winner\né,a,b,tie\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        read(tmp_path / "latin.csv")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(BATTLE).encode())[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "cut.gz")


@pytest.mark.parametrize(
    ("row", "name", "family"),
    [
        (V1, "a.jsonl", "arena-hard"),
        (V2, "a.jsonl", "arena-hard"),
        (BATTLE, "a.jsonl", "arena-hard"),
        (ALPACA, "a.json", "alpaca-eval"),
        (BATTLE, "a.csv", "csv"),
    ],
)
def test_a_format_that_is_named_is_checked(tmp_path: Path, row: Row, name: str, family: str) -> None:
    path = write(tmp_path / name, row)
    assert read(path, expected=family)[0] == read(path)[0]
    for other in set(CHOICES) - {family, "auto"}:
        with pytest.raises(UserError, match=f", not {other}; leave out --format"):
            read(path, expected=other)


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:;\n\tab1é', max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    with pytest.raises(UserError):
        read(path)
