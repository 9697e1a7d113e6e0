"""All that a report is made of: the tables of one study, or of several that are parts of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from apet.errors import ApetError
from apet.studies.reported import tasks_with_test
from apet.studies.results import OUTDATED, Study
from apet.training.cautions import study_cautions

Fact = str | int | bool | list[str]


@dataclass(frozen=True)
class StudyTables:
    """What a study holds, wherever it was read from.

    Attributes:
        runs: as `Study.runs` has them, outdated ones among them.
        curves: as `Study.curves`.
        transfers: as `Study.transfers`.
        items: run_id -> scores of the items of the split that is reported, as `Study.items`.
        planned: as `Study.planned`; None = unknown.
        facts: where the numbers come from, and whether all of them are there, as a report shows them.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    transfers: pd.DataFrame
    items: Mapping[str, NDArray[np.floating | np.integer]]
    planned: pd.DataFrame | None
    facts: Mapping[str, Fact]

    @classmethod
    def of(cls, study: Study) -> StudyTables:
        """The tables of a stored study.

        Args:
            study: finished or still running.

        Returns:
            Its tables; runs whose files are not what was recorded are in ``study.damaged`` instead.
        """
        items = study.items()  # first, since it finds what is damaged
        return cls(study.runs(), study.curves(), study.transfers(), items, study.planned(), facts(study))

    def current(self) -> StudyTables:
        """The same without runs that the study, as it was last run, sets otherwise."""
        # They stay in the record, and would be averaged with those of the present settings.
        return self._without(set(self.runs.loc[self.runs[OUTDATED], "run_id"]))

    def _without(self, run_ids: set[str]) -> StudyTables:
        if not run_ids:
            return self
        runs, curves, transfers = (t[~t["run_id"].isin(run_ids)] for t in (self.runs, self.curves, self.transfers))
        items = {run_id: scores for run_id, scores in self.items.items() if run_id not in run_ids}
        return replace(self, runs=runs, curves=curves, transfers=transfers, items=items)


def merged(parts: Mapping[str, StudyTables]) -> StudyTables:
    """Studies that are parts of one, as when its scales were run on different days or machines.

    Args:
        parts: name of each -> its current tables (`StudyTables.current`). A run that several hold is taken of the
            first.

    Returns:
        One study of all. Where a task has test scores in some parts only, the items of its test split are left out.

    Raises:
        ApetError: nothing to merge.
    """
    if not parts:
        raise ApetError("no study to report; give the folder of a study, of an export or of a run")
    seen: set[str] = set()
    own = []
    for part in parts.values():
        again = part.runs[part.runs["run_id"].isin(seen)]
        counts = {"complete": (again["state"] == "complete").sum(), "failed": (again["state"] == "failed").sum()}
        fewer = {name: int(str(part.facts[name])) - int(count) for name, count in counts.items()}
        own.append(replace(part._without(set(again["run_id"])), facts={**part.facts, **fewer}))
        seen |= set(part.runs["run_id"])
    if len(own) == 1:
        return own[0]
    runs = pd.concat([p.runs for p in own], ignore_index=True)
    plan = _plan_of_all([p.planned for p in own])
    return StudyTables(
        runs,
        pd.concat([p.curves for p in own], ignore_index=True),
        pd.concat([p.transfers for p in own], ignore_index=True),
        _items_of_one_split(own, runs),
        plan,
        _facts_of_all(dict(zip(parts, own, strict=True)), None if plan is None else len(plan)),
    )


def _items_of_one_split(
    parts: Sequence[StudyTables], runs: pd.DataFrame
) -> dict[str, NDArray[np.floating | np.integer]]:
    """Items of the split that is reported of all parts together: one part without test scores decides for all."""
    tested, items = tasks_with_test(runs), {}
    for part in parts:
        other_split = tasks_with_test(part.runs) - tested
        task_of = dict(zip(part.runs["run_id"], part.runs["task"], strict=True))
        items.update({run_id: scores for run_id, scores in part.items.items() if task_of[run_id] not in other_split})
    return items


