from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.data.problem import Problem
from markov_cot.data.splits import Published, Role, Splits, assign, question_key


def problems(texts: Sequence[str], name: str = "") -> list[Problem]:
    return [Problem(f"{name}{i}", text, "1", "numeric") for i, text in enumerate(texts)]


def published(role: Role, texts: Sequence[str], label: str = "") -> Published:
    return Published(label or role, role, problems(texts, role))


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def test_published_splits_are_taken_as_they_are() -> None:
    made = assign([published("train", ["a", "b"]), published("validation", ["c"]), published("test", ["d"])])
    assert [p.question for p in made.train + made.validation + made.test] == ["a", "b", "c", "d"]
    assert made.note == ""


def test_validation_is_hashed_out_of_train() -> None:
    made = assign([published("train", numbered("q", 2000)), published("test", ["t"])])
    assert len(made.train) + len(made.validation) == 2000
    assert 0.08 < len(made.validation) / 2000 < 0.12
    assert made.note == "there is no published validation split, so 10 % of train is held out"


def test_without_a_test_split_validation_is_evaluated_on() -> None:
    made = assign([published("train", numbered("q", 50), "Train"), published("validation", ["v"], "Dev")])
    assert [p.question for p in made.test] == ["v"]
    assert made.note.startswith("no published test split was found; trains on Train, evaluates on Dev; ")


def test_without_a_training_split_the_next_is_trained_on() -> None:
    made = assign([published("validation", numbered("q", 50), "dev"), published("test", ["t"])])
    assert [p.question for p in made.test] == ["t"]
    assert made.note.startswith("no published training split was found; trains on dev, evaluates on test; ")


def test_mmlu_shapes() -> None:
    dev, val, test = (
        published("dev", numbered("d", 50)),
        published("validation", ["v"], "val"),
        published("test", ["t"]),
    )
    made = assign([dev, val])  # as in the local data
    assert made.note.startswith("no published training split was found; trains on dev, evaluates on val; ")
    assert [p.question for p in made.test] == ["v"]
    made = assign([dev, val, test])
    assert len(made.train) == 50 and [p.question for p in made.validation] == ["v"]
    made = assign([published("train", ["x"], "auxiliary_train"), dev, val, test])  # all, as on the hub
    assert [p.question for p in made.train] == ["x"] and made.note == ""


def test_a_single_split_is_hashed_three_ways() -> None:
    made = assign([published("validation", numbered("q", 3000), "dev")])
    sizes = len(made.train), len(made.validation), len(made.test)
    assert sum(sizes) == 3000
    assert abs(sizes[2] / 3000 - 0.3) < 0.03 and abs(sizes[1] / (3000 - sizes[2]) - 0.1) < 0.02
    assert "only one published split (dev) was found; 30 %" in made.note


def test_a_test_split_alone_is_never_trained_on() -> None:
    made = assign([published("test", ["a", "b", "c"])])
    assert (made.train, made.validation, len(made.test)) == ([], [], 3)
    assert "nothing to train on" in made.note


def test_more_rows_move_no_question_to_another_split() -> None:
    few, many = (assign([published("train", numbered("q", n))]) for n in (500, 1000))
    for name in ("train", "validation", "test"):
        assert {p.question for p in getattr(few, name)} <= {p.question for p in getattr(many, name)}


def test_the_smallest_data_still_has_every_split() -> None:
    for texts in itertools.combinations(numbered("q", 6), 3):
        made = assign([published("train", texts)])
        assert len(made.train) == len(made.validation) == len(made.test) == 1
    made = assign([published("train", ["a"])])
    assert (len(made.train), made.validation, made.test) == (1, [], [])


def test_a_published_split_loses_what_another_holds_out() -> None:
    made = assign(
        [
            published("train", ["a", "b", "c", "b"]),
            published("validation", ["b", "d"], "dev"),
            published("test", ["c", "d"]),
        ]
    )
    assert [p.question for p in made.train] == ["a"]
    assert [p.question for p in made.validation] == ["b"]
    assert [p.question for p in made.test] == ["c", "d"]
    assert made.note == (
        "left out of dev, because test has them too: 1 problem; "
        "left out of train, because test or dev has them too: 3 problems"
    )


ROLES: list[Role] = ["train", "dev", "validation", "test"]


@given(
    st.dictionaries(st.sampled_from(ROLES), st.lists(st.text("abc", max_size=3), min_size=1, max_size=30), min_size=1)
)
def test_no_question_is_in_two_splits_and_test_is_never_touched(texts: dict[Role, list[str]]) -> None:
    given_splits = [published(role, texts[role]) for role in ROLES if role in texts]
    made = assign(given_splits)
    keys = [set(map(question_key, split)) for split in (made.train, made.validation, made.test)]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    if "test" in texts:
        assert [p.question for p in made.test] == texts["test"]
    assert made == assign(given_splits)


def test_the_key_tells_choices_and_passages_apart() -> None:
    base = Problem("1", "q", "A", "choice", ("x", "y", "z"))
    other = Problem("1", "q", "A", "choice", ("x", "z", "y"))
    assert question_key(base) != question_key(other)
    assert question_key(base) != question_key(Problem("1", "q", "A", "choice", base.choices, passage="p"))
    assert question_key(base) == question_key(Problem("2", "q", "B", "choice", base.choices, rationale="r"))


def splits(train: list[Problem], test: list[Problem], parameters: str = "") -> Splits:
    return Splits("d", train, [], test, "here", parameters=parameters)


def test_the_fingerprint_covers_what_a_model_sees() -> None:
    one, two = problems(["a", "b"])
    base = splits([one], [two]).fingerprint()
    assert len(base) == 64 and int(base, 16) >= 0
    renamed = Problem("other", "a", "1", "numeric", rationale="worked")
    assert splits([renamed], [two]).fingerprint() == base
    assert splits([one, two], []).fingerprint() != base
    assert splits([two], [one]).fingerprint() != base
    assert splits([Problem("", "a", "2", "numeric")], [two]).fingerprint() != base


def test_the_fingerprint_of_generated_problems_covers_their_parameters() -> None:
    some = problems(numbered("q", 40))
    assert splits(some, [], "p").fingerprint() == splits(some[:20] + some[:20], [], "p").fingerprint()
    assert splits(some, [], "p").fingerprint() != splits(some, [], "r").fingerprint()
    assert splits(some, [], "p").fingerprint() != splits(some[1:], [], "p").fingerprint()


def test_splits_are_frozen() -> None:
    with pytest.raises(AttributeError):
        splits([], []).name = "x"  # type: ignore[misc]
