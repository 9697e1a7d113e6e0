"""Zero-shot transfer (paper section 6.3, experiment E7): every stored θ on every other task, nothing trained again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from apet.errors import ApetError
from apet.studies.planning import parse_filter, spell_patterns
from apet.studies.store import Store
from apet.tasks.sources import read_split
from apet.tasks.task import Task, load_task
from apet.training import run_dir
from apet.training.config import RunConfig
from apet.training.inference import TunedModel
from apet.training.resources import Resources

Row = tuple[str, dict[str, str], dict[str, Any]]
"""A finished run: key, cell, result."""


@dataclass(frozen=True)
class _Target:
    """What a θ is measured on.

    Attributes:
        task: whose validation split.
        data: in place of the task's own source, as in the study's runs.
    """

    task: Task
    data: str | None = None

    def items(self, settings: RunConfig, limit: int | None, shop: Resources) -> int:
        """How many a measure of it has."""
        if self.data is not None:
            there = len(read_split(self.task, Path(self.data), "validation"))
        else:
            own = {"data": None, "task": self.task.name, "max_train_samples": None, "max_eval_samples": None}
            there = len(shop.data(self.task, settings.model_copy(update=own)).splits["validation"])
        return there if limit is None else min(limit, there)


def transfer(
    store: Store,
    targets: Sequence[str],
    shop: Resources,
    limit: int | None = None,
    filters: Mapping[str, str | list[str]] | None = None,
) -> list[tuple[str, str]]:
    """Measure every finished run that kept its θ on every target of its kind.

    What is there already stays, if it was taken on as many items as would be taken now.

    Args:
        store: the study's record.
        targets: tasks; empty = those of the study.
        shop: shared by all measurements.
        limit: at most so many examples of a target.
        filters: axis -> pattern or patterns, of the runs that are meant; None = all.

    Returns:
        Key and target of every measure that is meant; all of them are in the store.

    Raises:
        ApetError: no finished run that is meant kept its θ, or no target can be measured with any of them.
    """
    rows = [(key, cell, result) for key, _, cell, result, _ in store.rows() if result is not None]
    kept = _kept(store, rows, filters or {})
    known = _Known(store, rows)
    names = list(targets) or sorted({c["task"] for _, c, _ in rows})
    pairs = [
        (key, cell, target)
        for key, cell, _ in sorted(kept, key=lambda row: (row[1]["backbone"], row[1]["task"], row[0]))
        for target in names
        if target != cell["task"] and _possible(known.target(cell["task"]).task, known.target(target).task)
    ]
    if not pairs:
        trained = ", ".join(sorted({c["task"] for _, c, _ in kept}))
        raise ApetError(
            f"nothing to transfer from {trained} to {', '.join(names)}: a target is another task of the same kind, free"
            " text or labels with unified meanings; name some with --target-tasks"
        )
    wanted = {t: known.target(t).items(known.settings, limit, shop) for t in {target for _, _, target in pairs}}
    there = {(key, target): n for key, target, *_, n in store.transfers()}
    todo = [(key, cell, target) for key, cell, target in pairs if there.get((key, target)) != wanted[target]]
    with shop.watch.begin("transfer", len(todo)) as bar:
        tuned: tuple[str, TunedModel] | None = None
        try:
            for n, (key, cell, target) in enumerate(todo, start=1):
                if tuned is None or tuned[0] != key:
                    if tuned is not None:
                        tuned[1].close()
                    tuned = key, TunedModel(store.run_folder(key), shop)
                on = known.target(target)
                score: dict[str, Any] = tuned[1].transfer(on.task, on.data, limit).as_dict()
                store.transferred(key, target, score)
                bar.update(n, f"{cell['task']} to {target}: {100 * score['value']:.1f}")
        finally:
            if tuned is not None:
                tuned[1].close()
    return [(key, target) for key, _, target in pairs]


def _kept(store: Store, rows: Sequence[Row], filters: Mapping[str, str | list[str]]) -> list[Row]:
    """Those that are meant and kept their θ."""
    meant = parse_filter(filters)
    kept = [(k, c, r) for k, c, r in rows if r["settings"]["save_delta"] and meant.matches(c)]
    if not kept:
        which = f"that matches {spell_patterns(filters)} " if filters else ""
        raise ApetError(
            f"no finished run {which}in {str(store.folder)!r} kept its θ; run the study with save_delta=true"
        )
    return kept


class _Known:
    """Tasks as the study's runs have stored them, so that they are found from any folder; others by name."""

    def __init__(self, store: Store, rows: Sequence[Row]) -> None:
        self._store = store
        whole = [(key, cell) for key, cell, _ in rows if (store.run_folder(key) / run_dir.RESULT).is_file()]
        self._runs = {cell["task"]: key for key, cell in whole}
        self._targets: dict[str, _Target] = {}

    def target(self, name: str) -> _Target:
        """The task of that name, read once."""
        if name not in self._targets:
            if name in self._runs:
                settings, task, _ = run_dir.read_run(self._store.run_folder(self._runs[name]))
                self._targets[name] = _Target(task, settings.data)
            else:
                self._targets[name] = _Target(load_task(name))
        return self._targets[name]

    @cached_property
    def settings(self) -> RunConfig:
        """Of any run."""
        return run_dir.read_run(self._store.run_folder(next(iter(self._runs.values()))))[0]


def _possible(source: Task, target: Task) -> bool:
    """Both write free text, or both have labels that are unified for every word."""
    if source.is_classification != target.is_classification:
        return False
    return not source.is_classification or all(set(t.transfer_labels) == set(t.label_words) for t in (source, target))