def _plan_of_all(plans: Sequence[pd.DataFrame | None]) -> pd.DataFrame | None:
    """The plans together, with each count from a part that knows it; None where one part's plan is unknown."""
    known = [p.assign(part=number) for number, p in enumerate(plans) if p is not None]
    if len(known) < len(plans):
        return None
    plan = pd.concat(known, ignore_index=True)
    # Parts of one design plan the same runs, and each knows the counts of those alone that it ran.
    cell = ["backbone", "task", "method", "seed"]
    resolved = plan["num_trainable"].notna().groupby([plan[name] for name in (*cell, "part")]).transform("sum")
    best = resolved.groupby([plan[name] for name in cell]).transform("max")
    plan = plan[resolved == best]
    # Several counts that no part knows look alike: the second of one part is the second of another.
    nth = plan.groupby([*cell, "num_trainable", "part"], dropna=False).cumcount()
    again = plan.assign(nth=nth).duplicated([*cell, "num_trainable", "nth"])
    return plan[~again].drop(columns="part").reset_index(drop=True)


_COUNTS = ("planned", "complete", "failed", "beside the plan", "outdated")


def _facts_of_all(parts: Mapping[str, StudyTables], num_planned: int | None) -> dict[str, Fact]:
    """Counts added up, but for runs that several parts planned; words that differ side by side."""
    all_facts: dict[str, Fact] = {}
    for name in dict.fromkeys(key for p in parts.values() for key in p.facts):
        values = [p.facts.get(name, "") for p in parts.values()]
        if name in _COUNTS:
            all_facts[name] = sum(int(v) for v in values if isinstance(v, int))
        elif name == "cautions":
            all_facts[name] = [f"{part}: {line}" for part, v in zip(parts, values, strict=True) for line in _lines(v)]
        elif name == "first run began":
            all_facts[name] = min((str(v) for v in values if v), default="")
        elif name == "last run began":
            all_facts[name] = max((str(v) for v in values if v), default="")
        else:
            all_facts[name] = "; ".join(dict.fromkeys(str(v) for v in values if v))
    if num_planned is not None:
        all_facts["planned"] = num_planned
    planned, complete, failed = (int(str(all_facts[name])) for name in _COUNTS[:3])
    return {**all_facts, "running": complete + failed < planned}


def _lines(value: Fact) -> list[str]:
    return value if isinstance(value, list) else []


def facts(study: Study) -> dict[str, Fact]:
    """Where a study's numbers come from, and whether all of them are there.

    Returns:
        Facts by name, as a report shows them.
    """
    # Runs of earlier settings are not in the report, so they are neither counted nor named as its source.
    current = [run for run in study.stored_runs() if run.run_id not in study.outdated]
    results = [run.result for run in current if run.result is not None]
    planned = study.num_planned or len(current)
    started = sorted(r.started for r in results)
    # Counted within the plan: a comparison that grew, or a search, has runs beside it, and 712 of 708 says nothing.
    within = [run for run in current if study.is_planned(run.axes)]
    num_complete = sum(run.state == "complete" for run in within)
    return {
        "name": study.notes.get("study", study.folder.name),
        "settings": study.notes.get("definition", ""),
        "version": ", ".join(sorted({r.versions["apet"] for r in results})),
        "planned": planned,
        "complete": num_complete,
        "failed": len(within) - num_complete,
        "beside the plan": len(current) - len(within),
        "running": len(within) < planned,
        "first run began": started[0] if started else "",
        "last run began": started[-1] if started else "",
        "hosts": ", ".join(sorted({str(r.host["system"]) for r in results})),
        "data": "; ".join(sorted({f"{r.task}: {note}" for r in results for note in r.data_notes})),
        "outdated": len(study.outdated),
        "cautions": study_cautions(results),
    }
