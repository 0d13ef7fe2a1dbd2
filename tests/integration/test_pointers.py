"""`latest` and `best` where there are no symbolic links, and where a copy has turned them into folders or lost them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from markov_cot.alarms.monitor import Event
from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.checkpoints.manifest import FILES, Manifest
from markov_cot.training.trainer import Trainer
from markov_cot.utils.files import sync_folder
from tests.helpers import open_tracker
from tests.pointer_forms import as_files, as_folders, copy_of, lost, only_the_folders
from tests.small_runs import Faults, Killed, config_of, dies_at, differences, outcome, run, start, warm

REFUSALS: dict[str, Exception] = {
    "FAT": PermissionError(errno.EPERM, os.strerror(errno.EPERM)),
    "FUSE": OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)),
    "old FUSE": OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)),
    "Windows": OSError(errno.EINVAL, "A required privilege is not held by the client"),
    "none": NotImplementedError("symlink"),
}


def refuse_links(monkeypatch: pytest.MonkeyPatch, error: Exception = REFUSALS["FUSE"]) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(os, "symlink", refused)


def checkpoint(folder: Path) -> Path:
    """A checkpoint as far as its manifest goes."""
    step = int(folder.name.rpartition("_")[2])
    (folder / "trainer").mkdir(parents=True)
    about = Manifest(step, {}, {}, {}, {}, dict.fromkeys(FILES, ""))
    (folder / "manifest.json").write_bytes(about.render())
    return folder


@pytest.mark.parametrize("system", REFUSALS)
def test_without_links_a_file_holds_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    refuse_links(monkeypatch, REFUSALS[system])
    for step in (1, 2, 3, 10):
        (tmp_path / f"adapter_{step}").mkdir()
    checkpoints.point(tmp_path / "best", tmp_path / "adapter_1")
    for step in (3, 10):
        checkpoints.point(tmp_path / "latest", tmp_path / f"adapter_{step}")
    assert (tmp_path / "latest").read_bytes() == b"adapter_10\n" and not (tmp_path / "latest").is_symlink()
    assert checkpoints.follow(tmp_path, "latest") == tmp_path / "adapter_10"
    assert checkpoints.follow(tmp_path, "best") == tmp_path / "adapter_1"
    checkpoints.prune(tmp_path, keep=1)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["adapter_1", "adapter_10", "best", "latest"]
    checkpoints.discard_after(tmp_path, 5)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["adapter_1", "best"]
    checkpoints.point_again(tmp_path, tmp_path / "adapter_1", best_step=0)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["adapter_1", "latest"]


def test_where_links_are_possible_again_a_file_becomes_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_2").mkdir()
    (tmp_path / "latest").write_text("adapter_1\r\n")
    checkpoints.point(tmp_path / "latest", tmp_path / "adapter_2")
    assert (tmp_path / "latest").readlink().name == "adapter_2"
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []


@pytest.mark.parametrize(
    "content", [b"", b"adapter_9", b"../elsewhere/adapter_2", b"\xff\xfe", b"adapter_2\nadapter_4", b"adapter_2" * 99]
)
def test_a_file_that_names_no_checkpoint_of_the_run_is_not_followed(tmp_path: Path, content: bytes) -> None:
    for step in (2, 4):
        (tmp_path / f"adapter_{step}").mkdir()
    (tmp_path / "latest").write_bytes(content)
    assert checkpoints.follow(tmp_path, "latest") is None
    checkpoints.point(tmp_path / "latest", tmp_path / "adapter_4")
    assert checkpoints.follow(tmp_path, "latest") == tmp_path / "adapter_4"


def test_a_folder_in_a_links_place_stands_for_its_step_and_is_no_checkpoint(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoint(tmp_path / f"adapter_{step}")
    copy_of(tmp_path / "adapter_6", tmp_path / "latest")
    copy_of(tmp_path / "adapter_2", tmp_path / "best")
    assert checkpoints.follow(tmp_path, "latest") == tmp_path / "adapter_6"
    assert checkpoints.follow(tmp_path, "best") == tmp_path / "adapter_2"
    assert [f.name for f in checkpoints.list_steps(tmp_path)] == ["adapter_2", "adapter_4", "adapter_6"]
    checkpoints.prune(tmp_path, keep=1)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["adapter_2", "adapter_6", "best", "latest"]
    checkpoints.point_again(tmp_path, tmp_path / "adapter_6", best_step=2)
    assert [(tmp_path / name).readlink().name for name in ("latest", "best")] == ["adapter_6", "adapter_2"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["adapter_2", "adapter_6", "best", "latest"]


def test_the_only_copy_of_a_checkpoint_is_kept(tmp_path: Path) -> None:
    """Somebody has copied `latest` and `best` and nothing else, or one that is not the run's."""
    for step, name in ((6, "latest"), (2, "best")):
        checkpoint(tmp_path / f"adapter_{step}").rename(tmp_path / name)
    assert checkpoints.follow(tmp_path, "best") == tmp_path / "best"
    checkpoints.recover(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["adapter_2", "adapter_6"]
    other = checkpoint(tmp_path / "elsewhere" / "adapter_6")
    (other / "manifest.json").write_text('{"step": 6}')
    other.rename(tmp_path / "latest")
    checkpoints.point(tmp_path / "latest", tmp_path / "adapter_6")
    assert (tmp_path / "damaged_latest" / "manifest.json").read_text() == '{"step": 6}'
    assert (tmp_path / "latest").readlink().name == "adapter_6"


def test_a_rollback_leaves_no_copy_of_a_later_step(tmp_path: Path) -> None:
    for step in (2, 4):
        checkpoint(tmp_path / f"adapter_{step}")
    for name in ("latest", "best"):
        copy_of(tmp_path / "adapter_4", tmp_path / name)
    checkpoints.discard_after(tmp_path, 2)
    assert checkpoints.follow(tmp_path, "latest") == tmp_path / "adapter_2"
    assert checkpoints.follow(tmp_path, "best") is None
    assert [f.name for f in checkpoints.list_steps(tmp_path)] == ["adapter_2"]


def test_what_a_crash_left_of_a_pointer_is_cleared_up(tmp_path: Path) -> None:
    checkpoint(tmp_path / "adapter_2")
    (tmp_path / ".latest.writing").symlink_to("adapter_2")
    copy_of(tmp_path / "adapter_2", tmp_path / ".best.deleting")
    checkpoints.recover(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["adapter_2"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nothing happened to."""
    folder = tmp_path_factory.mktemp("expected")
    with warm():
        run(config_of(folder, steps=4))
    return outcome(folder)  # type: ignore[no-any-return]


@pytest.mark.parametrize("change", [as_files, as_folders, lost, only_the_folders])
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_run_resumes_to_the_same_bytes_in_every_state(
    tmp_path: Path,
    expected: dict[str, Any],
    change: Callable[[Path], None],
    links: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not links:
        refuse_links(monkeypatch)
    config = config_of(tmp_path, steps=4)
    with warm():
        assert run(config, stop=lambda made: made.state.progress.step == 2).interrupted
        change(tmp_path / "checkpoints" / "r")
        run(config, resume=True)
    assert differences(tmp_path, expected) == []
    folder = tmp_path / "checkpoints" / "r"
    assert checkpoints.follow(folder, "latest") == folder / "adapter_4"
    assert (folder / "latest").is_symlink() is links and (folder / "latest").is_file() is not links
    assert not [f.name for f in folder.iterdir() if f.name.startswith((".", "damaged"))]


def test_a_rollback_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch)
    settings: dict[str, Any] = {"checkpoint": {"every": 1, "keep": 9}, "validation": {"every": 1}}
    scores = iter([0.1, 0.5, 0.2, 0.3, 0.9])
    original = Trainer._validate
    monkeypatch.setattr(Trainer, "_validate", lambda *args: (original(*args)[0], (next(scores), 0.0)))
    with warm():
        made = start(config_of(tmp_path, steps=4, alarms={"action": "rollback"}, **settings))
        made.run(lambda *_: None)
        folder = made.state.folder.parent
        assert (folder / "best").read_text() == "adapter_4\n"
        with open_tracker(made.session.folders.run, 4) as tracker:
            assert made.state.roll_back([Event("kl", "critical", 4, 4, {}, "")], tracker)
    assert (folder / "best").read_text() == "adapter_1\n" and (folder / "latest").read_text() == "adapter_2\n"
    assert [f.name for f in checkpoints.list_steps(folder)] == ["adapter_0", "adapter_1", "adapter_2"]


def test_a_process_that_dies_at_any_call_of_pointing_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch)
    old, new = (checkpoint(tmp_path / f"adapter_{step}") for step in (2, 4))
    link = tmp_path / "latest"
    for before in ("file", "folder"):
        n, finished = 0, False
        while not finished:
            checkpoints.recover(tmp_path)
            copy_of(old, link) if before == "folder" else checkpoints.point(link, old)
            with Faults().when(dies_at(n)):
                try:
                    checkpoints.point(link, new)
                    finished = True
                except Killed:
                    n += 1
            # Where a folder has given way and nothing is there yet, `latest` is the newest.
            assert checkpoints.follow(tmp_path, "latest") in (old, new), (before, n)
        assert n >= 4 and checkpoints.follow(tmp_path, "latest") == new


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError, match="I/O"):
        sync_folder(tmp_path)
