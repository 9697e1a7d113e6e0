"""Handle of an attached delta: reading its values, detaching, merging and saving it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from apet import checkpoint
from apet.attached_delta import AttachedDelta
from apet.attachment_state import STATE_NAME, AttachmentState, host_of, state_of
from apet.delta import DeltaSpec
from apet.display import html_notes
from apet.errors import ApetError
from apet.kernels.sharding import by_first_process, whole
from apet.layers.base import MergedDelta
from apet.layers.merging import require_mergeable, require_same_order
from apet.layers.weight import WeightDelta
from apet.layers.weight_decay import name_decays


class Handle:
    """Handle of an attached delta: its values, and the ways to take it off, merge or save it.

    Attributes:
        model: the backbone it sits on.

    Examples:
        >>> import apet
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        ...                     vocab_size=61)
        >>> model = BertForSequenceClassification(config)
        >>> with apet.attach(model, apet.plan(model, "bitfit")) as handle:
        ...     sum(p.numel() for p in handle.parameters())
        112
        >>> apet.attached(model)
        []
    """

    def __init__(self, model: nn.Module, attached: AttachedDelta) -> None:
        self.model = model
        self._attached = attached

    def __repr__(self) -> str:
        return f"Handle({self.spec!r}{', merged' if self.is_merged else ''})"

    def _repr_html_(self) -> str:
        state = "merged" if self.is_merged else "attached" if self.is_attached else "detached"
        return self.spec._repr_html_() + html_notes([f"{state}, on {type(self.model).__name__}"])

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

    def is_handle_of(self, attached: AttachedDelta) -> bool:
        """Whether this attached delta is the one that it stands for."""
        return attached is self._attached

    @property
    def is_merged(self) -> bool:
        """Whether its values have become part of the backbone's parameters."""
        return self._attached.is_merged

    @property
    def backbone_fingerprint(self) -> str:
        """Fingerprint of the backbone's own values as they are now, without attached deltas, with merged ones."""
        return self._state().update_fingerprint(self.model)

    def values(self) -> Iterator[tuple[str, Tensor]]:
        """Trained entries of every weight: ``(position/weight, (k,) fp32)``, in the order of the spec."""
        self._require_unmerged("read")
        yield from self._attached.values()

    def head_values(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of the trained task head by parameter name; empty where the head is frozen."""
        for layer in self._attached.head.values():
            assert isinstance(layer, WeightDelta)
            yield layer.parameter, layer.delta.values

    def parameters(self) -> list[Tensor]:
        """All trainable tensors, for an optimizer: those of the delta and, where it is trained, of the task head."""
        return [v for _, v in self.values()] + [v for _, v in self.head_values()]

    def parameter_groups(self, weight_decay: float) -> list[dict[str, object]]:
        """All trainable tensors as an optimizer's groups, of which biases and scales of norms have no weight decay.

        The rule is that of transformers' Trainer. Decay pulls towards the backbone, and towards zero in a task head.

        Args:
            weight_decay: of all others.

        Returns:
            At most two groups, for ``torch.optim.AdamW(groups, lr=…)``.
        """
        names = {id(p): name for name, p in self._state().named_parameters()}
        by_decay: dict[float, list[Tensor]] = {}
        for value in self.parameters():
            by_decay.setdefault(weight_decay if name_decays(names[id(value)]) else 0.0, []).append(value)
        return [{"params": values, "weight_decay": decay} for decay, values in by_decay.items()]

    def refresh(self) -> None:
        """Write changed values into the backbone now; a forward does so itself, reading weights directly does not."""
        self._state().write_all(self.model)

    def detach(self) -> None:
        """Take the delta off: the backbone is what it was, bit for bit, and so are its ``requires_grad`` flags.

        Raises:
            ApetError: it is no longer attached, or the model was changed where it acts.
        """
        state = self._state()
        state.check(self.model)
        # In reverse, so that deltas of one parameter leave in the opposite order to that in which they came.
        for position, _, delta in reversed(self._attached.in_place()):
            state.parameter_deltas[position].remove(delta, state.edited[position].parameter)
        for position, module in list(state.created_biases.items()):
            if not state.parameter_deltas[position].deltas:
                self.model.get_submodule(module).register_parameter("bias", None)
                del state.created_biases[position]
        self._unhook()
        self._leave(state)

    def merge(self, *, forget: bool = False) -> None:
        """Make the delta part of the backbone's own parameters: no hook, no trained tensor, no extra cost remains.

        Until `detach`, the entries that were overwritten are kept, so that detaching still restores every bit. What is
        saved of the model from now on is the merged backbone, without anything under ``apet.``.

        Args:
            forget: keep nothing; the merged backbone is then final and this handle is done.

        Raises:
            NotMergeableError: a layer that no parameter can hold, as `DeltaSpec.merge_obstacles` says beforehand, or
                another delta at its layer that would act in another order from then on; the model is left as it was.
            ApetError: it is merged already, or no longer attached.
        """
        self._require_unmerged("merge")
        state, attached = self._state(), self._attached
        state.check(self.model)
        written = attached.in_place()
        require_mergeable(attached.spec.insertions, state.backbone)
        require_same_order(attached.delta_layers(), [x for a in state.attached_deltas() for x in a.delta_layers()])
        # All edits first: if one layer cannot be merged, nothing has happened yet.
        host = host_of(self.model, state)
        edits = [e for layer in attached.all_layers() for e in layer.merged_deltas(host)]
        self._unhook()
        for position, _, delta in reversed(written):
            state.parameter_deltas[position].remove(delta, state.edited[position].parameter)
        attached.layers, attached.head = nn.ModuleDict(), nn.ModuleDict()
        parameters = [self._parameter_of(state, edit) for edit in edits]
        host = host_of(self.model, state)  # the tree has the created biases now
        for edit, parameter in zip(edits, parameters, strict=True):
            tensor = self.model.get_parameter(parameter)
            state.deltas_of(host, edit.position, parameter).add(edit.delta.to(tensor.device), tensor)
            attached.merged_into.append((edit.position, parameter))
            attached.merged_deltas.append(edit.delta)
        attached.is_merged = True
        if forget:
            for position, _, delta in attached.in_place():
                state.parameter_deltas[position].make_permanent(delta, state.edited[position].parameter)
                state.created_biases.pop(position, None)
            self._leave(state)

    def save(self, folder: str | Path) -> Path:
        """Write the delta with its values into a folder (see `apet.checkpoint`).

        Of a model that is sharded over processes, all of them have to call this; the first one writes.

        Args:
            folder: made if it is missing.

        Returns:
            The file of the delta.

        Raises:
            CannotWriteError: the folder cannot be made or written.
            ApetError: the delta is merged, or no longer attached.
        """
        self._require_unmerged("save")
        fingerprint = self.backbone_fingerprint  # first: the spec follows a backbone that was changed meanwhile
        values = {name: whole(v) for name, v in self.values()}
        head = {name: whole(v) for name, v in self.head_values()}
        path = Path(folder)
        by_first_process(self.model, lambda: checkpoint.write_delta(path, self.spec, fingerprint, values, head))
        return path / checkpoint.DELTA_FILE

    def _parameter_of(self, state: AttachmentState, merged: MergedDelta) -> str:
        """Name of the parameter that an edit of a merge goes into; a bias that a linear layer has none of is made."""
        if merged.parameter is not None:
            return merged.parameter
        layer_name, _, leaf = merged.position.rpartition(".")
        layer = state.backbone.layer(layer_name)
        module = self.model.get_submodule(layer.module)
        if getattr(module, leaf) is None:
            weight = getattr(module, "weight")
            zeros = torch.zeros(layer.d_out, dtype=weight.dtype, device=weight.device)
            module.register_parameter(leaf, nn.Parameter(zeros, requires_grad=False))
            state.created_biases[merged.position] = layer.module
        return f"{layer.module}.{leaf}"

    def _unhook(self) -> None:
        for handle in (*self._attached.hook_handles, *(h.handle for h in self._attached.layer_hooks)):
            handle.remove()
        self._attached.hook_handles, self._attached.layer_hooks = [], []
        self._attached.acts_on = {}
        self._state().forget_watch()

    def _leave(self, state: AttachmentState) -> None:
        """Drop out of the model's tree; the last one to leave takes the state with it."""
        state.attached = nn.ModuleList(a for a in state.attached if a is not self._attached)
        if len(state.attached):
            return
        state.unhook()
        delattr(self.model, STATE_NAME)
        if state.was_quantized:
            setattr(self.model, "is_quantized", True)
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
