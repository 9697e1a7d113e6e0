"""An adapter of the peft library as a delta: a DeltaSpec and its values, which compute the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from apet.attachment import attach
from apet.backbones.describe import describe
from apet.backbones.positions import Backbone, Layer, Position
from apet.delta import DeltaSpec, Insertion, TrainableWeight
from apet.errors import ApetError
from apet.handle import Handle
from apet.interop.peft_adapter import PREFIX, PeftAdapter, read_adapter
from apet.masks.mask import dense_mask, listed_mask

_OTHER_MEANING = ("use_dora", "use_qalora", "alora_invocation_tokens", "layer_replication", "trainable_token_indices")
"""Settings of LoRA that make another function of its factors."""


def import_peft(model: nn.Module, adapter: str | Path, folder: str | Path | None = None) -> Handle:
    """Attach an adapter of the peft library as a delta, and write it into a folder.

    LoRA, (IA)³, prompt tuning, LN-tuning, BEFT, SHiRA and Super-Tuning are read, with the modules that were stored
    whole; a task head becomes a trained head.

    Args:
        model: the backbone that the adapter was trained on, nothing attached.
        adapter: folder of the adapter, from peft's ``save_pretrained``.
        folder: for the delta, which `apet.load` attaches again; None = none is written.

    Returns:
        The handle of the delta, attached; the model computes what it computed in peft.

    Raises:
        ApetError: no adapter there, a damaged one, a form that is not read, or one that does not fit the model.
        CannotWriteError: the folder cannot be written.

    Examples:
        >>> import apet
        >>> from peft import LoraConfig, get_peft_model
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> get_peft_model(model, LoraConfig(r=2, fan_in_fan_out=True)).save_pretrained("adapter")
        >>> backbone = GPT2LMHeadModel(model.config)
        >>> apet.import_peft(backbone, "adapter", "delta").spec.num_trainable
        128
    """
    read = read_adapter(adapter)
    backbone = describe(model)
    parts = _Parts(model, backbone, str(adapter))
    reader = _READERS.get(read.kind)
    if reader is None:
        raise ApetError(f"peft's {read.kind} is not read; what is: {', '.join(sorted(_READERS))}")
    _refuse_settings(read)
    left = reader(parts, read)
    for name in left:
        # Beside a module that is stored whole, bias="all" saves the biases of its two copies once more.
        if not {"modules_to_save", "original_module"} & set(name.split(".")):
            parts.add_whole(name, read.tensors[name])
    spec = DeltaSpec(
        tuple(parts.in_model_order()),
        backbone.model_class,
        backbone.num_parameters,
        name=f"peft-{read.kind.lower().replace('_', '-')}",
    )
    if not spec.insertions:
        raise ApetError(f"the adapter at {str(adapter)!r} changes nothing but a task head; there is no delta in it")
    handle = attach(model, spec, head="trained" if parts.head else "frozen", values=parts.values)
    try:
        with torch.no_grad():
            for name, entries in handle.head_values():
                if name not in parts.head:
                    raise ApetError(f"the adapter at {str(adapter)!r} lacks the head's {name!r}; take another copy")
                entries.copy_(parts.head[name].reshape(-1))
        handle.refresh()
        if folder is not None:
            handle.save(folder)
    except BaseException:
        handle.detach()
        raise
    return handle


def _refuse_settings(adapter: PeftAdapter) -> None:
    given = next((name for name in _OTHER_MEANING if adapter.config.get(name)), None)
    if given is not None:
        raise ApetError(f"an adapter of {adapter.kind} with {given} is not read; merge it in peft, and save the model")


@dataclass
class _Parts:
    """What a delta is made of, while an adapter is read.

    Attributes:
        model: the backbone.
        backbone: its description.
        source: of the adapter, for messages.
        insertions: (place in the model, insertion).
        values: entries by ``position/weight``.
        head: values of the task head by parameter name.
    """

    model: nn.Module
    backbone: Backbone
    source: str
    insertions: list[tuple[int, Insertion]] = field(default_factory=list)
    values: dict[str, Tensor] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = {layer.module: n for n, layer in enumerate(self.backbone.layers)}

    def layer(self, module: str) -> Layer:
        """The layer of a module's path.

        Returns:
            The layer.

        Raises:
            ApetError: the model has no such layer.
        """
        number = self._numbers.get(module)
        if number is None:
            raise ApetError(
                f"the adapter at {self.source!r} acts on {module!r}, which is no layer of this"
                f" {self.backbone.model_class}; load the model that it was trained on"
            )
        return self.backbone.layers[number]

    def add(self, form: str, position: str, layer: Layer, weights: Mapping[str, Tensor], scale: float = 1.0) -> None:
        """Add an insertion whose weights are dense."""
        made = []
        for name, value in weights.items():
            made.append(TrainableWeight(name, dense_mask(tuple(value.shape))))
            self.values[f"{position}/{name}"] = value.float().reshape(-1)
        self.insertions.append((self._numbers[layer.module], Insertion(form, position, tuple(made), scale)))

    def add_entries(self, layer: Layer, parameter: str, indices: Tensor, values: Tensor) -> None:
        """Add entries of a parameter, by their flat places; what comes twice adds up."""
        position = self.parameter(layer, parameter)
        size = math.prod(position.shape)
        flat = torch.zeros(size).index_add_(0, indices.long(), values.float())
        places = np.unique(indices.numpy().astype(np.int64))
        weight = TrainableWeight("delta", listed_mask(position.shape, places))
        self.values[f"{position.name}/delta"] = flat[torch.from_numpy(places)]
        self.insertions.append((self._numbers[layer.module], Insertion("weight", position.name, (weight,))))

    def parameter(self, layer: Layer, parameter: str) -> Position:
        """The position of a layer's parameter.

        Returns:
            The position.

        Raises:
            ApetError: there is none, or it is listed at another layer that shares it.
        """
        position = layer.position(parameter)
        if position is None:
            raise ApetError(
                f"the adapter at {self.source!r} changes {parameter} of {layer.module!r}, which this"
                f" {self.backbone.model_class} does not have there or shares with another layer"
            )
        return position

    def add_bias(self, module: str, vector: Tensor) -> None:
        """Add a vector to a layer's output: to its bias, where it has one."""
        layer = self.layer(module)
        if layer.position("bias") is not None:
            self.add("weight", f"{layer.name}.bias", layer, {"delta": vector})
        else:
            self.add("bias", f"{layer.name}.output", layer, {"delta": vector})

    def add_whole(self, name: str, value: Tensor) -> None:
        """Add a parameter that was stored whole: one of the head's, or what was added to one of the backbone's.

        Raises:
            ApetError: the model has no such parameter, or one of another shape.
        """
        parameter = name.removeprefix(PREFIX).replace(".base_layer.", ".")
        try:
            own = self.model.get_parameter(parameter)
        except AttributeError:
            own = None
        if own is None or own.shape != value.shape:
            raise ApetError(
                f"the adapter at {self.source!r} holds {parameter!r} of shape {tuple(value.shape)}, which this"
                f" {self.backbone.model_class} does not have; load the model with the same head and labels"
            )
        if parameter in self.backbone.head:
            self.head[parameter] = value.float()
            return
        module, _, leaf = parameter.rpartition(".")
        layer = self.layer(module)
        position = self.parameter(layer, leaf)
        delta = value.float() - own.detach().float().cpu()
        if bool(delta.any()):
            self.add("weight", position.name, layer, {"delta": delta})

    def in_model_order(self) -> Iterable[Insertion]:
        """The insertions in the order of the layers."""
        return [insertion for _, insertion in sorted(self.insertions, key=lambda item: item[0])]


