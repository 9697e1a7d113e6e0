"""Attaching a delta to a backbone and detaching it again: the only file that changes a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from apet import checkpoint
from apet.attachment_state import STATE_NAME, AttachedDelta, AttachmentState, state_of
from apet.backbones.describe import Backbone, describe
from apet.backbones.fingerprint import weights_fingerprint
from apet.delta import DeltaSpec, Insertion, TrainableWeight, initial_values, settle_masks
from apet.errors import ApetError, UnknownNameError
from apet.layers import LAYERS
from apet.layers.base import Hook, Host, MergedDelta
from apet.layers.weight import WeightDelta
from apet.masks.mask import dense_mask

HeadMode = Literal["frozen", "trained"]


class Handle:
    """Handle of an attached delta: its values, and the ways to take it off, merge or save it.

    Attributes:
        model: the backbone it sits on.

    Example:
        >>> import apet
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        vocab_size=61)
        >>> model = BertForSequenceClassification(config)
        >>> with apet.attach(model, apet.plan(model, "bitfit")) as handle:
        ...     sum(p.numel() for p in handle.parameters())
        120
        >>> apet.attached(model)
        []
    """

    def __init__(self, model: nn.Module, attached: AttachedDelta) -> None:
        self.model = model
        self._attached = attached

    def __repr__(self) -> str:
        return f"Handle({self.spec!r}{', merged' if self.is_merged else ''})"

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_attached:
            self.detach()

    @property
    def spec(self) -> DeltaSpec:
        """What was attached; masks that depend on the backbone's weights are settled."""
        return self._attached.spec

    @property
    def is_attached(self) -> bool:
        """Whether the model still carries it, attached or merged."""
        state = state_of(self.model)
        return state is not None and any(a is self._attached for a in state.attached)

    @property
    def is_merged(self) -> bool:
        """Whether its values have become part of the backbone's parameters."""
        return self._attached.is_merged

    @property
    def backbone_fingerprint(self) -> str:
        """Fingerprint of the backbone as it was before anything was attached."""
        return self._state().fingerprint

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Trained entries of every weight: ``(position/weight, (k,) fp32)``, in the order of the spec."""
        self._require_unmerged("read")
        num_head_layers = len(self._attached.head)
        layers = list(self._attached.all_layers())
        for layer in layers[: len(layers) - num_head_layers]:
            for name, entries in layer.values():
                yield f"{layer.insertion.position}/{name}", entries

    def head_values(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of the trained task head by parameter name; empty where the head is frozen."""
        for layer in self._attached.head.values():
            assert isinstance(layer, WeightDelta)
            yield layer.parameter, layer.delta.values

    def parameters(self) -> list[Tensor]:
        """All trainable tensors, for an optimizer: those of the delta and, where it is trained, of the task head."""
        return [v for _, v in self.values()] + [v for _, v in self.head_values()]

    def refresh(self) -> None:
        """Write changed values into the backbone now; a forward does so itself, reading weights directly does not."""
        self._state().write_all(self.model)

    def detach(self) -> None:
        """Take the delta off: the backbone is what it was, bit for bit, and so are its ``requires_grad`` flags.

        Raises:
            ApetError: it is no longer attached.
        """
        state = self._state()
        # In reverse, so that deltas of one parameter leave in the opposite order to that in which they came.
        for position, parameter, delta in reversed(self._attached.in_place()):
            state.parameter_deltas[position].remove(delta, self.model.get_parameter(parameter))
        for position, module in list(state.created_biases.items()):
            if not state.parameter_deltas[position].deltas:
                self.model.get_submodule(module).register_parameter("bias", None)
                del state.created_biases[position]
        self._unhook()
        self._leave(state)

    def merge(self, *, forget: bool = False) -> None:
        """Make the delta part of the backbone's own parameters: no hook, no trained tensor, no extra cost remains.

        Until `detach`, the entries that were overwritten are kept, so that detaching still restores every bit.

        Args:
            forget: keep nothing; the merged backbone is then final and this handle is done.

        Raises:
            NotMergeableError: a layer that no parameter can hold (prompt, adapter, bias of a norm that has none); the
                model is left as it was.
            ApetError: it is merged already, or no longer attached.
        """
        self._require_unmerged("merge")
        state, attached = self._state(), self._attached
        written = attached.in_place()
        # All edits first: if one layer cannot be merged, nothing has happened yet.
        edits = [e for layer in attached.all_layers() for e in layer.merged_deltas(_host(self.model, state))]
        self._unhook()
        for position, parameter, delta in reversed(written):
            state.parameter_deltas[position].remove(delta, self.model.get_parameter(parameter))
        attached.layers, attached.head = nn.ModuleDict(), nn.ModuleDict()
        for edit in edits:
            attached.merged_into.append((edit.position, self._write_merged(state, edit)))
            attached.merged_deltas.append(edit.delta)
        attached.is_merged = True
        if forget:
            for position, parameter, delta in attached.in_place():
                state.parameter_deltas[position].make_permanent(delta, self.model.get_parameter(parameter))
                state.created_biases.pop(position, None)
            self._leave(state)

    def save(self, folder: str | Path) -> Path:
        """Write the delta with its values into a folder (see `apet.checkpoint`).

        Args:
            folder: made if it is missing.

        Returns:
            The file of the delta.

        Raises:
            CannotWriteError: the folder cannot be made or written.
            ApetError: the delta is merged, or no longer attached.
        """
        self._require_unmerged("save")
        return checkpoint.write_delta(
            Path(folder), self.spec, self.backbone_fingerprint, dict(self.values()), dict(self.head_values())
        )

    def _write_merged(self, state: AttachmentState, merged: MergedDelta) -> str:
        """Write one edit of a merge; creates the bias it asks for where a linear layer has none.

        Returns:
            Name of the parameter.
        """
        parameter = merged.parameter
        if parameter is None:
            layer_name, _, leaf = merged.position.rpartition(".")
            layer = state.backbone.layer(layer_name)
            parameter = f"{layer.module}.{leaf}"
            module = self.model.get_submodule(layer.module)
            if getattr(module, leaf) is None:
                weight = getattr(module, "weight")
                zeros = torch.zeros(layer.d_out, dtype=weight.dtype, device=weight.device)
                module.register_parameter(leaf, nn.Parameter(zeros, requires_grad=False))
                state.created_biases[merged.position] = layer.module
        tensor = self.model.get_parameter(parameter)
        state.deltas_of(merged.position, parameter).add(merged.delta.to(tensor.device), tensor)
        return parameter

    def _unhook(self) -> None:
        for handle in self._attached.hook_handles:
            handle.remove()
        self._attached.hook_handles = []

    def _leave(self, state: AttachmentState) -> None:
        """Drop out of the model's tree; the last one to leave takes the state with it."""
        state.attached = nn.ModuleList(a for a in state.attached if a is not self._attached)
        if len(state.attached):
            return
        for handle in state.hook_handles:
            handle.remove()
        delattr(self.model, STATE_NAME)
        for name, p in self.model.named_parameters():
            p.requires_grad_(state.required_grad.get(name, False))

    def _state(self) -> AttachmentState:
        state = state_of(self.model)
        if state is None or not self.is_attached:
            raise ApetError("this delta is no longer attached; attach it again with apet.attach(model, spec)")
        return state

    def _require_unmerged(self, verb: str) -> None:
        self._state()
        if self.is_merged:
            raise ApetError(
                f"cannot {verb} a merged delta: its values are part of the backbone; detach() gives the backbone back"
            )


