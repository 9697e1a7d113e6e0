"""Make a larger T5 that begins where a smaller one has come to: the same function, in more and other numbers."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration


def expand(model: T5ForConditionalGeneration, smaller: T5ForConditionalGeneration, seed: int = 0) -> None:
    """Overwrite ``model`` with a wider and deeper form of ``smaller`` that computes the same logits.

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
    times = new.d_model // old.d_model
    assert new.d_model == times * old.d_model, "shares of whole copies only"
    assert new.num_heads == old.num_heads, "heads grow wider, not more"
    dims, hidden = _origin(new.d_model, old.d_model), _origin(new.d_ff, old.d_ff)
    inner = (torch.arange(old.num_heads)[:, None] * old.d_kv + _origin(new.d_kv, old.d_kv)).flatten()
    generator = torch.Generator().manual_seed(seed)
    known = dict(smaller.named_parameters())
    with torch.no_grad():
        for name, value in model.named_parameters():
            part = re.search(r"(\w+)\.weight$", name).group(1)  # type: ignore[union-attr]
            if name not in known:
                if part in ("o", "wo"):
                    value.zero_()
                continue
            source = known[name].to(value.dtype)
            if part == "shared":
                grown = source[:, dims]
            elif part == "relative_attention_bias":
                grown = source
            elif part.endswith("layer_norm"):
                grown = source[dims]
            else:
                rows, columns = {
                    "o": (dims, inner),
                    "wi": (hidden, dims),
                    "wo": (dims, hidden),
                }.get(part, (inner, dims))
                grown = _shared(source[rows], columns, generator)
            if part == "q":
                grown = grown * (old.d_kv / new.d_kv)  # T5 does not divide q·k by the root of the width
            if name == "decoder.final_layer_norm.weight":
                grown = grown * times**-0.5  # logits: a sum of ``times`` as many terms, divided by the root of d_model
            value.copy_(grown)


def _origin(new: int, old: int) -> Tensor:
    """For each of the new places the old one whose value it holds; ``(new,)``."""
    return torch.arange(new) % old


def _shared(weight: Tensor, columns: Tensor, generator: torch.Generator) -> Tensor:
    """``(rows, old)`` to ``(rows, new)``: each old column shared out at random among its copies."""
    parts = 0.5 + torch.rand(len(weight), len(columns), generator=generator)
    whole = torch.zeros_like(weight).index_add_(1, columns, parts)
    return weight[:, columns] * parts / whole[:, columns]
