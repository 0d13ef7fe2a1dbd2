"""No pickles, no names that leave their folder, no text that a terminal, a page or TensorBoard would obey."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.text.text_plugin import text_array_to_html

from markov_cot.alarms.monitor import Event
from markov_cot.checkpoints.manifest import MANIFEST, read_manifest
from markov_cot.cli.main import main
from markov_cot.data import hub
from markov_cot.evaluation.locate import locate
from markov_cot.tracking.run_log import NOTHING
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import check_run_name
from tests.helpers import open_tracker
from tests.small_runs import config_of, start, warm

PACKAGE = Path(__file__).parents[2] / "markov_cot"
UNSAFE = (
    r"\bpickle\b(?!s|,| in| \w+ read)",
    r"\b(torch|joblib)\.(load|save)\(",
    r"allow_pickle",
    r"\bmarshal\.",
    r"\bshelve\b",
    r"\bdill\b",
    r"yaml\.(unsafe_load|full_load|UnsafeLoader|FullLoader|Loader\b)",
    r"\beval\(",
    r"\bexec\(",
    r"shell=True",
    r"os\.system",
)
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r# heading\n</code></pre><script>alert(1)</script>\u202e\x00"


def code_of(path: Path) -> str:
    """The file without comments and docstrings, which may speak of what is not done."""
    import ast

    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value = ast.Constant(0)
    return ast.unparse(tree)


def test_the_package_reads_and_writes_no_pickle_and_runs_no_text() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    # `model.eval()` switches dropout off.
    codes = {path.relative_to(PACKAGE): code_of(path).replace(".eval()", "") for path in files}
    found = [
        f"{name}: {match[0]}" for name, code in codes.items() for each in UNSAFE for match in re.finditer(each, code)
    ]
    # The manifest names pickles to refuse them.
    assert [f for f in found if not f.startswith("checkpoints/manifest.py: ")] == []


@pytest.mark.parametrize("pattern", ["import pickle", "torch.load(f)", "yaml.load(t, yaml.UnsafeLoader)", "eval(x)"])
def test_the_search_finds_what_it_looks_for(pattern: str) -> None:
    assert any(re.search(unsafe, pattern) for unsafe in UNSAFE)


def test_remote_code_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert config_of(tmp_path).model.trust_remote_code is False


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/tmp/x", "../x", "a\\b", "a\nb", "a\x1b[31m", "a\x00b", "\u202eb"]
)
def test_run_names_cannot_leave_their_folder(name: str) -> None:
    with pytest.raises(UserError, match="is not a plain name"):
        check_run_name(name)


@pytest.mark.parametrize("setting", ["runs_dir", "checkpoints_dir"])
def test_a_run_folder_that_leads_elsewhere_is_refused(tmp_path: Path, setting: str) -> None:
    config = config_of(tmp_path)
    folder = Path(getattr(config.checkpoint, setting))
    (tmp_path / "outside").mkdir()
    folder.mkdir(parents=True)
    (folder / "r").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link"):
        start(config)
    assert not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("name", ["latest", "best", "adapter_3"])
def test_checkpoint_names_cannot_leave_their_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside" / "adapter_3").mkdir(parents=True)
    run = tmp_path / "checkpoints" / "r"
    (run / "adapter_2").mkdir(parents=True)
    (run / name).symlink_to("../../outside/adapter_3")
    with pytest.raises(UserError, match=name):
        locate(name, "r", tmp_path / "checkpoints")


def test_a_foreign_adapter_folder_with_a_pickle_is_refused(tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"adapter_model\.bin is a pickle"):
        locate(str(tmp_path), None, tmp_path / "checkpoints")


def test_tensorboard_shows_hostile_text_as_text(tmp_path: Path) -> None:
    with open_tracker(tmp_path, NOTHING) as tracker:
        tracker.samples(1, [{"question": HOSTILE, "cot": HOSTILE}])
        tracker.alarms([Event("kl", "warn", 1, 1, {}, HOSTILE)])
    board = EventAccumulator(str(tmp_path)).Reload()
    for tag in ("samples/text_summary", "alarm/kl/text_summary"):
        [text] = board.Tensors(tag)[0].tensor_proto.string_val
        assert b"\x1b" not in text and b"\r" not in text and b"\x00" not in text
        assert all(line.startswith(b"    ") for line in text.split(b"\n") if line)
        html = text_array_to_html(__import__("numpy").array(text), enable_markdown=True)
        assert "<script" not in html and "<h1" not in html and html.count("<pre>") == 1


ODD_FILE = "\x1b[31m[bold]$x^$.jsonl"
SHOWN, OBEYED = "\\x1b[31m[bold]$x^$", "\x1b"


def call(*arguments: str) -> int:
    """Exit code of the command line, called from within."""
    with warm(), pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def odd_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Path:
    """In the current folder, run "r" of one step on data whose file's name holds an escape code. `capfd` has it all."""
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f'{{"question": "What is {i}+1?", "answer": "{i}"}}' for i in range(40))
    Path(ODD_FILE).write_text(rows)
    small = "rollout.length=4 rollout.samples=2 rollout.problems=1 validation.problems=1 validation.final_problems=1"
    settings = [part for setting in small.split() for part in ("--set", setting)]
    assert call("train", "--dataset", ODD_FILE, "--model", "nano", "--steps", "1", "--run", "r", *settings) == 0
    return tmp_path


