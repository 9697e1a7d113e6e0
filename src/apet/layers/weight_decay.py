"""What weight decay falls on, decided by names: the rule of transformers' Trainer, and names under which it is right.

Biases and the scales of norms do not decay. Optimizers know a parameter by its name alone, so that what is trained
for a bias must have a name of a bias, in every family, and an adapter behind a norm must have none of a norm.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container

from torch import nn

_NOT_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)
"""As in ``Trainer.get_decay_parameter_names`` of transformers 5; a test holds the two together."""
_OTHER_WORDS = {"bias": "offset", "layernorm": "layer_norm", "rmsnorm": "rms_norm"}


def name_decays(name: str) -> bool:
    """Whether weight decay falls on a parameter of this name."""
    return _NOT_DECAYED.search(name) is None


def parameter_decays(model: nn.Module, name: str) -> bool:
    """Whether weight decay falls on a parameter of a model: by its name, and by the class of the module that has it."""
    return name_decays(name) and not isinstance(model.get_submodule(name.rpartition(".")[0]), nn.LayerNorm)


def tree_name(text: str, decays: bool, taken: Container[str]) -> str:
    """Name for a delta layer in the model's tree, under which its weights are treated as they should be.

    Args:
        text: what it is and where it sits, such as ``weight_encoder.0.attn.q.weight``.
        decays: whether weight decay falls on its weights.
        taken: names that others have.

    Returns:
        The text with underscores for all that a name of a module cannot have, changed where its words would mislead.
    """
    plain = re.sub(r"\W", "_", text)
    if decays:
        for word, other in _OTHER_WORDS.items():
            plain = re.sub(word, other, plain, flags=re.IGNORECASE)

    def marked(name: str) -> str:
        return name if name_decays(name) == decays else name + ("_layer" if decays else "_norm")

    # Two texts may differ in nothing but dots and underscores.
    numbered = (marked(f"{plain}_{n}") for n in itertools.count(2))
    return next(name for name in itertools.chain([marked(plain)], numbered) if name not in taken)
