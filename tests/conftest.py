"""Fixtures the numeric tests share, and type and shape checks of the rooms with tensors while they are tested."""

from __future__ import annotations

import ast
import copy
import functools
import gc
import logging
import os
import unittest.mock
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import hypothesis
import jaxtyping
import pytest
from jaxtyping._import_hook import JaxtypingTransformer, _JaxtypingLoader, _optimized_cache_from_source

from tests.known_warnings import KNOWN

# Waiting for the disk takes a tenth of a short run, and only a power cut shows what it is for. Like fsync, fstat
# fails for what is no open file. Programs that tests start do wait.
os.fsync = os.fstat  # type: ignore[assignment]
# They find the package compiled, after the first of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Tests run in parallel (-n 2), and their models are too small to gain from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
hypothesis.settings.register_profile("ours", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ours")
PACKAGE = Path(__file__).parents[1] / "markov_cot"
TENSOR_ROOMS = ("algorithms", "models", "rewards", "rollouts", "training")
# A check costs more than these modules' calls themselves, tens of thousands in a step: their values are tested instead.
UNCHECKED = ("attention", "fused_cpu", "joined_linear", "linear", "lora", "paths", "plain_layers")
CHECKED = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for room in TENSOR_ROOMS
    for path in (PACKAGE / room).rglob("*.py")
    if path.stem not in (*UNCHECKED, "__init__")
]


def _leaving_out_inner(visit: Callable[[Any, ast.FunctionDef], Any]) -> Callable[[Any, ast.FunctionDef], Any]:
    """As jaxtyping 0.3 marks functions, without those within functions: their checks are compiled at every call."""

    def visited(self: Any, node: ast.FunctionDef) -> Any:
        inner = isinstance(self._parents[-1], ast.FunctionDef)
        self._no_type_check_level += inner
        found = visit(self, node)
        self._no_type_check_level -= inner
        return found

    return visited


def _code_with_checks(self: Any, name: str) -> Any:
    """As jaxtyping 0.3 finds a module's compiled code, without looking there for what the module imports, too.

    It does so for as long as the module runs, and the libraries that it is the first to import are compiled again.
    """
    tagged = functools.partial(_optimized_cache_from_source, self._typechecker.get_hash())
    with unittest.mock.patch("importlib._bootstrap_external.cache_from_source", tagged):
        return SourceFileLoader.get_code(self, name)


JaxtypingTransformer.visit_FunctionDef = _leaving_out_inner(JaxtypingTransformer.visit_FunctionDef)
_JaxtypingLoader.get_code = _code_with_checks
_JaxtypingLoader.exec_module = SourceFileLoader.exec_module
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

from markov_cot.data import prompts  # noqa: E402 - the hook must come first

# The package imports this name for type checkers only, to start without transformers; the run-time check needs one too.
prompts.PreTrainedTokenizerFast = object  # type: ignore[attr-defined]

TOKENIZER_DOCUMENTS = 500
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>\n{{ message.content }}\n</{{ message.role }}>\n"
    "{% endfor %}"
)


def pytest_configure(config: pytest.Config) -> None:
    for known in KNOWN:
        config.addinivalue_line("filterwarnings", known.pytest_filter)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What tests import is no garbage: it is not looked through while they do, nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """The command line, called from within a test or a module's fixture, sets up logging for its whole process."""
    logger_class = logging.getLoggerClass()
    logging.getLogger("markov_cot").setLevel(logging.NOTSET)
    yield
    logging.getLogger("markov_cot").setLevel(logging.NOTSET)
    logging.setLoggerClass(logger_class)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The bundled tokenizer's kind, trained on few documents: byte-level, <pad> <s> </s>, no chat template."""
    from markov_cot.models.nano import build

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "TOKENIZER_DOCUMENTS", TOKENIZER_DOCUMENTS)
        return build.build_tokenizer(0)


@pytest.fixture(scope="session")
def chat_tokenizer(tokenizer: Any) -> Any:
    """The same with a chat template."""
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = CHAT_TEMPLATE
    return chat


@pytest.fixture(scope="session")
def make_policy(tokenizer: Any, sizes: dict[str, Any]) -> Callable[..., Any]:
    """Builds a `Policy` with random weights: a Llama of two layers unless `config` says otherwise.

    `adapter` "fresh" is the one training starts from (B = 0); "random" makes the actor differ from the critic.
    """
    import torch
    from transformers import LlamaConfig

    from markov_cot.config.schema import Lora
    from markov_cot.models.loading import add_adapter, base_from_config
    from markov_cot.models.policy import Policy

    torch.set_num_threads(1)

    def make(
        config: Any = None,
        *,
        dtype: torch.dtype = torch.float32,
        temperature: float = 1.0,
        adapter: str = "random",
        tokenizer: Any = tokenizer,
        lora: Lora | None = None,
        device: str = "cpu",
    ) -> Policy:
        config = config or LlamaConfig(**sizes)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            base = base_from_config(copy.deepcopy(config), dtype)
        generator = torch.Generator().manual_seed(0)
        # Fresh weights are so small that every token is about equally likely, which would hide mistakes.
        for parameter in base.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        policy = Policy(add_adapter(base.to(device), lora or Lora(), seed=0), tokenizer, temperature)
        if adapter == "random":
            for name, parameter in policy.trainable().items():
                if "lora_B" in name:
                    random = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                    parameter.data = (0.05 * random).to(device)
        return policy

    return make


@pytest.fixture(scope="session")
def sizes(tokenizer: Any) -> dict[str, Any]:
    """Settings most families' configs share."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


@pytest.fixture
def exact_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama's norms in their input's dtype: transformers computes them in float32, which hides what float64 shows."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def forward(self: Any, x: Any) -> Any:
        return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


pytest_plugins = ["tests.command_fixtures", "tests.sweep_fixtures"]
