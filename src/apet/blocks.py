"""Deltas of several runs on one model, side by side: each acts on its own block of a batch's rows.

The rows of run 0 come first, then those of run 1, and so on, as many for each. What all runs share, the frozen layers,
is computed once on all rows; where the same layer of every run acts, their weights are stacked.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from apet.attached_delta import LayerHook, pass_by
from apet.attachment_state import Place, state_of
from apet.errors import ApetError
from apet.handle import Handle
from apet.layers.base import Args, DeltaLayer, Kwargs
from apet.layers.prompt import PromptDelta
from apet.layers.stack import Stack
from apet.routing import prompt_hooks, require_apart, routable


class Blocks:
    """Deltas that act on blocks of rows, from now until they are closed; as a context manager, to the end of the block.

    Args:
        model: that the deltas are attached to.
        handles: of deltas that act beside the weights (``carrier="additive"``), one a run.

    Raises:
        ApetError: a delta is written into the weights, prompts differ in length, or the model does not keep examples
            apart where a delta acts.
    """

    def __init__(self, model: nn.Module, handles: Sequence[Handle]) -> None:
        state = state_of(model)
        if state is None:
            raise ApetError("nothing is attached to this model; attach the deltas with apet.attach before")
        hooks = [routable(state, handle, n) for n, handle in enumerate(handles)]
        self.active: tuple[int, ...] = tuple(range(len(handles)))
        """Runs that have rows in the forwards to come, in the order of their blocks."""
        self._state, self._batch = state, 0
        self._replaced: list[LayerHook] = []
        self._stacks: dict[tuple[int, tuple[int, ...]], Stack | None] = {}
        self._prompts: list[PromptDelta] = []
        self._shared: int | None = None  # the run whose turn it is where all examples share one output
        self._attentions: list[nn.Module] = []
        if state.routing is not None:
            state.routing.close()
        self._join_prompts(prompt_hooks(hooks, torch.arange(len(hooks))))
        steps = _steps_by_place([[h for h in own if not isinstance(h.layer, PromptDelta)] for own in hooks])
        biases = {id(model.get_submodule(x.module)): x.module for x in _relative_biases(model)}
        try:
            apart = {place for place in steps if id(place[0]) not in biases}
            if not apart <= state.kept_apart:
                require_apart(model, apart)
                state.kept_apart |= apart
            for place, at_place in steps.items():
                self._join(place, at_place)
                if id(place[0]) in biases:
                    self._join_biases(model, biases[id(place[0])])
        except BaseException:
            self.close()
            raise
        self._listening = [
            part.register_forward_pre_hook(self._see_batch, with_kwargs=True, prepend=True)
            for part in model.modules()
            if "input_ids" in inspect.signature(part.forward).parameters
        ]
        state.routing = self

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let each delta act on every row again; once is enough."""
        for h in self._replaced:
            h.replace(h.hook.run)
        for prompt in self._prompts[:1]:
            prompt.by_row = None
        for attention in self._attentions:
            attention.__dict__.pop("compute_bias", None)
        for handle in getattr(self, "_listening", []):
            handle.remove()
        self._replaced, self._prompts, self._attentions, self._listening = [], [], [], []
        if self._state.routing is self:
            self._state.routing = None

    @property
    def prompt_length(self) -> int:
        """Tokens of each run's prompt; 0 where there is none."""
        return self._prompts[0].insertion.weights[0].shape[0] if self._prompts else 0

    @contextmanager
    def only(self, runs: Sequence[int]) -> Iterator[None]:
        """Let some runs alone have rows, inside the block."""
        before, self.active = self.active, tuple(runs)
        try:
            yield
        finally:
            self.active = before

    def _join(self, place: Place, steps: Sequence[Step]) -> None:
        """Let the first hook at a place do what those of all runs do there, and the others nothing."""
        hooks = sorted((h for step in steps for h in step.hooks.values()), key=lambda h: h.handle.id)
        self._replaced += hooks
        hooks[0].replace(partial(self._before if place[1] == "before" else self._after, steps))
        for h in hooks[1:]:
            h.replace(pass_by)

    def _join_prompts(self, prompts: Sequence[Sequence[LayerHook]]) -> None:
        """Let the first run's prompt insert those of all."""
        self._prompts = [own[0].layer for own in prompts if isinstance(own[0].layer, PromptDelta)]
        for h in (h for own in prompts[1:] for h in own):
            h.replace(pass_by)
            self._replaced.append(h)
        if self._prompts:
            self._prompts[0].by_row = self._prompts_by_row

    def _join_biases(self, model: nn.Module, path: str) -> None:
        """Let T5's attention make its biases of relative places, which all examples share, for each run in turn."""
        attention = model.get_submodule(path.rpartition(".")[0])
        compute: Callable[..., Tensor] | None = getattr(attention, "compute_bias", None)
        if compute is None:
            raise ApetError(f"deltas of several runs cannot act at {path!r}, whose output all examples share")
        setattr(attention, "compute_bias", partial(self._biases_of_runs, compute))
        self._attentions.append(attention)

    def _biases_of_runs(self, compute: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """(1, heads, query, key) of each run, repeated for its rows, (batch, heads, query, key)."""
        each = []
        for run in self.active:
            self._shared = run
            each.append(compute(*args, **kwargs))
        self._shared = None
        rows = self._batch // len(self.active)
        return torch.cat([b.expand(rows, *b.shape[1:]) for b in each])

    def _see_batch(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        tensors = (t for t in (*args, *kwargs.values()) if isinstance(t, Tensor) and t.dim() > 1)
        self._batch = next((len(t) for t in tensors), self._batch)
        if self._batch % len(self.active):
            raise ApetError(f"a batch of {self._batch} rows cannot be shared by {len(self.active)} runs alike")

    def _stack(self, step: Step) -> Stack | None:
        """The layers of the runs that are active; None where none of them has one here."""
        key = id(step), self.active
        if key not in self._stacks:
            layers = [h.layer if (h := step.hooks.get(n)) is not None else None for n in self.active]
            self._stacks[key] = Stack(layers) if any(layer is not None for layer in layers) else None
        return self._stacks[key]

    def _after(self, steps: Sequence[Step], module: nn.Module, args: Args, kwargs: Kwargs, output: Any) -> Any:
        if self._shared is not None:
            own = [h for step in steps if (h := step.hooks.get(self._shared)) is not None]
            for h in own:
                output = h.hook.run(module, args, kwargs, output)
            return output
        if len(output) == 1 and output.dim() > 2 and self._batch > 1:  # embeddings of places, which all examples share
            output = output.expand(self._batch, *output.shape[1:])
        if len(output) % self._batch:
            raise ApetError(
                f"deltas cannot act side by side at a {type(module).__name__} that returns {tuple(output.shape)} for"
                f" {self._batch} examples"
            )
        for step in steps:
            stack = self._stack(step)
            if stack is None:
                continue
            stacked = step.first.hook.stacked
            if stacked is not None:
                output = stacked(stack, module, args, kwargs, output)
            else:
                blocks = zip(self.active, output.chunk(len(self.active)), strict=True)
                output = torch.cat(
                    [self._own(step, n, place, module, args, kwargs, x) for place, (n, x) in enumerate(blocks)]
                )
        return output

    def _own(
        self, step: Step, run: int, block: int, module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor
    ) -> Tensor:
        """What one run's layer makes of its rows."""
        h = step.hooks.get(run)
        if h is None:
            return output
        own_args = tuple(self._block(x, block) for x in args)
        own_kwargs = {k: self._block(x, block) for k, x in kwargs.items()}
        changed: Tensor = h.hook.run(module, own_args, own_kwargs, output)
        return changed.to(output.dtype)

    def _before(self, steps: Sequence[Step], module: nn.Module, args: Args, kwargs: Kwargs) -> Any:
        for step in steps:
            blocks = []
            for block, run in enumerate(self.active):
                own = (
                    tuple(self._block(x, block) for x in args),
                    {k: self._block(x, block) for k, x in kwargs.items()},
                )
                h = step.hooks.get(run)
                changed = None if h is None else h.hook.run(module, *own)
                blocks.append(own if changed is None else changed)
            args = tuple(_whole(x, [b[0][i] for b in blocks]) for i, x in enumerate(args))
            kwargs = {k: _whole(x, [b[1][k] for b in blocks]) for k, x in kwargs.items()}
        return args, kwargs

    def _block(self, x: Any, block: int) -> Any:
        """Rows of one run of a tensor that has rows for each example."""
        if not isinstance(x, Tensor) or not x.dim() or len(x) % self._batch:
            return x
        return x.chunk(len(self.active))[block]

    def _prompts_by_row(self, batch: int, dtype: torch.dtype) -> Tensor:
        """The prompt of each row, (batch, n, d)."""
        each = Stack([self._prompts[n] for n in self.active]).dense("prompt_embeddings", dtype)
        assert each is not None
        return each.repeat_interleave(batch // len(self.active), 0)


class Step:
    """One layer of several runs at one place.

    Args:
        first: any run's.

    Attributes:
        first: any run's.
        hooks: run -> its layer's hook; runs without such a layer have none.
    """

    def __init__(self, first: LayerHook) -> None:
        self.first = first
        self.hooks: dict[int, LayerHook] = {}


def _steps_by_place(hooks: Sequence[Sequence[LayerHook]]) -> dict[Place, list[Step]]:
    """What the runs do at each place of the model, each kind of layer once, in the order in which they do it."""
    places: dict[Place, dict[tuple[str, str, int], Step]] = {}
    for run, own in enumerate(hooks):
        seen: Counter[tuple[int, str, str, str]] = Counter()
        for h in own:
            layer = h.layer
            assert isinstance(layer, DeltaLayer)
            form, position = layer.form, layer.insertion.position
            times = (id(h.hook.module), h.hook.when, form, position)
            steps = places.setdefault((h.hook.module, h.hook.when), {})
            steps.setdefault((form, position, seen[times]), Step(h)).hooks[run] = h
            seen[times] += 1
    return {place: list(steps.values()) for place, steps in places.items()}


def _whole(x: Any, blocks: Sequence[Any]) -> Any:
    """A tensor of all runs' rows again; what was not parted as it is."""
    return x if blocks[0] is x else torch.cat([b.to(x.dtype) for b in blocks])


def _relative_biases(model: nn.Module) -> list[Any]:
    state = state_of(model)
    assert state is not None
    return [x for x in state.backbone.layers if x.role == "attn.relative_bias"]
