"""Models and datasets from a hub on this machine that speaks the hub's protocol, and from one that does not answer."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load, save

from markov_cot.models.loading import fingerprint, load_base, resolve_source
from markov_cot.utils import hub_access
from markov_cot.utils.errors import UserError
from tests.hub_server import Files, Hub, commit_of, repository, serving
from tests.launching import environment

SETTINGS = ["rollout.length=8", "rollout.samples=2", "data.terms=[2,2]", "validation.problems=2",
            "validation.final_problems=2", "model.device=cpu"]  # fmt: skip
README = b"""---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
---
"""


def train(run: str, *more: str) -> list[str]:
    return ["train", "--run", run, "--steps", "1", *(f"--set={setting}" for setting in SETTINGS), *more]


def nano() -> dict[str, bytes]:
    """The bundled model's files."""
    files = (path for path in Path(resolve_source("nano")).iterdir() if path.suffix in (".json", ".safetensors"))
    return {path.name: path.read_bytes() for path in files}


def other_weights(files: Files) -> dict[str, bytes]:
    tensors = {name: tensor * 1.01 for name, tensor in load(files["model.safetensors"]).items()}
    return {**files, "model.safetensors": save(tensors, {"format": "pt"})}


def gsm8k(first: int) -> dict[str, bytes]:
    """Thirty problems as the hub has them."""

    def parquet(numbers: Sequence[int]) -> bytes:
        rows = [{"question": f"What is {n} and 2?", "answer": f"{n}+2={n + 2}\n#### {n + 2}"} for n in numbers]
        written = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), written)
        return written.getvalue()

    return {
        "README.md": README,
        "main/train-00000-of-00001.parquet": parquet(range(first, first + 20)),
        "main/test-00000-of-00001.parquet": parquet(range(first + 20, first + 30)),
    }


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    files = nano()
    repositories = {
        "models/org/tiny": repository(files, other_weights(files)),
        "models/org/gated": repository(files, refusal=401),
        "models/org/closed": repository(files, refusal=403),
        "models/org/cut": repository(files, broken={"model.safetensors"}),
        "datasets/openai/gsm8k": repository(gsm8k(10), gsm8k(50)),
        "datasets/ChilleD/SVAMP": repository(gsm8k(10), refusal=401),
        "datasets/allenai/ai2_arc": repository(gsm8k(10), refusal=403),
    }
    with serving(repositories) as served:
        yield served


def run_all(folder: Path, endpoint: str, commands: list[list[str]], *options: str, **more: str) -> list[dict[str, Any]]:
    """What the commands say, run in `folder` against a hub by a process with these options and more environment."""
    (folder / "commands.json").write_text(json.dumps(commands))
    command = [sys.executable, "-m", "tests.hub_cases", "commands.json", "answers.json", *options]
    own = environment(HF_ENDPOINT=endpoint, HF_HOME=str(folder / "hf"), COLUMNS="200", **more)
    for name in ("MARKOV_COT_DATA", "HF_TOKEN"):
        own.pop(name, None)
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads((folder / "answers.json").read_text())
    return answers


def one_line(answer: dict[str, Any]) -> str:
    assert answer["code"] == 2, answer
    lines = [line for line in answer["err"].splitlines() if line]
    assert len(lines) == 1 and answer["out"] == "", answer
    return str(lines[0])


def base_of(folder: Path, run: str) -> dict[str, str]:
    manifest = json.loads((folder / "checkpoints" / run / "adapter_1" / "manifest.json").read_text())
    base: dict[str, str] = manifest["base"]
    return base


