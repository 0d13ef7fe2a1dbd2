"""Adapters that PEFT wrote, by value: the critic is the untouched base, the actor what PEFT itself would compute."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, IA3Config, LoHaConfig, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from markov_cot.checkpoints.adapter_config import _RULES, read_adapter_config
from markov_cot.checkpoints.adapter_folder import AdapterFolder, check_folder
from markov_cot.config.schema import Model
from markov_cot.evaluation.loaded_model import Overrides, read_source
from markov_cot.evaluation.locate import CheckpointRef
from markov_cot.models.batching import pad_left
from markov_cot.models.loading import load_base
from markov_cot.models.policy import Policy
from markov_cot.utils.errors import UserError
from tests.helpers import last_logits

CPU = torch.device("cpu")
IDS = [1, 40, 41, 42, 50, 60, 61]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ADDED = 3
Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's advice
        yield


@pytest.fixture(scope="module")
def bases(tokenizer: Any, sizes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Folders of two random Llamas: with a head of its own, and with one tied to the embeddings."""
    folders = {}
    for tied in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            base = AutoModelForCausalLM.from_config(LlamaConfig(**sizes, tie_word_embeddings=tied))
            for parameter in base.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        folders[tied] = tmp_path_factory.mktemp("base")
        base.save_pretrained(folders[tied])
        tokenizer.save_pretrained(folders[tied])
    return folders


