"""Attaching a delta to a backbone. Only this file and `apet.handle` change a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from apet import checkpoint
from apet.attached_delta import AttachedDelta, LayerHook
from apet.attachment_state import STATE_NAME, AttachmentState, host_of, state_of
from apet.backbones.describe import describe
from apet.backbones.fingerprint import weights_fingerprint
from apet.backbones.positions import Backbone
from apet.checkpoint import SavedDelta
from apet.delta import CarrierChoice, DeltaSpec, Insertion, TrainableWeight, initial_values, settle_masks
from apet.errors import ApetError, UnknownNameError
from apet.handle import Handle
from apet.kernels.sharding import whole
from apet.kernels.storage import dense_values, keep_differentiable, logical_shape
from apet.layers import LAYERS
from apet.layers.base import DeltaLayer, Host
from apet.layers.weight import WeightDelta
from apet.layers.weight_decay import tree_name
from apet.masks.mask import dense_mask
from apet.planning import with_merge_obstacles
from apet.saved_model import read_attached

HeadMode = Literal["frozen", "trained"]


def attach(
    model: nn.Module,
    spec: DeltaSpec,
    *,
    head: HeadMode = "frozen",
    values: Mapping[str, Tensor] | None = None,
    scores: Mapping[str, Tensor] | None = None,
    carrier: CarrierChoice = "auto",
) -> Handle:
    """Attach a delta to a model: afterwards exactly its N parameters require gradients (and a trained head's).

    Several deltas may sit on one model; where they touch one parameter they add up, at one layer's output they act in
    the order of attachment.

    While it is attached, ``model.state_dict()`` gives the backbone's own values, bit for bit, and the delta under
    ``apet.``; ``load_state_dict`` takes such a state dict, that of the backbone alone, or that of the delta alone.

    Args:
        model: a transformers model; its parameters are frozen.
        spec: from `apet.plan`, for this architecture.
        head: ``"trained"`` also trains the task head, the part that pre-training did not make (counted apart). Of
            several deltas only those with ``carrier="additive"`` may have one each, for `apet.route` to tell apart.
        values: initial values by ``position/weight``; by default drawn from the spec's ``init_seed``.
        scores: of the entries of a parameter by position, in the parameter's shape, for masks that rank entries; by
            default what the distribution makes of the backbone's weights.
        carrier: how deltas of parameters act: ``"in_place"``, ``"substituted"`` or ``"additive"`` (nothing is written;
            for graphs that must not change, quantized and sharded weights); ``"auto"``: the cheapest that is certified
            for each parameter.

    Returns:
        The handle to detach, merge or save it.

    Raises:
        UnknownNameError: the spec names a position that this model does not have.
        ApetError: shapes differ, values are missing, the model has no head to train or another delta trains it, or its
            weights are quantized or absent.

    Examples:
        >>> import apet, torch
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> handle = apet.attach(model, apet.plan(model, "apet", budget=100))
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        100
        >>> handle.detach()
    """
    if any(p.is_meta for p in model.parameters()):
        raise ApetError(f"this {type(model).__name__} has no weights (meta device); load it with them to attach")
    state = state_of(model)
    return _attach(model, spec, state.backbone if state is not None else describe(model), head, values, scores, carrier)


def attach_without_content(model: nn.Module, spec: DeltaSpec, backbone: Backbone, carrier: CarrierChoice) -> Handle:
    """Attach to a model of fake tensors, which have shapes and no content: to see what a step costs.

    Args:
        model: made under a ``FakeTensorMode``, which is on.
        spec: of the delta; masks that are ranked by scores must be listed.
        backbone: description of the model.
        carrier: how deltas of parameters act.

    Returns:
        The handle. Values are zeros, and there is no fingerprint.

    Raises:
        ApetError: as of `attach`.
    """
    values = {f"{i.position}/{w.name}": torch.zeros(w.mask.num_trainable) for i in spec.insertions for w in i.weights}
    return _attach(model, spec, backbone, "frozen", values, None, carrier, has_content=False)


def _attach(
    model: nn.Module,
    spec: DeltaSpec,
    backbone: Backbone,
    head: HeadMode,
    values: Mapping[str, Tensor] | None,
    scores: Mapping[str, Tensor] | None,
    carrier: CarrierChoice,
    has_content: bool = True,
) -> Handle:
    state = state_of(model)
    _check_fits(spec, backbone, head)
    if carrier not in get_args(CarrierChoice):
        raise UnknownNameError("carrier", carrier, get_args(CarrierChoice))
    others_head = state is not None and any(len(getattr(a, "head")) for a in state.attached)
    if head == "trained" and carrier != "additive" and others_head:  # heads beside the weights can be told apart by row
        raise ApetError("another delta on this model trains its head already; attach this one with head='frozen'")
    if state is None:
        state = _add_state(model, backbone, weights_fingerprint(model) if has_content else "")
    # Found out anew: it may be built by hand, or planned from a configuration that ties other weights than this model.
    attached = AttachedDelta(with_merge_obstacles(spec, backbone), head, state.fingerprint)
    state.attached.append(attached)
    state.forget_watch()
    handle = Handle(model, attached)
    try:
        attached.spec = settle_masks(attached.spec, lambda position: _original(model, state, position), scores)
        if values is not None and has_content:
            _check_values(spec, values)
        _add_layers(host_of(model, state, carrier), attached, values)
        state.average_gradients(model)
    except BaseException:
        handle.detach()  # half a delta must not stay behind
        raise
    return handle


def _add_state(model: nn.Module, backbone: Backbone, fingerprint: str) -> AttachmentState:
    """Freeze a model and put into it what attached deltas share.

    Returns:
        The state, hooked into the model's forward.
    """
    required_grad = {name: p.requires_grad for name, p in model.named_parameters()}
    state = AttachmentState(backbone, fingerprint, required_grad)
    model.requires_grad_(False)
    keep_differentiable(model)
    if getattr(model, "is_quantized", False):
        # Trainer refuses to train a quantized model that has nothing trainable on top; this one now has.
        state.was_quantized = True
        setattr(model, "is_quantized", False)
    model.add_module(STATE_NAME, state)
    state.hook_handles = [
        model.register_forward_pre_hook(state.pre_forward),
        # Also after a forward that failed: layers that are called by themselves must write for themselves again.
        model.register_forward_hook(state.post_forward, always_call=True),
        *(part.register_forward_pre_hook(state.pre_part) for part in model.children() if part is not state),
        model.register_state_dict_pre_hook(state.before_save),
        model.register_load_state_dict_pre_hook(state.before_load),
        model.register_load_state_dict_post_hook(state.after_load),
    ]
    return state


def load(model: nn.Module, folder: str | Path) -> Handle:
    """Attach a saved delta, and its trained head if it has one, to the backbone it was trained on.

    The folder may also be one that the model's ``save_pretrained``, or a trainer of transformers, wrote while deltas
    were attached: all of them are attached, in their order. Where it holds a ``delta.safetensors``, that is loaded.

    Args:
        model: the pre-trained model, without anything attached or with other deltas; also one that ``from_pretrained``
            made of the same folder.
        folder: from `Handle.save` (or the file in it), or from ``save_pretrained``.

    Returns:
        The handle; of several deltas that of the last, while `attached` lists all.

    Raises:
        ApetError: no delta there, a damaged file, a newer format, or another backbone; the message says which.

    Examples:
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
        (state.backbone, state.update_fingerprint(model)) if state else (describe(model), weights_fingerprint(model))
    )
    path = Path(folder)
    saved: list[SavedDelta] = []
    if not checkpoint.holds_delta(path):
        saved = read_attached(path, backbone, fingerprint)
    handles: list[Handle] = []
    try:
        # Neither of both: reading a file that is not there says so.
        for delta in saved or [checkpoint.read_delta(path, backbone, fingerprint)]:
            handles.append(_attach_saved(model, delta))
    except BaseException:
        for handle in reversed(handles):
            handle.detach()  # some of the deltas must not stay behind
        raise
    return handles[-1]


