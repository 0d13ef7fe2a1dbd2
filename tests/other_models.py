"""A tiny model with a tokenizer of its own, as somebody else's reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCUMENTS = ["The answer is 47. So 12+35=47.", "Reasoning: add the numbers, one after another.", "[redacted] Question:"]
SPECIAL = ["<unk>", "<turn>", "</turn>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<turn>{{ message.role }}\n{{ message.content }}</turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)


def other_tokenizer(*, chat: bool = False) -> Any:
    """A byte-level BPE of few merges: nothing like nano's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(DOCUMENTS, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>", eos_token="</turn>", pad_token="<unk>")
    made.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    if chat:
        made.chat_template = CHAT_TEMPLATE
    return made


def other_model(seed: int = 1, *, places: int = 512) -> Any:
    """A random Llama for that tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=places,
    )
    return LlamaForCausalLM(config).eval()


def write_other(folder: Path, *, chat: bool = False, places: int = 512) -> Path:
    """Model and tokenizer as `save_pretrained` leaves them."""
    other_model(places=places).save_pretrained(folder)
    other_tokenizer(chat=chat).save_pretrained(folder)
    return folder
