"""Checkpoints that are not what was saved: the right state or a refusal that names the file, never a wrong state."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from markov_cot.checkpoints import checkpoint as checkpoints
from markov_cot.checkpoints import contents
from markov_cot.checkpoints.manifest import FILES, MANIFEST, Manifest, read_manifest
from markov_cot.config.schema import Lora, Model
from markov_cot.models.loading import add_adapter, fingerprint, load_base
from markov_cot.utils.errors import UserError

CPU = torch.device("cpu")
ALL = (*FILES, MANIFEST)
FLIPS = 24
OLD, NEW = "adapter_2", "adapter_4"
Damage = Callable[[Path], None]


def optimizer_of(model: PeftModel) -> torch.optim.AdamW:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


@pytest.fixture(scope="module")
def model() -> PeftModel:
    return add_adapter(load_base(Model(), CPU), Lora(rank=1, target_modules=("q_proj",)), seed=0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, model: PeftModel) -> Path:
    """A run with the checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("whole")
    optimizer = optimizer_of(model)
    base = {"name": "nano", "fingerprint": fingerprint(model)}
    for step in (2, 4):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = torch.full_like(p, float(step))
        optimizer.step()
        about = Manifest(step, {"seed": 0}, base, {"name": "d", "fingerprint": ""}, {}, {})
        files = contents.render(model, optimizer, {"progress": {"step": step}}, about)
        checkpoints.write(folder / f"adapter_{step}", files)
        checkpoints.point(folder / "latest", folder / f"adapter_{step}")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def flip(position: float) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        index = min(int(position * len(data)), len(data) - 1)
        return data[:index] + bytes([data[index] ^ (1 << int(position * 8) % 8)]) + data[index + 1 :]

    return apply


