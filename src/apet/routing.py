"""Several deltas in one batch: each example gets its own, as if it had come alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from apet.attached_delta import LayerHook, pass_by
from apet.attachment_state import AttachmentState, Place, state_of
from apet.backbones.probe import random_inputs
from apet.errors import ApetError
from apet.handle import Handle
from apet.layers.base import Args, Hook, Kwargs
from apet.layers.prompt import PromptDelta

NONE = -1
"""Index of an example that gets none of the deltas."""

_ROWS, _TOKENS = 3, 5
_STRENGTHS = (0.3, -0.2, 0.1)
_SAME = {torch.float64: 1e-4, torch.float32: 1e-3}
_SAME_IN_HALF = 5e-2


def route(model: nn.Module, handles: Sequence[Handle], index: Tensor | Sequence[int]) -> Routing:
    """Give each example of a batch its own delta: row i gets ``handles[index[i]]``, and none of the others listed.

    From the call on, until the routing is closed or another takes its place; as a context manager, to the end of the
    block. Each delta computes its own rows alone, so that all of them cost what one costs. Beams of ``generate`` belong
    to the example that they stem from. Gradients reach the delta of each row; with gradient checkpointing, the backward
    belongs into the block, too. Deltas that are attached and not listed act on every row.

    Args:
        model: that the deltas are attached to.
        handles: of deltas that act beside the weights: LoRA, adapters, biases, (IA)³, prompts of one length, and deltas
            of weights attached with ``carrier="additive"``.
        index: (batch,), integers; -1: none of the deltas.

    Returns:
        The routing, which is on.

    Raises:
        ApetError: a delta is not attached to this model or is written into its weights, an index has no delta, or the
            model does not keep examples apart where a delta acts; at a forward: the batch has another size.

    Examples:
        >>> import apet, torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32)).eval()
        >>> handles = [apet.attach(model, apet.plan(model, "lora", budget=n)) for n in (100, 200)]
        >>> with apet.route(model, handles, [1, 0, -1]):
        ...     model(input_ids=torch.randint(61, (3, 7))).logits.shape
        torch.Size([3, 7, 61])
    """
    state = state_of(model)
    if state is None:
        raise ApetError("nothing is attached to this model; attach the deltas with apet.attach before")
    hooks = [routable(state, handle, n) for n, handle in enumerate(handles)]
    if len({id(own) for own in hooks}) < len(hooks):
        raise ApetError("a handle is listed twice; list each once, and its number in index as often as it is used")
    rows = _checked_index(index, len(hooks))
    prompts = prompt_hooks(hooks, rows)
    if state.routing is not None:
        state.routing.close()
    routed = [[h for h in own if not isinstance(h.layer, PromptDelta)] for own in hooks]
    places: set[Place] = {(h.hook.module, h.hook.when) for own in routed for h in own}
    if not places <= state.kept_apart:
        require_apart(model, places)
        state.kept_apart |= places
    routing = Routing(state, model, rows, routed, prompts)
    state.routing = routing
    return routing


class Routing:
    """Deltas routed to the rows of a batch, from `route` until it is closed.

    Args:
        state: of the model, which forgets the routing when it is closed.
        model: that the deltas are attached to.
        index: (batch,), the delta of each row.
        hooks: of each delta's layers.
        prompts: their hooks, those of each delta; of one length, or none.
    """

    def __init__(
        self,
        state: AttachmentState | None,
        model: nn.Module,
        index: Tensor,
        hooks: Sequence[Sequence[LayerHook]],
        prompts: Sequence[Sequence[LayerHook]] = (),
    ) -> None:
        self.index = index
        self._state = state
        self._batch, self._tokens = len(index), 0  # of the forward that is running: with beams, a multiple
        self._rows: dict[tuple[int, int, torch.device], Tensor] = {}
        self._routed = [h for own in hooks for h in own]
        for n, own in enumerate(hooks):
            for h in own:
                run = self._before if h.hook.when == "before" else self._after
                h.replace(partial(run, n, h.hook.run))
        self._prompts = [own[0].layer for own in prompts if isinstance(own[0].layer, PromptDelta)]
        for own in prompts[1:]:  # the first one inserts those of all
            for h in own:
                h.replace(pass_by)
                self._routed.append(h)
        if self._prompts:
            self._prompts[0].by_row = self._prompts_by_row
        self._listening = [
            part.register_forward_pre_hook(self._see_batch, with_kwargs=True, prepend=True)
            for part in model.modules()
            if "input_ids" in inspect.signature(part.forward).parameters
        ]

    def __enter__(self) -> Routing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let each delta act on every row again; once is enough."""
        for h in self._routed:
            h.replace(h.hook.run)
        if self._prompts:
            self._prompts[0].by_row = None
        for handle in self._listening:
            handle.remove()
        self._routed, self._prompts, self._listening = [], [], []
        if self._state is not None and self._state.routing is self:
            self._state.routing = None

    def _see_batch(self, module: nn.Module, args: Args, kwargs: Kwargs) -> None:
        tensors = (t for t in (*args, *kwargs.values()) if isinstance(t, Tensor) and t.dim() > 1)
        batch, self._tokens = next((tuple(t.shape[:2]) for t in tensors), (self._batch, self._tokens))
        if batch % len(self.index):
            raise ApetError(
                f"a batch of {batch} rows is routed by an index of {len(self.index)}; give apet.route one entry for"
                " each example"
            )
        self._batch = batch

    def _rows_of(self, delta: int, x: Tensor) -> Tensor:
        """Rows of a tensor of the running forward that belong to a delta; beams and tokens of an example are together.

        Returns:
            Their numbers along the first axis.
        """
        key = delta, len(x), x.device
        if key not in self._rows:
            index = self.index.repeat_interleave(len(x) // len(self.index))
            self._rows[key] = (index == delta).nonzero()[:, 0].to(x.device)
        return self._rows[key]

    def _has_examples(self, x: Any) -> bool:
        """Whether a tensor has a row for each example, or one for each token of all examples in their order."""
        # Exactly so many: where padding is left out, nobody could tell which tokens are whose.
        return isinstance(x, Tensor) and x.dim() > 0 and len(x) in (self._batch, self._batch * self._tokens)

    def _before(self, delta: int, run: Callable[..., Any], module: nn.Module, args: Args, kwargs: Kwargs) -> Any:
        """Let a delta change its own rows of what a module is called with."""
        args, kwargs = (
            tuple(self._by_example(x, module) for x in args),
            {k: self._by_example(x, module) for k, x in kwargs.items()},
        )
        chosen = [self._chosen(x, delta) for x in (*args, *kwargs.values())]
        result = run(module, tuple(chosen[: len(args)]), dict(zip(kwargs, chosen[len(args) :], strict=True)))
        if result is None:
            return args, kwargs
        changed = [*result[0], *result[1].values()]
        merged = [
            x if new is old else self._merged(x, new, delta)
            for x, old, new in zip((*args, *kwargs.values()), chosen, changed, strict=True)
        ]
        return tuple(merged[: len(args)]), dict(zip(result[1], merged[len(args) :], strict=True))

    def _after(
        self, delta: int, run: Callable[..., Any], module: nn.Module, args: Args, kwargs: Kwargs, output: Any
    ) -> Any:
        """Let a delta change its own rows of what a module returns."""
        output = self._by_example(output, module)
        if not self._has_examples(output):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ApetError(
                f"deltas cannot be routed at a {type(module).__name__} that returns {shape} for {self._batch} examples:"
                " there is no row for each; plan without it (roles=...)"
            )
        rows = self._rows_of(delta, output)
        if not len(rows):
            return output
        own_args = tuple(self._chosen(x, delta) for x in args)
        own_kwargs = {k: self._chosen(x, delta) for k, x in kwargs.items()}
        return self._merged(output, run(module, own_args, own_kwargs, output[rows]), delta)

    def _by_example(self, x: Any, module: nn.Module) -> Any:
        """What all examples share, such as embeddings of places, once for each."""
        shared = isinstance(x, Tensor) and x.dim() > 2 and len(x) == 1 and self._batch > 1
        return x.expand(self._batch, *x.shape[1:]) if shared else x

    def _chosen(self, x: Any, delta: int) -> Any:
        return x[self._rows_of(delta, x)] if self._has_examples(x) else x

    def _merged(self, x: Tensor, rows: Tensor, delta: int) -> Tensor:
        return x.index_copy(0, self._rows_of(delta, x), rows.to(x.dtype))

    def _prompts_by_row(self, batch: int, dtype: torch.dtype) -> Tensor:
        """The prompt of each row, (batch, n, d)."""
        each = [p.dense("prompt_embeddings", dtype) for p in self._prompts]
        index = self.index.repeat_interleave(batch // len(self.index))
        return torch.stack(each)[index.to(each[0].device)]


def routable(state: AttachmentState, handle: Handle, n: int) -> list[LayerHook]:
    """The hooks of a delta that acts beside the weights, so that rows can be told apart.

    Returns:
        The hooks, in the order in which they were added.

    Raises:
        ApetError: it is not attached to this model, is merged, or is written into the weights.
    """
    attached = next((a for a in state.attached_deltas() if handle.is_handle_of(a)), None)
    if attached is None or handle.is_merged:
        raise ApetError(f"handles[{n}] is not attached to this model, or is merged; give what apet.attach returned")
    for layer in attached.all_layers():
        if layer.in_place():
            raise ApetError(
                f"handles[{n}] is written into the weights at {layer.insertion.position!r}, which all examples share;"
                " attach it with carrier='additive'"
            )
        if layer.acts_by is None and not isinstance(layer, PromptDelta):
            raise ApetError(f"handles[{n}] cannot be routed: a {layer.form} layer does not say what it acts by")
    return attached.layer_hooks


def _checked_index(index: Tensor | Sequence[int], num_deltas: int) -> Tensor:
    rows = torch.as_tensor(index)
    if rows.dim() != 1 or rows.is_floating_point() or rows.dtype == torch.bool or not len(rows):
        raise ApetError(f"index must be a list of integers, (batch,); came {rows.dtype} of shape {tuple(rows.shape)}")
    if int(rows.min()) < NONE or int(rows.max()) >= num_deltas:
        raise ApetError(
            f"index must lie between 0 and {num_deltas - 1}, or be -1 for no delta; came {int(rows.min())} to"
            f" {int(rows.max())}"
        )
    return rows.long()


def prompt_hooks(hooks: Sequence[Sequence[LayerHook]], index: Tensor) -> list[list[LayerHook]]:
    """The hooks of each delta's prompt.

    Returns:
        One list a delta; none where no delta has a prompt.

    Raises:
        ApetError: prompts differ in length, or a row has none.
    """
    prompts = [[h for h in own if isinstance(h.layer, PromptDelta)] for own in hooks]
    if not any(prompts):
        return []
    lengths = [sum({id(h.layer): _length(h) for h in own}.values()) for own in prompts]
    if len(set(lengths)) > 1:
        raise ApetError(
            f"prompts in one batch must have one length, since all rows have; came {lengths} tokens. Plan them with the"
            " same prompt_length"
        )
    if int(index.min()) == NONE:
        raise ApetError("a row without a delta (-1) cannot go with rows that have a prompt; run it in another batch")
    return prompts


def _length(hook: LayerHook) -> int:
    """Tokens of a prompt."""
    assert hook.layer is not None
    return hook.layer.insertion.weights[0].shape[0]


def require_apart(model: nn.Module, places: set[Place]) -> None:
    """Try on three short texts that what is changed in one row changes the outputs of that row alone, and wholly.

    Raises:
        ApetError: rows are not examples at one of these places, or the model mixes them.
    """
    hooks: list[list[LayerHook]] = [[] for _ in _STRENGTHS]
    try:
        for own, strength in zip(hooks, _STRENGTHS, strict=True):
            own += [LayerHook.add(_disturbance(place, strength)) for place in places]
        with _evaluating(model), torch.no_grad():
            device = next(model.parameters()).device
            inputs = {k: v.to(device) for k, v in random_inputs(model, 0, _ROWS, _TOKENS).items()}
            every_row = torch.ones(_ROWS, dtype=torch.long)
            mixed = _outputs(model, inputs, hooks, torch.arange(_ROWS))
            uniform = [_outputs(model, inputs, hooks, n * every_row) for n in range(_ROWS)]
    finally:
        for own in hooks:
            for h in own:
                h.handle.remove()
    tolerance = _SAME.get(mixed.dtype, _SAME_IN_HALF)
    for n in range(_ROWS):
        effect = (uniform[n][n] - uniform[n - 1][n]).double().norm()
        if float((mixed[n] - uniform[n][n]).double().norm()) > tolerance * float(effect):
            raise ApetError(
                f"{type(model).__name__} does not keep the examples of a batch apart where these deltas act; run one"
                " delta at a time"
            )


def _disturbance(place: Place, strength: float) -> Hook:
    """A change of a module's first input, or of its output, by other amounts in each entry."""
    module, when = place

    def change(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        return x * (1 + strength * torch.linspace(-1, 1, x.shape[-1], device=x.device, dtype=x.dtype))

    def before(module: nn.Module, args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        name = next(iter(kwargs))
        return args, {**kwargs, name: change(kwargs[name])}

    def after(module: nn.Module, args: Args, kwargs: Kwargs, output: Tensor) -> Tensor:
        return change(output)

    return Hook(module, when, before if when == "before" else after)


def _outputs(model: nn.Module, inputs: dict[str, Tensor], hooks: list[list[LayerHook]], index: Tensor) -> Tensor:
    routing = Routing(None, model, index, hooks)
    try:
        output = model(**inputs)
    finally:
        routing.close()
    logits = getattr(output, "logits", None)
    hidden: Tensor = output.last_hidden_state if logits is None else logits
    return hidden


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
