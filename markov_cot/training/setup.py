"""Everything a run is made of, built from its config and checked before the first step."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from markov_cot.checkpoints.checkpoint import FoundCheckpoint, check_base
from markov_cot.checkpoints.initial_adapter import InitialAdapter, copy_of, keep_for_roles
from markov_cot.checkpoints.origin import find_origin, later_than
from markov_cot.checkpoints.resume import (
    check_data,
    check_precision,
    check_readers,
    check_settings,
    note_commit,
    software,
)
from markov_cot.checkpoints.run_dir import (
    Folders,
    check_folders,
    check_writable,
    folders_of,
    make_folders,
    new_run_name,
    writing,
)
from markov_cot.checkpoints.run_lock import RunLock
from markov_cot.config.reward import LAGGED
from markov_cot.config.schema import Config
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.data.registry import load
from markov_cot.data.sampler import Shuffle, sample
from markov_cot.data.splits import Splits
from markov_cot.distributed.process_group import Processes, join
from markov_cot.distributed.sharding import Sharding, mesh_of
from markov_cot.evaluation.locate import locate
from markov_cot.models import loading as models
from markov_cot.models.compat import decoder_of
from markov_cot.models.memory import FixedBudget
from markov_cot.models.policy import Policy
from markov_cot.rewards.reader_models import ReaderModel, load_reader_models, make_readers
from markov_cot.rewards.readers import Readers, check_room, fits_context
from markov_cot.rollouts.decode import AUTO
from markov_cot.rollouts.sampler import Engine
from markov_cot.rollouts.vllm_engine import VLLM, VllmEngine
from markov_cot.training.environment import record_start
from markov_cot.training.worked import SFT, Worked, make_worked, with_own_settings, with_steps
from markov_cot.utils.errors import UserError

logger = logging.getLogger(__name__)
SOME = 16
"""Training problems of which one at least must fit into every reader's context."""


@dataclass(frozen=True, slots=True)
class Session:
    """A run's fixed parts."""

    config: Config
    folders: Folders
    policy: Policy
    readers: Readers
    """Who answers from the CoTs; with the prompts of both sides."""
    splits: Splits
    shuffle: Shuffle
    held_out: list[Problem]
    """Validation problems; the first `validation.problems` of them are used while training."""
    base: dict[str, str]
    """Name, fingerprint and dtype of the base, for manifests."""
    reader_models: list[dict[str, str]]
    """The same of each other model that reads."""
    data: dict[str, str]
    """Name and fingerprint of the dataset, likewise."""
    lock: RunLock
    """Held from the start by the first process, so that nobody else trains the run."""
    origin: Path | None
    """Checkpoint that the run continues from."""
    changed: bool
    """Whether settings or data are not the origin's, as far as they decide what is computed."""
    goes_back: bool
    """Whether the run has later checkpoints than its origin, which was chosen by name."""
    processes: Processes
    sharding: Sharding | None
    """Of the base over the processes; None where each has the whole of it."""
    engine: Engine | None
    """That writes the CoTs; None where the policy's own decoders do."""
    init: InitialAdapter | None = None
    """That the run started from; None for a fresh one."""
    worked: Worked | None = None
    """What supervised fine-tuning learns from; None for reinforcement learning."""


