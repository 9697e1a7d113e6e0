"""The micro-paper's gaps over scale from its exported runs, by pandas alone: nothing of apet is imported.

python docs/results/recompute.py     # of each method, in four views: slope per tenfold scale with its 95 % t-interval
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

CEILING, LEAST_GAIN, LOW_SHARE, MIN_SCALES = 0.97, 0.05, 0.1, 3
TASK, SIZED = ["log10_size", "backbone", "task"], ["method", "n", "task"]


def read(folder: Path) -> pd.DataFrame:
    """Complete runs with their test scores; n is 0 at a method's own size; base is what is had without training."""
    runs = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("*/runs.csv.gz"))])
    runs = runs[runs.state == "complete"].drop_duplicates("run_id").drop(columns=["score", "num_examples"])
    runs = runs.rename(columns={"test_score": "score", "test_num_examples": "num_examples"})
    base = runs[["majority_baseline", "score_untrained"]].max(axis=1)
    n = runs.num_trainable.where(runs.budget.notna(), 0).astype(int)
    base = base.groupby([runs.backbone, runs.task]).transform("mean")
    return runs.assign(log10_size=np.log10(runs.num_backbone_parameters), n=n, base=base)


def log_odds(score: pd.Series, items: pd.Series) -> pd.Series:
    """Log odds of a share of items, half an item added to both sides."""
    return np.log((score * items + 0.5) / (items - score * items + 0.5))


def slope(table: pd.DataFrame) -> tuple[float, float, float]:
    """Slope over scale of each scale's mean over the cells that all have; scales that cost too many are left out."""
    chosen = [list(c) for k in range(MIN_SCALES, len(table) + 1) for c in combinations(range(len(table)), k)]
    best = max(chosen, key=lambda c: (len(c) * table.iloc[c].notna().all().sum(), len(c)), default=[])
    best = table.iloc[best].dropna(axis=1)
    if best.empty:
        return np.nan, np.nan, np.nan
    fit = stats.linregress(best.index, best.mean(axis=1))
    half = stats.t.ppf(0.975, len(best) - 2) * fit.stderr
    return fit.slope, fit.slope - half, fit.slope + half


def gaps(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a cell: how far below full fine-tuning over the seeds of both; missing at the ceiling or the floor."""
    full, rest = runs[runs.method == "fine-tuning"], runs[runs.method != "fine-tuning"]
    pairs = rest.merge(full, on=[*TASK, "seed"], suffixes=("", "_full"))
    cells = pairs.groupby([*TASK, "method", "n"])[["score", "score_full", "base", "num_examples"]].mean().reset_index()
    way, gain = cells.score_full - cells.base, cells.score - cells.base
    usable = (cells[["score", "score_full"]].max(axis=1) < CEILING) & (way >= LEAST_GAIN) & (gain >= LOW_SHARE * way)
    odds = log_odds(cells.score_full, cells.num_examples) - log_odds(cells.score, cells.num_examples)
    return cells.assign(points=(100 * way - 100 * gain).where(usable), odds=odds.where(usable))


def slopes(cells: pd.DataFrame) -> pd.DataFrame:
    """A row a method and view."""
    rows = []
    for method in ["all", *sorted(cells.method.unique())]:
        mine = cells[cells.method.eq(method) | (method == "all")]
        for at, part in (("own N", mine[mine.n == 0]), ("equal N", mine[mine.n > 0])):
            for unit in ("points", "odds") if len(part) else ():
                table = part.pivot(index="log10_size", columns=SIZED, values=unit)
                rows.append((method, f"{unit}, {at}", *slope(table)))
    return pd.DataFrame(rows, columns=["method", "view", "slope", "low", "high"])


if __name__ == "__main__":
    exports = Path(__file__).parent / "micropaper" / "export"
    if not any(exports.glob("*/runs.csv.gz")):
        raise SystemExit(f"no exported runs below {exports}: the micro-paper's runs on this ladder are not made yet")
    print(slopes(gaps(read(exports))).to_string(index=False))
