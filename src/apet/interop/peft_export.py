"""A delta as an adapter of the peft library: the same function, in the form of peft that fits, or a refusal.

An adapter of peft has one form, and beside it modules that are stored whole (``modules_to_save``). So the form is
chosen by what the delta holds; what is left over goes along as whole modules, where these are small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from apet.backbones.describe import describe
from apet.backbones.positions import Backbone, Layer, Position
from apet.delta import DeltaSpec, Insertion, TrainableWeight
from apet.errors import ApetError
from apet.interop.peft_adapter import PREFIX, PeftAdapter, make_config
from apet.layers.base import LAYERS

INSTEAD = "--to delta takes any run, --to transformers whatever merges"
MAX_WHOLE = 0.5
"""Share of the backbone's parameters that may be stored whole: beyond, a plain model is the smaller thing."""
_NO_MODULE = "dummy-target-modules"
"""peft's own word for an adapter of whole modules alone."""


@dataclass
class _Edits:
    """What a delta does to a backbone, sorted by what peft can hold.

    Attributes:
        parameters: position's name -> (position, what is added to the parameter).
        outputs: module -> what is added to its output, where it has no bias.
        pairs: module -> (lora_A (r, d_in), lora_B (d_out, r), scale).
        factors: module -> (factors on its input or output, whether on its input).
        prompt: (tokens, d).
    """

    parameters: dict[str, tuple[Position, Tensor]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    pairs: dict[str, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    factors: dict[str, tuple[Tensor, bool]] = field(default_factory=dict)
    prompt: Tensor | None = None


def peft_adapter(
    model: nn.Module,
    spec: DeltaSpec,
    values: Mapping[str, Tensor],
    head: Mapping[str, Tensor],
    task_type: str | None,
    base: str | None,
) -> PeftAdapter:
    """Write a delta in peft's terms.

    Args:
        model: the backbone with nothing attached; a task head as it was initialized.
        spec: of the delta, its masks settled.
        values: entries by ``position/weight``.
        head: flat values of a trained task head by parameter name; those of a frozen one are the model's.
        task_type: peft's, such as ``SEQ_CLS``; None for a masked-LM head.
        base: name or folder of the backbone.

    Returns:
        The adapter.

    Raises:
        ApetError: peft cannot hold the delta, or is not installed; the message says what to do.
    """
    backbone = describe(model)
    edits = _sorted_edits(spec, values, backbone)
    common = {"task_type": task_type, "base_model_name_or_path": base}
    tensors = {PREFIX + name: _head_value(model, head, name) for name in backbone.head}
    whole = {_top(name): None for name in backbone.head}
    if edits.prompt is not None:
        return _prompt(edits, backbone, common, tensors)
    if edits.pairs and edits.factors:
        raise ApetError(f"an adapter of peft is LoRA or (IA)³; this delta is both; {INSTEAD}")
    if edits.pairs:
        class_name, settings, own, done = _lora(edits, model)
    elif edits.factors:
        class_name, settings, own, done = _ia3(edits, model)
    else:
        class_name, settings, own, done = _parameters(edits, model)
    stored, notes = _whole_modules(model, edits, done, backbone)
    whole |= dict.fromkeys(stored)
    modules = list(whole) or None
    config = make_config(class_name, **common, **settings, modules_to_save=modules)
    tensors |= own
    for module in stored:
        for name, value in model.get_submodule(module).named_parameters():
            tensors[f"{PREFIX}{module}.{name}"] = _tuned(edits, value, module, name)
    return PeftAdapter(config, tensors, tuple(notes))


def _sorted_edits(spec: DeltaSpec, values: Mapping[str, Tensor], backbone: Backbone) -> _Edits:
    edits = _Edits()
    for insertion in spec.insertions:
        dense = {w.name: _dense(w, values[f"{insertion.position}/{w.name}"]) for w in insertion.weights}
        if insertion.form == "prompt":
            edits.prompt = dense["prompt_embeddings"]
            continue
        layer = backbone.layer(LAYERS.get(insertion.form).layer_name(insertion))
        if insertion.form == "weight":
            position = backbone.position(insertion.position)
            edits.parameters[position.name] = position, dense["delta"]
        elif insertion.form == "bias" and layer.kind == "linear":
            edits.outputs[layer.module] = dense["delta"]
        elif insertion.form == "lora":
            edits.pairs[layer.module] = dense["lora_A"].t(), dense["lora_B"].t(), insertion.scale
        elif insertion.form == "scale" and layer.module not in edits.factors:
            edits.factors[layer.module] = 1 + dense["ia3_l"], insertion.position.endswith(".input")
        else:
            raise ApetError(f"peft has no form for {_named(insertion, layer)}; {INSTEAD}")
    if edits.prompt is not None and len(spec.insertions) > 1:
        raise ApetError(f"a prompt of peft stands alone; this delta holds other forms beside it; {INSTEAD}")
    return edits


def _named(insertion: Insertion, layer: Layer) -> str:
    what = {"adapter": "a bottleneck adapter", "bias": f"a bias on the output of {layer.role}"}
    return f"{what.get(insertion.form, f'a second {insertion.form}')} (at {insertion.position!r})"


def _dense(weight: TrainableWeight, values: Tensor) -> Tensor:
    """The weight in its own shape, masked entries zero."""
    flat = torch.zeros(weight.mask.size)
    flat[torch.from_numpy(weight.mask.indices)] = values.detach().float().cpu().reshape(-1)
    return flat.view(weight.shape)


def _head_value(model: nn.Module, head: Mapping[str, Tensor], name: str) -> Tensor:
    own = model.get_parameter(name)
    return head[name].detach().float().cpu().view(own.shape) if name in head else own.detach().float()


def _top(parameter: str) -> str:
    """The module of a head that is stored whole: peft names a classifier by its first part."""
    return parameter.partition(".")[0]


_Form = tuple[str, dict[str, object], dict[str, Tensor], set[str]]
"""Class of the configuration, its settings, tensors, and names of the parameters that it serves."""


def _prompt(edits: _Edits, backbone: Backbone, common: Mapping[str, object], head: dict[str, Tensor]) -> PeftAdapter:
    assert edits.prompt is not None
    if backbone.kind == "encoder" or head:
        raise ApetError(
            "an encoder reads its answer off a place of the text, and peft leaves the prompt's places in front of it;"
            f" {INSTEAD}"
        )
    tokens, width = edits.prompt.shape
    # Neither of the last two has a meaning for a prompt at the input; peft reads them off other names than some
    # architectures have.
    sizes = {"num_virtual_tokens": tokens, "token_dim": width, "num_transformer_submodules": 1}
    config = make_config("PromptTuningConfig", **common, **sizes, num_attention_heads=1, num_layers=1)
    notes = []
    if backbone.kind == "decoder":
        notes.append("peft puts the prompt before left padding: give it texts of one length, or one at a time")
    return PeftAdapter(config, {"prompt_embeddings": edits.prompt}, tuple(notes))


def _lora(edits: _Edits, model: nn.Module) -> _Form:
    if edits.outputs:
        raise ApetError(f"a LoRA of peft adds no bias to layers without one ({next(iter(edits.outputs))}); {INSTEAD}")
    ranks = {module: pair[0].shape[0] for module, pair in edits.pairs.items()}
    rank = max(ranks.values())
    alphas = {module: scale * ranks[module] for module, (_, _, scale) in edits.pairs.items()}
    alpha = next(iter(alphas.values()))
    settings: dict[str, object] = {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {m: r for m, r in ranks.items() if r != rank},
        "alpha_pattern": {m: a for m, a in alphas.items() if a != alpha},
        "target_modules": list(edits.pairs),
        "fan_in_fan_out": _fan_in_fan_out(model, edits.pairs),
    }
    own = {}
    for module, (down, up, _) in edits.pairs.items():
        own[f"{PREFIX}{module}.lora_A.weight"], own[f"{PREFIX}{module}.lora_B.weight"] = down, up
    return "LoraConfig", settings, own, set()


def _fan_in_fan_out(model: nn.Module, modules: Mapping[str, object]) -> bool:
    return any(isinstance(model.get_submodule(module), Conv1D) for module in modules)


def _ia3(edits: _Edits, model: nn.Module) -> _Form:
    if edits.outputs:
        raise ApetError(f"an (IA)³ of peft adds no bias to layers without one; {INSTEAD}")
    settings: dict[str, object] = {
        "target_modules": list(edits.factors),
        "feedforward_modules": [module for module, (_, on_input) in edits.factors.items() if on_input],
        "fan_in_fan_out": _fan_in_fan_out(model, edits.factors),
    }
    own = {
        f"{PREFIX}{module}.ia3_l": factors[None] if on_input else factors[:, None]
        for module, (factors, on_input) in edits.factors.items()
    }
    return "IA3Config", settings, own, set()


def _parameters(edits: _Edits, model: nn.Module) -> _Form:
    """The form for a delta of parameters: sparse weights, else biases, else norms, else whole modules alone."""
    by_module: dict[str, list[str]] = {}
    for name, (position, _) in edits.parameters.items():
        by_module.setdefault(position.module, []).append(name)
    alone = {module: names[0] for module, names in by_module.items() if len(names) == 1}
    sparse = {
        module: name
        for module, name in alone.items()
        if _is(edits, name, "linear", "weight") and type(model.get_submodule(module)) is nn.Linear
        if not edits.parameters[name][0].tied
    }
    biases = {module: name for module, name in alone.items() if _is(edits, name, "linear", "bias")}
    if sparse and edits.outputs:
        raise ApetError(
            "an adapter of peft holds entries of weights or biases on layers without one, and this delta has both;"
            f" {INSTEAD}"
        )
    if sparse:
        return _sparse(edits, sparse)
    if biases or edits.outputs:
        return _biases(edits, biases, model)
    norms = {module: names for module, names in by_module.items() if _is(edits, names[0], "norm")}
    if norms:
        return _norms(edits, norms, model)
    return "LoraConfig", {"target_modules": _NO_MODULE}, {}, set()


def _is(edits: _Edits, name: str, kind: str, parameter: str | None = None) -> bool:
    position = edits.parameters[name][0]
    return position.kind == kind and parameter in (None, position.parameter)


def _sparse(edits: _Edits, modules: Mapping[str, str]) -> _Form:
    """Super-Tuning: entries of linear weights, the same share of each; zeros fill up where a layer has fewer."""
    deltas = {module: edits.parameters[name][1].reshape(-1) for module, name in modules.items()}
    indices = {module: np.flatnonzero(delta.numpy()) for module, delta in deltas.items()}
    share = max(max(1, len(i)) / deltas[module].numel() for module, i in indices.items())
    sparsity = 1 - share
    # As peft counts: rounding must not take the last entry.
    while any(int(deltas[m].numel() * (1 - sparsity)) < max(1, len(i)) for m, i in indices.items()):
        sparsity = max(0.0, sparsity - 1e-12 - 1e-7 * share)
    own = {}
    for module, found in indices.items():
        delta = deltas[module]
        missing = int(delta.numel() * (1 - sparsity)) - len(found)
        filled = np.concatenate([found, np.setdiff1d(np.arange(len(found) + missing), found)[:missing]])
        own[f"{PREFIX}{module}.supertuning_indices"] = torch.from_numpy(filled.astype(np.int32))
        own[f"{PREFIX}{module}.supertuning_values"] = delta[torch.from_numpy(filled)]
    return "SupertuningConfig", {"target_modules": list(modules), "sparsity": sparsity}, own, set(modules.values())


def _biases(edits: _Edits, modules: Mapping[str, str], model: nn.Module) -> _Form:
    """BEFT: vectors added to outputs of linear layers; on the Conv1D of GPT-2, LoRA's bias beside factors of zero."""
    vectors = {module: edits.parameters[name][1] for module, name in modules.items()} | edits.outputs
    if all(type(model.get_submodule(module)) is nn.Linear for module in vectors):
        own = {f"{PREFIX}{module}.beft_bias": vector[None] for module, vector in vectors.items()}
        return "BeftConfig", {"target_modules": list(vectors)}, own, set(modules.values())
    if edits.outputs:
        raise ApetError(f"peft adds no bias to layers of this class ({next(iter(edits.outputs))}); {INSTEAD}")
    own = {}
    for module, vector in vectors.items():
        weight = model.get_parameter(f"{module}.weight")
        d_in = weight.shape[0 if isinstance(model.get_submodule(module), Conv1D) else 1]
        own[f"{PREFIX}{module}.lora_A.weight"] = torch.zeros(1, d_in)
        own[f"{PREFIX}{module}.lora_B.weight"] = torch.zeros(len(vector), 1)
        own[f"{PREFIX}{module}.lora_B.bias"] = vector
    settings: dict[str, object] = {"r": 1, "lora_alpha": 1, "lora_bias": True, "target_modules": list(vectors)}
    settings["fan_in_fan_out"] = _fan_in_fan_out(model, vectors)
    return "LoraConfig", settings, own, set(modules.values())


def _norms(edits: _Edits, modules: Mapping[str, list[str]], model: nn.Module) -> _Form:
    """LN-tuning: norms, whole."""
    own = {
        f"{PREFIX}{module}.ln_tuning_layers.{name}": _tuned(edits, value, module, name)
        for module in modules
        for name, value in model.get_submodule(module).named_parameters()
    }
    return "LNTuningConfig", {"target_modules": list(modules)}, own, {n for names in modules.values() for n in names}


def _tuned(edits: _Edits, value: Tensor, module: str, name: str) -> Tensor:
    """A parameter's values with the delta in them."""
    tuned = value.detach().float().cpu()
    for position, delta in edits.parameters.values():
        if position.module == module and position.parameter == name:
            tuned = tuned + delta
    return tuned


def _whole_modules(model: nn.Module, edits: _Edits, done: set[str], backbone: Backbone) -> tuple[list[str], list[str]]:
    """Modules of which a parameter has no other form in peft, and what is to be said of them.

    Returns:
        Paths, and notes.

    Raises:
        ApetError: one shares its tensor with another layer, or they are most of the backbone.
    """
    left = [position for name, (position, _) in edits.parameters.items() if name not in done]
    tied = next((p for p in left if p.tied), None)
    if tied is not None:
        raise ApetError(
            f"peft would store {tied.name!r} whole, which another layer computes with, too; leave it out (roles=[...])"
            f" in the next run; for this one, {INSTEAD}"
        )
    modules = list(dict.fromkeys(position.module for position in left))
    busy = {*edits.pairs, *edits.factors, *edits.outputs, *(edits.parameters[name][0].module for name in done)}
    both = next((module for module in modules if module in busy), None)
    if both is not None:
        raise ApetError(f"peft cannot hold two forms at one module, {both}; {INSTEAD}")
    size = sum(p.numel() for module in modules for p in model.get_submodule(module).parameters())
    if size > MAX_WHOLE * backbone.num_parameters:
        raise ApetError(f"peft would store {size:,} of {backbone.num_parameters:,} parameters whole; {INSTEAD}")
    kinds = sorted({position.role for position in left})
    note = f"peft has no sparse form for {', '.join(kinds)}: {len(modules)} modules are stored whole, {size:,} values"
    return modules, [note] if modules else []
