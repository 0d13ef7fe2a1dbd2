from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.analysis.sweep_columns import Asked, find_columns
from markov_cot.analysis.sweep_design import confounds, coverage
from markov_cot.analysis.sweep_factors import Factor, grouped, make_factor
from markov_cot.analysis.sweep_names import FORMS, parse_pattern, split_step, with_names_read
from markov_cot.analysis.sweep_rows import read_csv, where
from markov_cot.utils.errors import UserError
from tests.sweeps import SQUARE, STEPS, rows_of, table_of, write_csv


def levels(factors: tuple[Factor, ...]) -> dict[str, tuple[str, ...]]:
    return {each.name: each.levels for each in factors}


def test_columns_are_inferred() -> None:
    rows = rows_of(
        "model rank learning_rate loss_type train_loss test_accuracy seed status date",
        ("m-1", 8, "1e-4", "a", "nan", 0.5, 0, "ok", "monday"),
        ("m-2", 8, "1e-3", "b", 0.2, 0.4, 0, "ok", "sunday"),
    )
    found = find_columns(rows, Asked())
    assert (found.metric, found.run, found.step, found.seeds) == ("test_accuracy", "model", None, ("seed",))
    assert found.settings == ("rank", "learning_rate", "loss_type")
    assert found.left_out == {"train_loss": "a result", "status": "a remark", "date": "a remark"}
    assert not found.lower_is_better
    assert find_columns(rows, Asked(metric="train_loss")).lower_is_better
    assert not find_columns(rows, Asked(metric="train_loss", lower_is_better=False)).lower_is_better


def test_a_column_of_models_is_a_setting_where_it_names_no_runs() -> None:
    table = table_of("model lr score", ("m", 1, 1), ("m", 2, 2), ("n", 1, 3), ("n", 2, 5))
    assert levels(table.settings) == {"model": ("m", "n"), "lr": ("1", "2")}
    assert table.runs == ("row 1", "row 2", "row 3", "row 4")


def test_steps_in_names() -> None:
    names = [(run, i, step) for run in (1, 2) for i, step in enumerate(("final", "step9"))]
    table = table_of("name a score", *((f"r{run}-{step}", run, run + i) for run, i, step in names))
    assert table.runs == ("r1", "r2")
    assert table.step and table.step.levels == ("9", "final"), "the last one has no number, and comes last"
    assert split_step("a/checkpoint-12") == ("a", "12") and split_step("a_step_3k") == ("a", "3000")
    assert split_step("lockstep6") == ("lockstep6", "")


def test_without_names_a_run_is_its_settings_and_remarks_on_a_checkpoint_are_none() -> None:
    rows = [(lr, step, lr * step, "by eye" if step == lr else "read") for lr in (1, 2) for step in (1, 2)]
    table = table_of("lr step score how", *rows)
    assert table.runs == ("lr=1", "lr=2")
    assert table.left_out == {"how": "changes within a run"}


def test_numbers_are_one_level_however_they_are_written() -> None:
    factor = make_factor("lr", ["1e-5", "0.00001", "default", "", "1e-6", "nan"])
    assert factor.levels == ("1e-06", "1e-05", "(none)", "default", "nan")
    assert factor.codes.tolist() == [1, 1, 3, 2, 0, 4]


def test_many_numbers_are_grouped_by_runs() -> None:
    # 8 runs in quarters of two: the middle of level 3's three runs is run 3.5 of 8, in the second quarter.
    factor = grouped(make_factor("x", ["1", "2", "3", "3", "3", "6", "7", "8"]), 4)
    assert factor.levels == ("1 to 2", "3", "6", "7 to 8")
    assert factor.codes.tolist() == [0, 0, 1, 1, 1, 2, 3, 3]
    assert grouped(make_factor("x", ["1", "", "2"]), 4).levels == ("1", "2", "(none)")


@given(
    st.lists(st.integers(0, 40) | st.none(), min_size=1, max_size=40).filter(lambda x: any(v is not None for v in x))
)
def test_groups_keep_order_and_levels_together(values: list[int | None]) -> None:
    factor = make_factor("x", ["" if value is None else str(value) for value in values])
    found = grouped(factor, 4)
    group = dict(zip(values, found.codes.tolist(), strict=True))
    assert all(group[value] == code for value, code in zip(values, found.codes.tolist(), strict=True))
    numbers = sorted(value for value in group if value is not None)
    assert [group[number] for number in numbers] == sorted(group[number] for number in numbers)
    assert len(found.levels) <= 5


def test_many_steps_are_averaged() -> None:
    rows = [(f"r{run}", run, step, run * step) for run in (1, 2) for step in range(1, 41)]
    table = table_of("run a step reward", *rows)
    assert table.step and table.step.levels[:2] == ("1 to 4", "5 to 8") and table.step.levels[-1] == "37 to 40"
    assert len(table.y_N) == 20 and table.y_N[0] == 2.5 and table.y_N[-1] == 2 * 38.5
    assert table.notes == ("40 values of step are averaged in 10 groups",)


