"""Builds the bundled base model: `python -m markov_cot.models.nano.build --out FOLDER`.

Trains a byte-level BPE tokenizer and a small Llama on documents made from a seed (see `documents.py`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from markov_cot.models.nano.documents import EARLY_QUALITIES, QUALITIES, Document, draw_document
from markov_cot.utils.files import replace_file

VOCABULARY = 512
CONTEXT = 1024
BOS, EOS, PAD = "<s>", "</s>", "<pad>"

CHUNK = 8192
"""Documents sorted by length at a time, so that a batch holds texts of similar length."""
TOKENS_PER_BATCH = 4096
WIDTH_STEP = 8
PEAK_LR, FINAL_LR = 3e-3, 3e-5
WARMUP_SHARE, DECAY_SHARE = 0.02, 0.5
EARLY_SHARE = 0.65
"""Share of the training on documents that mostly reason well."""
TOKENIZER_DOCUMENTS = 20_000
IGNORED = -100


def build_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE whose digits are single tokens; any Unicode text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = Random(f"tokenizer/{seed}")
    texts = ("".join(draw_document(rng)) for _ in range(TOKENIZER_DOCUMENTS))
    tokenizer.train_from_iterator(texts, trainer)
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """An untrained Llama in float32, of 918,656 parameters with the whole vocabulary."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.04,
    )
    return LlamaForCausalLM(config).float()


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[tuple[list[int], int]]:
    """Each document's ids and the number of them (its prompt) the loss leaves out.

    The three parts are encoded apart, as they are joined in training: a CoT may end anywhere.
    """
    parts = [tokenizer([d[i] for d in documents], add_special_tokens=i == 0).input_ids for i in range(3)]
    return [(p + r + a + [tokenizer.eos_token_id], len(p)) for p, r, a in zip(*parts, strict=True)]


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, qualities: dict[str, float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, labels), each [documents, tokens], right-padded; labels are -100 on prompts and padding."""
    rng = Random(f"documents/{seed}/{qualities}")
    while True:
        documents = [draw_document(rng, qualities) for _ in range(CHUNK)]
        rows = sorted(encode(tokenizer, documents), key=lambda row: -len(row[0]))
        groups = []
        while rows:
            # Few different shapes: a CPU's matrix kernels are compiled again for each.
            width = -(-len(rows[0][0]) // WIDTH_STEP) * WIDTH_STEP
            count = max(1, TOKENS_PER_BATCH // width)
            groups.append((width, rows[:count]))
            rows = rows[count:]
        rng.shuffle(groups)
        for width, group in groups:
            ids = torch.full((len(group), width), tokenizer.pad_token_id)
            labels = torch.full((len(group), width), IGNORED)
            for i, (row_ids, prompt) in enumerate(group):
                ids[i, : len(row_ids)] = torch.tensor(row_ids)
                labels[i, prompt : len(row_ids)] = ids[i, prompt : len(row_ids)]
            yield ids, labels


def learning_rate(done: float) -> float:
    """Warm-up, plateau and a long cosine decay, for the share `done` of the training in [0, 1]."""
    warm = min(1.0, done / WARMUP_SHARE)
    decay = max(0.0, (done - (1 - DECAY_SHARE)) / DECAY_SHARE)
    return warm * (FINAL_LR + (PEAK_LR - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * decay)))


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    outer = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> None:
    """Trains on `steps` batches of about `TOKENS_PER_BATCH` tokens."""
    both = optimizers(model)
    started, smoothed, tokens = time.monotonic(), 0.0, 0
    early = round(EARLY_SHARE * steps)
    corpus = itertools.chain(
        itertools.islice(batches(tokenizer, seed, EARLY_QUALITIES), early), batches(tokenizer, seed, QUALITIES)
    )
    for step, (ids, labels) in zip(range(steps), corpus, strict=False):
        for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in both):
            group["lr"] = learning_rate(step / steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()
        tokens += ids.numel()
        smoothed = loss.item() if step == 0 else 0.98 * smoothed + 0.02 * loss.item()
        if step % 100 == 99:
            seconds = time.monotonic() - started
            print(f"step {step + 1}/{steps}  loss {smoothed:.4f}  {tokens / seconds:.0f} tokens/s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "base", help="folder to write")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # Tokens that never occur get ever smaller gradients, and arithmetic on denormal numbers is very slow.
    torch.set_flush_denormal(True)
    started = time.monotonic()
    tokenizer = build_tokenizer(args.seed)
    model = build_model(tokenizer, args.seed)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", file=sys.stderr)
    train(model, tokenizer, args.steps, args.seed)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    made = {
        "seed": args.seed,
        "steps": args.steps,
        "seconds": round(time.monotonic() - started),
        "torch": torch.__version__,
    }
    replace_file(args.out / "made.json", (json.dumps(made | {"threads": os.cpu_count()}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
