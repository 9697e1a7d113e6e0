"""Zero-shot transfer (paper section 6.3): every stored delta on every task, nothing trained again.

On its own task, too: what a target is held against must be counted by the same transfer labels, of which there may be
fewer than label words (three of mnli's become two), and on the same items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apet.errors import ApetError
from apet.studies.planning import Patterns, parse_filter, spell_patterns
from apet.studies.store import Store
from apet.tasks.metrics import MetricScore
from apet.tasks.sources import read_split
from apet.tasks.task import Task, load_task
from apet.training import run_dir
from apet.training.config import RunAxes
from apet.training.inference import TunedModel
from apet.training.output_folder import RESULT
from apet.training.resources import Resources
from apet.training.result import RunResult, TransferRecord


@dataclass(frozen=True)
class _CompleteRun:
    """A finished run of the study."""

    run_id: str
    axes: RunAxes
    result: RunResult


@dataclass(frozen=True)
class _Target:
    """What a delta is measured on.

    Attributes:
        task: whose validation split.
        data: in place of the task's own source, as in the study's runs.
    """

    task: Task
    data: str | None = None

    def num_examples(self, limit: int | None, resources: Resources) -> int:
        """How many examples a measurement of it has."""
        if self.data is not None:
            available = len(read_split(self.task, Path(self.data), "validation"))
        else:
            available = len(resources.data(self.task).splits["validation"])
        return available if limit is None else min(limit, available)


def transfer(
    store: Store,
    targets: Sequence[str],
    resources: Resources,
    limit: int | None = None,
    patterns: Patterns | None = None,
) -> list[tuple[str, str]]:
    """Measure every finished run that kept its delta on every target of its kind.

    What is measured already stays, if it was taken on as many examples as would be taken now.

    Args:
        store: the study's record.
        targets: tasks; empty = those of the study.
        resources: shared by all measurements.
        limit: examples of a target, at most.
        patterns: axis -> pattern or patterns, of the runs that are meant; None = all.

    Returns:
        run_id and target of every measurement that is meant, also on a run's own task; all of them are in the store.

    Raises:
        ApetError: no finished run that is meant kept its delta, or no target can be measured with any of them.
    """
    complete = [_CompleteRun(r.run_id, r.axes, r.result) for r in store.rows() if r.result is not None]
    sources = _with_delta(store, complete, patterns or {})
    known = _KnownTargets(store, complete)
    names = list(targets) or sorted({run.axes.task for run in complete})
    # By backbone: each is loaded once, and its runs attach and detach one after the other.
    pairs = [
        (run, target)
        for run in sorted(sources, key=lambda run: (run.axes.backbone, run.axes.task, run.run_id))
        for target in names
        if _is_possible(known.target(run.axes.task).task, known.target(target).task)
    ]
    if all(run.axes.task == target for run, target in pairs):
        trained = ", ".join(sorted({run.axes.task for run in sources}))
        raise ApetError(
            f"nothing to transfer from {trained} to {', '.join(names)}: a target is another task of the same kind, free"
            " text or labels with transfer labels; name some with --target-tasks"
        )
    num_examples = {t: known.target(t).num_examples(limit, resources) for t in {target for _, target in pairs}}
    measured = {(run_id, record.target): record.num_examples for run_id, record in store.transfers()}
    # A limit that has changed, or data that have grown, make a stored score one of other examples: it is taken again.
    todo = [(run, target) for run, target in pairs if measured.get((run.run_id, target)) != num_examples[target]]
    _measure_pairs(store, todo, known, resources, limit)
    return [(run.run_id, target) for run, target in pairs]


def _measure_pairs(
    store: Store,
    pairs: Sequence[tuple[_CompleteRun, str]],
    known: _KnownTargets,
    resources: Resources,
    limit: int | None,
) -> None:
    """Measure runs on targets and record each score as soon as it is there.

    Args:
        store: the study's record.
        pairs: run and target, all targets of a run in one row.
        known: the targets by name.
        resources: shared by all measurements.
        limit: examples of a target, at most.
    """
    with resources.progress.begin("transfer", len(pairs)) as bar:
        loaded: tuple[str, TunedModel] | None = None
        try:
            for done, (run, target) in enumerate(pairs, start=1):
                # The pairs come run by run, so that one attached delta serves all of its targets.
                if loaded is None or loaded[0] != run.run_id:
                    if loaded is not None:
                        loaded[1].close()
                    loaded = run.run_id, TunedModel(store.run_folder(run.run_id), resources)
                on = known.target(target)
                score = loaded[1].transfer(on.task, on.data, limit)
                record = _record(target, score, loaded[1].transfer_baseline(on.task, on.data, limit))
                # One by one: what was measured before an interruption is not measured again.
                store.record_transfer(run.run_id, record)
                bar.update(done, f"{run.axes.task} to {target}: {100 * record.score:.1f}")
        finally:
            # The backbone stays in the shared resources; the next run on it must find nothing attached.
            if loaded is not None:
                loaded[1].close()


def _record(target: str, score: MetricScore, baseline: float | None) -> TransferRecord:
    return TransferRecord(
        target=target,
        score=score.score,
        ci_low=score.ci_low,
        ci_high=score.ci_high,
        num_examples=score.num_examples,
        majority_baseline=baseline,
    )


def _with_delta(store: Store, complete: Sequence[_CompleteRun], patterns: Patterns) -> list[_CompleteRun]:
    """The runs that are meant and kept their delta."""
    meant = parse_filter(patterns)
    kept = [run for run in complete if run.result.config.save_delta and meant.matches(run.axes.as_dict())]
    if not kept:
        which = f"that matches {spell_patterns(patterns)} " if patterns else ""
        raise ApetError(
            f"no finished run {which}in {str(store.folder)!r} kept its delta; run the study with save_delta=true"
        )
    return kept


class _KnownTargets:
    """Tasks as the study's runs have stored them, so that they are found from any folder; others by name."""

    def __init__(self, store: Store, complete: Sequence[_CompleteRun]) -> None:
        self._store = store
        # A run's folder may have been removed to save space; the record alone does not hold its task.
        on_disk = [run for run in complete if (store.run_folder(run.run_id) / RESULT).is_file()]
        self._runs = {run.axes.task: run.run_id for run in on_disk}
        self._targets: dict[str, _Target] = {}

    def target(self, name: str) -> _Target:
        """The task of that name, read once."""
        if name not in self._targets:
            # A path in the study's words may not hold from here; the run's own copy of the task does.
            if name in self._runs:
                folder = run_dir.read_run(self._store.run_folder(self._runs[name]))
                self._targets[name] = _Target(folder.task, folder.config.data)
            else:
                self._targets[name] = _Target(load_task(name))
        return self._targets[name]


def _is_possible(source: Task, target: Task) -> bool:
    """Both write free text, or both have transfer labels for every word."""
    if source.is_classification != target.is_classification:
        return False
    return not source.is_classification or all(set(t.transfer_labels) == set(t.label_words) for t in (source, target))
