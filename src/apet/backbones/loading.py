"""From a name to a model: configurations, models without weights on the meta device, tokenizers, weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from apet.backbones.describe import describe
from apet.backbones.family import ObjectiveName, family_of
from apet.backbones.hub import detect_offline
from apet.backbones.positions import Backbone
from apet.backbones.registry import BACKBONES, BackboneLocation, PublishedShape, first_line_of, locate_backbone
from apet.errors import ApetError

_AUTO: dict[ObjectiveName, Any] = {
    "classification-head": AutoModelForSequenceClassification,
    "masked-label-word": AutoModelForMaskedLM,
    "text-to-text": AutoModelForSeq2SeqLM,
    "next-token": AutoModelForCausalLM,
    "regression-head": AutoModelForSequenceClassification,
    "multi-label-head": AutoModelForSequenceClassification,
    "multiple-choice-head": AutoModelForSequenceClassification,
    "token-classification-head": AutoModelForTokenClassification,
}


def _locate_for_loading(name: str) -> BackboneLocation:
    """Location of a backbone that is about to be loaded; where the hub will be asked, its absence is detected first."""
    location = locate_backbone(name)
    if not isinstance(location.source, Path):
        detect_offline()
    return location


def load_config(name: str) -> PreTrainedConfig:
    """The transformers configuration of a backbone; no weight is read.

    Args:
        name: registered name, folder, GGUF file or hub id.

    Returns:
        The configuration; of a published shape without asking the hub.

    Raises:
        ApetError: nothing by that name, here or on the hub.
    """
    shape = BACKBONES.entries().get(name)
    if isinstance(shape, PublishedShape):
        return AutoConfig.for_model(shape.model_type, **shape.settings)
    location = _locate_for_loading(name)
    try:
        return AutoConfig.from_pretrained(location.source, **location.options)
    except (OSError, ValueError, KeyError, ImportError) as e:
        if isinstance(location.source, Path):
            raise ApetError(f"backbone {name!r}: {first_line_of(e)}") from e
        unknown = BACKBONES.unknown(name)
        raise ApetError(
            f"{unknown}; not on the hub or in its cache either, give a local folder if you are offline"
        ) from e


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer that is saved beside a backbone.

    Returns:
        The tokenizer of transformers.

    Raises:
        ApetError: there is none, or it does not load.
    """
    location = _locate_for_loading(name)
    files = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
    if (
        isinstance(location.source, Path)
        and not location.gguf
        and not any((location.source / f).is_file() for f in files)
    ):
        raise ApetError(
            f"backbone folder {name!r} has no tokenizer; save one beside the model: tokenizer.save_pretrained(folder)"
        )
    try:
        return AutoTokenizer.from_pretrained(location.source, **location.options)
    except (OSError, ValueError, KeyError, ImportError) as e:
        raise ApetError(
            f"backbone {name!r} has no tokenizer that loads ({first_line_of(e)}); save one beside the model:"
            " tokenizer.save_pretrained(folder)"
        ) from e


def default_objective(config: PreTrainedConfig, *, label_words: bool = False) -> ObjectiveName:
    """The objective by which an architecture solves tasks where none is asked for.

    Args:
        config: of the backbone.
        label_words: whether an encoder comes with a pre-trained masked-LM head that can fill in a label word.

    Returns:
        Encoder-decoders write text, decoders continue it, encoders fill in a label word or classify.
    """
    family = family_of(config.model_type)
    if family is None:
        if getattr(config, "is_encoder_decoder", False):
            return "text-to-text"
        # Encoders such as BERT have a causal form, too: only what has no masked-LM form is taken for a decoder.
        causal = type(config) in AutoModelForCausalLM._model_mapping
        return (
            "next-token"
            if causal and type(config) not in AutoModelForMaskedLM._model_mapping
            else "classification-head"
        )
    if family.kind == "encoder":
        return "masked-label-word" if label_words else "classification-head"
    return "text-to-text" if family.kind == "encoder-decoder" else "next-token"


def meta_model(
    config: PreTrainedConfig, objective: ObjectiveName | None = None, num_labels: int | None = None
) -> nn.Module:
    """The model of a configuration on the meta device: shapes without memory for weights.

    Args:
        config: of the backbone; it is left as it is.
        objective: which it will serve, and so which head it carries; None = the architecture's default.
        num_labels: outputs of a classification head; None = the configuration's own number.

    Returns:
        The model. A T5 v1.1 has its own output projection, as it was trained; recent transformers tie it when they
        build one from a configuration alone.

    Raises:
        ApetError: transformers has no model of this architecture for the objective.
    """
    with torch.device("meta"):
        return build_model(config, objective, num_labels)


def build_model(
    config: PreTrainedConfig,
    objective: ObjectiveName | None = None,
    num_labels: int | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """A model of a configuration with random weights, on the device that is set; see `meta_model`.

    Args:
        config: of the backbone.
        objective: which it will serve.
        num_labels: outputs of a classification head.
        dtype: of its weights; None = PyTorch's default.

    Returns:
        The model.

    Raises:
        ApetError: transformers has no model of this architecture for the objective.
    """
    objective = objective or default_objective(config)
    quiet = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        if objective.endswith("-head") and num_labels is not None:
            # A copy: the caller's configuration may be one that many runs share.
            config = copy.deepcopy(config)
            config.num_labels = num_labels
        model = _AUTO[objective].from_config(config, **({} if dtype is None else {"dtype": dtype}))
    except ValueError as e:
        raise ApetError(f"transformers has no {objective} model for {config.model_type!r}: {first_line_of(e)}") from e
    finally:
        hf_logging.set_verbosity(quiet)
    _untie_as_configured(model)
    return model


def _untie_as_configured(model: nn.Module) -> None:
    """Give a T5 v1.1 its own output projection where transformers tied it.

    It does so for a model built from the configuration alone, and for a checkpoint that was saved from one: a
    configuration and what is loaded by it must be the same architecture.
    """
    config, head, shared = getattr(model, "config"), getattr(model, "lm_head", None), getattr(model, "shared", None)
    untied = config.model_type == "t5" and not getattr(config, "scale_decoder_outputs", True)
    if untied and head is not None and shared is not None and head.weight is shared.weight:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)


