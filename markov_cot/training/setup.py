"""Everything a run is made of, built from its config and checked before the first step."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from markov_cot.checkpoints.checkpoint import FoundCheckpoint, check_base, list_steps
from markov_cot.checkpoints.origin import find_origin, later_than
from markov_cot.checkpoints.resume import check_data, check_precision, check_settings, note_commit
from markov_cot.checkpoints.run_lock import RunLock
from markov_cot.config.schema import Config, dump_config
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.registry import load
from markov_cot.data.sampler import Shuffle, sample
from markov_cot.data.splits import Splits
from markov_cot.distributed.launch import hidden
from markov_cot.distributed.process_group import Processes, join
from markov_cot.distributed.sharding import Sharding, mesh_of
from markov_cot.models import loading as models
from markov_cot.models.policy import Policy
from markov_cot.rollouts.sampling import ANSWER_TOKENS
from markov_cot.tracking.tracker import CONFIG, LOG
from markov_cot.utils.errors import UserError
from markov_cot.utils.files import replace_file
from markov_cot.utils.text import visible

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a run writes."""

    run: Path
    checkpoints: Path


@dataclass(frozen=True, slots=True)
class Session:
    """A run's fixed parts."""

    config: Config
    folders: Folders
    policy: Policy
    prompts: Prompts
    splits: Splits
    shuffle: Shuffle
    held_out: list[Problem]
    """Validation problems; the first `validation.problems` of them are used while training."""
    base: dict[str, str]
    """Name, fingerprint and dtype of the base, for manifests."""
    data: dict[str, str]
    """Name and fingerprint of the dataset, likewise."""
    lock: RunLock
    """Held from the start by the first process, so that nobody else trains the run."""
    origin: Path | None
    """Checkpoint that the run goes on from."""
    changed: bool
    """Whether settings or data are not the origin's, as far as they decide what is computed."""
    goes_back: bool
    """Whether the run has later checkpoints than its origin, which was chosen by name."""
    processes: Processes
    sharding: Sharding | None
    """Of the base over the processes; None where each has the whole of it."""


def open_session(
    config: Config,
    run: str | None,
    recipe: str,
    *,
    resume: bool,
    accept_changes: bool = False,
    checkpoint: str | None = None,
) -> Session:
    """Loads data and model, checks that they fit together, and makes the run's folders.

    To resume is to continue from `checkpoint`, by default the run's newest that is whole; settings and data must be as
    they were then, unless `accept_changes`. Raises `UserError` for everything the user can mend.
    """
    processes = join(cpu=config.model.device == "cpu")
    _check_processes(config, processes)
    name = f"{recipe}-{datetime.now(UTC):%Y%m%d-%H%M%S}" if run is None else run
    folders = _folders(config, processes.agree(name))
    lock = RunLock(folders.run)
    found, changed = None, False
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(lock.release)
        with processes.together():
            if processes.is_first:
                _check_folders(folders, resume)
                found = _find_origin(folders, lock, checkpoint) if resume else None
                changed = found is not None and check_settings(found, config, accept=accept_changes)
        with processes.together():
            tokenizer = models.load_tokenizer(config.model)
            splits, data = _load_data(config, tokenizer)
            if found:
                changed |= check_data(found, data, splits.source, accept=accept_changes)
        policy, base, sharding = _load_policy(config, tokenizer, processes)
        with processes.together():
            if found:
                check_base(found.folder, found.manifest.base, base["name"], base["fingerprint"])
                changed |= check_precision(found, base["dtype"], accept=accept_changes)
                note_commit(found, base)
        prompts = Prompts(
            tokenizer, markovian=config.prompt.markovian, chat=config.prompt.chat, vocabulary=policy.vocabulary
        )
        fits = functools.partial(fits_context, policy.max_length, prompts, config.rollout.length)
        shuffle = Shuffle(splits.train, config.seed, fits)
        shuffle.batch(0, config.rollout.problems)
        count = max(config.validation.problems, config.validation.final_problems)
        held_out = sample(splits.validation, count, 0, fits)
        with processes.together():
            if processes.is_first:
                _make_folders(folders, config, lock, resume)
        on_failure.pop_all()
    goes_back = checkpoint is not None and found is not None and bool(later_than(found))
    origin, changed, goes_back = processes.agree((str(found.folder) if found else None, changed, goes_back))
    return Session(
        config=config,
        folders=folders,
        policy=policy,
        prompts=prompts,
        splits=splits,
        shuffle=shuffle,
        held_out=held_out,
        base=base,
        data=data,
        lock=lock,
        origin=Path(origin) if origin else None,
        changed=changed,
        goes_back=goes_back,
        processes=processes,
        sharding=sharding,
    )


def _check_processes(config: Config, processes: Processes) -> None:
    if config.rollout.problems % processes.count:
        raise UserError(
            f"rollout.problems: {config.rollout.problems} questions a step cannot be shared evenly by "
            f"{processes.count} processes; set rollout.problems={processes.count} or a multiple"
        )
    if config.model.shard and processes.count == 1:
        raise UserError("model.shard: needs several processes; start them with torchrun, or set model.shard=false")


