"""A copy of a model whose layers' matrices are rounded to few bits: another reader, where no other model is at hand.

    python benchmarks/coarse_copy.py MODEL OUT [--bits 4]

Each row of a matrix has one scale, so that its largest entry is the largest level (symmetric, round to nearest);
embeddings, norms and biases stay. The copy has the base's dtype: it is no smaller and no faster, it only differs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from measure import positive
from torch import Tensor

from markov_cot.config.schema import Model
from markov_cot.models.loading import load_base, load_tokenizer


def rounded(matrix: Tensor, bits: int) -> Tensor:
    """A matrix [n, m] on 2^bits - 1 levels a row, in its own dtype."""
    most = 2 ** (bits - 1) - 1
    exact = matrix.double()
    scale_n1 = exact.abs().amax(1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny) / most
    return ((exact / scale_n1).round() * scale_n1).to(matrix.dtype)


def save_coarse_copy(model: str, folder: Path, bits: int = 4) -> None:
    """Save the copy as a plain transformers folder, unless it is there."""
    if (folder / "config.json").is_file():
        return
    settings = Model(name=model)
    copy = load_base(settings, torch.device("cpu"))
    kept = {id(copy.get_input_embeddings().weight), id(copy.get_output_embeddings().weight)}
    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.ndim == 2 and id(parameter) not in kept:
                parameter.copy_(rounded(parameter, bits))
    copy.save_pretrained(folder)
    load_tokenizer(settings).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--bits", type=positive, default=4)
    args = parser.parse_args()
    save_coarse_copy(args.model, args.out, args.bits)


if __name__ == "__main__":
    main()