def attach(
    model: nn.Module,
    spec: DeltaSpec,
    *,
    head: HeadMode = "frozen",
    values: Mapping[str, Tensor] | None = None,
    scores: Mapping[str, Tensor] | None = None,
) -> Handle:
    """Attach a delta to a model: afterwards exactly its N parameters require gradients (and a trained head's).

    Several deltas may sit on one model; where they touch one parameter they add up, at one layer's output they act in
    the order of attachment.

    Args:
        model: a transformers model; its parameters are frozen.
        spec: from `apet.plan`, for this architecture.
        head: ``"trained"`` also trains the task head, the part that pre-training did not make (counted apart).
        values: initial values by ``position/weight``; by default drawn from the spec's ``init_seed``.
        scores: of the entries of a parameter by position, in the parameter's shape, for masks that rank entries; by
            default what the distribution makes of the backbone's weights.

    Returns:
        The handle to detach, merge or save it.

    Raises:
        UnknownNameError: the spec names a position that this model does not have.
        ApetError: shapes differ, values are missing, the model has no head to train or another delta trains it, or its
            weights are quantized or absent.

    Example:
        >>> import apet, torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> handle = apet.attach(model, apet.plan(model, "apet", budget=100))
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        100
        >>> handle.detach()
    """
    state = state_of(model)
    backbone = state.backbone if state is not None else describe(model)
    _check_fits(spec, backbone, head)
    if any(p.is_meta for p in model.parameters()):
        raise ApetError(f"this {backbone.model_class} has no weights (meta device); load it with them to attach")
    if head == "trained" and state is not None and any(len(getattr(a, "head")) for a in state.attached):
        raise ApetError("another delta on this model trains its head already; attach this one with head='frozen'")
    if state is None:
        required_grad = {name: p.requires_grad for name, p in model.named_parameters()}
        state = AttachmentState(backbone, weights_fingerprint(model), required_grad)
        model.requires_grad_(False)
        model.add_module(STATE_NAME, state)
        state.hook_handles = [
            model.register_forward_pre_hook(state.pre_forward),
            model.register_forward_hook(state.post_forward, always_call=True),
        ]
    attached = AttachedDelta(spec, head)
    state.attached.append(attached)
    handle = Handle(model, attached)
    try:
        attached.spec = settle_masks(spec, lambda position: _original(model, state, position), scores)
        _add_layers(_host(model, state), attached, values)
    except BaseException:
        handle.detach()  # half a delta must not stay behind
        raise
    return handle