def test_the_terminal_is_never_given_control_codes(odd_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = "".join(capfd.readouterr())
    assert SHOWN in shown and OBEYED not in shown
    # In a name, and in a value that a path takes up.
    assert call("train", "--run", "\x1b[2J") == call("train", "--set", "optim.lr=\x1b[2J") == 2
    assert OBEYED not in "".join(capfd.readouterr())


def test_nor_by_a_run_that_is_resumed(
    odd_run: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    manifest_file = odd_run / "checkpoints" / "r" / "adapter_1" / MANIFEST
    manifest = read_manifest(manifest_file.parent)
    manifest_file.write_bytes(replace(manifest, software={**manifest.software, "torch": "\x1b[2J"}).render())
    Path(ODD_FILE).write_text(Path(ODD_FILE).read_text().replace("+1?", "+2?"))
    assert call("train", "--run", "r", "--resume", "--steps", "2") == 2
    assert call("train", "--run", "r", "--resume", "--steps", "2", "--accept-changes") == 0
    warned = [record.getMessage() for record in caplog.records if "changed since" in record.getMessage()]
    assert len(warned) == 3 and "\\x1b[2J" in warned[0] and SHOWN in warned[-1]
    shown = "".join(capfd.readouterr()) + "".join(warned)
    assert SHOWN in shown and OBEYED not in shown


@pytest.mark.parametrize("arguments", [("--checkpoint", "latest"), ("--all-checkpoints",)], ids=["one", "all"])
def test_nor_by_an_evaluation(odd_run: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    capfd.readouterr()
    assert call("eval", *arguments, "--dataset", ODD_FILE, "--limit", "1", "--out", "\x1b[2J") == 0
    shown = "".join(capfd.readouterr())
    assert SHOWN in shown and "\\x1b[2J" in shown and OBEYED not in shown


def test_nor_by_grading_or_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(ODD_FILE).write_text('{"response": "The answer is 3", "gold": 3}')
    assert call("grade", ODD_FILE, "--kind", "numeric") == 0
    shown = "".join(capfd.readouterr())
    assert SHOWN in shown and OBEYED not in shown
    Path("\x1b[2J/svamp").mkdir(parents=True)
    Path("\x1b[2J/svamp/SVAMP.json").write_text("[{]")
    assert call("datasets", "--data-dir", "\x1b[2J") == 0
    shown = "".join(capfd.readouterr())
    assert "\\x1b[2J" in shown and OBEYED not in shown


def test_a_hub_that_goes_away_in_the_middle_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> object:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.delenv("MARKOV_COT_DATA", raising=False)
    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with warm(), pytest.raises(UserError, match=r"gsm8k: not found in .* or on the hub .*Connection reset by peer"):
        start(config_of(tmp_path, data={"dataset": "gsm8k"}))
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr("markov_cot.models.loading.AutoModelForCausalLM.from_pretrained", unreachable)
    with pytest.raises(UserError, match=r"model nano: cannot be loaded .*--model nano"):
        start(config_of(tmp_path))


def test_what_the_hubs_cache_has_is_used_when_the_hub_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` falls back on its cache by itself; nothing of ours stands in its way."""
    cached = {"train": [{"question": "1+1?"}]}
    monkeypatch.setattr("datasets.load_dataset", lambda *_: cached)
    assert hub.open_hub("any/thing", None) is cached
