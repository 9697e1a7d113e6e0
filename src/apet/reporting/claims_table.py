"""The table of the paper's claims, with a row for each view of each."""

from __future__ import annotations

from apet.analysis.study import Analysis
from apet.reporting import captions
from apet.reporting.formatting import (
    display_name,
    significant,
)
from apet.reporting.table import (
    METHOD,
    Column,
    Table,
    Value,
)

PAPER_VERDICTS = {
    "the gap to full fine-tuning shrinks with scale": "yes: T5 from 6–4 to 4–0 points, BERT from 11–2 to 6–1",
    "structure matters less as the backbone grows": "yes",
    "the high threshold falls with scale": "yes",
    "the low thresholds of all methods lie within a factor of 10": "one range per backbone: 8.0e2–7.9e3 (T5 small),"
    " 7.9e3–8.5e3 (T5 XXL), 4.0e2–1.6e3 (BERT small), 8.0e2–3.2e3 (BERT large)",
    "adjacent converges in fewer steps than discrete": "yes",
    "transfer works within a category and less across": "yes",
}
"""Claim -> what the paper says of it."""


def claims(a: Analysis) -> Table:
    """What the paper claims, beside what the runs say."""
    rows: list[list[Value]] = [
        [
            row.claim,
            row.where,
            display_name(row.what),
            row.verdict,
            row.p_value,
            view.name or None,
            view.verdict,
            view.number,
            view.estimate,
            view.ci_low,
            view.ci_high,
            view.basis,
            row.note or None,
            PAPER_VERDICTS.get(row.claim),
        ]
        for row in a.claims
        for view in row.views
    ]
    columns = (
        Column("claim"),
        Column("where", name="scope"),
        METHOD,
        Column("our runs say", name="verdict"),
        Column("p (Holm)", significant, "p_value"),
        Column("view"),
        Column("this view says", name="view_verdict"),
        Column("number", name="quantity"),
        Column("fitted", significant, "estimate"),
        Column("low", significant, "ci_low"),
        Column("high", significant, "ci_high"),
        Column("basis", name="ci_method"),
        Column("note"),
        Column("the paper says", name="paper_verdict"),
    )
    caption = (
        "Supported: every view excludes 0 on the claim's side at 95 %, and it survives Holm's correction over the rows"
        " of the claim. Not supported: a view leaves no room for an effect worth naming. Depends on the view: one"
        " supports what another rules out. Else not decidable with these runs."
        f" {captions.run_summary(a)}"
    )
    return Table("claims", "The claims about scale, against our runs", caption, columns, rows)
