"""What successive runs share: a backbone is loaded once, data read once, tokens made once; runs attach and detach."""

from __future__ import annotations

import torch
from accelerate import Accelerator, DistributedType
from torch import nn
from transformers import PreTrainedTokenizerBase

from apet.backbones.family import ObjectiveName
from apet.backbones.loading import load_model, load_tokenizer
from apet.errors import ApetError
from apet.tasks.encoding import EncodedSet, encode_all
from apet.tasks.objectives import Objective
from apet.tasks.sources import TaskData, load_data
from apet.tasks.task import Task
from apet.training.evaluation import Split
from apet.training.progress import Progress
from apet.training.resolve import ResolveCache

MAX_ENCODED = 12
"""Encoded splits that are kept in memory; others are read from the disk cache again."""

_ModelKey = tuple[str, ObjectiveName, int, str, str]
_DataKey = tuple[str, str | None]
_LimitedKey = tuple[_DataKey, int | None, int | None, int | None]


class Resources:
    """Caches of one process. A run detaches its delta before the next one borrows the model.

    Args:
        progress: where progress goes.

    Attributes:
        cache: what the runs share while they are resolved.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or Progress(quiet=True)
        self.cache = ResolveCache()
        self._models: dict[_ModelKey, nn.Module] = {}
        self._tokenizers: dict[str, PreTrainedTokenizerBase] = {}
        self._whole_data: dict[_DataKey, TaskData] = {}
        self._data: dict[_LimitedKey, TaskData] = {}
        self._encoded: dict[str, EncodedSet] = {}
        self._accelerators: dict[str, Accelerator] = {}

    def accelerator(self, device: str, device_map: str | None = None) -> Accelerator:
        """Devices and processes.

        Returns:
            accelerate's object for this device, made once.

        Raises:
            ApetError: processes that share one backbone in pieces, or several that each would take all devices.
        """
        if device not in self._accelerators:
            self._accelerators[device] = Accelerator(
                cpu=device == "cpu", mixed_precision="no", gradient_accumulation_steps=1
            )
            # Of several processes one speaks.
            self.progress.quiet = self.progress.quiet or not self._accelerators[device].is_main_process
        refuse_sharded(self._accelerators[device].distributed_type, device_map)
        return self._accelerators[device]

    def model(
        self,
        backbone: str,
        objective: ObjectiveName,
        num_labels: int,
        dtype: str,
        device: torch.device,
        device_map: str | None = None,
    ) -> nn.Module:
        """A backbone with its weights, nothing attached.

        Args:
            backbone: packaged name, folder or hub id.
            objective: decides which head it carries.
            num_labels: outputs of a classification head.
            dtype: float32 or bfloat16.
            device: where it lies, unless it is laid over all of them.
            device_map: ``auto`` = over all devices of this machine.

        Returns:
            The model, which stays the property of these caches: whoever borrows it detaches what was attached.

        Raises:
            ApetError: there are no such weights, or more than the devices hold.
        """
        place = str(device) if device_map is None else "all devices"
        key = (backbone, objective, num_labels, dtype, place)
        if key not in self._models:
            self._models.clear()  # one at a time: two large backbones would not fit
            torch_dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
            model = load_model(backbone, objective, num_labels, torch_dtype, over_all_devices=device_map is not None)
            self._models[key] = model if device_map is not None else model.to(device)
        return self._models[key]

    def tokenizer(self, backbone: str) -> PreTrainedTokenizerBase:
        """The backbone's tokenizer.

        Returns:
            The tokenizer, loaded once.

        Raises:
            ApetError: there is none that loads.
        """
        if backbone not in self._tokenizers:
            self._tokenizers[backbone] = load_tokenizer(backbone)
        return self._tokenizers[backbone]

    def data(
        self,
        task: Task,
        folder: str | None = None,
        max_train_samples: int | None = None,
        max_eval_samples: int | None = None,
        max_test_samples: int | None = None,
    ) -> TaskData:
        """A task's examples.

        Args:
            task: whose examples.
            folder: file or folder in place of the task's own source.
            max_train_samples: for training, at most.
            max_eval_samples: for validation and test each, at most.
            max_test_samples: for test, in place of that.

        Returns:
            The examples by split, read once.

        Raises:
            ApetError: missing or bad data, with file and line.
        """
        # By content, not by name: a file may hold another task under the name of a registered one.
        key = (task.model_dump_json(), folder)
        if key not in self._whole_data:
            self._whole_data[key] = load_data(task, folder, self.cache.read_splits)
            self.cache.forget_rows()  # the rows are examples now; held twice, a large file would take twice the memory
        max_test_samples = max_test_samples or max_eval_samples
        limited_key = (key, max_train_samples, max_eval_samples, max_test_samples)
        if limited_key not in self._data:  # one object: its texts are hashed once, not for every run
            self._data[limited_key] = self._whole_data[key].limit(
                train=max_train_samples, validation=max_eval_samples, test=max_test_samples
            )
        return self._data[limited_key]

    def split(self, objective: Objective, data: TaskData, name: str) -> Split:
        """Examples of one split with their tokens, as an objective reads them."""
        examples, fingerprint = data.splits[name], data.split_fingerprints[name]
        recipe = objective.recipe()
        key = f"{recipe} {fingerprint}"
        if key not in self._encoded:
            while len(self._encoded) >= MAX_ENCODED:  # a study over many tasks passes each only once
                self._encoded.pop(next(iter(self._encoded)))
            with self.progress.begin(f"reading {name}", len(examples)) as bar:
                self._encoded[key] = encode_all(objective.encode, examples, recipe, fingerprint, bar.update)
        return Split(examples, self._encoded[key])


SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def refuse_sharded(launched: DistributedType, device_map: str | None) -> None:
    """Refuse a launch whose processes hold pieces of weights, or each would take all devices.

    Args:
        launched: how accelerate was launched.
        device_map: of the run's settings.

    Raises:
        ApetError: launched otherwise; the message names the way that works.
    """
    if launched in SHARDED:
        raise ApetError(
            f"{launched.value} cuts weights into pieces, entries of which cannot be trained; for a backbone too large"
            " for one device, run apet by itself with device_map=auto"
        )
    if device_map is not None and launched != DistributedType.NO:
        raise ApetError("device_map=auto takes all devices for one process; run apet by itself, or leave it out")
