"""Readers as the settings name them: the trained model in one of its states, and other models, loaded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markov_cot.config.reward import LAGGED, OWN_READERS
from markov_cot.config.reward import Reward as Settings
from markov_cot.config.schema import Config, Lora, Model
from markov_cot.data.problem import Problem
from markov_cot.data.prompts import Prompts
from markov_cot.models import loading
from markov_cot.models.adapter_copy import AdapterCopy
from markov_cot.models.memory import Budgets
from markov_cot.models.policy import Policy
from markov_cot.models.roles import CRITIC
from markov_cot.rewards.readers import ROLES, Reader, Readers
from markov_cot.rollouts.path_check import Trial, check_paths
from markov_cot.utils.errors import UserError

PROBES = ("The answer is 47.\n", " Let x = 3/4; é, 数字 \t?")
"""Texts that two tokenizers with one vocabulary must encode alike to count as the same."""


@dataclass(frozen=True)
class ReaderModel:
    """Another model, loaded to read."""

    name: str
    """As the settings have it."""
    policy: Policy
    about: dict[str, str]
    """Name, fingerprint and dtype, for manifests."""


def load_reader_models(config: Config, policy: Policy, known: Collection[str] = ()) -> list[ReaderModel]:
    """Load the models among the readers that are not `known`. Raises `UserError` for one that cannot be had."""
    names = [name for name in config.reward.readers if name not in OWN_READERS and name not in known]
    try:
        return [load_model(name, config, policy) for name in names]
    except UserError as error:
        raise UserError(f"reward.reader: {error}") from None


def make_readers(
    settings: Settings, policy: Policy, prompts: Prompts, budgets: Budgets, models: Sequence[ReaderModel] = ()
) -> Readers:
    """Return the readers that the settings name, in their order. `models` are those of them that are other models.

    Raises `UserError` for a model whose prompts cannot be made.
    """
    by_name = {model.name: model for model in models}
    shown = _short_names([name for name in settings.readers if name not in OWN_READERS])
    readers = []
    for name in settings.readers:
        if name in OWN_READERS:
            lag = AdapterCopy(policy) if name == LAGGED else None
            readers.append(Reader(name, policy, prompts, ROLES[name], lag))
        else:
            readers.append(_reader(shown[name], by_name[name].policy, prompts))
    return Readers(tuple(readers), prompts, settings, budgets)


def check_reader_paths(readers: Readers, problems: Sequence[Problem], length: int) -> None:
    """Make sure that what is computed of other models is what they compute, on the contexts they will read."""
    for reader in readers.readers:
        if reader.prompts is readers.prompts or not problems:  # the actor's own model is checked as the actor
            continue
        contexts = [reader.prompts.answer_context(problem, [0] * length) for problem in problems]
        prompts = sorted((list(context.ids[: context.prompt_length]) for context in contexts), key=len)
        most = max(len(context.ids) + len(context.answer_ids) for context in contexts)
        trial = Trial([prompts[0], prompts[0], prompts[-1]], length, len(prompts[0]), most, trains=False)
        check_paths(reader.policy, trial)


def load_model(name: str, config: Config, policy: Policy) -> ReaderModel:
    """Load another model, frozen, as the settings say of readers; beside `policy` unless they name a device."""
    reward = config.reward
    settings = Model(
        name=name,
        dtype=reward.reader_dtype,
        device=reward.reader_device,
        trust_remote_code=config.model.trust_remote_code,
    )
    device = policy.device
    if reward.reader_device != "auto":
        device = loading.available_device(reward.reader_device, "reward.reader_device")
    tokenizer = loading.load_tokenizer(settings)
    base = loading.load_base(settings, device)
    about = {"name": name, "fingerprint": loading.fingerprint(base), "dtype": str(base.dtype).removeprefix("torch.")}
    about |= loading.origin(settings)
    # Its adapter is never switched on; it is there because roles are states of one.
    return ReaderModel(name, Policy(loading.add_adapter(base, Lora(rank=1), 0), tokenizer), about)


def _reader(name: str, policy: Policy, prompts: Prompts) -> Reader:
    own = Prompts(policy.tokenizer, prompts.settings, vocabulary=policy.vocabulary)
    return Reader(
        name, policy, own, CRITIC, writer=None if same_tokens(prompts.tokenizer, policy.tokenizer) else prompts
    )


def same_tokens(one: Any, other: Any) -> bool:
    """Whether ids of one tokenizer mean the same in another."""
    vocabularies: list[Mapping[str, int]] = [one.get_vocab(), other.get_vocab()]
    if vocabularies[0] != vocabularies[1]:
        return False
    return all(
        one(text, add_special_tokens=False).input_ids == other(text, add_special_tokens=False).input_ids
        for text in PROBES
    )


def _short_names(names: Sequence[str]) -> dict[str, str]:
    """The last part of each name, or all of it where two would be called alike."""
    last = {name: Path(name).name or name for name in names}
    count = Counter(last.values())
    return {name: short if count[short] == 1 else name.strip("/") for name, short in last.items()}
