"""The part of a model that was pre-trained for any task: what lies below its head."""

from __future__ import annotations

from torch import nn


def base_model_of(model: nn.Module) -> nn.Module:
    """The base model: transformers' own, or where a model names itself, the one pre-trained model inside it.

    Returns:
        The base model; the model itself where it has no head, or more than one model in it.
    """
    base = getattr(model, "base_model", model)
    if base is not model and isinstance(base, nn.Module):
        return base
    if "For" in type(model).__name__:
        from transformers import PreTrainedModel  # here: it takes seconds, and planning needs no model

        # Some classes name a prefix that none of their modules has.
        inner = [child for child in model.children() if isinstance(child, PreTrainedModel)]
        if len(inner) == 1:
            return inner[0]
    return model
