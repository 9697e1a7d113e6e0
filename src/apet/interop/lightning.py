"""Checkpoints of a Lightning trainer that hold the delta and the optimizer, and no backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apet.errors import ApetError
from apet.handle import Handle

if TYPE_CHECKING:  # an optional dependency
    from lightning.pytorch import Callback


def lightning_callback(handle: Handle) -> Callback:
    """Make a callback that keeps the backbone out of the checkpoints of a ``lightning.pytorch.Trainer``.

    A checkpoint then holds the delta, a trained head, whatever else the LightningModule has, and the optimizer. It is
    loaded as ever, by ``trainer.fit(module, ckpt_path=…)`` or ``module.load_state_dict``, into a module whose model has
    the same delta attached.

    Args:
        handle: of the delta that is trained; other deltas on its model are saved with it.

    Returns:
        For the trainer's ``callbacks``.

    Raises:
        ApetError: Lightning is not installed, or the delta is merged or no longer attached.

    Examples:
        >>> import apet
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> handle = apet.attach(model, apet.plan(model, "lora"))
        >>> callback = apet.lightning_callback(handle)  # Trainer(callbacks=[callback], ...)
        >>> type(callback).__name__
        'DeltaCheckpoints'
    """
    try:
        from apet.interop.lightning_checkpoints import DeltaCheckpoints
    except ImportError as e:
        raise ApetError("Lightning is not installed; pip install lightning") from e
    if not handle.is_attached or handle.is_merged:
        raise ApetError("this delta is merged or no longer attached; attach one, and give its handle")
    return DeltaCheckpoints(handle)