def _named(adapter: PeftAdapter, leaf: str) -> dict[str, Tensor]:
    """Module's path → its tensor of this name."""
    ending = f".{leaf}"
    return {
        name.removeprefix(PREFIX).removesuffix(ending): tensor
        for name, tensor in adapter.tensors.items()
        if name.endswith(ending)
    }


def _others(adapter: PeftAdapter, *leaves: str) -> list[str]:
    return [name for name in adapter.tensors if not any(name.endswith(f".{leaf}") for leaf in leaves)]


def _read_lora(parts: _Parts, adapter: PeftAdapter) -> list[str]:
    config = adapter.config
    downs, ups, biases = (_named(adapter, leaf) for leaf in ("lora_A.weight", "lora_B.weight", "lora_B.bias"))
    for module, down in downs.items():
        layer = parts.layer(module)
        rank = down.shape[0]
        alpha = float(_of_module(config.get("alpha_pattern") or {}, module, config["lora_alpha"]))
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        if module not in ups or layer.kind != "linear":
            raise ApetError(f"the LoRA of {module!r} in {parts.source!r} is not one of a linear layer; it is not read")
        parts.add("lora", layer.name, layer, {"lora_A": down.t(), "lora_B": ups[module].t()}, scale)
        if module in biases:
            parts.add_bias(module, biases[module] * scale)
    embedding = next((name for name in adapter.tensors if "lora_embedding" in name), None)
    if embedding is not None:
        raise ApetError(f"a LoRA of an embedding ({embedding}) is not read; merge it in peft, and save the model")
    return _others(adapter, "lora_A.weight", "lora_B.weight", "lora_B.bias")


