"""How often is each claim's rule fooled, and how often does it see what is there? On planted studies, nothing trained.

    PYTHONPATH=tests python benchmarks/claim_rules.py [DRAWS] [--page]

For 4 and for 7 scales: of planted studies, in which share is any row of the claim called supported, after Holm's
correction. With ``--page`` the table goes to docs/results/claim-rules.md.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from claim_scenarios import Scenario, all_scenarios, binomial_limit

PAGE = Path(__file__).parents[1] / "docs/results/claim-rules.md"
NUM_DRAWS = 500
NUM_SCALES = (4, 7)
PREFACE = """# Rules of the claims, on planted studies

Made by `PYTHONPATH=tests python benchmarks/claim_rules.py --page`: the share of {draws} planted studies of which any
row of the claim (methods, backbones) is called *supported*, after Holm's correction. A claim that is false should be
supported in at most 5 %; a rule with exactly that rate comes to more than {limit:.1f} % in one of a thousand such
simulations. What is planted, and its noise: `tests/claim_scenarios.py`, `tests/planted_studies.py`. Five tasks, three
seeds, 2,000 items a task; backbones span two tenfolds.

*True* rows say what the rule sees with that many scales: an honest rule with four of them has two degrees of freedom.

| claim | planted | the claim is | supported %: {scales} |
|---|---|---|{bars}|
"""


def measured(scenario: Scenario, num_draws: int) -> str:
    """Share of studies in percent."""
    return f"{100 * scenario.supported(num_draws, seed=1):.1f}"


def main(num_draws: int, page: bool) -> None:
    """Print the table, and write it where that is asked for."""
    by_scales = [all_scenarios(n) for n in NUM_SCALES]
    lines = []
    for same in zip(*by_scales, strict=True):
        first = same[0]
        # Convergence, transfer and studies of two scales do not depend on the number of scales.
        depends = first.claim in ("gap", "structure", "high threshold") and not first.name.startswith("two scales")
        cells = [measured(s, num_draws) for s in (same if depends else same[:1])]
        cells += ["same"] * (len(same) - len(cells))
        line = "| " + " | ".join([first.claim, first.name, first.truth, *cells]) + " |"
        print(line, flush=True)
        lines.append(line)
    if page:
        limit = 100 * binomial_limit(num_draws)
        scales = " | ".join(f"{n} scales" for n in NUM_SCALES)
        head = PREFACE.format(draws=num_draws, limit=limit, scales=scales, bars="|".join(["---"] * len(NUM_SCALES)))
        PAGE.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    main(numbers[0] if numbers else NUM_DRAWS, "--page" in sys.argv)