@pytest.fixture
def make(bases: dict[bool, Path], tmp_path: Path) -> Make:
    """Writes an adapter with random values, as PEFT saves it."""

    def write(
        *,
        tied: bool = False,
        rows: int | None = None,
        free: str | None = None,
        dtype: torch.dtype = torch.float32,
        config: Any = None,
        save_embeddings: bool | str = "auto",
        **settings: Any,
    ) -> Path:
        base = AutoModelForCausalLM.from_pretrained(bases[tied], dtype=torch.float32)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            if rows:
                base.resize_token_embeddings(rows)
            given = {"r": 4, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj", "down_proj"]} | settings
            model = get_peft_model(base, config or LoraConfig(**given))
            for name, parameter in model.named_parameters():
                if parameter.requires_grad or (free and free in name):
                    parameter.data += 0.1 * torch.randn_like(parameter)
        model.to(dtype).save_pretrained(tmp_path / "adapter", save_embedding_layers=save_embeddings)
        return tmp_path / "adapter"

    return write


def put_on(folder: Path, base: Path, tokenizer: Any) -> Policy:
    check_folder(folder)
    return Policy(AdapterFolder(folder).put_on(load_base(Model(name=str(base)), CPU)), tokenizer)


def logits(policy: Policy, role: str) -> Tensor:
    with torch.no_grad(), policy.acting_as(role):
        return last_logits(policy, pad_left([IDS], 0, CPU), len(IDS))[0]


def refusal(folder: Path, base: Path, tokenizer: Any) -> str:
    with pytest.raises(UserError) as error:
        put_on(folder, base, tokenizer)
    message = str(error.value)
    assert message.startswith(f"checkpoint {folder}: ") and "\n" not in message
    return message


EXACT: dict[str, dict[str, Any]] = {
    "plain": {},
    "all-linear": {"target_modules": "all-linear"},
    "some layers": {"layers_to_transform": [1]},
    "by a pattern": {"target_modules": r".*layers\.1.*(q|o)_proj", "exclude_modules": ["o_proj"]},
    "dropout": {"lora_dropout": 0.5},
    "rank-stabilised": {"use_rslora": True},
    "rank and alpha patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "DoRA": {"use_dora": True},
    "biases of its own": {"lora_bias": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "EVA": {"init_lora_weights": "eva", "eva_config": EvaConfig(), "rank_pattern": {"q_proj": 3}},
    "not the identity at first": {"init_lora_weights": False},
    "in bfloat16": {"dtype": torch.bfloat16},
    "a head of its own": {"modules_to_save": ["lm_head"]},
    "embeddings and head of its own": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "a norm of its own": {"modules_to_save": ["norm"]},
    "tokens of its own": {"trainable_token_indices": [40, 41]},
    "on the embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
    "on parameters": {"target_parameters": ["q_proj.weight"], "target_modules": []},
    "with the base's embeddings": {"save_embeddings": True},
    "without a task": {"task_type": None},
}


@pytest.mark.parametrize("kind", EXACT)
def test_the_critic_is_the_base_and_the_actor_is_pefts(
    kind: str, make: Make, bases: dict[bool, Path], tokenizer: Any
) -> None:
    folder = make(**EXACT[kind])
    policy = put_on(folder, bases[False], tokenizer)
    base = AutoModelForCausalLM.from_pretrained(bases[False], dtype=torch.float32)
    with torch.no_grad():
        plain = base(torch.tensor([IDS])).logits[0]
        expected = PeftModel.from_pretrained(base, folder).eval()(torch.tensor([IDS])).logits[0]
    for _ in range(2):  # switched there and back
        assert (logits(policy, "critic") - plain).abs().max() < 1e-5
        assert (logits(policy, "actor") - expected).abs().max() < 1e-5
    assert (expected - plain).abs().max() > 0.01


WITH_ADDED: dict[str, dict[str, Any]] = {
    "embeddings as they were resized": {},
    "embeddings trained as copies": {"modules_to_save": ["embed_tokens"]},
    "added tokens trained alone": {"trainable_token_indices": [512, 513, 514]},
    "on the embeddings": {"target_modules": ["embed_tokens", "q_proj"]},
}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", WITH_ADDED)
def test_added_tokens(kind: str, tied: bool, make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    """The base is resized as it was for training, and is still itself on the tokens that it had."""
    assert len(tokenizer) == 512
    rows = len(tokenizer) + ADDED
    folder = make(rows=rows, tied=tied, **WITH_ADDED[kind])
    policy = put_on(folder, bases[tied], tokenizer)
    base = AutoModelForCausalLM.from_pretrained(bases[tied], dtype=torch.float32)
    with torch.no_grad():
        plain = base(torch.tensor([IDS])).logits[0]
        base.resize_token_embeddings(rows)
        expected = PeftModel.from_pretrained(base, folder).eval()(torch.tensor([IDS])).logits[0]
    assert policy.vocabulary == rows
    known = slice(len(tokenizer))  # an output row that the adapter does not hold is random in PEFT's own loading
    assert (logits(policy, "critic")[:, known] - plain).abs().max() < 1e-5
    assert (logits(policy, "actor")[:, known] - expected[:, known]).abs().max() < 1e-5
    again = put_on(folder, bases[tied], tokenizer)
    assert all(torch.equal(logits(policy, role), logits(again, role)) for role in ("critic", "actor"))


def test_tokens_cut_off(make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    policy = put_on(make(rows=500), bases[False], tokenizer)
    base = AutoModelForCausalLM.from_pretrained(bases[False], dtype=torch.float32)
    assert policy.vocabulary == 500
    with torch.no_grad():
        plain = base(torch.tensor([IDS])).logits[0, :, :500]
    assert (logits(policy, "critic") - plain).abs().max() < 1e-5


def test_embeddings_saved_in_half_precision_do_not_round_the_base(
    make: Make, bases: dict[bool, Path], tokenizer: Any
) -> None:
    policy = put_on(make(rows=515, dtype=torch.bfloat16), bases[False], tokenizer)
    base = AutoModelForCausalLM.from_pretrained(bases[False], dtype=torch.float32)
    with torch.no_grad():
        plain = base(torch.tensor([IDS])).logits[0]
    assert (logits(policy, "critic")[:, :512] - plain).abs().max() < 1e-5


@pytest.mark.parametrize("free", ["embed_tokens", "lm_head"])
def test_embeddings_trained_in_place_are_refused(
    free: str, make: Make, bases: dict[bool, Path], tokenizer: Any
) -> None:
    folder = make(free=free, save_embeddings=True)
    message = refusal(folder, bases[False], tokenizer)
    assert free in message and "was trained in place and cannot be switched off" in message


@pytest.mark.parametrize("settings", [{"target_modules": ["embed_tokens"]}, {"trainable_token_indices": [513]}])
def test_added_tokens_without_their_embeddings(
    settings: dict[str, Any], make: Make, bases: dict[bool, Path], tokenizer: Any
) -> None:
    folder = make(rows=515, save_embeddings=False, **settings)
    message = refusal(folder, bases[False], tokenizer)
    assert "was trained with tokens added to its base" in message and "where the base has 512" in message
    assert "resize_token_embeddings" in message and "--model" in message


CHANGES_THE_BASE = "starts by changing the base's weights (or is not known not to), so the base would not be the critic"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"init {name}": ({"init_lora_weights": name}, f'init_lora_weights="{name}") {CHANGES_THE_BASE}')
        for name in ("pissa", "pissa_niter_4", "olora", "loftq", "corda", "lora_ga", "of-next-year")
    },
    "layers": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication=[[0, 2], [1, 2]]) makes a deeper model"),
    "aLoRA": ({"alora_invocation_tokens": [50, 60]}, "alora_invocation_tokens=[50, 60]) acts only after its"),
    "biases": ({"bias": "all"}, 'bias="all") trained the base\'s own biases'),
    "some biases": ({"bias": "lora_only"}, 'bias="lora_only") trained the base\'s own biases'),
    "another task": ({"task_type": "SEQ_CLS"}, 'task_type="SEQ_CLS") is not a language model\'s'),
    "QALoRA": ({"use_qalora": True}, "use_qalora=true) is a form of LoRA that is not computed here"),
    "Arrow": ({"arrow_config": {"top_k": 2}}, 'arrow_config={"top_k": 2}) is a form of LoRA'),
    "a key of next year's": ({"use_nextlora": True}, "has use_nextlora=true, which is not known here"),
    "a key that says no": ({"keep_base": False}, "has keep_base=false, which is not known here"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_known_to_be_harmless_is_refused_by_name(
    kind: str, make: Make, bases: dict[bool, Path], tokenizer: Any
) -> None:
    changed, expected = REFUSED[kind]
    folder = make()
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | changed))
    assert expected in refusal(folder, bases[False], tokenizer)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_converted_as_peft_documents_is_read(
    start: str, bases: dict[bool, Path], tmp_path: Path, tokenizer: Any
) -> None:
    base = AutoModelForCausalLM.from_pretrained(bases[False], dtype=torch.float32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=start)
        model = get_peft_model(base, config)
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(tmp_path / "first")
        model.peft_config["default"].init_lora_weights = start
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
    with torch.no_grad():
        trained = model(torch.tensor([IDS])).logits[0]
    model.save_pretrained(tmp_path / "raw")
    assert CHANGES_THE_BASE in refusal(tmp_path / "raw", bases[False], tokenizer)
    model.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "first"))
    policy = put_on(tmp_path / "converted", bases[False], tokenizer)
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(bases[False], dtype=torch.float32)(torch.tensor([IDS])).logits[0]
    assert (logits(policy, "critic") - plain).abs().max() < 1e-5
    assert (logits(policy, "actor") - trained).abs().max() < 1e-4