def load(model: nn.Module, folder: str | Path) -> Handle:
    """Attach a saved delta, and its trained head if it has one, to the backbone it was trained on.

    Args:
        model: the pre-trained model, without anything attached or with other deltas.
        folder: from `Handle.save`, or the file in it.

    Returns:
        The handle.

    Raises:
        ApetError: no delta there, a damaged file, a newer format, or another backbone; the message says which.

    Example:
        >>> import apet, copy, tempfile
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with apet.attach(model, apet.plan(model, "lora")) as handle:
        ...         file = handle.save(folder)
        ...     apet.load(model, folder).spec.method
        'lora'
    """
    state = state_of(model)
    backbone, fingerprint = (
        (state.backbone, state.fingerprint) if state else (describe(model), weights_fingerprint(model))
    )
    saved = checkpoint.read_delta(folder, backbone, fingerprint)
    head = saved.head or {}
    for name, entries in head.items():
        expected = model.get_parameter(name).numel()
        if entries.numel() != expected:
            raise ApetError(
                f"the saved head's {name!r} has {entries.numel()} values, this model's {expected};"
                " load the model with the same number of labels"
            )
    handle = attach(model, saved.spec, head="trained" if head else "frozen", values=saved.values)
    with torch.no_grad():
        for name, entries in handle.head_values():
            entries.copy_(head[name])
    handle.refresh()
    return handle


def attached(model: nn.Module) -> list[Handle]:
    """List the handles of all deltas on a model, in order; also those of a deep copy.

    Args:
        model: any.

    Returns:
        Empty where nothing is attached.

    Example:
        >>> import apet
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> handle = apet.attach(model, apet.plan(model, "bitfit"))
        >>> [h.spec.method for h in apet.attached(model)]
        ['bitfit']
    """
    state = state_of(model)
    return [] if state is None else [Handle(model, a) for a in state.attached if isinstance(a, AttachedDelta)]


