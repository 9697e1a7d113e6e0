"""The micro-paper's numbers are recomputed from exported runs by a script that knows nothing of apet."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apet.analysis.study import analyze
from synthetic_results import study

SCRIPT = Path(__file__).parents[1] / "docs" / "results" / "recompute.py"
EXPORT = SCRIPT.parent / "micropaper" / "export"
SEVEN = {
    name: int(50_000 * 3.2**n) for n, name in enumerate(["nano", "mini", "small", "medium", "base", "large", "xl"])
}
VIEWS = {"points": "points", "odds": "log odds"}


@pytest.fixture
def recompute():
    spec = importlib.util.spec_from_file_location("recompute", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def planted(monkeypatch, noise):
    """Seven scales: gaps close with scale and N, own sizes grow, some cells lie at the ceiling, some at the floor."""
    monkeypatch.setattr("synthetic_results.SIZES", SEVEN)

    def score(method, backbone, n):
        place = np.log10(SEVEN[backbone]) - 4.7
        if method == "fine-tuning":
            return 0.85 + 0.035 * place
        hardly = 0.31 if method == "bitfit" and place < 0.3 else 0.0
        return max(0.5, 0.80 + 0.05 * place + 0.01 * np.log10(n / 1000) - hardly)

    runs = study(seeds=2, sd=noise, backbones=list(SEVEN), grid=(256, 4096), true_score=score)
    own = runs["budget"].isna() & (runs["method"] != "fine-tuning")
    wider = 1 + runs["backbone"].map(list(SEVEN).index)
    return runs.assign(
        num_trainable=runs["num_trainable"].where(~own, runs["num_trainable"] * wider),
        num_backbone_parameters=runs["backbone"].map(SEVEN),
        **{f"test_{name}": runs[name] for name in ("score", "ci_low", "ci_high")},
        test_num_examples=4000,
        score=0.99,  # of validation: nothing may come of it
        ci_low=0.98,
        ci_high=1.0,
        majority_baseline=0.5,
    ).drop(columns="split")


def of_apet(runs):
    """Method, view -> slope and its interval, by the package's own rules."""
    curves = pd.DataFrame(columns=["run_id", "step", "loss", "score", "ci_low", "ci_high", "seconds"])
    found = {}
    for claim in analyze(runs, curves, allow_holes=True).claims:
        if claim.claim.startswith("the gap"):
            for view in claim.views:
                name = "all" if claim.what.startswith("mean of") else claim.what
                found[name, view.name] = (view.estimate, view.ci_low, view.ci_high)
    return found


def check_same(rows, expected):
    compared = 0
    for r in rows.itertuples():
        unit, at = r.view.split(", ")
        theirs = expected.get((r.method, f"{VIEWS[unit]}, {at}"))
        # A line through two scales has no interval, and the script draws none.
        if theirs is not None and not (np.isnan(theirs[1]) and np.isnan(r.slope)):
            assert (r.slope, r.low, r.high) == pytest.approx(theirs, nan_ok=True, rel=1e-6, abs=1e-9), (
                r.method,
                r.view,
            )
            compared += not np.isnan(r.slope)
    return compared


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_planted_gaps_come_out_alike_without_apet(recompute, tmp_path, monkeypatch, noise):
    runs = planted(monkeypatch, noise)
    for backbone, part in runs.groupby("backbone"):
        (tmp_path / str(backbone)).mkdir()
        part.to_csv(tmp_path / str(backbone) / "runs.csv.gz", index=False)
    rows = recompute.slopes(recompute.gaps(recompute.read(tmp_path)))
    assert check_same(rows, of_apet(runs)) >= 8


def test_the_script_knows_nothing_of_apet_and_is_short():
    lines = [line for line in SCRIPT.read_text().splitlines() if line.strip()]
    assert not any("apet" in line for line in lines if line.startswith(("import", "from")))
    assert len(lines) <= 60


def test_without_exported_runs_it_says_so_in_one_line(tmp_path):
    script = tmp_path / "recompute.py"
    script.write_text(SCRIPT.read_text())
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("no exported runs below")
    assert done.stderr.count("\n") == 1


def test_the_committed_runs_come_out_alike_without_apet(recompute):
    runs = pd.concat([pd.read_csv(p) for p in sorted(EXPORT.glob("*/runs.csv.gz"))], ignore_index=True)
    runs = runs.drop_duplicates("run_id")
    rows = recompute.slopes(recompute.gaps(recompute.read(EXPORT)))
    check_same(rows, of_apet(runs))
    printed = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=True).stdout
    assert len(printed.splitlines()) == len(rows) + 1