def test_repeated_rows_are_dropped_and_counted() -> None:
    columns, *rows = STEPS
    table = table_of(columns, *rows, *rows[:3])
    assert len(table.y_N) == len(rows)
    [note] = table.notes
    assert note == (
        "11 rows were read, of which 3 repeat an earlier one and are dropped (row 9, row 10, row 11): 8 are left"
    )


def test_equal_rows_without_names_may_be_runs_of_their_own() -> None:
    table = table_of("lr score", (1, 5), (1, 5), (2, 6))
    assert len(table.runs) == 2 and "where they are runs of their own, give them names or seeds" in table.notes[0]
    assert len(table_of("lr seed score", (1, 0, 5), (1, 1, 5), (2, 0, 6)).runs) == 3


def test_a_run_under_another_name_is_dropped_only_where_it_cannot_be_chance() -> None:
    columns, *rows = STEPS
    copy = [("copy", *row[1:]) for row in rows[:2]]
    table = table_of(columns, *rows, *copy)
    assert table.runs == ("r1", "r2", "r3", "r4")
    assert table.notes == ("runs that copy another one, value for value, are dropped: copy",)
    assert len(table_of("run lr score", ("a", 1, 5), ("b", 1, 5), ("c", 2, 6)).runs) == 3, "one value may be equal"
    assert len(table_of("run lr seed score", ("a", 1, 0, 5), ("b", 1, 0, 5), ("c", 2, 0, 6)).runs) == 2


def test_columns_that_say_the_same_or_less() -> None:
    rows = [(lr, f"L{lr}", "low" if lr < 3 else "high", lr * b, b) for lr in (1, 2, 3) for b in (1, 2)]
    table = table_of("lr label kind score b", *rows)
    assert levels(table.settings) == {"lr": ("1", "2", "3"), "b": ("1", "2")}
    assert table.left_out == {"label": "says the same as lr", "kind": "follows from lr"}
    assert [str(each) for each in confounds(table)] == ["lr=3 and kind=high"]
    covered = coverage(table)
    assert (covered.possible, covered.run, covered.fewest, covered.most) == (6, 6, 1, 1) and covered.is_balanced


def test_settings_that_are_not_named_are_mentioned() -> None:
    table = table_of(*SQUARE, asked=Asked(settings=("a",)))
    assert levels(table.settings) == {"a": ("0", "1")}
    assert table.notes == ("what --settings leaves out counts as chance, though it varies between runs: b",)


def test_too_many_values_are_no_setting_unless_asked_for() -> None:
    rows = [(i % 2, i, f"w{i}", i * i) for i in range(12)]
    table = table_of("a x word score", *rows)
    assert levels(table.settings) == {"a": ("0", "1")}
    assert table.left_out["x"] == "has 12 values in 12 runs; --settings takes it all the same"
    asked = table_of("a x word score", *rows, asked=Asked(settings=("a", "x")))
    assert levels(asked.settings)["x"] == ("0 to 2", "3 to 5", "6 to 8", "9 to 11")
    assert "grouped as 0 to 2, 3 to 5" in asked.notes[-1]


@pytest.mark.parametrize(
    ("rows", "asked", "message"),
    [
        (SQUARE, Asked(metric="scor"), "--metric scor: table has no such column; did you mean score?"),
        (SQUARE, Asked(settings=("c",)), "--settings c: table has no such column"),
        (SQUARE, Asked(settings=("score",)), "--settings score: is the metric"),
        (("a b", (1, "x"), (2, "y")), Asked(), "name the metric with --metric (a)"),
        (("a acc dev_acc", (1, 1, 2), (2, 3, 4)), Asked(), "acc or dev_acc could be the metric"),
        (("a score", (1, "nan"), (2, 3)), Asked(), "row 1: score is 'nan', not a finite number"),
        (("a score", (1, ""), (2, 3)), Asked(), "row 1: score is ''"),
        (("a score", (1, "1e300"), (2, 3)), Asked(), "row 1: score is '1e300', not a number that can be averaged"),
        (("a score", (1, 0.3), (2, 0.1 + 0.2)), Asked(), "score is 0.3 in every row"),
        (("a score", (1, 2)), Asked(), "has one run only"),
        (("a score", (1, 2), (2, 2)), Asked(), "score is 2 in every row"),
        (("name score", ("x", 1), ("y", 2)), Asked(), "no column is a setting that varies between runs"),
        (("a c score", (1, 4, 2), (2, 4, 3)), Asked(settings=("c",)), "--settings c: is 4 throughout"),
        (STEPS, Asked(settings=("a",), run="a"), "--settings a: is the metric, the step or the name"),
        (STEPS, Asked(run="a"), "row 3: score of 0 at step 10 is 3, and 1 in row 1; name the column"),
        (("run a step score", ("r", 1, "x", 1), ("r", 1, 2, 3), ("q", 2, 2, 4)), Asked(), "row 1: step is 'x'"),
        (("run a b step score", ("r", 1, 1, 1, 1), ("r", 2, 1, 2, 3), ("q", 3, 2, 1, 4)), Asked(settings=("a",)),
         "--settings a: changes within a run (row 2)"),
        ((" ".join("abcdefghi") + " score", *((*map(int, f"{i:09b}"), i) for i in range(1, 512, 7))), Asked(),
         "9 settings vary, too many; name up to 8 with --settings (a, b"),
    ],
)  # fmt: skip
def test_what_is_no_sweep_is_refused(rows: tuple[str, ...], asked: Asked, message: str) -> None:
    with pytest.raises(UserError) as raised:
        table_of(*rows, asked=asked)
    assert message in str(raised.value)