def _find_origin(folders: Folders, lock: RunLock, checkpoint: str | None) -> FoundCheckpoint | None:
    """Locks the run and finds the checkpoint it continues from."""
    with _writing(folders):
        lock.acquire()
        return find_origin(folders.checkpoints, checkpoint)


def _load_data(config: Config, tokenizer: PreTrainedTokenizerFast) -> tuple[Splits, dict[str, str]]:
    splits = load(config.data, tokenizer)
    for name, problems in (("training", splits.train), ("validation", splits.validation)):
        if not problems:
            raise UserError(
                f"dataset {splits.name}: has no {name} problems ({splits.note}); give it a file to train on"
            )
    return splits, {"name": splits.name, "fingerprint": splits.fingerprint()}


def _load_policy(
    config: Config, tokenizer: PreTrainedTokenizerFast, processes: Processes
) -> tuple[Policy, dict[str, str], Sharding | None]:
    # Accelerate would look for other processes on any one of a launcher's variables.
    with hidden() if processes.count == 1 else contextlib.nullcontext():
        device = Accelerator(cpu=config.model.device == "cpu", mixed_precision="no").device
    mesh = mesh_of(processes, device) if config.model.shard else None

    def load_model() -> tuple[PeftModel, dict[str, str], Sharding | None]:
        if config.model.device not in ("auto", device.type):
            raise UserError(f"model.device {config.model.device}: not found on this machine; set model.device=auto")
        base = models.load_base(config.model, device)
        names = {"name": config.model.name, "fingerprint": models.fingerprint(base)}
        names["dtype"] = str(base.dtype).removeprefix("torch.")
        names |= models.origin(config.model)
        model = models.add_adapter(base, config.lora, config.seed)
        return model, names, Sharding(model, processes, mesh, device) if mesh else None

    if mesh:
        # Each holds the whole base in main memory until it has its share, so one after the other.
        model, names, sharding = processes.in_turn(load_model)
    else:
        with processes.together():
            model, names, sharding = load_model()
    return Policy(model, tokenizer, config.rollout.temperature), names, sharding


def fits_context(max_length: int, prompts: Prompts, length: int, problem: Problem) -> bool:
    """Whether question + CoT and CoT + answer both stay within the model's context of `max_length` tokens."""
    answer = prompts.answer_context(problem, [0] * length)
    answer_tokens = max(len(answer.answer_ids), ANSWER_TOKENS)
    return max(len(prompts.question_context(problem)) + length, len(answer.ids) + answer_tokens) <= max_length


def check_run_name(run: str) -> None:
    """Raises `UserError` for a name that would leave the folder of runs, or that a terminal would not show."""
    if run in ("", ".", "..") or Path(run).name != run or "\\" in run or visible(run) != run or not run.isprintable():
        raise UserError(f"--run {run!r}: is not a plain name; use letters, digits, '-' and '_'")


def _folders(config: Config, run: str) -> Folders:
    check_run_name(run)
    return Folders(Path(config.checkpoint.runs_dir, run), Path(config.checkpoint.checkpoints_dir, run))


def _check_folders(folders: Folders, resume: bool) -> None:
    run = folders.run.name
    for folder, setting in ((folders.run, "runs_dir"), (folders.checkpoints, "checkpoints_dir")):
        if folder.is_symlink():
            raise UserError(f"run {run}: {folder} is a link; give the folder it leads to as checkpoint.{setting}")
    if not resume:
        _check_new(folders)
    elif not folders.run.is_dir():
        raise UserError(f"run {run}: there is no {folders.run} to resume; leave out --resume to start it")


def _check_new(folders: Folders) -> None:
    """A run begins to exist with its config, and its name is taken while there are checkpoints of it."""
    run = folders.run.name
    if (folders.run / CONFIG).exists() or (folders.run / LOG).exists():
        raise UserError(f"run {run}: {folders.run} exists already; pass --resume to go on with it, or another --run")
    if list_steps(folders.checkpoints):
        raise UserError(f"run {run}: {folders.checkpoints} holds checkpoints already; move them, or give another --run")


def _make_folders(folders: Folders, config: Config, lock: RunLock, resume: bool) -> None:
    with _writing(folders):
        for folder in (folders.run, folders.checkpoints):
            folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if not resume:
            _check_new(folders)  # another process may have been faster
        probe = folders.checkpoints / ".probe"
        probe.write_bytes(bytes(1 << 20))
        probe.unlink()
        replace_file(folders.run / CONFIG, dump_config(config).encode())


@contextlib.contextmanager
def _writing(folders: Folders) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folders.run
        raise UserError(f"{where}: cannot be written ({error.strerror}); free space or choose another folder") from None


def learning_rate(config: Config, step: int) -> float:
    """Learning rate of a step (counted from 0): linear warm-up, then the schedule, which ends at 0 after the last."""
    optim = config.optim
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    left = 1 - (step - optim.warmup_steps) / max(1, config.steps - optim.warmup_steps)
    if optim.schedule == "linear":
        return optim.lr * left
    if optim.schedule == "cosine":
        return optim.lr * 0.5 * (1 + float(torch.cos(torch.tensor((1 - left) * torch.pi))))
    return optim.lr