def open_session(
    config: Config,
    run: str | None,
    recipe: str,
    *,
    resume: bool,
    accept_changes: bool = False,
    checkpoint: str | None = None,
    writes: bool = True,
) -> Session:
    """Loads data and model, checks that they fit together, and makes the run's folders unless it `writes` nothing.

    To resume is to continue from `checkpoint`, by default the run's newest that is whole; settings and data must be as
    they were then, unless `accept_changes`. Raises `UserError` for everything the user can fix.
    """
    config = with_own_settings(config)
    processes = join(cpu=config.model.device == "cpu")
    _check_processes(config, processes)
    name = new_run_name(recipe) if run is None else run
    folders = folders_of(config, processes.agree(name))
    lock = RunLock(folders.run)
    found, changed = None, False
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(lock.release)
        with processes.together():
            if processes.is_first:
                check_folders(folders, resume=resume)
                found = _find_origin(folders, lock, checkpoint) if resume else None
                changed = found is not None and check_settings(found, config, accept=accept_changes)
        with processes.together():
            tokenizer = models.load_tokenizer(config.model)
            init, config = _find_init(config, tokenizer, folders, found, resume=resume)
            splits, data = _load_data(config, tokenizer)
        policy, base, sharding = _load_policy(config, tokenizer, processes, init)
        engine = _engine_of(config, base)
        with processes.together():
            changed |= found is not None and _check_model(found, base, accept=accept_changes)
            reader_models = load_reader_models(config, policy)
            if found:
                changed |= check_readers(found, [each.about for each in reader_models], accept=accept_changes)
        readers = _readers_of(config, policy, reader_models, splits)
        shuffle, held_out = _choose_problems(config, policy, readers, splits)
        with processes.together():
            worked, config, data = _find_worked(config, policy, readers, splits, held_out, data)
            if found:
                changed |= check_data(found, data, splits.source, accept=accept_changes)
            if processes.is_first and writes:
                make_folders(folders, config, lock, resume=resume, init=init)
                about = {"recipe": recipe, "base": base, "data": data, "software": software(config)}
                record_start(folders, about | {"processes": processes.count}, policy.device, resume=resume)
            elif processes.is_first:
                check_writable(folders)
        on_failure.pop_all()
    goes_back = checkpoint is not None and found is not None and bool(later_than(found))
    origin, changed, goes_back = processes.agree((str(found.folder) if found else None, changed, goes_back))
    return Session(
        config=config,
        folders=folders,
        policy=policy,
        readers=readers,
        splits=splits,
        shuffle=shuffle,
        held_out=held_out,
        base=base,
        reader_models=[each.about for each in reader_models],
        data=data,
        lock=lock,
        origin=Path(origin) if origin else None,
        changed=changed,
        goes_back=goes_back,
        processes=processes,
        sharding=sharding,
        engine=engine,
        init=init,
        worked=worked,
    )


def _check_processes(config: Config, processes: Processes) -> None:
    if config.method != SFT and config.rollout.problems % processes.count:
        raise UserError(
            f"rollout.problems: {config.rollout.problems} questions a step cannot be shared evenly by "
            f"{processes.count} processes; set rollout.problems={processes.count} or a multiple"
        )
    if config.rollout.decoder == VLLM and processes.count > 1:
        raise UserError(f"rollout.decoder {VLLM}: is for a single process; set rollout.decoder=auto")
    if config.model.shard and LAGGED in config.reward.readers:
        raise UserError(f"reward.reader {LAGGED}: not with model.shard; use base or actor, or set model.shard=false")
    if config.model.shard and processes.count == 1:
        raise UserError("model.shard: needs several processes; start them with torchrun, or set model.shard=false")


def _find_origin(folders: Folders, lock: RunLock, checkpoint: str | None) -> FoundCheckpoint | None:
    """Locks the run and finds the checkpoint it continues from."""
    with writing(folders):
        lock.acquire()
        return find_origin(folders.checkpoints, checkpoint)


def _check_model(found: FoundCheckpoint, base: dict[str, str], *, accept: bool) -> bool:
    """Whether the base computes otherwise than it did; raises `UserError` for another base."""
    check_base(found.folder, found.manifest.base, base["name"], base["fingerprint"])
    changed = check_precision(found, base["dtype"], accept=accept)
    note_commit(found, base)
    return changed


def _find_init(
    config: Config,
    tokenizer: PreTrainedTokenizerFast,
    folders: Folders,
    found: FoundCheckpoint | None,
    *,
    resume: bool,
) -> tuple[InitialAdapter | None, Config]:
    """The adapter that the config names, of a resumed run its own copy, and the config with the adapter's settings."""
    name = config.lora.init
    if name is None:
        return None, config
    if resume:
        init = copy_of(folders.checkpoints, name, found.manifest.init if found else None)
    else:
        ref = locate(name, None, Path(config.checkpoint.checkpoints_dir), option="lora.init")
        if ref.folder is None:
            raise UserError(f"lora.init {name}: a fresh adapter starts from the base as well; leave it out")
        init = InitialAdapter(ref.folder, str(ref.folder))
    init.check_tokenizer(tokenizer, config.model)
    return init, init.resolve(config)


