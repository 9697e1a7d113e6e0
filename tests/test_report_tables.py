"""Tables as files: cells that stay cells, LaTeX that fits its pages, the paper's numbers that nobody measured here."""

from __future__ import annotations

import math
import re

from apet.analysis.intervals import Estimate
from apet.reporting import reference_results
from apet.reporting.latex import latex
from apet.reporting.style import method_style
from apet.reporting.table import Column, Table, estimate_column
from apet.reporting.table_files import markdown


def table(rows: int, columns: int = 3) -> Table:
    heads = tuple(Column(f"c{i}", (lambda v: f"{v}") if i else None) for i in range(columns))
    return Table("t", "A title", "A caption.", heads, [[f"r{r}", *range(columns - 1)] for r in range(rows)])


def test_a_bar_or_a_break_in_a_heading_ends_no_column():
    t = Table("t", "A title", "A caption.", (Column("a|b"), Column("two\nlines")), [["x|y", "z"]])
    head, rule, row = markdown(t).splitlines()[2:5]
    assert (head, rule, row) == ("| a\\|b | two lines |", "| --- | --- |", "| x\\|y | z |")


def environments(text: str) -> list[str]:
    """Those that open and close, in order; each closes what was opened last."""
    environments_in_order, opened = [], []
    for what, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", text):
        if what == "begin":
            opened.append(name)
            environments_in_order.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    return environments_in_order


def test_a_table_with_more_rows_than_a_page_goes_on_in_another_float_with_its_head():
    assert environments(latex(table(40))) == ["table", "tabular"]
    text = latex(table(41))
    assert environments(text) == ["table", "tabular"] * 2
    first, second = text.split(r"\end{table}")[:2]
    head = r"c0 & c1 & c2 \\"
    assert (first.count(head), second.count(head)) == (1, 1)
    assert (text.count(r"\label{tab:t}"), text.count(r"\label{tab:t-2}")) == (1, 1)
    assert ("A title (1 of 2). A caption." in first, "A caption" in second) == (True, False)
    assert [part.count(r"\\") for part in (first, second)] == [41, 2]


def test_a_wide_table_stands_over_both_columns_in_small_type_and_none_is_wider_than_its_line():
    assert environments(latex(table(3, 8))) == ["table", "tabular"]
    assert r"\small" not in latex(table(3, 8))
    wide = latex(table(3, 16))
    assert environments(wide) == ["table*", "tabular"]
    assert wide.index(r"\begin{table*}") < wide.index(r"\small") < wide.index("{lrrr")
    for text in (latex(table(3)), wide, latex(table(50, 21))):
        assert text.count(r"\resizebox{\ifdim\width>\linewidth") == text.count(r"\begin{tabular}")


def test_a_column_of_long_texts_is_broken_into_lines():
    t = Table("t", "A title", "A caption.", (Column("a"), Column("why")), [["x", "a reason of so many words that"]])
    assert r"\begin{tabular}{l>{\raggedright\arraybackslash}p{12em}}" in latex(t)


def test_of_two_intervals_latex_has_the_one_that_decides():
    several = Estimate(0.8, 3, 0.01, 0.775, 0.825, 100, 0.7, 0.9, "items")
    single = Estimate(0.8, 1, math.nan, math.nan, math.nan, 100, 0.7, 0.9, "items", num_missing=1)
    t = Table("t", "A title", "A caption.", (estimate_column("s", "score"),), [[several], [single], [None]])
    assert [line for line in latex(t).splitlines() if line.endswith(r"\\")][1:] == [
        r"80.0 [77.5 to 82.5] \\",
        r"80.0 [70.0 to 90.0] \textdagger{} \\",
        r"-- \\",
    ]
    assert r"In brackets: 95 \% over seeds, of one seed over its items." in latex(t)


def test_the_packages_that_the_document_loads_are_named():
    assert all(f"``{name}``" in (latex.__doc__ or "") for name in ("booktabs", "array", "graphicx"))


def test_the_papers_numbers_say_that_they_are_of_real_datasets_and_measured_ones_may_not_be():
    assert "on the real datasets" in reference_results.SOURCE
    assert "microworld-… is synthetic" in reference_results.SOURCE


def test_eight_methods_of_a_users_own_all_look_different_and_keep_their_looks():
    names = ["houlsby", "ia3", "prefix", "vera", "dora", "mine", "yours", "theirs", "enim", "eimn"]
    styles = {m: method_style(m) for m in names}
    assert len({(s.color, s.shape) for s in styles.values()}) == len(names)
    assert {m: method_style(m) for m in reversed(names)} == styles
    known = [
        method_style(m)
        for m in ("fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet-adjacent", "apet-discrete")
    ]
    assert not {s.shape for s in known} & {s.shape for s in styles.values()}
