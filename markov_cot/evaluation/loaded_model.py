"""What is evaluated: a checkpoint (or the untrained base) with the settings it was trained under, ready to write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markov_cot.checkpoints import manifest
from markov_cot.checkpoints.adapter_folder import AdapterFolder
from markov_cot.checkpoints.checkpoint import check_base
from markov_cot.checkpoints.contents import load_adapter, load_lagged
from markov_cot.checkpoints.initial_adapter import InitialAdapter, copy_of, keep_for_roles
from markov_cot.config.former import in_todays_terms
from markov_cot.config.loading import apply, build_config, read_recipe, recipe_names
from markov_cot.config.prompt import Prompt
from markov_cot.config.reward import ACTOR as ACTOR_READER
from markov_cot.config.reward import BASE, LAGGED
from markov_cot.config.schema import Config, Model
from markov_cot.data.own import same_data
from markov_cot.data.prompts import Prompts
from markov_cot.evaluation.locate import CheckpointRef
from markov_cot.evaluation.suites import SuiteTask
from markov_cot.models import loading as models
from markov_cot.models.memory import TokenBudgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import ACTOR, CRITIC, Role
from markov_cot.models.source import ADAPTER_CONFIG
from markov_cot.rewards.reader_models import ReaderModel, load_reader_models, make_readers
from markov_cot.rewards.readers import Readers
from markov_cot.rollouts.decode import static_decoder
from markov_cot.utils.errors import UserError
from markov_cot.utils.layout import CONFIG
from markov_cot.utils.plugins import is_code

QUICKSTART = "quickstart"
TOKEN_BUDGET = 16384
"""Most tokens (sequences x padded length) scored in one forward, until memory runs out."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user says of settings; everything not said comes from the checkpoint or the dataset's recipe."""

    model: str | None = None
    data_dir: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By key, with dots."""

    def apply(self, values: dict[str, Any]) -> dict[str, Any]:
        """Put the overrides into `values`."""
        if self.model is not None and self.model != values.get("model", {}).get("name"):
            values = {**values, "model": {**values.get("model", {}), "revision": None}}  # it was the other model's
        named = {"model.name": self.model, "data.data_dir": self.data_dir}
        return apply(values, {key: value for key, value in named.items() if value is not None} | dict(self.settings))

    @property
    def on_cpu(self) -> bool:
        """Whether the user asks for the CPU, which has to be known before processes meet."""
        return build_config(apply({}, self.settings), "--set").model.device == "cpu"

    def folder(self, key: str) -> Path:
        """The folder that `checkpoint.<key>` names, which has to be known before a checkpoint's own settings are."""
        return Path(getattr(build_config(apply({}, self.settings), "--set").checkpoint, key))


@dataclass(frozen=True)
class ModelSource:
    """Where settings come from: a checkpoint's manifest, a run's config, or recipes."""

    ref: CheckpointRef
    values: dict[str, Any] | None
    """Settings of the manifest or the run; None for recipes."""
    overrides: Overrides
    base: dict[str, str] = field(default_factory=dict)
    """Name, fingerprint and revision of the base it was trained on, as far as they are known."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Of the adapter's files."""
    init: dict[str, str] = field(default_factory=dict)
    """Of the adapter that its run started from, as a manifest has it."""

    @property
    def writer(self) -> Role:
        """A checkpoint is the actor; without one the critic, which is the untrained base, writes and answers."""
        return CRITIC if self.ref.folder is None else ACTOR

    def config(self, task: SuiteTask) -> Config:
        """Settings for a task.

        A checkpoint keeps its own settings on any dataset, the length of its CoTs above all; only `data` is the
        dataset's own.
        """
        values = json.loads(json.dumps(self._values(task)))
        if task.subset is not None:
            values.setdefault("data", {})["subset"] = task.subset
        where = f"settings of {self.ref.describe()}" if self.values else f"settings for {task.dataset}"
        return build_config(self.overrides.apply(values), where)

    def model(self) -> Model:
        """The base model's settings, which no task changes."""
        values = self.values or {"model": self._named_base()}
        where = f"settings of {self.ref.describe()}"
        return build_config(self.overrides.apply(json.loads(json.dumps(values))), where).model

    def default_task(self) -> SuiteTask:
        """The dataset trained on, or the quickstart's."""
        recipe = None if self.values else QUICKSTART
        values = self.values or read_recipe(QUICKSTART)
        dataset = build_config(values, self.ref.describe()).data.dataset
        if is_code(dataset):
            raise UserError(f"{self.ref.describe()}: was trained on {dataset}, which is code; pass --dataset {dataset}")
        return SuiteTask(dataset=dataset, recipe=recipe)

    def _values(self, task: SuiteTask) -> dict[str, Any]:
        recipe = _recipe(task)
        if self.values is None:
            # Recipes name the model they were written for; which one is evaluated is for the user to say.
            return {**recipe, "model": self._named_base()}
        if task.recipe is None and same_data(task.dataset, self.values.get("data", {}).get("dataset", "")):
            return self.values
        return {**self.values, "data": recipe["data"]}

    def _named_base(self) -> dict[str, str]:
        return {key: self.base[key] for key in ("name", "revision") if key in self.base}


