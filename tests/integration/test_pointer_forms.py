"""Evaluating a run whose `latest` and `best` are no links."""

from __future__ import annotations

from pathlib import Path

import pytest

from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.evaluation.locate import default_name, locate
from markov_cot.utils.errors import UserError
from tests.command_fixtures import Cli
from tests.pointer_forms import as_files, as_folders, only_the_folders


@pytest.mark.parametrize("form", ["file", "folder"])
def test_eval_and_sample_take_every_form(workplace: Path, cli: Cli, form: str) -> None:
    folder = Path("checkpoints/r")
    best = checkpoints.follow(folder, "best") or folder / "adapter_2"
    checkpoints.point(folder / "best", best)
    (as_files if form == "file" else as_folders)(folder)
    assert default_name("r", Path("checkpoints")) == "best"
    for name, expected_name in (("latest", "adapter_4"), ("best", best.name), ("checkpoints/r/best", best.name)):
        found = locate(name, None, Path("checkpoints"))
        assert (found.name, found.folder, found.run) == (expected_name, (folder / expected_name).resolve(), "r")
    code, out, err = cli("eval", "--run", "r", "--all-checkpoints", "--limit", "2", "--json")
    assert code == 0, err
    assert '"points": [{"step": 0' in out and out.count('"answer_logprob"') == 3, "the base and two checkpoints"
    code, out, err = cli("sample", "What is 2+3?", "--checkpoint", "latest")
    assert code == 0 and "adapter_4" in out, err


def test_a_folder_that_is_all_there_is_can_be_evaluated(workplace: Path, cli: Cli) -> None:
    only_the_folders(Path("checkpoints/r"))
    code, _, err = cli("eval", "--checkpoint", "latest", "--run", "r", "--limit", "2", "--json")
    assert code == 0, err
    with pytest.raises(UserError, match="no checkpoints in"):
        locate("latest", None, Path("checkpoints"))
