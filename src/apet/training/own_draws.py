"""Dropout of runs side by side: each run draws from its own generator, in the shapes that it would draw alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from apet.training.resume import random_states, set_random_states

Span = tuple[int, int]
"""First and last place, exclusive, of a run's own tokens among those of the padded batch."""


class OwnDraws(TorchFunctionMode):
    """While it is on, dropout of a batch of blocks is drawn block by block.

    Alone, a run's batch may be shorter than the batch of all: places that it would not have are left out, and filled
    with zeros afterwards, since nothing of a run reads them.

    Args:
        states: of each run's generators; they go on in the order of its draws.
        spans: padded length -> where each run's own places lie among so many.
    """

    def __init__(self, states: list[list[Tensor]], spans: Mapping[int, Sequence[Span]]) -> None:
        super().__init__()
        self.states, self.spans = states, spans

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take dropout apart; everything else as it is."""
        kwargs = kwargs or {}
        if func is nn.functional.dropout:
            return self._dropout(*args, **kwargs)
        if func is nn.functional.scaled_dot_product_attention and _share(args, kwargs):
            return self._attention(args, kwargs)
        return func(*args, **kwargs)

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return x
        return self._by_run(lambda own: nn.functional.dropout(own, p), [x])

    def _attention(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        named = {**dict(zip(names, args, strict=False)), **kwargs}
        q, k, v, mask = (named.pop(name, None) for name in names[:4])
        if mask is not None and len(mask) == 1:
            mask = mask.expand(len(q), *mask.shape[1:])

        def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v, mask, **named)

        return self._by_run(attend, [q, k, v] if mask is None else [q, k, v, mask])

    def _by_run(self, draw: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Tensor:
        """Blocks of the result, each drawn by its run from its own places, (batch, …)."""
        out, common = [], random_states()
        for run in range(len(self.states)):
            blocks = [t.chunk(len(self.states))[run] for t in tensors]
            set_random_states(self.states[run])
            drawn = draw(*(block[self._own_places(block, run)] for block in blocks))
            self.states[run] = random_states()
            whole = blocks[0].shape
            if drawn.shape != whole:
                padded = drawn.new_zeros(whole[:-1] + drawn.shape[-1:] if len(tensors) > 1 else whole)
                padded[self._own_places(padded, run)] = drawn
                drawn = padded
            out.append(drawn)
        set_random_states(common)
        return torch.cat(out)

    def _own_places(self, x: Tensor, run: int) -> tuple[slice, ...]:
        own = (self.spans[n][run] if n in self.spans else (0, n) for n in x.shape[1:])
        return (slice(None), *(slice(*span) for span in own))


def _share(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Share of attention that is dropped."""
    share: float = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
    return share


def drops(model: nn.Module) -> bool:
    """Whether a model may drop anything in training."""
    config = getattr(model, "config", None)
    settings = {} if config is None else config.to_dict()
    return any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()) or any(
        "drop" in name and isinstance(value, int | float) and value > 0 for name, value in settings.items()
    )