def read_source(ref: CheckpointRef, overrides: Overrides) -> ModelSource:
    """Reads and checks what a checkpoint says of itself. Raises `UserError` when it is damaged."""
    if ref.folder is None:
        return ModelSource(ref, _run_config(ref.run, overrides), overrides)
    if ref.has_manifest:
        about = manifest.read_manifest(ref.folder)
        sums = {name: about.files[name] for name in (manifest.WEIGHTS, ADAPTER_CONFIG)}
        return ModelSource(ref, about.config, overrides, about.base, sums, about.init)
    adapter = AdapterFolder(ref.folder)
    return ModelSource(ref, None, overrides, adapter.base(overrides.model), adapter.checksums())


class LoadedModel:
    """One base model with the adapters of its checkpoints, loaded one at a time."""

    def __init__(self, source: ModelSource, config: Config) -> None:
        """Loads the base, and the adapter if there is one. Raises `UserError` when they do not fit together."""
        self.device = models.available_device(config.model.device, "model.device")
        folder = source.ref.folder
        adapter = AdapterFolder(folder) if folder is not None else None
        foreign = adapter if not source.ref.has_manifest else None
        self.tokenizer = foreign.load_tokenizer(config.model) if foreign else models.load_tokenizer(config.model)
        base = models.load_base(config.model, self.device)
        self.dtype = str(base.dtype).removeprefix("torch.")
        self.base = {"name": config.model.name, "fingerprint": models.fingerprint(base)}
        self.base |= models.origin(config.model)
        self._check_base(source)
        self.adapter_parts = foreign.fingerprint() if foreign and foreign.changes_base_tokens else None
        """Of what a foreign adapter brings that its base is read with as well: a tokenizer, added tokens."""
        self._checkpoint = None if foreign else folder
        """Of a run; what its reader `lagged` reads with is in it."""
        init = _initial_critic(source, config)
        self.critic = init.about["fingerprint"] if init else None
        """Of the adapter that the critic has; None where it is the base."""
        if init:
            self._model = init.put_on(base, self.base)
        elif adapter:
            self._model = adapter.put_on(base, trainable=not foreign)
        else:
            self._model = models.add_adapter(base, config.lora, config.seed)
        self.policy = Policy(self._model, self.tokenizer, config.rollout.temperature)
        if init:
            keep_for_roles(self.policy, config.lora)
            if folder is not None:
                load_adapter(folder, self._model)
        # What was found to fit serves all tasks and checkpoints. CUDA graphs serve all batches of a task, so they go
        # only where their memory is needed.
        self.budgets = TokenBudgets(TOKEN_BUDGET, release=static_decoder.cache_clear, keeps=True)
        self._prompts: dict[str, Prompts] = {}
        self._reader_models: dict[str, ReaderModel] = {}
        self._readers: dict[str, Readers] = {}

    def prompts(self, settings: Prompt) -> Prompts:
        """The contexts that settings ask for."""
        key = settings.model_dump_json()
        if key not in self._prompts:
            self._prompts[key] = Prompts(self.tokenizer, settings, vocabulary=self.policy.vocabulary)
        return self._prompts[key]

    def readers(self, config: Config) -> Readers:
        """The readers that settings ask for; each model among them is loaded once."""
        key = config.reward.model_dump_json() + config.prompt.model_dump_json()
        if key not in self._readers:
            for model in load_reader_models(config, self.policy, self._reader_models):
                self._reader_models[model.name] = model
            loaded, prompts = list(self._reader_models.values()), self.prompts(config.prompt)
            readers = make_readers(config.reward, self.policy, prompts, self.budgets, loaded)
            if readers.lag and self._checkpoint is not None:
                readers.set_lag(load_lagged(self._checkpoint))
            self._readers[key] = readers
        return self._readers[key]

    def about_readers(self, config: Config, *, is_base: bool) -> list[dict[str, str]]:
        """What the answers depend on of who reads: names, and of other models fingerprint and dtype."""
        self.readers(config)
        names = [BASE if is_base and name in (ACTOR_READER, LAGGED) else name for name in config.reward.readers]
        return [self._reader_models[name].about if name in self._reader_models else {"name": name} for name in names]

    def load(self, source: ModelSource) -> None:
        """Puts another checkpoint of the same run in the adapter's place."""
        assert source.ref.folder is not None
        self._check_base(source)
        load_adapter(source.ref.folder, self._model)
        self._checkpoint = source.ref.folder
        self._readers = {}

    def _check_base(self, source: ModelSource) -> None:
        ref = source.ref
        if ref.folder is not None and ref.has_manifest:
            check_base(ref.folder, source.base, self.base["name"], self.base["fingerprint"])


def _initial_critic(source: ModelSource, config: Config) -> InitialAdapter | None:
    """The adapter that a run started from, where its critic has that; None where the critic is the base."""
    if config.lora.init is None or config.lora.critic == "base":
        return None
    ref = source.ref
    run_folder = ref.folder.parent if ref.folder else source.overrides.folder("checkpoints_dir") / str(ref.run)
    return copy_of(run_folder, config.lora.init, source.init or None)


def _run_config(run: str | None, overrides: Overrides) -> dict[str, Any] | None:
    """The config of a run, so that its base is evaluated as the run would be; None without a run."""
    if run is None:
        return None
    path = overrides.folder("runs_dir") / run / CONFIG
    if not path.is_file():
        raise UserError(f"run {run}: there is no {path}; leave out --run to evaluate the base under a recipe")
    return in_todays_terms(read_recipe(str(path)))


def _recipe(task: SuiteTask) -> dict[str, Any]:
    name = task.recipe or (task.dataset if task.dataset in recipe_names() else None)
    values = read_recipe(name) if name else {}
    # A dataset of the user's own has no recipe; it starts from the defaults.
    return {**values, "data": {**values.get("data", {}), "dataset": task.dataset}}