@pytest.fixture(scope="module")
def at_the_hub(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """One process's commands in this order, by name, and the folder in which they ran."""
    commands = {
        "found": train("found", "--model", "org/tiny"),
        "pinned": train("pinned", "--model", "org/tiny", "--set", "model.revision=v0"),
        "by commit": train("by-commit", "--model", "org/tiny", "--set", f"model.revision={commit_of(0)}"),
        "no revision": train("r", "--model", "org/tiny", "--set", "model.revision=v7"),
        "nano has none": train("r", "--set", "model.revision=v0"),
        "resumed": ["train", "--run", "pinned", "--resume", "--steps", "2"],
        "resumed by another": ["train", "--run", "pinned", "--resume", "--steps", "3", "--set", "model.revision=v1"],
        "evaluated": ["eval", "--run", "pinned", "--limit", "2", "--json"],
        "evaluated on another": ["eval", "--run", "pinned", "--limit", "2", "--set", "model.revision=main"],
        "gated": train("r", "--model", "org/gated"),
        "closed": train("r", "--model", "org/closed"),
        "absent": train("r", "--model", "org/absent"),
        "cut": train("cut", "--model", "org/cut"),
        "heal": ["heal", "models/org/cut"],
        "again": train("cut", "--model", "org/cut"),
        "data": train("data", "--dataset", "gsm8k", "--model", "nano"),
        "data of v0": train("data-v0", "--dataset", "gsm8k", "--model", "nano", "--set", "data.revision=v0"),
        "data of no revision": train("r", "--dataset", "gsm8k", "--model", "nano", "--set", "data.revision=v9"),
        "gated data": train("r", "--dataset", "svamp", "--model", "nano"),
        "closed data": train("r", "--dataset", "arc", "--model", "nano"),
        "absent data": train("r", "--dataset", "aqua", "--model", "nano"),
    }
    folder = tmp_path_factory.mktemp("hub")
    # This hub is as it is at every try.
    answers = run_all(folder, hub.url, list(commands.values()), "0.1")
    return folder, dict(zip(commands, answers, strict=True))


Answers = tuple[Path, dict[str, dict[str, Any]]]


def test_a_model_is_found_and_its_commit_recorded(at_the_hub: Answers, tmp_path: Path) -> None:
    folder, said = at_the_hub
    assert [said[name]["code"] for name in ("found", "pinned", "by commit")] == [0, 0, 0], said
    found, pinned, by_commit = (base_of(folder, run) for run in ("found", "pinned", "by-commit"))
    assert (found["name"], found["revision"], found["commit"]) == ("org/tiny", "main", commit_of(1))
    assert (pinned["revision"], pinned["commit"]) == ("v0", commit_of(0))
    assert (by_commit["revision"], by_commit["commit"]) == (commit_of(0), commit_of(0))
    assert found["fingerprint"] != pinned["fingerprint"] == by_commit["fingerprint"]
    import torch

    from markov_cot.config.schema import Model

    assert pinned["fingerprint"] == fingerprint(load_base(Model(), torch.device("cpu")))


def test_a_revision_is_kept_on_resume_and_in_evaluation(at_the_hub: Answers) -> None:
    folder, said = at_the_hub
    assert said["resumed"]["code"] == 0 and (folder / "checkpoints" / "pinned" / "adapter_2").is_dir(), said["resumed"]
    assert "differs from adapter_2 in model.revision (v0 -> v1)" in one_line(said["resumed by another"])
    assert said["evaluated"]["code"] == 0, said["evaluated"]
    assert json.loads(said["evaluated"]["out"].splitlines()[-1])
    refused = said["evaluated on another"]
    assert refused["code"] == 2 and f"whose weights at commit {commit_of(0)} differ from org/tiny's" in refused["err"]
    assert f"pass --model org/tiny --set model.revision={commit_of(0)}" in refused["err"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no revision", "model org/tiny: org/tiny has no revision v7 on the hub; check the branch, tag or commit"),
        ("nano has none", "model.revision v0: nano is no model of the hub and has no revisions; leave the setting out"),
        ("gated", "model org/gated: org/gated is gated; accept its licence on its page on the hub, then run `hf auth"),
        (
            "closed",
            "org/closed is gated and your token has no access to it; ask for access (accept the licence) on its",
        ),
        (
            "absent",
            "model org/absent: there is no org/absent on the hub, or it is private; check the name, and for a private",
        ),
        ("cut", "model org/cut: the download broke off; start again, what has arrived is kept"),
        ("data of no revision", "openai/gsm8k has no revision v9 on the hub"),
        ("gated data", "ChilleD/SVAMP is gated; accept its licence on its page on the hub, then run `hf auth login`"),
        ("closed data", "allenai/ai2_arc is gated and your token has no access to it; ask for access"),
        ("absent data", "there is no deepmind/aqua_rat on the hub, or it is private"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_a_way_out(at_the_hub: Answers, name: str, message: str) -> None:
    assert message in one_line(at_the_hub[1][name])


def test_a_download_that_broke_off_is_finished_by_the_next_try(at_the_hub: Answers, hub: Hub) -> None:
    folder, said = at_the_hub
    assert said["again"]["code"] == 0, said["again"]
    assert base_of(folder, "cut")["fingerprint"] == base_of(folder, "pinned")["fingerprint"]
    whole = nano()["model.safetensors"]
    kept = [path for path in (folder / "hf").rglob("model.safetensors") if "org--cut" in str(path)]
    assert [path.read_bytes() == whole for path in kept] == [True]


def test_datasets_are_read_as_the_hub_has_them(at_the_hub: Answers) -> None:
    folder, said = at_the_hub
    for run, first in (("data", 50), ("data-v0", 10)):
        assert said["data" if run == "data" else "data of v0"]["code"] == 0, said
        samples = [json.loads(line) for line in (folder / "runs" / run / "samples.jsonl").read_text().splitlines()]
        numbers = {int(sample["question"].split()[2]) for sample in samples}
        assert numbers and numbers <= set(range(first, first + 20)), "of the training split of that revision"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, r"cannot be reached (Connection refused)"),
        ({"HF_HUB_OFFLINE": "1"}, "the hub is switched off (HF_HUB_OFFLINE)"),
    ],
    ids=["refused", "offline"],
)
def test_a_hub_that_does_not_answer_is_one_line_and_its_cache_is_used(
    at_the_hub: Answers, tmp_path: Path, more: dict[str, str], reason: str
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        (tmp_path / "hf").symlink_to(at_the_hub[0] / "hf")
        commands = [
            train("r", "--model", "org/other"),
            train("r", "--dataset", "mathqa", "--model", "nano"),
            train("cached", "--model", "org/tiny", "--set", "model.revision=v0"),
        ]
        model, data, cached = run_all(tmp_path, nobody, commands, **more)
    for answer in (model, data):
        assert reason in one_line(answer)
        assert "and the hub's cache on this machine does not have all of it" in answer["err"]
        assert answer["seconds"] < 60, "the libraries alone would try for minutes"
    assert cached["code"] == 0, cached
    assert base_of(tmp_path, "cached")["commit"] == commit_of(0)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"", "cannot be reached"), (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "answers 502")],
)
def test_a_hub_that_is_silent_or_broken_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str
) -> None:
    monkeypatch.setattr(hub_access, "_SECONDS", 0.5)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            connection.recv(4096)
            connection.sendall(answer)
            asked.append(connection)  # kept open

        asked: list[socket.socket] = []
        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        access = hub_access.Access()
        thread.join()
        asked[0].close()
    assert access.fault and access.fault.startswith(f"the hub at {endpoint} {reason}")
    from huggingface_hub import constants

    with access.using():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_local_files_have_no_revision(tmp_path: Path) -> None:
    from markov_cot.config.schema import Data
    from markov_cot.data.registry import load as load_data

    folder = tmp_path / "gsm8k"
    folder.mkdir()
    row = json.dumps({"question": "1+1?", "answer": "#### 2"})
    (folder / "train.jsonl").write_text(row + "\n")
    (folder / "test.jsonl").write_text(row.replace("1+1", "1+2") + "\n")
    with pytest.raises(UserError, match=r"data\.revision v1: is of the hub, and gsm8k was found in .*; leave one out"):
        load_data(Data(dataset="gsm8k", data_dir=str(tmp_path), revision="v1"))
