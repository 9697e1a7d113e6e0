"""A comparison as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apet.report.colours import colour
from apet.studies.comparison import Cell

COLUMNS = ("method", "trainable#", "% of backbone#", "{measure} %#", "95 % interval#", "best step#", "steps/s#")


def table(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Header and rows; a header's '#' marks numbers."""
    measure = next((c.results[0]["validation"]["measure"] for c in cells if c.results), "measure")
    header = [h.format(measure=measure) for h in COLUMNS]
    rows = []
    for c in cells:
        if not c.results:
            rows.append([c.method, "", "", "failed", "", "", ""])
            continue
        first, (low, high) = c.results[0], c.spread
        rows.append(
            [
                c.method,
                f"{first['trainable_parameters']:,}",
                f"{first['ratio_percent']:.3g}",
                f"{100 * c.mean:.1f}",
                f"{100 * low:.1f} – {100 * high:.1f}",
                ", ".join(str(r["best_step"]) for r in c.results),
                f"{sum(r['times']['steps_per_second'] for r in c.results) / len(c.results):.2f}",
            ]
        )
    return header, rows


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table for a README or an issue."""
    names = [h.rstrip("#") for h in header]
    line = ["---:" if h.endswith("#") else "---" for h in header]
    return "\n".join("| " + " | ".join(r) + " |" for r in (names, line, *rows)) + "\n"


def caption(cells: Sequence[Cell]) -> str:
    """What was run, in a sentence."""
    r: dict[str, Any] = next(c.results[0] for c in cells if c.results)
    seeds = max(len(c.results) for c in cells)
    n = r["validation"]["n"]
    over = f"t-interval over {seeds} seeds" if seeds > 1 else f"interval over {n} validation items, one seed"
    head = r["head"]
    counted = f"; task head of {head['parameters']:,} {head['use']}, counted apart" if head["use"] != "none" else ""
    return (
        f"{r['backbone']['name']} on {r['task']['name']}, {r['steps']} steps of {r['settings']['batch_size']},"
        f" {over}{counted}; chance {100 * r['chance']:.1f} %"
    )


def picture(cells: Sequence[Cell], path: Path) -> None:
    """PNG: the measure over the number of trained parameters, and over steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [c for c in cells if c.results]
    r = shown[0].results[0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    beside: dict[int, int] = {}  # methods of one count stand side by side
    for c in shown:
        n, (low, high), ink = c.results[0]["trainable_parameters"], c.spread, colour(c.method)
        y = 100 * c.mean
        beside[n] = beside.get(n, -1) + 1
        left.errorbar(
            n * 1.12 ** beside[n],
            y,
            yerr=[[y - 100 * low], [100 * high - y]],
            fmt="o",
            color=ink,
            capsize=3,
            markersize=6,
            label=c.method,
        )
        for i, curve in enumerate(c.curves):
            steps, values = zip(*curve, strict=True)
            name = c.method if i == 0 else None
            right.plot(steps, [100 * v for v in values], color=ink, linewidth=1.6, alpha=0.9, label=name)
    for axis in (left, right):
        axis.axhline(100 * r["chance"], color="grey", linestyle=":", linewidth=1)
        axis.annotate(
            "chance",
            (0.01, 100 * r["chance"]),
            xycoords=("axes fraction", "data"),
            va="bottom",
            color="grey",
            fontsize=8,
        )
        axis.grid(alpha=0.25)
        axis.set_ylabel(f"validation {r['validation']['measure']} (%)")
    full = next((c for c in shown if c.method == "fine-tuning"), None)
    if full is not None:
        left.axhline(100 * full.mean, color=colour("fine-tuning"), linestyle="--", linewidth=1)
    left.set_xscale("log")
    left.set_xlabel("trained parameters")
    right.set_xlabel("steps")
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    left.set_title("how much is trained, how well it does", fontsize=10, loc="left")
    right.set_title("along the way", fontsize=10, loc="left")
    figure.suptitle(caption(cells), fontsize=9, color="#444444")
    figure.savefig(path, dpi=150)
    plt.close(figure)