def _host(model: nn.Module, state: AttachmentState) -> Host:
    return Host(model, state.backbone, state.deltas_of)


def _original(model: nn.Module, state: AttachmentState, position: str) -> Tensor:
    """A parameter's values as the backbone came, whatever other deltas have written into it since."""
    p = state.backbone.position(position)
    parameter = model.get_parameter(f"{p.module}.{p.parameter}")
    deltas = state.parameter_deltas.get(position)
    if deltas is None or not deltas.deltas:
        return parameter.detach()
    deltas.restore(parameter)
    original = parameter.detach().clone()
    deltas.write(parameter)
    return original


def _add_layers(host: Host, attached: AttachedDelta, values: Mapping[str, Tensor] | None) -> None:
    """Create the delta layers of a spec and hook them in."""
    spec, model = attached.spec, host.model
    embedding = next((f"{x.module}.weight" for x in host.backbone.layers if x.role == "embed.tokens"), None)
    vocabulary = model.get_parameter(embedding) if embedding else None
    for insertion in spec.insertions:
        start = {
            w.name: initial_values(w, insertion.position, spec.init_seed, vocabulary)
            if values is None
            else _given_values(values, w, insertion.position)
            for w in insertion.weights
        }
        layer = LAYERS.get(insertion.form).create(insertion, start, host)
        attached.layers[re.sub(r"\W", "_", f"{insertion.form}_{insertion.position}")] = layer
        _register_hooks(attached, layer.hooks(host))
    if attached.head_mode == "trained":
        for name in host.backbone.head:
            tensor = model.get_parameter(name)
            weight = TrainableWeight("delta", dense_mask(tuple(tensor.shape)))
            # The head's values replace the tensor: it has no pre-trained values that a delta could be added to.
            start_values = tensor.detach().float().reshape(-1).clone()
            insertion = Insertion("weight", name, (weight,))
            head_layer = WeightDelta.on_parameter(insertion, start_values, host, f"head {name}", name, replaces=True)
            attached.head[re.sub(r"\W", "_", name)] = head_layer
            _register_hooks(attached, head_layer.hooks(host))


def _given_values(values: Mapping[str, Tensor], weight: TrainableWeight, position: str) -> Tensor:
    """The caller's initial values of one trainable weight, as a copy that training may change."""
    name, k = f"{position}/{weight.name}", weight.mask.num_trainable
    given = values.get(name)
    if given is None or given.numel() != k:
        came = "nothing" if given is None else f"{given.numel()}"
        raise ApetError(f"values[{name!r}] must hold {k} values; came {came}")
    return given.detach().reshape(-1).to(torch.float32, copy=True)


def _register_hooks(attached: AttachedDelta, hooks: Iterator[Hook]) -> None:
    for hook in hooks:
        module = hook.module
        register = module.register_forward_pre_hook if hook.when == "before" else module.register_forward_hook
        attached.hook_handles.append(register(hook.run, with_kwargs=True))


def _check_fits(spec: DeltaSpec, backbone: Backbone, head: str) -> None:
    """Refuse a spec that was made for another architecture, with the first position that does not fit."""
    if head not in ("frozen", "trained"):
        raise UnknownNameError("head mode", head, ["frozen", "trained"])
    if head == "trained" and not backbone.head:
        raise ApetError(f"{backbone.model_class} has no task head to train; every part of it was pre-trained")
    planned_for = f"the delta was planned for {spec.backbone}, this is {backbone.model_class}"
    for insertion in spec.insertions:
        try:
            expected = LAYERS.get(insertion.form).expected_shapes(insertion, backbone)
        except UnknownNameError as e:
            raise ApetError(f"{e} ({planned_for})") from e
        for w in insertion.weights:
            shape = expected[w.name]
            if len(shape) != len(w.shape) or any(a not in (None, b) for a, b in zip(shape, w.shape, strict=True)):
                raise ApetError(
                    f"{w.name} at {insertion.position!r} has shape {w.shape}, the backbone asks for {shape}"
                    f" ({planned_for})"
                )
