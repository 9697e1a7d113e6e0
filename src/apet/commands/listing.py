"""What there is by name: tasks and backbones, with everything that guests registered."""

from __future__ import annotations

from dataclasses import dataclass

from apet.backbones.loading import has_local_weights
from apet.backbones.registry import package_folder, packaged_backbones, published_shapes
from apet.tasks.task import Task, registered_tasks


@dataclass(frozen=True)
class ListedBackbone:
    """A backbone with a name.

    Attributes:
        name: by which commands and functions take it.
        weights: whether its weights are on this machine.
        description: one line.
    """

    name: str
    weights: bool
    description: str


def list_tasks() -> dict[str, Task]:
    """List the registered tasks by name, in the order of names.

    Returns:
        Name -> task; a task of your own is a YAML file like theirs, or ``data``, ``text`` and ``label``.

    Examples:
        >>> import apet
        >>> apet.list_tasks()["sst2"].metric
        'accuracy'
    """
    return registered_tasks()


def list_backbones() -> dict[str, ListedBackbone]:
    """List the backbones with a name: those of installed packages, then published shapes.

    Returns:
        Name -> what it is; any local folder or hub id serves, too.

    Examples:
        >>> import apet
        >>> apet.list_backbones()["bert-small"].description
        'BERT, Devlin et al. 2019 and (small) Turc et al. 2019; on the hub as google/bert_uncased_L-4_H-512_A-8'
    """
    listed = [
        ListedBackbone(name, package_folder(b.module) is not None, b.description)
        for name, b in packaged_backbones().items()
    ]
    listed += [
        ListedBackbone(name, has_local_weights(name), f"{s.description}; on the hub as {s.hub}")
        for name, s in published_shapes().items()
    ]
    return {b.name: b for b in listed}
