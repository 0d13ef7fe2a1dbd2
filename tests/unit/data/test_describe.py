from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from markov_cot.cli.datasets import datasets_command
from markov_cot.data.describe import describe
from markov_cot.data.registry import dataset_names
from markov_cot.utils.errors import UserError

ARC_ROW = {
    "id": "1",
    "question": {"stem": "q", "choices": [{"text": label, "label": label} for label in "ABC"]},
    "answerKey": "A",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "arc").mkdir()
    (tmp_path / "arc" / "ARC-Easy-Dev.jsonl").write_text(json.dumps(ARC_ROW) + "\nbroken\n")
    (tmp_path / "svamp").mkdir()
    (tmp_path / "svamp" / "SVAMP.json").write_text("[{]")
    return tmp_path


def test_without_data_every_dataset_would_come_from_the_hub() -> None:
    listings = describe()
    assert list(dict.fromkeys(listing.name for listing in listings)) == dataset_names()
    sources = {(listing.name, listing.subset): listing.source for listing in listings}
    assert sources["gsm8k", None] == "hub: openai/gsm8k (main) (not tried)"
    assert sources["arc", "easy"] == "hub: allenai/ai2_arc (ARC-Easy) (not tried)"
    assert sources["words", None] == "generated"


def test_local_files_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = describe(str(folder))
    monkeypatch.setenv("MARKOV_COT_DATA", str(folder))
    assert describe() == given
    found = {(listing.name, listing.subset): listing for listing in given}
    assert found["arc", "easy"].splits == {"Dev": 2} and found["arc", "easy"].source == str(folder / "arc")
    assert found["arc", "challenge"].source.startswith("hub: ")
    assert found["svamp", None].fault.endswith(
        "SVAMP.json line 1: not JSON (column 3: Expecting property name enclosed in double quotes); correct the file"
    )


def test_the_command_prints_a_table_or_json(folder: Path) -> None:
    runner = CliRunner()
    table = runner.invoke(datasets_command, ["--data-dir", str(folder)], env={"COLUMNS": "200"})
    assert table.exit_code == 0
    assert "arc (easy)" in table.stdout and "Dev 2" in table.stdout and "train 100,000" in table.stdout
    listed = runner.invoke(datasets_command, ["--data-dir", str(folder), "--json"])
    rows = json.loads(listed.stdout)
    assert [row["name"] for row in rows].count("arc") == 2
    assert rows[0] == {
        "name": "gsm8k",
        "kind": "numeric",
        "subset": None,
        "source": "hub: openai/gsm8k (main) (not tried)",
        "splits": {},
        "fault": "",
    }


def test_a_file_as_data_dir_is_the_users_error(folder: Path) -> None:
    path = str(folder / "svamp" / "SVAMP.json")
    result = CliRunner().invoke(datasets_command, ["--data-dir", path])
    assert isinstance(result.exception, UserError) and "is a file, not a folder" in str(result.exception)
