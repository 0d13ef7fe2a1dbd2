"""A sweep's file: what it may say, the cells it stands for, and their names."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from markov_cot.config.grid import Grid, Random, Range, read_grid
from markov_cot.config.grid_cells import _at, cell_name, cell_settings, draw, number_of
from markov_cot.utils.errors import UserError


def grid_of(folder: Path, text: str) -> Grid:
    path = folder / "g.yaml"
    path.write_text(text)
    return read_grid(path)


def test_a_grid_is_all_combinations_with_one_seed_and_then_with_the_next(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "settings: {steps: 3}\ngrid: {optim.lr: [1, 2], lora: {rank: [4, 8]}}\nseeds: [7, 5]\n")
    assert grid.varied == ("optim.lr", "lora.rank") and grid.size == 8
    expected = [
        {"steps": 3, "optim.lr": lr, "lora.rank": rank, "seed": seed}
        for seed in (7, 5) for lr in (1, 2) for rank in (4, 8)
    ]  # fmt: skip
    assert cell_settings(grid) == expected


def test_a_list_is_as_it_stands_and_seeds_are_enough(tmp_path: Path) -> None:
    listed = grid_of(tmp_path, "list: [{optim: {lr: 1}}, {steps: 2, lora.rank: 3}]")
    assert cell_settings(listed) == [{"optim.lr": 1}, {"steps": 2, "lora.rank": 3}]
    assert cell_settings(grid_of(tmp_path, "seeds: [1, 2]")) == [{"seed": 1}, {"seed": 2}]


def test_values_may_be_lists_and_groups_may_be_nested(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, "grid: {data: {terms: [[2, 2], [4, 4]]}}\nsettings: {reward.args: {a: 1}}")
    assert [each["data.terms"] for each in cell_settings(grid)] == [[2, 2], [4, 4]]
    assert grid.settings == {"reward.args": {"a": 1}}, "a mapping that is a setting's value stays one"


@pytest.mark.parametrize(
    ("given_range", "quantile", "value"),
    [
        ({"uniform": (0, 2)}, 0.25, 0.5),
        ({"uniform": (0, 1)}, 1 / 3, 0.3333),
        ({"log_uniform": (1e-4, 1e-2)}, 0.5, 1e-3),
        ({"log_uniform": (1e-4, 1e-2)}, 0.75, 0.003162),
        ({"integer": (2, 4)}, 0.0, 2),
        ({"integer": (2, 4)}, 0.34, 3),
        ({"integer": (2, 4)}, 0.999, 4),
        ({"choice": ("a", "b")}, 0.49, "a"),
        ({"choice": ("a", "b")}, 0.5, "b"),
    ],
)
def test_a_drawn_value_is_the_ranges_quantile(given_range: dict[str, object], quantile: float, value: object) -> None:
    found = _at(Range.model_validate(given_range), quantile)
    assert found == value and type(found) is type(value)


@given(
    st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.floats(0, 1, exclude_max=True),
    st.sampled_from(["uniform", "integer"]),
)  # fmt: skip
def test_a_drawn_value_is_within_its_range(low: float, width: float, quantile: float, kind: str) -> None:
    first, last = (int(low), int(low) + 1 + int(width)) if kind == "integer" else (low, low + width)
    if first < last:
        assert first <= _at(Range.model_validate({kind: (first, last)}), quantile) <= last


def test_more_draws_keep_those_there_are_and_settings_are_drawn_apart() -> None:
    ranges = {"optim.lr": {"log_uniform": [1e-5, 1e-3]}, "lora.rank": {"integer": [1, 1000]}}
    few, more = (Random.model_validate({"n": n, "seed": 3, "space": ranges}) for n in (2, 5))
    assert [draw(few, i) for i in range(2)] == [draw(more, i) for i in range(2)]
    alone = Random.model_validate({"n": 2, "seed": 3, "space": {"lora.rank": ranges["lora.rank"]}})
    assert [draw(alone, i)["lora.rank"] for i in range(5)] == [draw(more, i)["lora.rank"] for i in range(5)]
    assert len({draw(more, i)["lora.rank"] for i in range(5)}) == 5
    other = Random.model_validate({"n": 2, "seed": 4, "space": ranges})
    assert draw(other, 0) != draw(few, 0)


@pytest.mark.parametrize(
    ("settings", "seed", "name"),
    [
        ({"optim.lr": 1e-5, "lora.rank": 4}, 0, "007-lr1e-5-rank4-seed0"),
        ({"optim.lr": 3e-4}, None, "007-lr0.0003"),
        ({"a.every": 1, "b.every": True}, None, "007-a_every1-b_everytrue"),
        ({"data.dataset": "some folder/my rows.jsonl"}, None, "007-datasetmy_rows.jsonl"),
        ({"data.terms": [2, 2], "lora.init": None}, 12, "007-terms2_2-initnone-seed12"),
        ({"prompt.system": "\x1b[2J$(x); " + "y" * 99}, None, "007-system_2J_x_yyyyyyyyyyyyyyyyyy"),
        ({}, None, "007"),
    ],
)
def test_names_tell_the_cell_in_characters_that_do_no_harm(
    settings: dict[str, object], seed: int | None, name: str
) -> None:
    assert cell_name(7, settings, seed) == name
    assert number_of(name) == 7


def test_numbers_of_names() -> None:
    assert (number_of("1234-a"), number_of("x"), number_of("-1")) == (1234, 0, 0)
    assert len(cell_name(1, {f"a.b{i}": "c" * 20 for i in range(20)}, 0)) <= 120


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a mapping with grid, list or random, got null"),
        ("[1]", "expected a mapping"),
        ("{}", "nothing varies"),
        ("gird: {optim.lr: [1]}", "unknown key gird; did you mean grid?"),
        ("grid: {optim.lr: [1]}\nlist: [{steps: 1}]", "grid and list: give one of them"),
        ("grid: {}", "grid: is empty"),
        ("grid: {optim.lr: 1}", "grid.optim.lr: expected a list of values, got 1"),
        ("grid: {optim.lr: []}", "grid.optim.lr: has no values"),
        ("grid: {optim.lr: [1, 2, 1]}", "grid.optim.lr: 1 is there twice"),
        ("random: {n: 5001, space: {steps: {integer: [1, 9]}}}\nseeds: [0, 1]", "asks for 10,002 runs"),
        ("grid: {seed: [1]}", "seed: goes into seeds"),
        ("seeds: [1]\nsettings: {seed: 1}", "seed: goes into seeds"),
        ("grid: {optim.lr: [1]}\nsettings: {optim: {lr: 2}}", "optim.lr: varies, and is in settings too"),
        ("grid: {checkpoint.runs_dir: [a, b]}", "checkpoint.runs_dir: is one for the whole sweep"),
        ("grid: {1: [a]}", "grid.1"),
        ("list: []", "list: is empty"),
        ("list: [3]", "list.0: input should be a mapping, got 3"),
        ("seeds: 3", "seeds: input should be a list, got 3"),
        ("seeds: [0, 0]", "seeds: 0 is there twice"),
        ("seeds: [-1]", "seeds.0: input should be greater than or equal to 0, got -1"),
        ("random: {space: {optim.lr: {uniform: [0, 1]}}}", "random.n: field required"),
        ("random: {n: 3, space: {}}", "random.space: is empty"),
        ("random: {n: 3, sapce: {}}", "unknown key random.sapce; did you mean"),
        ("random: {n: 3, space: {optim.lr: 3}}", "space.optim.lr: expected a range"),
        ("random: {n: 3, space: {optim.lr: {unifrom: [0, 1]}}}", "unknown key unifrom; did you mean uniform?"),
        ("random: {n: 3, space: {optim.lr: {}}}", "give one of uniform, log_uniform, integer, choice"),
        ("random: {n: 3, space: {optim.lr: {uniform: [2, 1]}}}", "the lowest comes first"),
        ("random: {n: 3, space: {optim.lr: {uniform: [.nan, 1]}}}", "finite number"),
        ("random: {n: 3, space: {optim.lr: {log_uniform: [0, 1]}}}", "the lowest must be above 0"),
        ("random: {n: 3, space: {optim.lr: {choice: [1, 1]}}}", "1 is there twice"),
        ("grid: {a: [1", "line 1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError) as error:
        grid_of(tmp_path, text)
    assert reason in str(error.value) and "\n" not in str(error.value) and "g.yaml" in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_grid(tmp_path / "none.yaml")