@pytest.mark.parametrize(
    "config",
    [
        IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"], feedforward_modules=[]),
        LoHaConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
    ],
    ids=lambda config: str(config.peft_type.value),
)
def test_other_kinds_of_adapters_are_refused(config: Any, make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    message = refusal(make(config=config), bases[False], tokenizer)
    assert f'peft_type="{config.peft_type.value}") is not LoRA' in message


def test_every_key_that_peft_writes_has_a_rule(make: Make) -> None:
    values = json.loads((make() / CONFIG).read_text())
    assert set(values) | set(LoraConfig().to_dict()) <= set(_RULES)


def test_the_documentation_names_every_key_that_can_be_refused() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert not [key for key, rule in _RULES.items() if rule.otherwise and f"`{key}`" not in text]


def test_an_unknown_key_without_a_value_is_let_pass(make: Make) -> None:
    folder = make()
    values = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(values | {"of_next_year": None}))
    assert read_adapter_config(folder)["r"] == 4


@pytest.mark.parametrize("text", ["{oops", "[]", "{}", "null"])
def test_a_damaged_config(text: str, make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    folder = make()
    (folder / CONFIG).write_text(text)
    assert "adapter_config.json is damaged" in refusal(folder, bases[False], tokenizer)


# --- files


def test_a_tensor_that_is_missing_or_too_many_is_named(make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    """PEFT ignores both."""
    folder = make()
    tensors = load_file(folder / WEIGHTS)
    name = next(iter(tensors))
    save_file({key: value for key, value in tensors.items() if key != name}, folder / WEIGHTS)
    assert "the adapter lacks" in refusal(folder, bases[False], tokenizer)
    save_file(tensors | {name.replace("layers.0", "layers.7"): tensors[name].clone()}, folder / WEIGHTS)
    assert "the model has no place for" in refusal(folder, bases[False], tokenizer)


def test_an_adapter_of_another_base_says_which_tensor_does_not_fit(
    make: Make, bases: dict[bool, Path], tokenizer: Any
) -> None:
    folder = make()
    tensors = load_file(folder / WEIGHTS)
    save_file(
        {key: value.repeat(1, 2) if "lora_A" in key else value for key, value in tensors.items()}, folder / WEIGHTS
    )
    message = refusal(folder, bases[False], tokenizer)
    assert "size mismatch for" in message and message.endswith("pass its base with --model")


def test_values_that_are_not_finite(make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    folder = make()
    tensors = load_file(folder / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    assert "holds 1 values that are NaN or infinite" in refusal(folder, bases[False], tokenizer)


def test_truncated_weights(make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    folder = make()
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])
    assert "adapter_model.safetensors cannot be read" in refusal(folder, bases[False], tokenizer)


def test_weights_in_a_pickle_alone_are_refused_with_a_way_out(
    make: Make, bases: dict[bool, Path], tokenizer: Any
) -> None:
    folder = make()
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    message = refusal(folder, bases[False], tokenizer)
    assert "adapter_model.bin is a pickle" in message and "save_pretrained, which writes safetensors" in message


def test_the_base_that_an_adapter_names(make: Make, bases: dict[bool, Path]) -> None:
    folder = make()
    assert AdapterFolder(folder).base(None) == {"name": str(bases[False])}
    assert AdapterFolder(folder).base("mine") == {"name": "mine"}
    values = json.loads((folder / CONFIG).read_text()) | {"base_model_name_or_path": "owner/base", "revision": "v2"}
    (folder / CONFIG).write_text(json.dumps(values))
    assert AdapterFolder(folder).base("mine") == {"name": "mine"}, "of which that is no revision"
    source = read_source(CheckpointRef("adapter", folder, None), Overrides())
    model = source.config(source.default_task()).model
    assert (model.name, model.revision) == ("owner/base", "v2")
    pinned = read_source(CheckpointRef("adapter", folder, None), Overrides(settings={"model.revision": "v3"}))
    assert pinned.config(pinned.default_task()).model.revision == "v3"
    (folder / CONFIG).write_text(json.dumps(values | {"base_model_name_or_path": None}))
    with pytest.raises(UserError, match="does not name its base model; pass --model"):
        AdapterFolder(folder).base(None)


def test_an_adapter_that_transformers_loads_by_itself_is_no_base(
    make: Make, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from the hub, where its files are not seen before they are loaded."""
    folder = make()
    monkeypatch.setattr("markov_cot.models.loading.check_source", lambda name: str(folder))
    with pytest.raises(UserError, match="model owner/adapter: is an adapter, not a model"):
        load_base(Model(name="owner/adapter"), CPU)


def test_the_tokenizer_beside_the_adapter_is_used(make: Make, bases: dict[bool, Path], tokenizer: Any) -> None:
    folder, config = make(rows=515), Model(name=str(bases[False]))
    assert len(AdapterFolder(folder).load_tokenizer(config)) == 512
    first = AdapterFolder(folder).fingerprint()
    own = shutil.copytree(bases[False], folder.parent / "tokenizer")
    from transformers import AutoTokenizer

    changed = AutoTokenizer.from_pretrained(own)
    changed.add_special_tokens({"extra_special_tokens": ["<a>", "<b>", "<c>"]})
    changed.save_pretrained(folder)
    assert len(AdapterFolder(folder).load_tokenizer(config)) == 515
    assert AdapterFolder(folder).fingerprint() != first
