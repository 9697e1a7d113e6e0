"""Several methods on one backbone and one task: every run in its folder, what is there already is not run again."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apet.errors import ApetError
from apet.training import record
from apet.training.fitting import Diverged
from apet.training.preparing import prepare
from apet.training.run import tune
from apet.training.settings import RunSettings, made
from apet.training.workshop import Workshop

METHODS = ("fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet-adjacent", "apet-discrete")
"""Full fine-tuning, the paper's four, and both distributions of APET (at LoRA's count unless a budget is given)."""


@dataclass(frozen=True)
class Cell:
    """One method with all its seeds.

    Attributes:
        method: as named in the comparison.
        results: one result for each seed that finished.
        curves: validation measure over steps, one list of (step, value) for each of them.
        failed: seed -> reason.
    """

    method: str
    results: list[dict[str, Any]]
    curves: list[list[tuple[int, float]]]
    failed: dict[int, str]

    @property
    def mean(self) -> float:
        """Validation measure, mean over the seeds."""
        return sum(r["validation"]["value"] for r in self.results) / len(self.results)

    @property
    def spread(self) -> tuple[float, float]:
        """95 % interval: Student's t over the seeds, or of one seed the interval over its items."""
        n = len(self.results)
        if n == 1:
            v = self.results[0]["validation"]
            return v["low"], v["high"]
        from scipy import stats

        sd = math.sqrt(sum((r["validation"]["value"] - self.mean) ** 2 for r in self.results) / (n - 1))
        half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
        return self.mean - half, self.mean + half


def compare(
    base: RunSettings, methods: Sequence[str], seeds: Sequence[int], output: Path, shop: Workshop
) -> list[Cell]:
    """Run every method with every seed; a run that diverges is recorded and stops nobody else.

    Args:
        base: all other settings. Its budget holds for every method but full fine-tuning.
        methods: names, with suffixes where wanted (``apet-discrete``).
        seeds: of the runs.
        output: folder; each run has its own in it, ``METHOD-SEED``.
        shop: what the runs share.

    Raises:
        ApetError: any cell cannot be planned (found before the first one runs), or a folder holds another run.
    """
    runs = [(m, seed, _cell_settings(base, m, seed)) for m in methods for seed in seeds]
    if output.exists() and not output.is_dir():
        raise ApetError(f"output {str(output)!r} is a file; give a folder")
    done = {(m, seed): finished(output / f"{m}-{seed}", s) for m, seed, s in runs}
    for _, _, s in runs:
        prepare(s)
    failed: dict[tuple[str, int], str] = {}
    for nth, (m, seed, s) in enumerate(runs, start=1):
        if done[m, seed]:
            continue
        shop.watch.say(f"[{nth}/{len(runs)}] {m}, seed {seed}")
        try:
            tune(s, output / f"{m}-{seed}", shop)
        except Diverged as e:
            failed[m, seed] = str(e)
            shop.watch.say(f"{m}, seed {seed}: {e}")
    cells = []
    for m in methods:
        folders = [output / f"{m}-{seed}" for seed in seeds if (m, seed) not in failed]
        cells.append(
            Cell(
                m,
                [record.read_run(f)[2] for f in folders],
                [_curve(f) for f in folders],
                {seed: why for (name, seed), why in failed.items() if name == m},
            )
        )
    return cells


def _cell_settings(base: RunSettings, method: str, seed: int) -> RunSettings:
    budget = None if method == "fine-tuning" else base.budget
    return base.model_copy(update={"method": method, "seed": seed, "budget": budget})


def finished(folder: Path, s: RunSettings) -> bool:
    """Whether this very run is there already.

    Raises:
        ApetError: another run is.
    """
    if not (folder / record.RESULT).is_file():
        return False
    stored = made(record.read_run(folder)[2]["settings"], str(folder))  # settings that came later have their defaults
    other = [k for k in RunSettings.model_fields if getattr(stored, k) != getattr(s, k)]
    if other:
        raise ApetError(
            f"{str(folder)!r} holds a run with other settings ({', '.join(other)}); give a new output folder"
        )
    return True


def _curve(folder: Path) -> list[tuple[int, float]]:
    with (folder / record.CURVE).open(encoding="utf-8", newline="") as f:
        return [(int(row["step"]), float(row["value"])) for row in csv.DictReader(f)]


def write_summary(cells: Sequence[Cell], folder: Path) -> None:
    """comparison.json: every cell's mean, interval, count and failures."""
    rows = [
        {
            "method": c.method,
            "trainable_parameters": c.results[0]["trainable_parameters"],
            "ratio_percent": c.results[0]["ratio_percent"],
            "head_parameters": c.results[0]["head"]["parameters"],
            "measure": c.results[0]["validation"]["measure"],
            "mean": c.mean,
            "low": c.spread[0],
            "high": c.spread[1],
            "interval_over": "seeds" if len(c.results) > 1 else "items",
            "values": [r["validation"]["value"] for r in c.results],
            "chance": c.results[0]["chance"],
            "failed": c.failed,
        }
        if c.results
        else {"method": c.method, "failed": c.failed}
        for c in cells
    ]
    (folder / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