def _of_module(pattern: Mapping[str, float], module: str, default: float) -> float:
    """A pattern's value for a module, as peft finds it."""
    return next((value for key, value in pattern.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _read_ia3(parts: _Parts, adapter: PeftAdapter) -> list[str]:
    inner = adapter.config.get("feedforward_modules") or []
    for module, factors in _named(adapter, "ia3_l").items():
        layer = parts.layer(module)
        on_input = (
            bool(re.fullmatch(inner, module)) if isinstance(inner, str) else any(module.endswith(m) for m in inner)
        )
        side = "input" if on_input else "output"
        parts.add("scale", f"{layer.name}.{side}", layer, {"ia3_l": factors.float().reshape(-1) - 1})
    return _others(adapter, "ia3_l")


def _read_prompt(parts: _Parts, adapter: PeftAdapter) -> list[str]:
    prompt = adapter.tensors.get("prompt_embeddings")
    if prompt is None or parts.backbone.prompt_insertion is None or parts.backbone.kind == "encoder":
        raise ApetError(f"the prompt in {parts.source!r} is not read for a {parts.backbone.model_class}")
    if parts.backbone.kind == "encoder-decoder" and len(prompt) > adapter.config["num_virtual_tokens"]:
        raise ApetError(f"the prompt in {parts.source!r} is also one of the decoder, which is not read")
    layer = next(x for x in parts.backbone.layers if x.role == "embed.tokens")
    parts.add("prompt", layer.name, layer, {"prompt_embeddings": prompt})
    return [name for name in adapter.tensors if name != "prompt_embeddings"]


def _read_norms(parts: _Parts, adapter: PeftAdapter) -> list[str]:
    for name, value in adapter.tensors.items():
        if ".ln_tuning_layers." in name:
            parts.add_whole(name.replace(".ln_tuning_layers.", "."), value)
    return [name for name in adapter.tensors if ".ln_tuning_layers." not in name]


def _read_beft(parts: _Parts, adapter: PeftAdapter) -> list[str]:
    for module, vector in _named(adapter, "beft_bias").items():
        parts.add_bias(module, vector.reshape(-1))
    return _others(adapter, "beft_bias")


def _read_shira(parts: _Parts, adapter: PeftAdapter) -> list[str]:
    places = _named(adapter, "shira_indices")
    for module, values in _named(adapter, "shira_weight").items():
        layer = parts.layer(module)
        rows, columns = places[module].long()
        parts.add_entries(layer, "weight", rows * layer.d_in + columns, values)
    return _others(adapter, "shira_weight", "shira_indices")


def _read_supertuning(parts: _Parts, adapter: PeftAdapter) -> list[str]:
    places = _named(adapter, "supertuning_indices")
    values = _named(adapter, "supertuning_values")
    if set(places) != set(values) or adapter.config.get("r"):
        raise ApetError(
            f"the Super-Tuning in {parts.source!r} is not read: it was saved without indices, or holds a LoRA, too"
        )
    for module, entries in values.items():
        parts.add_entries(parts.layer(module), "weight", places[module], entries)
    return _others(adapter, "supertuning_values", "supertuning_indices")


_READERS: Mapping[str, Callable[[_Parts, PeftAdapter], list[str]]] = {
    "BEFT": _read_beft,
    "IA3": _read_ia3,
    "LN_TUNING": _read_norms,
    "LORA": _read_lora,
    "PROMPT_TUNING": _read_prompt,
    "SHIRA": _read_shira,
    "SUPERTUNING": _read_supertuning,
}
"""Readers of peft's forms: each adds what it knows to the parts and returns the names of what is left."""
