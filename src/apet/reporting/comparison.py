"""Methods side by side, from a study's tables: for the terminal, for programs, and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from apet.analysis.frames import complete, failed
from apet.analysis.intervals import t_interval
from apet.studies.results import Study
from apet.tasks.score_text import PERCENT, score_range, score_text, shown_as
from apet.training.cautions import REMEDY, truncation_caution

FIGURE_FILE = "comparison.png"
HEADINGS = ("method", "trainable#", "% of backbone#", "{metric}{unit}#", "95 % interval#", "best step#", "steps/s#")
"""A '#' marks numbers."""

JsonValue = str | int | float | list[float] | dict[int, str]


@dataclass(frozen=True)
class MethodRuns:
    """One method with all its seeds.

    Attributes:
        method: as the study calls it.
        runs: those that finished, a row each, as `Study.runs` has them.
        curves: their points, as `Study.curves` has them.
        failed: seed -> error.
    """

    method: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    failed: dict[int, str]

    @property
    def mean(self) -> float:
        """Validation score, mean over the seeds."""
        return float(self.runs["score"].mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval: Student's t over the seeds, or of one seed the interval over its items.

        Of a share it ends at 0 and 1.
        """
        if len(self.runs) == 1:
            low, high = self.runs["ci_low"].iloc[0], self.runs["ci_high"].iloc[0]
        else:
            _, _, low, high = t_interval(self.runs["score"].to_numpy(dtype=float))
        if shown_as(str(self.runs["metric"].iloc[0])).factor != PERCENT:
            return float(low), float(high)
        return max(0.0, float(low)), min(1.0, float(high))

    @property
    def interval_over(self) -> str:
        """What the interval is over: ``3 seeds``, or ``50 items`` of one seed."""
        n = len(self.runs)
        return f"{n} seeds" if n > 1 else f"{int(self.runs['num_examples'].iloc[0]):,} items"

    @property
    def num_trainable(self) -> int:
        """Trained parameters."""
        return int(self.runs["num_trainable"].iloc[0])


def method_runs(study: Study, run_ids: Sequence[str]) -> list[MethodRuns]:
    """Methods in the order of the given runs, which are all finished or failed."""
    runs, curves = study.runs().set_index("run_id", drop=False).loc[list(run_ids)], study.curves()
    return [
        MethodRuns(
            str(method),
            complete(same_method),
            curves[curves["run_id"].isin(same_method["run_id"])],
            {int(row["seed"]): str(row["error"]) for _, row in failed(same_method).iterrows()},
        )
        for method, same_method in runs.groupby("method", sort=False)
    ]


def table(methods: Sequence[MethodRuns]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for the terminal; a header's '#' marks numbers."""
    metric = next((m.runs["metric"].iloc[0] for m in methods if len(m.runs)), "metric")
    unit = " %" if shown_as(metric).factor == PERCENT else ""
    header = [h.format(metric=metric, unit=unit) for h in HEADINGS]
    rows = []
    for m in methods:
        if m.runs.empty:
            rows.append([m.method, "", "", "failed", "", "", ""])
            continue
        low, high = m.interval
        rows.append(
            [
                m.method,
                f"{m.num_trainable:,}",
                f"{m.runs['trainable_percent'].iloc[0]:.3g}",
                score_text(metric, m.mean).removesuffix(" %"),
                f"{score_range(metric, low, high).strip('[] %').replace(', ', ' – ')} ({m.interval_over})",
                ", ".join(str(int(step)) for step in m.runs["best_step"]),
                f"{m.runs['steps_per_second'].mean():.2f}",
            ]
        )
    return header, rows


def as_json(methods: Sequence[MethodRuns]) -> list[dict[str, JsonValue]]:
    """Every method's mean, interval, count and failures, for programs."""
    records: list[dict[str, JsonValue]] = []
    for m in methods:
        record: dict[str, JsonValue] = {"method": m.method}
        if len(m.runs):
            first = m.runs.iloc[0]
            record |= {
                "num_trainable": m.num_trainable,
                "trainable_percent": float(first["trainable_percent"]),
                "num_head_parameters": int(first["num_head_parameters"]),
                "metric": str(first["metric"]),
                "mean": m.mean,
                "ci_low": m.interval[0],
                "ci_high": m.interval[1],
                "interval_over": "seeds" if len(m.runs) > 1 else "items",
                "scores": [float(v) for v in m.runs["score"]],
                "untrained_baseline": float(first["untrained_baseline"]),
            }
        records.append({**record, "failed": m.failed})
    return records


def cautions(study: Study, methods: Sequence[MethodRuns]) -> list[str]:
    """What a reader of the table must not miss: methods that cannot be told from guessing, and texts that were cut.

    Returns:
        A line for each; empty where there is nothing.
    """
    measured = [m for m in methods if len(m.runs)]
    lines = [] if not measured else [_at_chance(measured)]
    records = study.results()
    if measured:
        first = records[str(measured[0].runs["run_id"].iloc[0])]
        lines.append(truncation_caution(first.num_truncated, first.split_sizes, first.max_input_length))
    return [line for line in lines if line]


def _at_chance(measured: Sequence[MethodRuns]) -> str:
    """Which of the methods are at chance or below it; empty where none is."""
    first = measured[0].runs.iloc[0]
    guessing = float(first["untrained_baseline"] if pd.isna(first["majority_baseline"]) else first["majority_baseline"])
    at_chance = [m.method for m in measured if m.interval[0] <= guessing]
    if not at_chance:
        return ""
    baseline = f"guessing scores {score_text(str(first['metric']), guessing)}"
    if len(at_chance) < len(measured):
        return f"at chance ({baseline}): {', '.join(at_chance)}"
    below = all(m.mean < guessing for m in measured)
    where = "below chance" if below else "at chance"
    return f"every method is {where} ({baseline}), so that this compares nothing; {REMEDY}"


def caption(methods: Sequence[MethodRuns]) -> str:
    """What was run, in a sentence."""
    first = next(m.runs.iloc[0] for m in methods if len(m.runs))
    intervals = _intervals([len(m.runs) for m in methods if len(m.runs)], int(first["num_examples"]))
    head = int(first["num_head_parameters"])
    counted = f"; task head of {head:,} parameters, counted apart" if head else ""
    return (
        f"{first['backbone']} on {first['task']}, {int(first['max_steps'])} steps of {int(first['batch_size'])},"
        f" {intervals}{counted}; baseline {score_text(first['metric'], first['untrained_baseline'])}"
    )


def _intervals(num_seeds: Sequence[int], num_examples: int) -> str:
    """What the intervals are over, of methods with so many seeds each."""
    over_items = f"interval over {num_examples:,} validation items, one seed"
    if max(num_seeds) == 1:
        return over_items
    several = sorted({n for n in num_seeds if n > 1})
    over_seeds = f"t-interval over {' or '.join(map(str, several))} seeds"
    if min(num_seeds) > 1:
        return over_seeds
    return f"{over_seeds}; of a method with one seed, interval over {num_examples:,} items"


def save_figure(methods: Sequence[MethodRuns], path: Path) -> None:
    """Write a PNG: the score over the number of trained parameters, and over steps."""
    # drawing takes a second to import, and a table needs none of it
    from apet.reporting.figures.comparison import figure
    from apet.reporting.figures.printing import png_bytes

    path.write_bytes(png_bytes(figure(methods), subtitle=caption(methods)))
