"""An adapter of the peft library as it lies in a folder: its configuration and its tensors."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from apet.errors import ApetError

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the names of the backbone's modules."""


@dataclass(frozen=True)
class PeftAdapter:
    """An adapter of peft.

    Attributes:
        config: as in adapter_config.json.
        tensors: as in adapter_model.safetensors, by peft's names.
        notes: what a user of it must know.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """peft's name of its form, such as LORA."""
        return str(self.config["peft_type"])


def make_config(class_name: str, **settings: object) -> dict[str, Any]:
    """A configuration as peft itself writes it.

    Args:
        class_name: of peft, such as ``LoraConfig``.
        **settings: its fields.

    Returns:
        What is written as JSON.

    Raises:
        ApetError: peft is not installed, or an older one that lacks the class.
    """
    try:
        config_class = getattr(importlib.import_module("peft"), class_name)
    except (ImportError, AttributeError) as e:
        raise ApetError(f"peft with {class_name} is not installed; pip install -U 'apet[peft]'") from e
    fields = config_class(**settings, inference_mode=True).to_dict()
    return {name: _plain(value) for name, value in fields.items()}


def _plain(value: object) -> object:
    if isinstance(value, set):
        return sorted(value)
    return getattr(value, "value", value)  # of an enumeration


def write_adapter(folder: Path, adapter: PeftAdapter) -> None:
    """Write an adapter as ``PeftModel.from_pretrained`` reads it.

    Args:
        folder: exists.
        adapter: to be written.
    """
    (folder / CONFIG_FILE).write_text(json.dumps(adapter.config, indent=2, sort_keys=True) + "\n", "utf-8")
    path = folder / WEIGHTS_FILE
    path.touch()  # safetensors keeps its files to their owner; all of ours have the mode of the user's umask
    mode = path.stat().st_mode
    save_file({name: t.detach().cpu().contiguous() for name, t in adapter.tensors.items()}, path, {"format": "pt"})
    path.chmod(mode)


def read_adapter(folder: str | Path) -> PeftAdapter:
    """Read an adapter that peft, or `write_adapter`, wrote.

    Args:
        folder: of the adapter.

    Returns:
        The adapter.

    Raises:
        ApetError: no adapter there, a damaged one, or weights as a pickle.
    """
    path = Path(folder)
    if not (path / CONFIG_FILE).is_file():
        raise ApetError(f"no adapter of peft at {str(folder)!r} (it has no {CONFIG_FILE}); give an adapter's folder")
    if not (path / WEIGHTS_FILE).is_file():
        raise ApetError(
            f"the adapter at {str(folder)!r} has no {WEIGHTS_FILE}; save it again with peft's save_pretrained, which"
            " writes safetensors"
        )
    try:
        config = json.loads((path / CONFIG_FILE).read_text("utf-8"))
        tensors = load_file(path / WEIGHTS_FILE)
        adapter = PeftAdapter(config, tensors)
        _ = adapter.kind
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as e:
        raise ApetError(f"the adapter at {str(folder)!r} is damaged ({e}); take another copy") from e
    return adapter