def read_backbone(model_or_config: nn.Module | PreTrainedConfig | str) -> Backbone:
    """Describe a model, a configuration or a backbone's name, as it is now; see `apet.backbones.described`.

    Returns:
        Layers, positions and counts.

    Raises:
        ApetError: it is none of the three.
    """
    if isinstance(model_or_config, nn.Module):
        return describe(model_or_config)
    if isinstance(model_or_config, str):
        model_or_config = load_config(model_or_config)
    if isinstance(model_or_config, PreTrainedConfig):
        return describe(meta_model(model_or_config))
    raise ApetError(
        f"cannot describe a {type(model_or_config).__name__}; give a transformers model, a configuration or a name"
    )


def has_local_weights(name: str) -> bool:
    """Whether a backbone's weights are on this machine: in a folder, a package, or the hub's cache."""
    location = locate_backbone(name)
    files = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    if isinstance(location.source, Path):
        return any((location.source / f).is_file() for f in ([location.gguf] if location.gguf else files))
    return any(isinstance(try_to_load_from_cache(location.source, f), str) for f in files)


DEVICE_MAP: str | dict[str, str] = "auto"
"""Which device each part of a spread backbone goes to: by default as accelerate counts each device's memory."""


def load_model(
    name: str,
    objective: ObjectiveName,
    num_labels: int,
    dtype: torch.dtype,
    init: Callable[[nn.Module], None] | None = None,
    over_all_devices: bool = False,
) -> nn.Module:
    """A backbone with its weights, in evaluation mode, nothing requiring gradients.

    Args:
        name: packaged name, published shape, folder or hub id.
        objective: which objective it will serve, and so which head it carries.
        num_labels: outputs of a classification head.
        dtype: of the frozen weights.
        init: called on the loaded model; makes the values of a fresh task head.
        over_all_devices: spread over all devices of this machine (accelerate's device map), for a backbone too large
            for one.

    Returns:
        The model, on the CPU unless it is spread over all devices.

    Raises:
        ApetError: no such weights, none for this objective, or more than all devices hold.
    """
    location = _locate_for_loading(name)
    load_config(name)  # for its message: a name that leads nowhere is told as such, before any talk of weights
    # transformers warns of a fresh head at every load; what must not be missing is checked below.
    quiet = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    extra: dict[str, object] = {"num_labels": num_labels} if objective.endswith("-head") else {}
    if over_all_devices:
        extra["device_map"] = DEVICE_MAP
    try:
        settings = {"dtype": dtype, "output_loading_info": True, **location.weight_options, **extra}
        model, report = _AUTO[objective].from_pretrained(location.source, **settings)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as e:
        if isinstance(location.source, Path) and not has_local_weights(name):
            raise ApetError(f"backbone folder {name!r} holds no weights; give a folder made by save_pretrained") from e
        if not has_local_weights(name):
            raise ApetError(
                f"weights of backbone {name!r} ({location.source}) are neither in the cache nor to be had from the hub;"
                " offline, give a local folder"
            ) from e
        raise ApetError(f"backbone {name!r} does not load for {objective}: {first_line_of(e)}") from e
    finally:
        hf_logging.set_verbosity(quiet)
    outside = [part for part, device in getattr(model, "hf_device_map", {}).items() if device in ("cpu", "disk")]
    if any(p.is_meta for p in model.parameters()):
        raise ApetError(
            f"backbone {name!r} is larger than all devices of this machine: {len(outside)} parts would stay outside,"
            f" first {outside[0]!r}; give more devices, or dtype=bfloat16"
        )
    _untie_as_configured(model)
    _check_missing_weights(name, objective, model, set(report["missing_keys"]))
    _reset_generation(model)
    if init is not None:
        init(model)
    model.requires_grad_(False)  # else the first backward would take memory for gradients of the whole backbone
    return model.eval()


def _reset_generation(model: nn.Module) -> None:
    """Keep the special tokens of a checkpoint's generation settings and drop the rest."""
    generation = getattr(model, "generation_config", None)
    if generation is not None:  # a checkpoint's own penalties would make greedy answers differ from the next token's
        ids = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        setattr(model, "generation_config", GenerationConfig(**{k: getattr(generation, k) for k in ids}))


@torch.no_grad()
def _check_missing_weights(name: str, objective: ObjectiveName, model: nn.Module, missing: set[str]) -> None:
    """Refuse a model with weights that its checkpoint lacks: they would be random, and other ones each time.

    Only a fresh task head may be missing. A checkpoint of masked words alone has no pooler either; there the identity
    hands the first token on.

    Raises:
        ApetError: other weights are missing; the first one is named.
    """
    backbone = describe(model)
    gaps = missing - set(backbone.head)
    pooler = next((x.module for x in backbone.layers if x.role == "pooler"), None)
    if pooler is not None and gaps == {f"{pooler}.weight", f"{pooler}.bias"}:
        nn.init.eye_(model.get_parameter(f"{pooler}.weight"))
        nn.init.zeros_(model.get_parameter(f"{pooler}.bias"))
        return
    if gaps:
        raise ApetError(
            f"backbone {name!r} was not pre-trained for {objective}: its checkpoint lacks {min(gaps)}"
            f" ({len(gaps)} such); give another objective, or a checkpoint that has it"
        )
