"""Loading bases and tokenizers, and putting an adapter on a base."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from markov_cot.config.schema import Lora, Model
from markov_cot.models.linear import HAS_BFLOAT16, HAS_ONEDNN
from markov_cot.models.lora import leave_out_unfit, use_adapted_linear
from markov_cot.models.source import check_source, check_tokenizer
from markov_cot.models.source import resolve_source as resolve_source
from markov_cot.utils.errors import UserError
from markov_cot.utils.hub_access import Access, transport_errors
from markov_cot.utils.text import first_line

logger = logging.getLogger(__name__)

_FINGERPRINT_VALUES = 64
# A damaged file can make transformers raise nearly anything.
_LOADING_ERRORS: tuple[type[BaseException], ...] = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(SafetensorError, StrictDataclassError),
)
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# What PEFT puts around the base's own tensors, and tensors of its own.
_WRAPPERS = {"base_layer", "original_module", "token_adapter"}
_ADDED = re.compile(r"lora_|\bmodules_to_save\.|\btrainable_tokens_")


def load_tokenizer(config: Model, folder: Path | None = None) -> PreTrainedTokenizerFast:
    """The model's tokenizer, or that of another folder. Raises `UserError` when it cannot be had."""
    source, name = (str(folder), str(folder)) if folder else (check_source(config.name), config.name)
    check_tokenizer(source)
    options = {} if folder else _revision_option(config)
    # What fails for a model of the hub is mostly the hub, not the file that happens to come first.
    with _model_errors(name, config.revision, "its tokenizer " if Path(source).is_dir() else ""):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=config.trust_remote_code, **options)