def _attach_saved(model: nn.Module, saved: SavedDelta) -> Handle:
    """Attach one delta with its values and those of its head."""
    head = saved.head or {}
    for name, entries in head.items():
        expected = math.prod(logical_shape(model.get_parameter(name)))
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

    Examples:
        >>> import apet
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> handle = apet.attach(model, apet.plan(model, "bitfit"))
        >>> [h.spec.method for h in apet.attached(model)]
        ['bitfit']
    """
    state = state_of(model)
    return [] if state is None else [Handle(model, a) for a in state.attached_deltas()]


def _original(model: nn.Module, state: AttachmentState, position: str) -> Tensor:
    """A parameter's values as the backbone came, whatever other deltas have written into it since."""
    p = state.backbone.position(position)
    parameter = model.get_parameter(f"{p.module}.{p.parameter}")
    deltas = state.parameter_deltas.get(position)
    if deltas is None or not deltas.deltas:
        return dense_values(model.get_submodule(p.module), p.parameter)
    deltas.restore(parameter)
    original = parameter.detach().clone()
    deltas.write(parameter)
    return original


def _add_layers(host: Host, attached: AttachedDelta, values: Mapping[str, Tensor] | None) -> None:
    """Create the delta layers of a spec and hook them in."""
    spec, model = attached.spec, host.model
    embedding = next((x.module for x in host.backbone.layers if x.role == "embed.tokens"), None)
    needs_vocabulary = any(w.init.kind == "vocabulary" for i in spec.insertions for w in i.weights)
    vocabulary = dense_values(model.get_submodule(embedding), "weight") if embedding and needs_vocabulary else None
    names = {id(module): name for name, module in model.named_modules()}
    for insertion in spec.insertions:
        start = {
            w.name: initial_values(w, insertion.position, spec.init_seed, vocabulary)
            if values is None
            else _given_values(values, w, insertion.position)
            for w in insertion.weights
        }
        layer = LAYERS.get(insertion.form).create(insertion, start, host)
        name = tree_name(f"{insertion.form}_{insertion.position}", layer.decays(host), attached.layers.keys())
        attached.layers[name] = layer
    # Entries of a parameter act before whatever is a function of its module's output, in whatever order they stand.
    for layer in sorted(attached.delta_layers(), key=lambda layer: layer.form != "weight"):
        _register_hooks(attached, layer, host, names)
    if attached.head_mode == "trained":
        for name in host.backbone.head:
            path, _, leaf = name.rpartition(".")
            tensor = dense_values(model.get_submodule(path), leaf)
            weight = TrainableWeight("delta", dense_mask(tuple(tensor.shape)))
            # The head's values replace the tensor: it has no pre-trained values that a delta could be added to.
            start_values = tensor.float().reshape(-1).clone()
            insertion = Insertion("weight", name, (weight,))
            head_layer = WeightDelta.on_parameter(insertion, start_values, host, f"head {name}", name, replaces=True)
            attached.head[tree_name(name, head_layer.decays(host), attached.head.keys())] = head_layer
            _register_hooks(attached, head_layer, host, names)
    attached.fuse_hooks()


