"""Several planned runs in one pass: each writes its own folder, and ends as it would alone but for rounding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from apet.errors import ApetError
from apet.training import output_folder
from apet.training.config import import_guests
from apet.training.loop import DivergedError
from apet.training.resources import Resources
from apet.training.run import FinishedRun, Run, threads, tune
from apet.training.run_plan import RunPlan
from apet.training.side_by_side import SideBySide, sharing


def tune_side_by_side(
    plans: Sequence[RunPlan], outputs: Sequence[Path | None], resources: Resources
) -> Iterator[tuple[int, FinishedRun | ApetError]]:
    """Tune runs in one pass; one after another where their deltas cannot act side by side.

    Args:
        plans: of the runs; `apet.training.sharing.pass_key` gives the same for all of them.
        outputs: folder of each; None = nothing is written.
        resources: that they share.

    Yields:
        Number of a run that has ended, and its result or why there is none; each run once, as it ends.
    """
    with threads(plans[0].config.num_threads):
        runs: dict[int, Run] = {}
        for n, (plan, output) in enumerate(zip(plans, outputs, strict=True)):
            try:
                runs[n] = _prepared(plan, output, resources)
            except ApetError as e:
                yield n, e
        if len(runs) > 1:
            ended: set[int] = set()
            for n, outcome in _in_one_pass(runs, outputs):
                ended.add(n)
                yield n, outcome
            runs = {n: run for n, run in runs.items() if n not in ended}
    for n in runs:
        try:
            yield n, tune(plans[n], outputs[n], resources)
        except ApetError as e:
            yield n, e


def _prepared(plan: RunPlan, output: Path | None, resources: Resources) -> Run:
    """A run whose place is free, with its data, tokens and weights."""
    import_guests(plan.config)
    if output is not None:
        output_folder.require_free(output)
        output_folder.require_writable(output)
        output_folder.require_space(output, output_folder.bytes_needed(plan.num_trainable))
    return Run(plan, resources)


def _in_one_pass(runs: dict[int, Run], outputs: Sequence[Path | None]) -> Iterator[tuple[int, FinishedRun | ApetError]]:
    """Train what can be; nothing comes out where the deltas cannot act side by side."""
    numbers, rates = [], []
    for n, run in runs.items():
        try:
            rates.append(run.learning_rate())
            numbers.append(n)
        except ApetError as e:
            yield n, e
    if not numbers:
        return
    members = [runs[n] for n in numbers]
    any_run = members[0]
    with sharing(
        [partial(run.attach, "additive") for run in members],
        any_run.leave,
        [run.schedule(rate.value) for run, rate in zip(members, rates, strict=True)],
        partial(
            SideBySide,
            objective=any_run.objective,
            examples=any_run.splits["train"].encoded,
            validation=any_run.splits["validation"],
            eval_batch_size=any_run.eval_batch_size,
            accelerator=any_run.accelerator,
            progress=any_run.resources.progress,
        ),
    ) as shared:
        if shared is None:
            return
        for ended in shared.train():
            n, run = numbers[ended.run], members[ended.run]
            if isinstance(ended.result, DivergedError):
                yield n, ended.result
                continue
            test = shared.measure([ended.run], run.splits["test"])[0] if "test" in run.splits else None
            handle = shared.trainings[ended.run].handle
            try:
                rate, trained = rates[ended.run], ended.result
                finished = run.finish(handle, rate, trained, test, outputs[n], side_by_side=len(members))
                # Once it has ended: most trackers hold one run at a time.
                with run.tracked(rate, outputs[n]) as in_tracker:
                    in_tracker.replay(finished.points, finished.result)
                yield n, finished
            except ApetError as e:
                yield n, e
