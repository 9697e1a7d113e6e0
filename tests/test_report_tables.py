"""Tables as files: cells that stay cells, LaTeX that fits its pages, the paper's numbers that nobody measured here."""

from __future__ import annotations

import re

from apet.reporting import reference_results
from apet.reporting.latex import latex
from apet.reporting.page import SHAPES
from apet.reporting.style import method_style
from apet.reporting.table import Column, Table
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
    for what, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
            environments_in_order.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    assert text.count("\\begingroup") == text.count("\\endgroup")
    return environments_in_order


def test_a_table_with_more_rows_than_a_page_breaks_and_repeats_its_head():
    assert environments(latex(table(40))) == ["table", "tabular"]
    text = latex(table(41))
    assert environments(text) == ["longtable"]
    first, rest = text.split("\\endfirsthead")
    again, rest = rest.split("\\endhead")
    foot, rest = rest.split("\\endfoot")
    last, body = rest.split("\\endlastfoot")
    head = r"c0 & c1 & c2 \\"
    assert (first.count(head), again.count(head), body.count(head)) == (1, 1, 0)
    assert (first.count(r"\caption"), text.count(r"\caption"), text.count(r"\label{tab:t}")) == (1, 1, 1)
    assert all(r"\toprule" in part and r"\midrule" in part for part in (first, again))
    assert "continued on the next page" in foot
    assert last.strip() == r"\bottomrule"
    assert body.count(r"\\") == 41
    assert text.count(r"\multicolumn{3}") == 2


def test_a_wide_table_is_set_small_and_leaves_the_text_around_it_alone():
    for rows in (3, 50):
        assert r"\small" not in latex(table(rows, 10))
        wide = latex(table(rows, 11))
        opens = re.search(r"\\begin\{table\}|\\begingroup", wide)
        assert opens is not None
        assert opens.start() < wide.index(r"\small") < wide.index("{lrrr")


def test_the_packages_that_the_document_loads_are_named():
    assert all(f"``{name}``" in (latex.__doc__ or "") for name in ("booktabs", "longtable"))


def test_the_papers_numbers_say_that_they_are_of_real_datasets_and_measured_ones_may_not_be():
    assert "on the real datasets" in reference_results.SOURCE
    assert "microworld-… is synthetic" in reference_results.SOURCE


def test_eight_methods_of_a_users_own_all_look_different_and_keep_their_looks():
    names = ["houlsby", "ia3", "prefix", "vera", "dora", "mine", "yours", "theirs", "enim", "eimn"]
    styles = {m: method_style(m) for m in names}
    assert len({(s.color, s.marker) for s in styles.values()}) == len(names)
    assert len({(s.color, s.symbol) for s in styles.values()}) == len(names)
    assert {m: method_style(m) for m in reversed(names)} == styles
    known = [
        method_style(m)
        for m in ("fine-tuning", "prompt", "bitfit", "lora", "adapter", "apet-adjacent", "apet-discrete")
    ]
    assert not {s.symbol for s in known} & {s.symbol for s in styles.values()}
    assert {s.symbol for s in styles.values()} <= set(SHAPES)