def _check_values(spec: DeltaSpec, values: Mapping[str, Tensor]) -> None:
    """Refuse initial values that this delta does not have, or that are no finite numbers."""
    names = [f"{i.position}/{w.name}" for i in spec.insertions for w in i.weights]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise UnknownNameError("trainable weight in values", unknown[0], names)
    wrong = next((name for name, v in values.items() if not isinstance(v, Tensor)), None)
    if wrong is not None:
        raise ApetError(f"values[{wrong!r}] is a {type(values[wrong]).__name__}; give a tensor")
    checkpoint.require_finite({name: whole(v) for name, v in values.items()}, "values")


def _given_values(values: Mapping[str, Tensor], weight: TrainableWeight, position: str) -> Tensor:
    """The caller's initial values of one trainable weight, as a copy that training may change."""
    name, k = f"{position}/{weight.name}", weight.mask.num_trainable
    given = values.get(name)
    if given is None or given.numel() != k:
        came = "nothing" if given is None else f"{given.numel()}"
        raise ApetError(f"values[{name!r}] must hold {k} values; came {came}")
    return whole(given).detach().reshape(-1).to(torch.float32, copy=True)


def _register_hooks(attached: AttachedDelta, layer: DeltaLayer, host: Host, names: Mapping[int, str]) -> None:
    for hook in layer.hooks(host):
        attached.layer_hooks.append(LayerHook.add(hook, layer))
        if not layer.in_place():  # else the parameter is watched, wherever it is held
            attached.acts_on[names[id(hook.module)]] = hook.module


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
