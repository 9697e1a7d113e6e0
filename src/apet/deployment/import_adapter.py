"""`apet import`: an adapter of peft as a folder with a delta, and with a task as one that answers texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from apet.backbones.family import ObjectiveName
from apet.backbones.loading import load_model
from apet.checkpoint import DELTA_FILE
from apet.deployment.peft_folder import TASK_TYPES
from apet.errors import ApetError
from apet.interop.peft_adapter import PeftAdapter, read_adapter
from apet.interop.peft_import import import_peft
from apet.tasks.objectives import check_objective
from apet.tasks.task import Task, load_task
from apet.training.config import RunConfig
from apet.training.manifest import write_manifest
from apet.training.output_folder import new_folder, require_free
from apet.training.run_dir import CONFIG, TASK, dump_yaml


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        folder: with the delta.
        form: peft's name of the adapter's form, such as LORA.
        backbone: on which it was loaded.
        num_trainable: values of the delta.
        task: what the folder answers; None where no task was given.
    """

    folder: Path
    form: str
    backbone: str
    num_trainable: int
    task: str | None


def import_adapter(
    adapter: str | Path, folder: str | Path, *, backbone: str | None = None, task: str | None = None
) -> Imported:
    """Write an adapter of peft as a folder with a delta.

    Args:
        adapter: folder of the adapter.
        folder: new, or empty; `apet.load` reads it, and with a task ``apet predict``.
        backbone: that it was trained on; None = the one that the adapter names.
        task: name or YAML file of the task that it learned; None = the one that ``apet export`` left in the adapter's
            folder, if it did.

    Returns:
        What was written.

    Raises:
        ApetError: no adapter there or one that is not read, no backbone by that name, or the folder is taken.
        CannotWriteError: the folder cannot be written.

    Examples:
        >>> import apet
        >>> try:
        ...     apet.import_adapter("no-adapter", "taken")
        ... except apet.ApetError as error:
        ...     print(str(error).split(";")[0])
        no adapter of peft at 'no-adapter' (it has no adapter_config.json)
    """
    adapter, folder = Path(adapter), Path(folder)
    read = read_adapter(adapter)
    learned = load_task(task) if task else _task_beside(adapter)
    backbone = backbone or str(read.config.get("base_model_name_or_path") or "")
    if not backbone:
        raise ApetError(f"the adapter at {str(adapter)!r} names no backbone; give --backbone")
    objective = _objective(read, adapter)
    if learned is not None:
        check_objective(objective, learned)
    require_free(folder)
    model = load_model(backbone, objective, _num_labels(read, learned), torch.float32)
    with new_folder(folder) as part:
        handle = import_peft(model, adapter, part)
        if learned is not None:
            _write_settings(part, learned, objective, backbone, handle.spec.num_trainable)
    name = None if learned is None else learned.name
    return Imported(folder, read.kind, backbone, handle.spec.num_trainable, name)


def _task_beside(adapter: Path) -> Task | None:
    return load_task(str(adapter / TASK)) if (adapter / TASK).is_file() else None


def _objective(adapter: PeftAdapter, folder: Path) -> ObjectiveName:
    given = adapter.config.get("task_type")
    for objective, task_type in TASK_TYPES.items():
        if given == task_type:
            return objective
    known = ", ".join(t for t in TASK_TYPES.values() if t is not None)
    raise ApetError(f"the adapter at {str(folder)!r} has task_type {given}; what is read: {known}, or none (masked LM)")


def _num_labels(adapter: PeftAdapter, task: Task | None) -> int:
    """Outputs of a classification head: its last weight has a row for each."""
    heads = [
        tensor.shape[0]
        for name, tensor in adapter.tensors.items()
        if name.endswith(".weight") and any(part in ("classifier", "score") for part in name.split("."))
    ]
    return min(heads) if heads else max(2, len(task.label_words) if task else 2)


def _write_settings(part: Path, task: Task, objective: ObjectiveName, backbone: str, num_trainable: int) -> None:
    """Settings and task as in a run's folder, sealed: what answers texts needs no more."""
    config = RunConfig(
        backbone=backbone,
        task=task.name,
        budget=num_trainable,
        objective=objective,
        dtype="float32",
        max_input_length=task.max_input_length,
    )
    dump_yaml(part / CONFIG, config.model_dump(mode="json"))
    dump_yaml(part / TASK, task.model_dump(mode="json", exclude_defaults=True))
    write_manifest(part, f"imported-{DELTA_FILE}")
