"""Seconds and memory of a step of TRL's GRPOTrainer on the same work, as one JSON line on stdout.

    /path/to/trl-environment/bin/python benchmarks/bench_trl.py --work FOLDER --problems 4 --samples 12 --length 64

Runs in an environment with TRL (0.24 or newer); needs nothing of this project. Same model, questions, P, G, L, dtype,
LoRA and optimizer as `bench_step.py`; one optimizer step is one batch of P*G completions with one pass over them.
Generation is transformers'. EOS is suppressed up to L, so that all completions have exactly L tokens. The reference is
the model with its adapter switched off, and so is the critic in the reward function, whose logits exist at the answer
only. Nothing is logged, evaluated or saved. A step is timed from the end of one optimizer step to the end of the next.

Gradient checkpointing, TRL's default, is off here because it costs time and this trainer does not use it either;
`--checkpointing` switches it on. In bfloat16 the weights are loaded in bfloat16 and TRL's default autocast is on
(`--no-autocast` switches it off); in float32 it is off.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import fields
from typing import Any

import torch
import transformers
import trl
from critic_reward import CriticReward
from datasets import Dataset
from measure import (
    DTYPES,
    GRAD_CLIP,
    KL_WEIGHT,
    LEARNING_RATE,
    LORA,
    Memory,
    Work,
    fail,
    report,
    synchronize,
    touch,
    weight_bytes,
    work_arguments,
    work_of,
)
from peft import LoraConfig
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

LEFT_OUT = {"max_prompt_length": None}
"""Options that only some releases have: prompts must not be cut."""


class Clock(TrainerCallback):
    """When each optimizer step ended."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.ends: list[float] = []
        self.cpu_ends: list[float] = []
        """The same in the process's processor time."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._note()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._note()

    def _note(self) -> None:
        synchronize(self._device)
        self.ends.append(time.perf_counter())
        self.cpu_ends.append(time.process_time())


class FirstPrompts:
    """The prompts of the first forward, to check that they are the very tokens the other side reads."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.ids: list[list[int]] = []
        self._handle = model.register_forward_pre_hook(self._read, with_kwargs=True)

    def _read(self, _: Any, __: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")  # left out where nothing is padded
        real = torch.ones_like(kwargs["input_ids"]) if mask is None else mask
        self.ids = [ids[real[i].bool()].tolist() for i, ids in enumerate(kwargs["input_ids"])]
        self._handle.remove()


def load(work: Work) -> tuple[Any, Any]:
    """Model in the work's dtype, and tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=DTYPES[work.dtype]).to(work.device)
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    # The prompts' text has its BOS already; some releases of TRL would have the tokenizer add another.
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    return model, tokenizer


def grpo_config(work: Work, folder: str, steps: int, *, checkpointing: bool, autocast: bool) -> GRPOConfig:
    """The same work in TRL's terms."""
    known = {field.name for field in fields(GRPOConfig)}
    return GRPOConfig(
        output_dir=folder,
        max_steps=steps,
        use_cpu=work.device == "cpu",
        bf16=autocast,
        per_device_train_batch_size=work.problems * work.samples,
        gradient_accumulation_steps=1,
        num_generations=work.samples,
        max_completion_length=work.length,
        generation_kwargs={"min_new_tokens": work.length},
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_iterations=1,
        beta=KL_WEIGHT,
        loss_type="grpo",
        scale_rewards="group",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=GRAD_CLIP,
        gradient_checkpointing=checkpointing,
        logging_strategy="no",
        report_to="none",
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **{name: value for name, value in LEFT_OUT.items() if name in known},
    )


def measure(work: Work, warmup: int, steps: int, *, checkpointing: bool, autocast: bool) -> dict[str, Any]:
    """Runs `warmup` + `steps` steps; the report."""
    model, tokenizer = load(work)
    device = model.device
    rows = work.rows()
    prompts = {tuple(row["prompt_ids"]) for row in rows}
    columns = ("prompt", "redacted_ids", "suffix_ids", "answer_ids")
    reward, clock, first = CriticReward(work.length), Clock(device), FirstPrompts(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            args=grpo_config(work, folder, warmup + steps, checkpointing=checkpointing, autocast=autocast),
            train_dataset=Dataset.from_list([{name: row[name] for name in columns} for row in rows]),
            processing_class=tokenizer,
            callbacks=[clock],
            peft_config=LoraConfig(
                r=LORA["rank"],
                lora_alpha=LORA["alpha"],
                lora_dropout=0.0,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
        )
        reward.model = trainer.model
        touch(trainer.model)
        memory = Memory(device)
        trainer.train()
        peak = memory.above()
    if len(first.ids) != work.problems * work.samples or any(tuple(ids) not in prompts for ids in first.ids):
        fail("TRL's prompts are not the tokens of the work folder, so the sides would not do the same work")
    moved = sum(float(p.detach().abs().sum()) for name, p in trainer.model.named_parameters() if "lora_B" in name)
    if not moved > 0 or len(reward.deviations) != warmup + steps:
        fail("TRL trained nothing: no gradient reached the adapter, or a step had no completions of its own")
    lengths = [len(ids) for ids in prompts]
    ends = clock.ends[warmup:]
    return report(
        f"TRL {trl.__version__}",
        work,
        [after - before for before, after in itertools.pairwise(ends)],
        cpu_seconds=round((clock.cpu_ends[-1] - clock.cpu_ends[warmup]) / steps, 4),
        peak_above_weights=peak,
        weights=weight_bytes(trainer.model),
        prompt_tokens=[min(lengths), max(lengths)],
        precision=f"weights in the given dtype, autocast to bfloat16 {'on' if autocast else 'off'}",
        gradient_checkpointing=checkpointing,
        adapter_dtype=str(next(p.dtype for n, p in trainer.model.named_parameters() if "lora_B" in n)),
        reward_std=statistics.fmean(reward.deviations),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_arguments(parser)
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing on")
    parser.add_argument("--no-autocast", action="store_true", help="bfloat16 without autocast")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    work = work_of(args)
    autocast = work.dtype == "bfloat16" and not args.no_autocast
    result = measure(work, args.warmup, args.steps, checkpointing=args.checkpointing, autocast=autocast)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
