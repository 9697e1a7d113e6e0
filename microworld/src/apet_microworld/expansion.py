"""Function-preserving expansion (Net2Net): a larger T5 that begins as the function that a smaller one computes."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration


def expand(model: T5ForConditionalGeneration, smaller: T5ForConditionalGeneration, seed: int = 0) -> None:
    """Overwrite a T5 with a wider and deeper form of a smaller one that computes the same logits.

    Every value of the smaller one lives in one or several places of the larger one: who reads it takes a random share
    of each, and the shares come to one, so nothing changes but that the copies part when training goes on (Chen,
    Goodfellow and Shlens 2016, "Net2Net"). A layer that the smaller one lacks begins with nothing to say: its ``o`` and
    ``wo`` are zero, the rest is kept.

    Args:
        model: changed in place; at least as wide and deep, with as many heads and the same vocabulary, output tied to
            the embeddings.
        smaller: read only; its ``d_model`` divides the larger one's.
        seed: of the shares.
    """
    old, new = smaller.config, model.config
    factor = new.d_model // old.d_model
    assert new.d_model == factor * old.d_model, "d_model of the larger model must be a multiple of the smaller one's"
    assert new.num_heads == old.num_heads, "heads grow wider, not more"
    model_columns, hidden = _origin(new.d_model, old.d_model), _origin(new.d_ff, old.d_ff)
    heads = (torch.arange(old.num_heads)[:, None] * old.d_kv + _origin(new.d_kv, old.d_kv)).flatten()
    generator = torch.Generator().manual_seed(seed)
    smaller_values = dict(smaller.named_parameters())
    with torch.no_grad():
        for name, value in model.named_parameters():
            part = re.search(r"(\w+)\.weight$", name).group(1)  # type: ignore[union-attr]
            if name not in smaller_values:
                if part in ("o", "wo"):
                    value.zero_()
                continue
            source = smaller_values[name].to(value.dtype)
            if part == "shared":
                expanded = source[:, model_columns]
            elif part == "relative_attention_bias":
                expanded = source
            elif part.endswith("layer_norm"):
                expanded = source[model_columns]
            else:
                rows, columns = {
                    "o": (model_columns, heads),
                    "wi": (hidden, model_columns),
                    "wo": (model_columns, hidden),
                }.get(part, (heads, model_columns))
                expanded = _split_at_random(source[rows], columns, generator)
            if part == "q":
                expanded = expanded * (old.d_kv / new.d_kv)  # T5 does not divide q·k by the root of the width
            if name == "decoder.final_layer_norm.weight":
                # Logits: a sum of ``factor`` as many terms, divided by the root of d_model.
                expanded = expanded * factor**-0.5
            value.copy_(expanded)


def _origin(new: int, old: int) -> Tensor:
    """For each new index the old one whose value it holds; ``(new,)``."""
    return torch.arange(new) % old


def _split_at_random(weight: Tensor, columns: Tensor, generator: torch.Generator) -> Tensor:
    """Weight ``(rows, old)`` as ``(rows, new)``, each old column split at random among its copies."""
    # Random, not equal, parts: copies with one value would get one gradient, and never part.
    parts = 0.5 + torch.rand(len(weight), len(columns), generator=generator)
    total = torch.zeros_like(weight).index_add_(1, columns, parts)
    return weight[:, columns] * parts / total[:, columns]
