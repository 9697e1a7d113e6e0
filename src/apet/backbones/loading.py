"""From a name to a model: bare shapes on the meta device, configurations, tokenizers, weights."""

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
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from apet.backbones.describe import Backbone, describe
from apet.backbones.family import ObjectiveName, family_of
from apet.backbones.hub import detect_offline
from apet.backbones.registry import SHAPES, BackboneLocation, first_line, locate_backbone, packaged_backbones
from apet.errors import ApetError, UnknownNameError

_AUTO: dict[ObjectiveName, Any] = {
    "classification-head": AutoModelForSequenceClassification,
    "masked-label-word": AutoModelForMaskedLM,
    "text-to-text": AutoModelForSeq2SeqLM,
    "next-token": AutoModelForCausalLM,
}


def _reached(name: str) -> BackboneLocation:
    """As `find`; where the hub will be asked, whether it answers is settled first."""
    place = locate_backbone(name)
    if not isinstance(place.source, Path):
        detect_offline()
    return place


def load_config(name: str) -> PreTrainedConfig:
    """The configuration behind a backbone's name; no weight is read.

    Raises:
        ApetError: nothing by that name, here or on the hub.
    """
    if name in SHAPES:
        shape = SHAPES[name]
        return AutoConfig.for_model(shape.model_type, **shape.settings)
    place = _reached(name)
    try:
        return AutoConfig.from_pretrained(place.source, **place.options)
    except (OSError, ValueError, KeyError, ImportError) as e:
        if isinstance(place.source, Path):
            raise ApetError(f"backbone {name!r}: {first_line(e)}") from e
        hint = str(UnknownNameError("backbone", name, [*packaged_backbones(), *SHAPES]))
        raise ApetError(f"{hint}; not on the hub or in its cache either, give a local folder if you are offline") from e


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer beside a backbone.

    Raises:
        ApetError: none that loads.
    """
    place = _reached(name)
    files = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
    if isinstance(place.source, Path) and not place.gguf and not any((place.source / f).is_file() for f in files):
        raise ApetError(
            f"backbone folder {name!r} has no tokenizer; save one beside the model: tokenizer.save_pretrained(folder)"
        )
    try:
        return AutoTokenizer.from_pretrained(place.source, **place.options)
    except (OSError, ValueError, KeyError, ImportError) as e:
        raise ApetError(
            f"backbone {name!r} has no tokenizer that loads ({first_line(e)}); save one beside the model:"
            " tokenizer.save_pretrained(folder)"
        ) from e


def default_objective(config: PreTrainedConfig, *, label_words: bool = False) -> ObjectiveName:
    """How this architecture solves a classification task: T5 writes, decoders continue, encoders fill or classify."""
    family = family_of(config.model_type)
    if family is None:
        if getattr(config, "is_encoder_decoder", False):
            return "text-to-text"
        causal = type(config) in AutoModelForCausalLM._model_mapping
        return (
            "next-token"
            if causal and type(config) not in AutoModelForMaskedLM._model_mapping
            else "classification-head"
        )
    if family.kind == "encoder":
        return "masked-label-word" if label_words else "classification-head"
    return "text-to-text" if family.kind == "encoder-decoder" else "next-token"


def meta_model(config: PreTrainedConfig, use: ObjectiveName | None = None, labels: int | None = None) -> nn.Module:
    """The model of a configuration on the meta device: shapes, no memory.

    ``labels`` sizes a classification head; None leaves the configuration's own number.
    A T5 v1.1 is built with its own output projection, as it was trained; recent transformers tie it when they
    build one from a configuration alone.
    """
    use = use or default_objective(config)
    quiet = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        if use == "classification-head" and labels is not None:
            config = copy.deepcopy(config)
            config.num_labels = labels
        with torch.device("meta"):
            model = _AUTO[use].from_config(config)
    except ValueError as e:
        raise ApetError(f"transformers has no {use} model for {config.model_type!r}: {first_line(e)}") from e
    finally:
        hf_logging.set_verbosity(quiet)
    if config.model_type == "t5" and not getattr(config, "scale_decoder_outputs", True) and hasattr(model, "lm_head"):
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    return model


def resolve_backbone(model_or_config: nn.Module | PreTrainedConfig | str) -> Backbone:
    """Describe a model, a configuration or a backbone's name.

    Raises:
        ApetError: none of the three, or an architecture that no family describes.
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
    place = locate_backbone(name)
    files = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    if isinstance(place.source, Path):
        return any((place.source / f).is_file() for f in ([place.gguf] if place.gguf else files))
    return any(isinstance(try_to_load_from_cache(place.source, f), str) for f in files)


DEVICE_MAP: str | dict[str, str] = "auto"
"""Where the parts of a spread backbone go: by accelerate's own count of each device's room."""


def load_model(
    name: str,
    use: ObjectiveName,
    labels: int,
    dtype: torch.dtype,
    init: Callable[[nn.Module], None] | None = None,
    over_all_devices: bool = False,
) -> nn.Module:
    """A backbone with its weights, in evaluation mode, nothing requiring gradients.

    Args:
        name: packaged name, published shape, folder or hub id.
        use: which objective it will serve, and so which head it carries.
        labels: outputs of a classification head.
        dtype: of the frozen weights.
        init: called on the loaded model; makes the values of a fresh task head.
        spread: over all devices of this machine (accelerate's device map), for a backbone too large for one.

    Raises:
        ApetError: no such weights, none for this use, or more than all devices hold.
    """
    place = _reached(name)
    load_config(name)
    quiet = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    extra: dict[str, object] = {"num_labels": labels} if use == "classification-head" else {}
    if over_all_devices:
        extra["device_map"] = DEVICE_MAP
    try:
        settings = {"dtype": dtype, "output_loading_info": True, **place.weight_options, **extra}
        model, report = _AUTO[use].from_pretrained(place.source, **settings)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as e:
        if isinstance(place.source, Path) and not has_local_weights(name):
            raise ApetError(f"backbone folder {name!r} holds no weights; give a folder made by save_pretrained") from e
        if not has_local_weights(name):
            raise ApetError(
                f"weights of backbone {name!r} ({place.source}) are neither in the cache nor to be had from the hub;"
                " offline, give a local folder"
            ) from e
        raise ApetError(f"backbone {name!r} does not load for {use}: {first_line(e)}") from e
    finally:
        hf_logging.set_verbosity(quiet)
    outside = [part for part, device in getattr(model, "hf_device_map", {}).items() if device in ("cpu", "disk")]
    if any(p.is_meta for p in model.parameters()):
        raise ApetError(
            f"backbone {name!r} is larger than all devices of this machine: {len(outside)} parts would stay outside,"
            f" first {outside[0]!r}; give more devices, or dtype=bfloat16"
        )
    _settle_gaps(name, use, model, set(report["missing_keys"]))
    own = getattr(model, "generation_config", None)
    if own is not None:  # a checkpoint's own penalties would make greedy answers differ from the next token's
        ids = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        model.generation_config = GenerationConfig(**{k: getattr(own, k) for k in ids})
    if init is not None:
        init(model)
    model.requires_grad_(False)
    return model.eval()


@torch.no_grad()
def _settle_gaps(name: str, use: ObjectiveName, model: nn.Module, missing: set[str]) -> None:
    """Weights that the checkpoint lacks would be random, and other ones each time; only a fresh task head may be.

    A checkpoint of masked words alone has no pooler either; there the identity hands the first token on.
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
            f"backbone {name!r} was not pre-trained for {use}: its checkpoint lacks {min(gaps)} ({len(gaps)} such);"
            " give another objective, or a checkpoint that has it"
        )
