"""Llamas with random weights, and tokenizers of exactly their vocabulary, for measurements of speed.

    python benchmarks/random_llama.py --size 56m --out FOLDER

The embeddings are untied, but for SmolLM2's. The tokenizer is byte-level BPE whose merges are made up: pairs of
letters, then pairs of pairs. It loads as a `PreTrainedTokenizerFast` in transformers 4 and 5 alike and writes no BOS.
"""

from __future__ import annotations

import argparse
import itertools
import json
import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIALS = ("<pad>", "<s>", "</s>")
SIZES = {
    "tiny": {
        "vocab_size": 1000,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "56m": {
        "vocab_size": 32_000,
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "intermediate_size": 1408,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "smollm2": {  # SmolLM2-135M's: deep and narrow
        "vocab_size": 49_152,
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "8b": {  # Llama 3.1's
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "intermediate_size": 14_336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
CONTEXT = 2048
SPREAD = 1.6
"""Standard deviation of a weight matrix's outputs for inputs of unit size. Weights are drawn wider than usual: with
transformers' own 0.02, all tokens are equally likely whatever comes before, and all rewards the same."""


def config(size: str) -> LlamaConfig:
    """The configuration of one of `SIZES`."""
    shape = SIZES[size]
    return LlamaConfig(
        **({"tie_word_embeddings": False} | shape),
        max_position_embeddings=CONTEXT,
        initializer_range=SPREAD / shape["hidden_size"] ** 0.5,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def build_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of exactly `vocabulary` entries, <pad>, <s> and </s> first."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = list(itertools.product(string.ascii_lowercase, repeat=2))
    words = itertools.product(["".join(pair) for pair in pairs], repeat=2)
    merges = list(itertools.islice(itertools.chain(pairs, words), max(0, vocabulary - len(SPECIALS) - len(letters))))
    tokens = [*SPECIALS, *letters, *(left + right for left, right in merges)]
    if len(tokens) != vocabulary:
        raise ValueError(f"vocabulary {vocabulary}: must be from {len(SPECIALS) + len(letters)} up to about 457,000")
    inner = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    pad, bos, eos = SPECIALS
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def write(size: str, folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu", seed: int = 0) -> int:
    """Writes model and tokenizer to `folder`, weights in `dtype`, and returns the number of parameters."""
    torch.manual_seed(seed)
    settings = config(size)
    settings.dtype = dtype
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(settings)
    finally:
        torch.set_default_dtype(default)
    model.save_pretrained(folder)
    build_tokenizer(settings.vocab_size).save_pretrained(folder)
    make_portable(folder)
    return sum(p.numel() for p in model.parameters())


def make_portable(folder: Path) -> None:
    """Makes what version 5 of transformers wrote load in version 4 too, which knows the class by another name.

    Version 5 reads both names. Version 4 also has to be told that the model takes no token types.
    """
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    settings.pop("backend", None)
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="56m")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(f"{write(args.size, args.out):,} parameters in {args.out}")


if __name__ == "__main__":
    main()
