"""The claims of the micro-paper by today's rules, from its exported runs.

    python benchmarks/micropaper_claims.py > docs/results/micropaper/claims.md

Its learning curves and its transfer scores by seed were not exported, so the claims on both are not tested again.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from apet.analysis.frames import CURVES, RUNS
from apet.analysis.study import analyze
from apet.reporting.claims_table import claims
from apet.reporting.headline import findings
from apet.reporting.table_files import markdown

RUNS_CSV = Path(__file__).parents[1] / "docs" / "results" / "micropaper" / "report" / "tables" / "runs.csv"
RENAMED = {
    "family": "backbone_family",
    "backbone_parameters": "num_backbone_parameters",
    "head_parameters": "num_head_parameters",
}
"""Header then -> header now."""


def main() -> None:
    """Print the page."""
    runs = pd.read_csv(RUNS_CSV).rename(columns=RENAMED)
    runs = runs.assign(**{name: None for name in RUNS if name not in runs})
    a = analyze(runs, pd.DataFrame(columns=list(CURVES)), allow_holes=True)
    print("# The claims of the micro-paper, by today's rules\n")
    print("Made by `python benchmarks/micropaper_claims.py` from `report/tables/runs.csv`.\n")
    for finding in findings(a):
        if finding.text.startswith("That "):
            print(f"- {finding.experiment}: {finding.text}")
    print()
    print(markdown(claims(a)))


if __name__ == "__main__":
    main()