def damages() -> Iterator[tuple[str, str, Damage]]:
    """(name, file, what is done to the newest checkpoint)."""
    dice = random.Random(0)
    edits: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda data: b"",
        "first byte": lambda data: data[:1],
        "half": lambda data: data[: len(data) // 2],
        "last byte missing": lambda data: data[:-1],
        "longer": lambda data: data + b"\n",
        "doubled": lambda data: data * 2,
        "zeros": lambda data: bytes(len(data)),
        "block of zeros": lambda data: data[: len(data) // 3] + bytes(16) + data[len(data) // 3 + 16 :],
        "first bit": flip(0),
        "last bit": flip(1),
    }
    edits |= {f"flip {i}": flip(dice.random()) for i in range(FLIPS)}
    for name in ALL:
        for kind, edit in edits.items():
            yield f"{name}: {kind}", name, lambda run, n=name, e=edit: rewrite(run / NEW / n, e)  # type: ignore[misc]
        yield f"{name}: deleted", name, lambda run, n=name: (run / NEW / n).unlink()  # type: ignore[misc]
        yield f"{name}: a folder", name, lambda run, n=name: to_folder(run / NEW / n)  # type: ignore[misc]
        yield f"{name}: swapped with the older", name, lambda run, n=name: swap(run / OLD / n, run / NEW / n)  # type: ignore[misc]
        for other in ALL:
            if other != name:
                label = f"{name}: is {other}"
                yield label, name, lambda run, n=name, o=other: shutil.copy(run / NEW / o, run / NEW / n)  # type: ignore[misc]
    yield "folders swapped", MANIFEST, lambda run: swap(run / OLD, run / NEW)
    yield "copy of the older", MANIFEST, lambda run: recopy(run / OLD, run / NEW)


def rewrite(file: Path, edit: Callable[[bytes], bytes]) -> None:
    file.write_bytes(edit(file.read_bytes()))


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def swap(a: Path, b: Path) -> None:
    aside = a.with_name("aside")
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


def recopy(source: Path, target: Path) -> None:
    shutil.rmtree(target)
    shutil.copytree(source, target)


def test_every_damage_leads_to_the_right_state_or_a_refusal(whole: Path, model: PeftModel, tmp_path: Path) -> None:
    expected = {name: content(whole / name) for name in (OLD, NEW)}
    tried = outcomes = 0
    used: dict[str, int] = {OLD: 0, NEW: 0, "refused": 0}
    for label, file, damage in damages():
        run = tmp_path / str(tried)
        shutil.copytree(whole, run, symlinks=True)
        damage(run)
        tried += 1
        changed = any(not (run / NEW / n).is_file() for n in ALL) or any(
            (run / NEW / n).read_bytes() != (whole / NEW / n).read_bytes() for n in ALL
        )
        try:
            found = checkpoints.find_newest(run)
        except UserError as error:
            assert file in str(error), label
            assert changed, label
            used["refused"] += 1
            continue
        assert found, label
        assert found.folder.name == (OLD if changed else NEW), label
        assert content(found.folder) == expected[found.folder.name], label
        if changed:
            assert len(found.damaged) == 1 and file in str(found.damaged[0]), label
            assert (run / f"damaged_{NEW}").is_dir() and not (run / NEW).exists(), label
        contents.load_adapter(found.folder, model)
        state = contents.load_trainer_state(found.folder, model, optimizer_of(model))
        assert state["progress"]["step"] == found.manifest.step == checkpoints.step_of(found.folder), label
        used[found.folder.name] += 1
        outcomes += 1
        shutil.rmtree(run)
    assert tried >= 200 and sum(used.values()) == tried
    # The adapter's config is the same in both checkpoints, so that swap does no harm.
    assert used[NEW] == 1 and used["refused"] <= 8, used


def test_damage_to_all_checkpoints_is_refused_and_nothing_is_moved(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    for name in (OLD, NEW):
        (run / name / FILES[0]).unlink()
    with pytest.raises(UserError, match=r"adapter_4: adapter_model\.safetensors is missing"):
        checkpoints.find_newest(run)
    assert (run / OLD).is_dir() and (run / NEW).is_dir()


def test_the_second_damaged_checkpoint_of_a_step_has_a_name_of_its_own(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    for _ in range(2):
        shutil.copytree(whole / NEW, run / NEW, dirs_exist_ok=True)
        (run / NEW / FILES[0]).unlink()
        checkpoints.find_newest(run)
    assert {f.name for f in run.glob("damaged_*")} == {f"damaged_{NEW}", f"damaged_{NEW}_2"}


@pytest.mark.parametrize(
    "target", ["adapter_9", "/", "..", "../elsewhere/adapter_2", "trainer", "adapter_2/../adapter_4"]
)
def test_links_that_lead_nowhere_or_away_are_not_followed(whole: Path, tmp_path: Path, target: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    shutil.copytree(whole, tmp_path / "elsewhere", symlinks=True)
    for name in (checkpoints.LATEST, checkpoints.BEST):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(target)
        assert checkpoints.follow(run, name) is None
    found = checkpoints.find_newest(run)
    assert found and found.folder == run / NEW
    checkpoints.point_again(run, found.folder, best_step=2)
    assert checkpoints.follow(run, checkpoints.LATEST) == run / NEW
    assert checkpoints.follow(run, checkpoints.BEST) == run / OLD


def test_a_linked_folder_is_no_checkpoint(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    (run / "adapter_9").symlink_to(whole / NEW)
    assert [f.name for f in checkpoints.list_steps(run)] == [OLD, NEW]


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "trainer/../../x", "adapter_model.bin"])
def test_a_manifest_that_names_other_files_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    manifest = read_manifest(run / NEW)
    forged = Manifest(4, manifest.config, manifest.base, manifest.data, {}, {**manifest.files, name: "0" * 64})
    (run / NEW / MANIFEST).write_bytes(forged.render())
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        read_manifest(run / NEW)


def test_a_manifest_of_another_version_is_refused_not_set_aside(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    values = json.loads((run / NEW / MANIFEST).read_text())
    (run / NEW / MANIFEST).write_text(json.dumps(values | {"format": 1}))
    with pytest.raises(UserError, match="has format 1, and this version reads 2"):
        checkpoints.find_newest(run)
    assert (run / NEW).is_dir()


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "trainer/state.pkl", "rng.PTH"])
def test_a_pickle_in_a_checkpoint_is_refused_by_name(whole: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run, symlinks=True)
    (run / NEW / name).write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(UserError, match=name.replace(".", r"\.") + " is a pickle"):
        checkpoints.find_newest(run)
    assert (run / NEW).is_dir(), "it is for the user to look at, not to be set aside"
