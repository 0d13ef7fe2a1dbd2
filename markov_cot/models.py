"""Loading bases and tokenizers, and putting an adapter on a base."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from markov_cot.config import Lora, Model
from markov_cot.errors import UserError
from markov_cot.lora import leave_out_unfit, use_adapted_linear

NANO = "nano"
WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json")
_FINGERPRINT_VALUES = 64


def resolve_source(name: str) -> str:
    """The folder of the bundled `nano`, or `name` itself (a local folder or a hub id)."""
    return str(resources.files("markov_cot.nano") / "base") if name == NANO else name


def load_tokenizer(config: Model) -> PreTrainedTokenizerFast:
    """The model's tokenizer. Raises `UserError` when it cannot be had."""
    source = resolve_source(config.name)
    _check_local_folder(source)
    with _model_errors(config.name):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=config.trust_remote_code)


def load_base(config: Model, device: torch.device) -> PreTrainedModel:
    """The frozen base in its configured dtype, on `device` unless it is to be sharded.

    Raises `UserError` when it cannot be had.
    """
    source = resolve_source(config.name)
    _check_local_folder(source)
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code, "dtype": base_dtype(config, device)}
    if config.four_bit:
        options |= _four_bit_options(device)
    with _model_errors(config.name):
        base, report = AutoModelForCausalLM.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, **options
        )
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random values and goes on.
        raise UserError(
            f"model {config.name}: its weights lack {len(missing)} tensors ({missing[0]}...); get them whole"
        )
    stays = config.four_bit or config.shard
    return _prepare(base if stays else base.to(device), config.gradient_checkpointing)


def base_from_config(model_config: Any, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A base with random weights, for tests and benchmarks."""
    return _prepare(AutoModelForCausalLM.from_config(model_config, dtype=dtype), gradient_checkpointing=False)


def base_dtype(config: Model, device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU and float32 on a CPU, unless the config says otherwise."""
    if config.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[config.dtype]


def add_adapter(base: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    """Wraps `base` in a fresh LoRA adapter, which starts as the identity (B = 0) and depends on `seed` alone."""
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    peft_config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=0.0,
        target_modules=targets,
        task_type="CAUSAL_LM",
        bias="none",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in base.modules()),
    )
    if not getattr(base, "is_loaded_in_4bit", False):
        use_adapted_linear(peft_config)
        leave_out_unfit(peft_config, base)
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT still asks transformers for the attribute by its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(seed)
        try:
            model = get_peft_model(base, peft_config)
        except ValueError as error:
            raise UserError(f"lora.target_modules {lora.target_modules}: {_first_line(error)}") from None
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float64:
            parameter.data = parameter.data.float()
    return model


def fingerprint(base: PreTrainedModel | PeftModel) -> str:
    """Hash of a sample of the base's weights, the same whatever dtype they were loaded in.

    Tells one base from another in a moment even for billions of parameters; it is no checksum of every weight.
    """
    digest = hashlib.sha256()
    for name, parameter in base.named_parameters():
        if "lora_" in name or not parameter.dtype.is_floating_point:
            continue
        plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".")
        values = parameter.detach().flatten()
        sample = values[:: max(1, values.numel() // _FINGERPRINT_VALUES)][:_FINGERPRINT_VALUES]
        digest.update(f"{plain} {tuple(parameter.shape)}".encode())
        digest.update(sample.to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


def _prepare(base: PreTrainedModel, gradient_checkpointing: bool) -> PreTrainedModel:
    base.requires_grad_(False)
    if gradient_checkpointing:
        # Checkpointing works in training mode only, so dropout has to be taken out rather than switched off.
        for module in base.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(getattr(module, "attention_dropout", None), float):
                module.attention_dropout = 0.0
        # Newer releases of transformers have it under the first name and warn at the second.
        enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        base.enable_input_require_grads()
    return base


def _four_bit_options(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        raise UserError("model.four_bit: bitsandbytes needs a CUDA device and none is here; set model.four_bit=false")
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return {"quantization_config": quantization, "device_map": {"": device}}


def _check_local_folder(source: str) -> None:
    folder = Path(source)
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise UserError(f"model {folder}: no config.json in it; give a folder that transformers' save_pretrained wrote")
    if not any(next(folder.glob(pattern), None) for pattern in WEIGHT_FILES):
        raise UserError(f"model {folder}: no weights (*.safetensors) in it; save them there with save_pretrained")


@contextlib.contextmanager
def _model_errors(name: str) -> Iterator[None]:
    """Turns what loading raises into one line that names the model and a way out."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"model {name}: {_first_line(error)}") from None
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        remedy = "check the folder" if Path(name).is_dir() else "check the name and the connection, or try --model nano"
        raise UserError(f"model {name}: cannot be loaded ({_first_line(error)}); {remedy}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