def load_base(
    config: Model, device: torch.device, dtype: torch.dtype | Literal["auto"] | None = None
) -> PreTrainedModel:
    """The frozen base in the configured dtype, on `device` unless it is to be sharded.

    `dtype` goes before the configured one; "auto" is the one that the base's own config names. Raises `UserError` when
    the base cannot be had.
    """
    source = check_source(config.name)
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    options["dtype"] = dtype or base_dtype(config, device)
    if options["dtype"] == torch.bfloat16 and device.type == "cpu" and HAS_ONEDNN and not HAS_BFLOAT16:
        logger.warning("this processor has no bfloat16 products; model.dtype=float32 is several times faster here")
    options |= _revision_option(config)
    if config.four_bit:
        options |= _four_bit_options(device)
    with _model_errors(config.name, config.revision):
        base, report = AutoModelForCausalLM.from_pretrained(
            source, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    if getattr(base, "_hf_peft_config_loaded", False):
        raise UserError(
            f"model {config.name}: is an adapter, not a model; evaluate it with `markov-cot eval --checkpoint FOLDER`; "
            "--model is for its base"
        )
    if mismatched := sorted(report["mismatched_keys"]):
        key, found, expected = mismatched[0]
        raise UserError(
            f"model {config.name}: its {key} is {list(found)} where its config.json says {list(expected)}; get weights "
            "and config.json of one model"
        )
    if missing := sorted(report["missing_keys"]):
        # transformers fills them with random values and goes on.
        raise UserError(
            f"model {config.name}: its weights lack {len(missing)} tensors ({missing[0]}...); get them whole"
        )
    stays = config.four_bit or config.shard
    base = base if stays else base.to(device)
    check_finite(f"model {config.name}", base)
    return _prepare(base, config.gradient_checkpointing)


@torch.no_grad()
def check_finite(what: str, model: torch.nn.Module) -> None:
    """Raises `UserError` naming the first parameter that holds NaN or infinity.

    Reads every weight once: 3 to 7 GB/s on a CPU, much less than loading took.
    """
    for name, parameter in model.named_parameters():
        if parameter.dtype in _FLOATING and parameter.numel():
            low, high = (float(end) for end in parameter.detach().aminmax())
            if not (math.isfinite(low) and math.isfinite(high)):
                count = int((~parameter.isfinite()).sum())
                raise UserError(
                    f"{what}: {name} holds {count} values that are NaN or infinite; get its weights again, or another "
                    "copy in a wider dtype"
                )


def base_from_config(model_config: Any, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A base with random weights, for tests and benchmarks."""
    return _prepare(AutoModelForCausalLM.from_config(model_config, dtype=dtype), gradient_checkpointing=False)


def available_device(name: str, setting: str) -> torch.device:
    """The device that a setting names; for "auto" the fastest there is. Raises `UserError` for one that is not here."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available[name]:
        raise UserError(f"{setting}: there is no {name} device here; set {setting}=auto")
    return torch.device(name)


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
            raise UserError(f"lora.target_modules {lora.target_modules}: {first_line(error)}") from None
    widen_products(model)
    return model


def widen_products(model: PeftModel) -> None:
    """Makes an adapter's products at least float32, and leaves modules that it brings whole as they are."""
    for name, parameter in model.named_parameters():
        if "lora_" in name and parameter.dtype != torch.float64:
            parameter.data = parameter.data.float()


def fingerprint(base: PreTrainedModel | PeftModel) -> str:
    """Hash of a sample of the base's weights, the same whatever dtype they were loaded in.

    Tells one base from another in a moment even for billions of parameters; it is no checksum of every weight.
    """
    digest = hashlib.sha256()
    for name, shape, values in weight_samples(base):
        digest.update(f"{name} {shape}".encode())
        digest.update(values.to(torch.bfloat16).view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()


def weight_samples(model: PreTrainedModel | PeftModel) -> Iterator[tuple[str, tuple[int, ...], Tensor]]:
    """Name, shape and some values of each of the base's floating-point tensors, the same within an adapter."""
    for name, parameter in model.named_parameters():
        if not is_added(name) and parameter.dtype.is_floating_point:
            values = parameter.detach().flatten()
            step = max(1, values.numel() // _FINGERPRINT_VALUES)
            yield base_name(name), tuple(parameter.shape), values[::step][:_FINGERPRINT_VALUES]


def is_added(name: str) -> bool:
    """Whether a parameter of an adapted model is the adapter's."""
    return bool(_ADDED.search(name))


def base_name(name: str) -> str:
    """What a parameter of an adapted model is called in its base."""
    parts = name.removeprefix("base_model.model.").split(".")
    return ".".join(part for part in parts if part not in _WRAPPERS)


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


def origin(config: Model) -> dict[str, str]:
    """The revision of the hub that was asked for and the commit that it was; nothing for a base from a folder.

    Read from the hub's cache on this machine, so after the base was loaded.
    """
    if _is_local(config.name):
        return {}
    revision = config.revision or "main"
    path = try_to_load_from_cache(config.name, "config.json", revision=revision)
    # .../snapshots/<commit>/config.json
    return {"revision": revision, "commit": Path(path).parent.name} if isinstance(path, str) else {}


def _is_local(name: str) -> bool:
    return Path(resolve_source(name)).is_dir()


def _revision_option(config: Model) -> dict[str, Any]:
    """What pins the model's revision. Raises `UserError` where there are none."""
    if config.revision is None:
        return {}
    if _is_local(config.name):
        raise UserError(
            f"model.revision {config.revision}: {config.name} is no model of the hub and has no revisions; "
            "leave the setting out"
        )
    return {"revision": config.revision}


@contextlib.contextmanager
def _model_errors(name: str, revision: str | None, part: str = "") -> Iterator[None]:
    """Turns what loading raises into one line that names the model and a way out."""
    access = None if _is_local(name) else Access()
    try:
        with access.using() if access else contextlib.nullcontext():
            yield
    except ImportError as error:
        raise UserError(f"model {name}: {first_line(error)}") from None
    except (*_LOADING_ERRORS, *transport_errors()) as error:
        if access and (explained := access.explain(error, name, revision)):
            raise UserError(f"model {name}: {explained}; or try --model nano") from None
        if "trust_remote_code" in str(error):
            reason = "needs Python code that comes with it"
            remedy = "read that code, and if you trust it pass --set model.trust_remote_code=true"
        else:
            reason = f"cannot be loaded ({first_line(error)})"
            folder = Path(name).expanduser().is_dir()
            remedy = "check the folder" if folder else "check the name and the connection, or try --model nano"
        raise UserError(f"model {name}: {part}{reason}; {remedy}") from None