def _load_data(config: Config, tokenizer: PreTrainedTokenizerFast) -> tuple[Splits, dict[str, str]]:
    splits = load(config.data, tokenizer)
    for name, problems in (("training", splits.train), ("validation", splits.validation)):
        if not problems:
            raise UserError(
                f"dataset {splits.name}: has no {name} problems ({splits.note}); give it a file to train on"
            )
    return splits, {"name": splits.name, "fingerprint": splits.fingerprint()}


def _readers_of(config: Config, policy: Policy, models: Sequence[ReaderModel], splits: Splits) -> Readers:
    """The readers that the config names; raises `UserError` where a reader has no room for a CoT."""
    prompts = Prompts(policy.tokenizer, config.prompt, vocabulary=policy.vocabulary)
    readers = make_readers(config.reward, policy, prompts, FixedBudget(config.optim.micro_batch_tokens), models)
    check_room(readers, splits.train[:SOME], config.rollout.length)
    return readers


def _choose_problems(config: Config, policy: Policy, readers: Readers, splits: Splits) -> tuple[Shuffle, list[Problem]]:
    """The order of training, and the held-out problems; raises `UserError` where too few fit the model's context."""
    fits = functools.partial(fits_context, policy, readers, config.rollout.length)
    shuffle = Shuffle(splits.train, config.seed, fits)
    shuffle.batch(0, config.rollout.problems)
    count = max(config.validation.problems, config.validation.final_problems)
    return shuffle, sample(splits.validation, count, 0, fits)


def _find_worked(
    config: Config,
    policy: Policy,
    readers: Readers,
    splits: Splits,
    held_out: Sequence[Problem],
    data: dict[str, str],
) -> tuple[Worked | None, Config, dict[str, str]]:
    """What supervised fine-tuning learns from, with the config and the name of the data that follow from it."""
    if config.method != SFT:
        return None, config, data
    fits = functools.partial(fits_context, policy, readers, config.rollout.length)
    worked = make_worked(config, readers.prompts, splits, held_out, fits)
    together = hashlib.sha256(f"{data['fingerprint']} {worked.fingerprint()}".encode()).hexdigest()
    return worked, with_steps(config, len(worked.examples)), data | {"fingerprint": together}


def _load_policy(
    config: Config, tokenizer: PreTrainedTokenizerFast, processes: Processes, init: InitialAdapter | None
) -> tuple[Policy, dict[str, str], Sharding | None]:
    if processes.count == 1:
        # Accelerate would look for other processes on any one of a launcher's variables, and give every run of this
        # process the device of its first.
        device = models.available_device(config.model.device, "model.device")
    else:
        device = Accelerator(cpu=config.model.device == "cpu", mixed_precision="no").device
    mesh = mesh_of(processes, device) if config.model.shard else None

    def load_model() -> tuple[PeftModel, dict[str, str], Sharding | None]:
        if config.model.device not in ("auto", device.type):
            raise UserError(f"model.device {config.model.device}: not found on this machine; set model.device=auto")
        base = models.load_base(config.model, device)
        names = {"name": config.model.name, "fingerprint": models.fingerprint(base)}
        names["dtype"] = str(base.dtype).removeprefix("torch.")
        names |= models.origin(config.model)
        model = init.put_on(base, names) if init else models.add_adapter(base, config.lora, config.seed)
        sharding = Sharding(model, decoder_of(base), processes, mesh, device) if mesh else None
        return model, names, sharding

    if mesh:
        # Each holds the whole base in main memory until it has its share, so one after the other.
        model, names, sharding = processes.in_turn(load_model)
    else:
        with processes.together():
            model, names, sharding = load_model()
    policy = Policy(model, tokenizer, config.rollout.temperature)
    keep_for_roles(policy, config.lora)
    policy.paths.decoder = AUTO if config.rollout.decoder == VLLM else config.rollout.decoder
    return policy, names, sharding


def _engine_of(config: Config, base: dict[str, str]) -> Engine | None:
    if config.rollout.decoder != VLLM or config.method == SFT:
        return None
    arguments: dict[str, Any] = {"revision": base.get("commit"), "trust_remote_code": config.model.trust_remote_code}
    if config.model.four_bit:
        arguments["quantization"] = "bitsandbytes"
    return VllmEngine(arguments | config.rollout.engine)
