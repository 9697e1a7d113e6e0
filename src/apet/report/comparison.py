"""Methods side by side, from a study's tables: for the terminal, for programs, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from apet.analysis.frames import complete, failed
from apet.analysis.intervals import t_interval
from apet.report.style import colour, look
from apet.studies.results import Study

PICTURE = "comparison.png"
COLUMNS = ("method", "trainable#", "% of backbone#", "{measure} %#", "95 % interval#", "best step#", "steps/s#")


@dataclass(frozen=True)
class Entry:
    """One method with all its seeds.

    Attributes:
        method: as the study calls it.
        runs: those that finished, a row each, as `Study.runs` has them.
        curves: their points, as `Study.curves` has them.
        failed: seed -> reason.
    """

    method: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    failed: dict[int, str]

    @property
    def mean(self) -> float:
        """Validation measure, mean over the seeds."""
        return float(self.runs["score"].mean())

    @property
    def spread(self) -> tuple[float, float]:
        """95 % interval: Student's t over the seeds, or of one seed the interval over its items.

        It ends at 0 and 1, as the measures do.
        """
        if len(self.runs) == 1:
            low, high = self.runs["ci_low"].iloc[0], self.runs["ci_high"].iloc[0]
        else:
            _, _, low, high = t_interval(self.runs["score"].to_numpy(dtype=float))
        return max(0.0, float(low)), min(1.0, float(high))

    @property
    def basis(self) -> str:
        """What the interval is over: ``3 seeds``, or ``50 items`` of one seed."""
        n = len(self.runs)
        return f"{n} seeds" if n > 1 else f"{int(self.runs['num_examples'].iloc[0]):,} items"

    @property
    def count(self) -> int:
        """Trained parameters."""
        return int(self.runs["num_trainable"].iloc[0])


def entries(study: Study, keys: Sequence[str]) -> list[Entry]:
    """Methods in the order of the given runs, which are all finished or failed."""
    runs, curves = study.runs().set_index("run_id", drop=False).loc[list(keys)], study.curves()
    return [
        Entry(
            str(method),
            complete(mine),
            curves[curves["run_id"].isin(mine["run_id"])],
            {int(r["seed"]): str(r["error"]) for _, r in failed(mine).iterrows()},
        )
        for method, mine in runs.groupby("method", sort=False)
    ]


def table(shown: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; a header's '#' marks numbers."""
    measure = next((e.runs["metric"].iloc[0] for e in shown if len(e.runs)), "metric")
    header = [h.format(measure=measure) for h in COLUMNS]
    rows = []
    for e in shown:
        if e.runs.empty:
            rows.append([e.method, "", "", "failed", "", "", ""])
            continue
        low, high = e.spread
        rows.append(
            [
                e.method,
                f"{e.count:,}",
                f"{e.runs['trainable_percent'].iloc[0]:.3g}",
                f"{100 * e.mean:.1f}",
                f"{100 * low:.1f} – {100 * high:.1f} ({e.basis})",
                ", ".join(str(int(step)) for step in e.runs["best_step"]),
                f"{e.runs['steps_per_second'].mean():.2f}",
            ]
        )
    return header, rows


def as_data(shown: Sequence[Entry]) -> list[dict[str, Any]]:
    """Every method's mean, interval, count and failures, for programs."""
    found = []
    for e in shown:
        row: dict[str, Any] = {"method": e.method}
        if len(e.runs):
            first = e.runs.iloc[0]
            row |= {
                "num_trainable": e.count,
                "trainable_percent": float(first["trainable_percent"]),
                "num_head_parameters": int(first["num_head_parameters"]),
                "metric": first["metric"],
                "mean": e.mean,
                "ci_low": e.spread[0],
                "ci_high": e.spread[1],
                "interval_over": "seeds" if len(e.runs) > 1 else "items",
                "values": [float(v) for v in e.runs["score"]],
                "untrained_baseline": float(first["untrained_baseline"]),
            }
        found.append({**row, "failed": e.failed})
    return found


def caption(shown: Sequence[Entry]) -> str:
    """What was run, in a sentence."""
    first = next(e.runs.iloc[0] for e in shown if len(e.runs))
    over = _over([len(e.runs) for e in shown if len(e.runs)], int(first["num_examples"]))
    head = int(first["num_head_parameters"])
    counted = f"; task head of {head:,} parameters, counted apart" if head else ""
    return (
        f"{first['backbone']} on {first['task']}, {int(first['max_steps'])} steps of {int(first['batch_size'])},"
        f" {over}{counted}; chance {100 * first['untrained_baseline']:.1f} %"
    )


def _over(seeds: Sequence[int], items: int) -> str:
    """What the intervals are over, of methods with so many seeds."""
    of_items = f"interval over {items:,} validation items, one seed"
    if max(seeds) == 1:
        return of_items
    several = sorted({n for n in seeds if n > 1})
    of_seeds = f"t-interval over {' or '.join(map(str, several))} seeds"
    return of_seeds if min(seeds) > 1 else f"{of_seeds}; of a method with one seed, interval over {items:,} items"


def picture(every: Sequence[Entry], path: Path) -> None:
    """PNG: the measure over the number of trained parameters, and over steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [e for e in every if len(e.runs)]
    chance, measure = 100 * float(shown[0].runs["untrained_baseline"].iloc[0]), shown[0].runs["metric"].iloc[0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    beside: dict[int, int] = {}  # methods of one count stand side by side
    for e in shown:
        n, (low, high), ink, y = e.count, e.spread, colour(e.method), 100 * e.mean
        beside[n] = beside.get(n, -1) + 1
        left.errorbar(
            n * 1.12 ** beside[n],
            y,
            yerr=[[y - 100 * low], [100 * high - y]],
            fmt=look(e.method).marker,
            color=ink,
            capsize=3,
            markersize=6,
            label=e.method,
        )
        for i, (_, curve) in enumerate(e.curves.groupby("run_id")):
            name = e.method if i == 0 else None
            right.plot(
                curve["step"],
                100 * curve["score"],
                color=ink,
                marker=look(e.method).marker,
                markersize=4,
                markevery=0.2,
                linewidth=1.6,
                alpha=0.9,
                label=name,
            )
    for axis in (left, right):
        axis.axhline(chance, color="grey", linestyle=":", linewidth=1)
        where = {"xycoords": ("axes fraction", "data"), "va": "bottom"}
        axis.annotate("baseline", (0.01, chance), **where, color="grey", fontsize=8)
        axis.grid(alpha=0.25)
        axis.set_ylabel(f"validation {measure} (%)")
    full = next((e for e in shown if e.method == "fine-tuning"), None)
    if full is not None:
        left.axhline(100 * full.mean, color=colour("fine-tuning"), linestyle="--", linewidth=1)
    left.set_xscale("log")
    left.set_xlabel("trained parameters")
    right.set_xlabel("steps")
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    left.set_title("how much is trained, how well it does", fontsize=10, loc="left")
    right.set_title("along the way", fontsize=10, loc="left")
    figure.suptitle(caption(shown), fontsize=9, color="#444444")
    figure.savefig(path, dpi=150)
    plt.close(figure)
