"""The Lightning callback itself, in a file of its own: importing it needs Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from apet.backbones.describe import OWN_PREFIX
from apet.errors import ApetError
from apet.handle import Handle
from apet.interop.optimizer_state import pack


class DeltaCheckpoints(Callback):  # type: ignore[misc]  # Lightning is not read by mypy
    """Callback that takes the backbone out of each checkpoint before it is written.

    Args:
        handle: of the delta that is trained.
    """

    def __init__(self, handle: Handle) -> None:
        self.handle = handle

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave of the model what is under ``apet.``, and everything that is no part of the model.

        Raises:
            ApetError: the LightningModule does not hold the model that the delta sits on.
        """
        names = [name for name, module in pl_module.named_modules() if module is self.handle.model]
        if not names:
            raise ApetError(
                f"the {type(pl_module).__name__} does not hold the model that the callback's delta sits on; give it"
                " handle.model"
            )
        prefix = f"{names[0]}." if names[0] else ""
        checkpoint["state_dict"] = {
            key: value
            for key, value in checkpoint["state_dict"].items()
            if not key.startswith(prefix) or key.startswith(prefix + OWN_PREFIX)
        }
        checkpoint["optimizer_states"] = [pack(state) for state in checkpoint.get("optimizer_states", [])]
