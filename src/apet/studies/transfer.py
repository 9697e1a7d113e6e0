"""Zero-shot transfer (paper section 6.3, experiment E7): every stored θ on every other task, nothing trained again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apet.errors import ApetError
from apet.studies.planning import chosen
from apet.studies.store import Store
from apet.tasks.task import Task, load_task
from apet.training.again import Tuned
from apet.training.choices import task_of
from apet.training.settings import made
from apet.training.workshop import Workshop


def transfer(
    store: Store, targets: Sequence[str], shop: Workshop, limit: int | None = None, only: Sequence[str] = ()
) -> int:
    """Measure every finished run that kept its θ on every target of its kind; what is there already stays.

    Args:
        store: the study's record.
        targets: tasks; empty = those of the study.
        shop: shared by all measurements.
        limit: at most so many examples of a target.
        only: ``axis=pattern`` words that say which θs.

    Returns:
        Measurements made now.

    Raises:
        ApetError: no finished run that is meant kept its θ, or no target can be measured with any of them.
    """
    rows = [(key, cell, result) for key, state, cell, result, _ in store.rows() if result is not None]
    meant = chosen(only)
    kept = [(k, c, r) for k, c, r in rows if r["settings"]["keep_theta"] and meant.matches(c)]
    if not kept:
        which = f"that matches {', '.join(only)} " if only else ""
        raise ApetError(
            f"no finished run {which}in {str(store.folder)!r} kept its θ; run the study with keep_theta=true"
        )
    names = list(targets) or sorted({c["task"] for _, c, _ in rows})
    own = {c["task"]: task_of(made(r["settings"], key)) for key, c, r in rows}
    tasks = own | {name: load_task(name) for name in names if name not in own}
    data = {c["task"]: r["settings"]["data"] for _, c, r in rows}
    there = {(key, target) for key, target, *_ in store.transfers()}
    pairs = [
        (key, cell, target)
        for key, cell, _ in sorted(kept, key=lambda row: (row[1]["backbone"], row[1]["task"], row[0]))
        for target in names
        if target != cell["task"] and _possible(own[cell["task"]], tasks[target])
    ]
    if not pairs:
        trained = ", ".join(sorted({c["task"] for _, c, _ in kept}))
        raise ApetError(
            f"nothing to transfer from {trained} to {', '.join(names)}: a target is another task of the same kind, free"
            " text or labels with unified meanings; name some with --to"
        )
    todo = [(key, cell, target) for key, cell, target in pairs if (key, target) not in there]
    with shop.watch.begin("transfer", len(todo)) as bar:
        tuned: tuple[str, Tuned] | None = None
        try:
            for n, (key, cell, target) in enumerate(todo, start=1):
                if tuned is None or tuned[0] != key:
                    if tuned is not None:
                        tuned[1].close()
                    tuned = key, Tuned(store.run_folder(key), shop)
                score: dict[str, Any] = tuned[1].transfer(tasks[target], data.get(target), limit).as_dict()
                store.transferred(key, target, score)
                bar.advance(n, f"{cell['task']} to {target}: {100 * score['value']:.1f}")
        finally:
            if tuned is not None:
                tuned[1].close()
    return len(todo)


def _possible(source: Task, target: Task) -> bool:
    """Both write free text, or both have labels that are unified for every word."""
    if source.is_classification != target.is_classification:
        return False
    return not source.is_classification or all(set(t.unified) == set(t.words) for t in (source, target))