def test_conditions() -> None:
    rows = rows_of("lr kind score", ("1e-5", "a=b", 1), ("0.00001", "c", 2), ("", "a=b", 3))
    assert where(rows, ["lr=0.00001"]).column("score") == ["1", "2"]
    assert where(rows, ["lr!=1e-5", "kind = a=b"]).column("score") == ["3"]
    assert where(rows, ["lr="]).column("score") == ["3"]
    for text, message in (
        ("lr", "--where lr: expected COLUMN=VALUE or COLUMN!=VALUE"),
        ("kid=1", "--where kid: table has no such column; did you mean kind."),
        ("kind=d", "--where kind=d: leaves none of the 3 rows; kind is 'a=b', 'c'"),
    ):
        with pytest.raises(UserError, match=message.replace("!", ".")):
            where(rows, [text])


NAMES = ("m-rank64-alpha1e5-010", "m-rank8-alpha5e5-001", "m-rank8-default")


def test_settings_are_read_from_names() -> None:
    rows = rows_of("name score", *((name, i) for i, name in enumerate(NAMES)))
    pattern = "rank{rank}-alpha{lr:e-}-{warmup:0.}"
    read = with_names_read(rows, "name", [pattern])
    assert read.column("lr") == ["1e-5", "5e-5", ""] and read.column("warmup") == ["0.010", "0.001", ""]
    assert read.notes == (
        "1 rows' names match no pattern (m-rank8-default), so that their rank, lr, warmup are unknown; another pattern "
        "with {column=value} can say them",
    )
    both = with_names_read(rows, "name", [pattern, "rank{rank}-default{lr=2e-5}{warmup=.03}"])
    assert both.column("lr") == ["1e-5", "5e-5", "2e-5"] and both.column("rank") == ["64", "8", "8"]
    assert both.notes == ()


def test_names_and_columns_have_to_agree() -> None:
    rows = rows_of("name lr score", (NAMES[0], "0.00001", 1), (NAMES[1], "", 2))
    assert with_names_read(rows, "name", ["alpha{lr:e-}"]).column("lr") == ["0.00001", "5e-5"]
    wrong = rows_of("name lr score", (NAMES[0], "1e-4", 1))
    with pytest.raises(UserError, match="row 1: its name says lr 1e-5, its column 1e-4"):
        with_names_read(wrong, "name", ["alpha{lr:e-}"])
    with pytest.raises(UserError, match="matches none of the names in name, such as 'm-rank64-alpha1e5-010'"):
        with_names_read(rows, "name", ["r{rank}-lr"])


@pytest.mark.parametrize("text", ["rank", "{a}{a}", "{a:x}", "{a}{a=1}"])
def test_malformed_patterns(text: str) -> None:
    with pytest.raises(UserError, match="--pattern"):
        parse_pattern(text)


@given(
    st.text(alphabet="ab-_.+*({^$", max_size=6), st.sampled_from(sorted(FORMS)), st.integers(0, 999), st.integers(1, 9)
)
def test_a_pattern_reads_what_it_wrote(around: str, form: str, digits: int, exponent: int) -> None:
    literal = around.replace("*", "").replace("{", "")
    written = f"{digits}e{exponent}" if form == "e-" else str(digits)
    read = parse_pattern(f"{literal}={{x:{form}}}!").read(f"..{literal}={written}!..")
    assert read and float(read["x"]) == pytest.approx(
        {"": digits, "e-": digits * 10.0**-exponent, "0.": float(f"0.{digits}")}[form]
    )


def test_a_pattern_takes_any_text_for_a_star() -> None:
    read = parse_pattern("r{rank}*-{kind}$").read("r8-x-y-full$")
    assert read == {"rank": "8", "kind": "full"}


def test_files(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "lr score", (1, 2), (3, 4))
    rows = read_csv(path)
    assert rows.columns == ("lr", "score") and list(rows.inputs) == [str(path)]
    assert len(rows.inputs[str(path)]) == 64
    indexed = tmp_path / "pandas.csv"
    indexed.write_text(",lr,score\n0,1,2\n1,3,4\n")
    assert read_csv(indexed).columns == ("lr", "score")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("lr,score\n")
    (tmp_path / "short.csv").write_text("lr,score\n1\n")
    (tmp_path / "a.txt").write_text("lr,score\n1,2\n")
    for name, message in (
        ("empty.csv", "has no rows under a header"),
        ("header.csv", "has no rows under a header"),
        ("short.csv", "line 2: expected 2 cells, as in the header, got 1"),
        ("a.txt", "is neither a folder of runs nor a .csv or .tsv file"),
        ("none.csv", "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            read_csv(tmp_path / name)
