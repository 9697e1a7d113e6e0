"""What successive runs share: a backbone is loaded once, tokens are made once; runs attach and detach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedType
from torch import nn

from apet.backbones.family import ObjectiveName
from apet.backbones.loading import load_model, load_tokenizer
from apet.errors import ApetError
from apet.tasks.encoding import encode_all
from apet.tasks.examples import Example, examples_fingerprint
from apet.tasks.objectives import Objective
from apet.tasks.sources import TaskData, load_data
from apet.tasks.task import Task
from apet.training.config import RunConfig
from apet.training.evaluation import Split
from apet.training.progress import Progress


class Resources:
    """Caches of one process. A run detaches its θ before the next one borrows the model.

    Args:
        watch: where progress goes.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.watch = progress or Progress(quiet=True)
        self._models: dict[tuple[Any, ...], nn.Module] = {}
        self._tokenizers: dict[str, Any] = {}
        self._data: dict[str, TaskData] = {}
        self._accelerators: dict[str, Accelerator] = {}

    def accelerator(self, device: str) -> Accelerator:
        """Devices and processes.

        Raises:
            ApetError: processes that share one backbone in pieces, or several that each would take all devices.
        """
        if device not in self._accelerators:
            self._accelerators[device] = Accelerator(
                cpu=device == "cpu", mixed_precision="no", gradient_accumulation_steps=1
            )
            refuse_sharded(self._accelerators[device].distributed_type, device)
            self.watch.quiet = self.watch.quiet or not self._accelerators[device].is_main_process
        return self._accelerators[device]

    def model(
        self,
        backbone: str,
        use: ObjectiveName,
        labels: int,
        dtype: torch.dtype,
        device: torch.device | Literal["spread"],
    ) -> nn.Module:
        """The backbone with its weights, nothing attached: on one device, or spread over all."""
        key = (backbone, use, labels, dtype, str(device))
        if key not in self._models:
            self._models.clear()  # one at a time: two large backbones would not fit
            if device == "spread":
                self._models[key] = load_model(backbone, use, labels, dtype, over_all_devices=True)
            else:
                self._models[key] = load_model(backbone, use, labels, dtype).to(device)
        return self._models[key]

    def tokenizer(self, backbone: str) -> Any:
        """The backbone's tokenizer."""
        if backbone not in self._tokenizers:
            self._tokenizers[backbone] = load_tokenizer(backbone)
        return self._tokenizers[backbone]

    def data(self, task: Task, s: RunConfig) -> TaskData:
        """The task's examples, limited as the settings ask."""
        folder = s.data if s.task is not None else None
        key = f"{task.model_dump_json()} {folder}"
        if key not in self._data:
            self._data[key] = load_data(task, folder)
        held = s.max_eval_samples
        return self._data[key].limit(train=s.max_train_samples, validation=held, test=held)

    def split(self, objective: Objective, examples: Sequence[Example], name: str) -> Split:
        """Examples with their tokens."""
        with self.watch.begin(f"reading {name}", len(examples)) as bar:
            return Split(examples, encode_all(objective.encode, examples, objective.recipe(), examples_fingerprint(examples), bar.update))


SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def refuse_sharded(launched: DistributedType, device: str) -> None:
    """Entries are written into whole tensors; and a spread backbone belongs to one process.

    Raises:
        ApetError: launched otherwise; the message names the way that works.
    """
    if launched in SHARDED:
        raise ApetError(
            f"{launched.value} cuts weights into pieces, entries of which cannot be trained; for a backbone too large"
            " for one device, run apet by itself with device=spread"
        )
    if device == "spread" and launched != DistributedType.NO:
        raise ApetError("device=spread takes all devices for one process; run apet by itself, or leave device=auto")
