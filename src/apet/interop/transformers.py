"""Checkpoints of a transformers Trainer that hold the delta and the optimizer, and no backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, TrainerCallback

from apet.backbones.describe import OWN_PREFIX
from apet.errors import ApetError
from apet.handle import Handle
from apet.interop.optimizer_state import pack_file


def trainer_callback(handle: Handle) -> TrainerCallback:
    """Make a callback that keeps the backbone out of the checkpoints of a ``Trainer`` or ``Seq2SeqTrainer``.

    A checkpoint then holds the delta, a trained head, the optimizer and the Trainer's own state. Resuming from it and
    ``load_best_model_at_end`` work as ever, and `apet.load` attaches the delta of a checkpoint to the backbone. What is
    saved by hand before or after the training (``trainer.save_model``) is the whole model.

    Args:
        handle: of the delta that is trained; other deltas on its model are saved with it.

    Returns:
        For the Trainer's ``callbacks``.

    Raises:
        ApetError: the delta is merged or no longer attached, or its model is no ``PreTrainedModel``.

    Examples:
        >>> import apet
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=61, n_positions=32))
        >>> handle = apet.attach(model, apet.plan(model, "lora"))
        >>> callback = apet.trainer_callback(handle)  # Trainer(model=model, callbacks=[callback], ...)
        >>> type(callback).__name__
        'DeltaCheckpoints'
    """
    if not isinstance(handle.model, PreTrainedModel):
        raise ApetError(
            f"a Trainer's checkpoints can do without the backbone of a PreTrainedModel only; this is a"
            f" {type(handle.model).__name__}. Train it without the callback: its checkpoints hold backbone and delta"
        )
    if not handle.is_attached or handle.is_merged:
        raise ApetError("this delta is merged or no longer attached; attach one, and give its handle")
    return DeltaCheckpoints(handle)


class DeltaCheckpoints(TrainerCallback):  # type: ignore[misc]  # transformers is not read by mypy
    """Callback that keeps the backbone out of checkpoints.

    The Trainer saves by the model's ``save_pretrained``, which leaves out the keys that the model's
    ``_keys_to_ignore_on_save`` names: in the words of transformers, those "you don't train". The callback names the
    backbone's there while the Trainer may save, and nothing of transformers is replaced: a callback after the save
    would come too late, when gigabytes have been written, and a Trainer of another class would ask users to change
    theirs.

    Args:
        handle: of the delta that is trained.
    """

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self._backbone_keys: set[str] = set()
        self._keys_before: set[str] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any) -> None:
        """Note what the backbone's keys are.

        Raises:
            ApetError: the Trainer trains another model.
        """
        if model is not self.handle.model:
            raise ApetError(
                "the Trainer trains another model than the one that the callback's delta sits on; give it"
                " model=handle.model, and no model_init"
            )
        self._backbone_keys = {key for key in model.state_dict() if not key.startswith(OWN_PREFIX)}

    # The Trainer decides at the end of a step, of an epoch or of an evaluation whether it saves. Only from there to the
    # save are the keys left out: a training that fails midway leaves behind a model that saves itself whole.

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A save may follow."""
        self._leave_out()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A save may follow."""
        self._leave_out()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """No save followed."""
        self._put_back()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A save is done."""
        self._put_back()
        if state.is_world_process_zero:
            pack_file(Path(args.output_dir) / f"checkpoint-{state.global_step}" / "optimizer.pt")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Whatever is saved from now on is saved whole."""
        self._put_back()

    def _leave_out(self) -> None:
        if self._keys_before is None:
            self._keys_before = set(getattr(self.handle.model, "_keys_to_ignore_on_save") or ())
            setattr(self.handle.model, "_keys_to_ignore_on_save", self._keys_before | self._backbone_keys)

    def _put_back(self) -> None:
        if self._keys_before is not None:
            setattr(self.handle.model, "_keys_to_ignore_on_save", self._keys_before)
            self._keys_before = None
