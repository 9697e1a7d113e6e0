"""A study's report: everything that is there is written, what is not is said, and it is whole or not there at all."""

import csv
import json
import re
import time

import numpy as np
import pandas as pd
import pytest

import synthetic_results
from apet.analysis.intervals import Estimate
from apet.analysis.study import analyze
from apet.errors import ApetError
from apet.reporting.experiments import gap_by_scale
from apet.reporting.figures.printing import PARTIAL_STUDY
from apet.reporting.formatting import mean_and_spread, significant
from apet.reporting.headline import findings, headline
from apet.reporting.latex import latex
from apet.reporting.page import table_data
from apet.reporting.reference_results import table2
from apet.reporting.study import study_figures, write_report
from apet.reporting.table import Column, Table
from apet.reporting.table_files import csv_text, markdown
from synthetic_results import curves, failing, study, transfer

HALF_LIFE = {"apet-adjacent": 10.0, "apet-discrete": 20.0}
PROVENANCE = {"name": "synthetic", "settings": "seeds: 3\n", "version": "0.1.0", "planned": 999, "hosts": ["a", "b"]}
NO_CURVES = pd.DataFrame(columns=["run_id", "step", "loss", "score", "ci_low", "ci_high", "seconds"])


def small_study(**more):
    return study(**({"seeds": 2, "tasks": ["films", "claims"], "backbones": ["tiny", "mid"], "sd": 0.0002} | more))


@pytest.fixture(scope="module")
def runs():
    return small_study()


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("place") / "report"
    synthetic_curves = curves(runs, lambda m: HALF_LIFE.get(m, 15.0))
    return write_report(folder, runs, synthetic_curves, PROVENANCE, transfer=transfer(seeds=2))


def test_every_experiment_has_its_figures_as_pdf_png_and_latex(report):
    names = {p.stem for p in report.figures}
    assert names == {
        *("gap_by_scale", "structure", "convergence", "score_by_budget", "thresholds", "transfer_mid_apet-adjacent"),
        *("score_by_budget_tiny", "score_by_budget_mid", "gap_surface"),
    }
    for p in report.figures:
        assert p.read_bytes().startswith({".pdf": b"%PDF", ".png": b"\x89PNG", ".tex": b"\\begin{figure*}"}[p.suffix])
    assert report.missing == {}


def test_every_table_is_markdown_latex_and_csv(report):
    by_suffix = {s: {p.stem for p in report.tables if p.suffix == s} for s in (".md", ".tex", ".csv")}
    assert by_suffix[".csv"] == {
        *(
            "claims",
            "gap_by_scale",
            "structure",
            "convergence",
            "score_by_budget",
            "thresholds",
            "gap_surface",
            "task_table",
            "task_table_reference",
        ),
        *("transfer", "runs"),
    }
    assert by_suffix[".md"] == by_suffix[".tex"] == by_suffix[".csv"]
    assert all(p.is_file() for p in report.tables)
    assert sorted(p.name for p in report.folder.iterdir()) == ["figures", "report.html", "tables"]


def test_the_csv_holds_the_known_numbers(report):
    rows = list(csv.DictReader((report.folder / "tables/gap_by_scale.csv").open(encoding="utf-8")))
    lora = next(r for r in rows if (r["backbone"], r["method"], r["task"]) == ("mid", "LoRA", "mean over tasks"))
    assert float(lora["gap"]) == pytest.approx(0.04, abs=0.003)
    assert (lora["num_trainable"], lora["gap_num_seeds"], lora["verdict"]) == ("4096", "2", "below full fine-tuning")


def test_the_report_opens_with_the_headline(report):
    found = re.fullmatch(
        r"On mid \(mean over 2 tasks\), APET-adjacent reaches full fine-tuning from ([\d,]+) parameters \(0\.\d+ %\),"
        r" that is 95 % of the way to full fine-tuning; not shown: APET-discrete up to 16,384\.",
        report.headline,
    )
    assert found
    assert 1_024 < int(found[1].replace(",", "")) <= 4_096, "the gap closes between these two counts"
    page = report.page.read_text("utf-8")
    assert page.index(f"reaches full fine-tuning from {found[1]}") < page.index("<nav")


def test_the_paper_stands_apart_from_our_runs(report):
    measured = (report.folder / "tables/task_table.md").read_text("utf-8")
    reference = (report.folder / "tables/task_table_reference.md").read_text("utf-8")
    assert "our runs" in measured
    assert "bert-large" not in measured
    assert "the paper's own numbers" in reference
    assert "not measured by us" in reference
    assert "| bert-large | APET-adjacent | 0.03 | 87.3 | 91.1 |" in reference
    assert "t5" not in reference  # only the families that were run


def test_table_2_is_the_papers():
    rows = table2()
    assert len(rows) == 30
    small = next(r for r in rows if r.backbone == "bert-small" and r.method == "fine-tuning")
    assert "sst2" not in small.scores  # illegible in the scan, so unknown
    assert small.scores["rotten-tomatoes"] == 81.6


def test_what_is_missing_is_said_and_not_drawn(tmp_path):
    only = small_study()
    only = only[only["method"].isin(["fine-tuning", "lora"])]
    report = write_report(tmp_path / "r", only, NO_CURVES, {"name": "two methods"})
    assert {p.stem for p in report.figures} == {"gap_by_scale"}
    assert set(report.missing) == {"E2", "E3", "E4", "E5", "E7"}
    page = report.page.read_text("utf-8")
    assert "Not in these runs: needs curves of two APET distributions at one count" in page


def test_unequal_training_is_said_beside_the_gaps():
    frame = small_study()
    assert "Unequal training" not in gap_by_scale.table(analyze(frame, NO_CURVES)).caption
    frame.loc[(frame["method"] == "fine-tuning") & (frame["backbone"] == "mid"), "max_steps"] = 100
    caption = gap_by_scale.table(analyze(frame, NO_CURVES)).caption
    assert "Unequal training: full fine-tuning took 100 steps on mid, the methods 200 steps." in caption


def test_an_interval_that_a_measure_cannot_have_is_written_out():
    assert mean_and_spread(Estimate(0.595, 2, 0.17, 0.0, 1.0, 100, 0.5, 0.7, "items")) == "59.5 (0.0 to 100.0)"
    assert (
        mean_and_spread(Estimate(0.8, 3, 0.01, 0.775, 0.825, 100, 0.7, 0.9, "items", num_missing=1)) == "80.0 ± 2.5 †"
    )


def test_only_made_up_data_are_called_synthetic(tmp_path):
    about = {"real": "sst2: train: 3 examples left out", "made": "microworld-sst2: synthetic: made up"}
    for name, notes in about.items():
        report = write_report(tmp_path / name, small_study().head(2), NO_CURVES, {"data": notes})
        assert ("· synthetic data" in report.page.read_text("utf-8")) == (name == "made")


def test_without_a_complete_run_the_report_says_so(tmp_path):
    one = failing(small_study().head(1), 0)
    report = write_report(tmp_path / "r", one, NO_CURVES, {}, partial=True)
    assert report.headline == "No run is complete yet."
    assert report.figures == ()
    page = report.page.read_text("utf-8")
    assert "1 run failed" in page
    assert "Partial: the study is not finished, 0 runs are complete" in page


def test_a_study_that_has_not_begun_and_a_failure_that_knows_nothing_are_reported_too(tmp_path):
    assert write_report(tmp_path / "a", small_study().head(0), NO_CURVES, {}).headline == "No run is complete yet."
    unknown = failing(small_study(seeds=1).head(2), 0)
    unknown.loc[unknown.index[0], ["backbone", "backbone_family", "category", "metric", "num_backbone_parameters"]] = (
        None
    )
    report = write_report(tmp_path / "b", unknown, NO_CURVES, {})
    assert report.headline == "The runs that are complete do not compare anything yet."
    assert "diverged" in report.page.read_text("utf-8")


def test_a_partial_study_with_failures_is_marked_everywhere(tmp_path, runs):
    incomplete = failing(runs[runs["budget"].isna()], 3)
    with pytest.raises(ApetError, match="allow holes"):
        write_report(tmp_path / "r", incomplete, NO_CURVES, PROVENANCE, allow_holes=False)
    assert list(tmp_path.iterdir()) == []
    report = write_report(tmp_path / "r", incomplete, NO_CURVES, PROVENANCE | {"running": True})
    page = report.page.read_text("utf-8")
    assert f"Partial: the study is not finished, {len(incomplete) - 1:,} of 999 runs are complete." in page
    assert "Numbers of E1 that miss planned runs are marked †" in page
    assert "diverged: loss is not finite at step 7" in (report.folder / "tables/failed.csv").read_text("utf-8")
    a = analyze(incomplete, NO_CURVES, allow_holes=True)
    captions = [p.read_text("utf-8") for p in report.figures if p.suffix == ".tex"]
    assert captions
    assert all(PARTIAL_STUDY in text for text in captions)
    assert any("†" in f.text for f in findings(a))


def test_an_earlier_report_is_replaced_and_anything_else_is_left_alone(tmp_path, runs):
    few = runs[runs["method"].isin(["fine-tuning", "lora"])]
    place = tmp_path / "r"
    write_report(place, few, NO_CURVES, {"name": "first"})
    write_report(place, few, NO_CURVES, {"name": "second"})
    assert "<title>second</title>" in (place / "report.html").read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    (place / "notes.txt").write_text("notes")
    with pytest.raises(ApetError, match=r"holds something else \(notes.txt\); give a new folder"):
        write_report(place, few, NO_CURVES, {})
    (tmp_path / "file").write_text("notes")
    with pytest.raises(ApetError, match="is a file; give a folder"):
        write_report(tmp_path / "file", few, NO_CURVES, {})


def test_a_failure_midway_leaves_the_earlier_report(tmp_path, runs, monkeypatch):
    few = runs[runs["method"].isin(["fine-tuning", "lora"])]
    write_report(tmp_path / "r", few, NO_CURVES, {"name": "first"})
    monkeypatch.setattr("apet.reporting.study._page", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ApetError, match=r"cannot write the report .* No space left"):
        write_report(tmp_path / "r", few, NO_CURVES, {"name": "second"})
    assert "<title>first</title>" in (tmp_path / "r/report.html").read_text("utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_the_same_study_gives_the_same_tables_and_page(tmp_path, runs):
    few = runs[runs["method"].isin(["fine-tuning", "lora"])]
    a, b = (write_report(tmp_path / n, few.sample(frac=1, random_state=i), NO_CURVES, {}) for i, n in enumerate("ab"))
    for x, y in zip((a.page, *a.tables), (b.page, *b.tables), strict=True):
        assert x.read_bytes() == y.read_bytes()


def test_names_cannot_break_the_page_the_tables_or_the_files(tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    odd = small_study(seeds=1, backbones=["mid"], grid=[64])
    odd["task"] = odd["task"].replace("films", evil)
    odd["backbone"] = odd["backbone"] + "/../a|b&c_d"
    odd["run_id"] = [f"{i}" for i in range(len(odd))]
    report = write_report(tmp_path / "r", odd, NO_CURVES, {"name": evil, "settings": evil})
    page = report.page.read_text("utf-8")
    assert evil not in page
    assert all(p.parent == report.folder / "figures" for p in report.figures)
    assert r"a|b\&c\_d" in (report.folder / "tables/task_table.tex").read_text("utf-8")
    assert r"a\|b&c_d" in (report.folder / "tables/task_table.md").read_text("utf-8")


def test_every_figure_has_a_title_axes_with_units_and_a_caption(runs):
    a = analyze(runs, curves(runs, lambda m: HALF_LIFE.get(m, 15.0)), transfer=transfer(seeds=2))
    for number, figure in study_figures(a).items():
        assert figure.title.startswith(f"{number}: ")
        assert re.search(r"\d+ (complete runs|seeds?)", figure.caption), number
        assert re.search(r"seeds?\b", figure.caption), number
        axes = re.findall(r'"title": "([^"]+)"', json.dumps(figure.spec))
        panels = [str(r.get("measure")) for r in figure.rows]
        assert any("(%)" in text or "points" in text or text == "%" for text in [*axes, *panels]) or number == "E5"


T = Table(
    "t",
    "A title",
    "A caption.",
    (Column("name"), Column("score", lambda v: f"{v:.1f}")),
    [["a_b", 1.25], ["c", float("nan")], ["d", None], ["é & 5 %", np.inf]],
)


def test_a_table_in_three_forms_where_the_unknown_is_a_dash_and_never_a_zero():
    assert markdown(T).splitlines()[2:6] == ["| name | score |", "| --- | ---: |", "| a_b | 1.2 |", "| c | – |"]
    assert r"a\_b & 1.2 \\" in latex(T)
    assert r"é \& 5 \% & inf \\" in latex(T)
    assert all(rule in latex(T) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lr}"))
    assert csv_text(T) == "name,score\na_b,1.25\nc,\nd,\né & 5 %,inf\n"
    column = table_data(T)["columns"][1]
    assert [column["numbers"][i] for i in column["cells"]] == [1.25, None, None, 1e300]


def test_the_headline_without_thresholds_is_about_gaps(runs):
    few = runs[runs["method"].isin(["fine-tuning", "lora"])]
    a = analyze(few, NO_CURVES)
    assert headline(a).startswith(
        "On mid, full fine-tuning − method in points (95 % over 2 seeds): behind are LoRA 4.0"
    )


def test_a_gap_within_the_spread_of_the_seeds_is_called_no_significant_difference():
    a = analyze(small_study(seeds=3, sd=0.01, true_score=lambda *_: 0.8), NO_CURVES)
    text = next(f.text for f in findings(a) if f.experiment == "E1")
    assert "no significant difference for Prompt " in text
    assert "no significant difference" in {row[-1] for row in gap_by_scale.table(a).rows}
    structures = next(f.text for f in findings(a) if f.experiment == "E2")
    assert re.search(
        r"At equal counts, \d+ of 24 comparisons .* show a significant difference and \d+ do not", structures
    )


def test_one_seed_is_never_called_a_difference():
    a = analyze(small_study(seeds=1), NO_CURVES)
    text = "".join(f.text for f in findings(a))
    assert "(95 % over the items of one seed): " in text
    assert {row[-1] for row in gap_by_scale.table(a).rows} == {None, "not decidable"}


def test_training_that_had_not_ended_is_said(runs):
    """Else a gap at the last step, which more steps might close, reads as one that they do not."""
    slow_methods = curves(runs, lambda method: 15.0 if method == "fine-tuning" else 400.0)
    text = "".join(f.text for f in findings(analyze(runs, slow_methods)) if f.experiment == "E1")
    # The 16 of prompts rise by less than the noise of the items, which is no rise.
    assert "still rose at their last step: 0 of 8 of full fine-tuning and 112 of 128 of the methods." in text
    ended = "".join(f.text for f in findings(analyze(runs, curves(runs, lambda method: 15.0))))
    assert "still rose" not in ended


@pytest.mark.slow
def test_the_time_of_a_report_grows_with_its_runs_and_its_page_hardly(tmp_path, monkeypatch):
    """Ten thousand runs beside a quarter of them: nothing goes over all pairs of runs."""
    names, tasks = [f"b{i}" for i in range(6)], [f"task{i}" for i in range(11)]
    monkeypatch.setattr(synthetic_results, "SIZES", {n: 10 ** (4 + i) for i, n in enumerate(names)})
    monkeypatch.setattr(synthetic_results, "GAPS", dict.fromkeys(names, 0.03))
    monkeypatch.setattr(synthetic_results, "TASKS", {t: "abcd"[i // 3] for i, t in enumerate(tasks)})
    grid = [int(16 * 1.6**k) for k in range(20)]
    seconds = []
    for nth, some in enumerate((grid[::4], grid)):
        many = study(3, sd=0.012, tasks=tasks, backbones=names, grid=some)
        synthetic_curves = curves(many, lambda m: HALF_LIFE.get(m, 15.0))
        rng = np.random.default_rng(0)
        items = {
            key: (rng.random(500) < value).astype(float)
            for key, value in zip(many["run_id"], many["score"], strict=True)
        }
        began = time.process_time()  # not the clock on the wall: tests run beside each other
        report = write_report(tmp_path / f"r{nth}", many, synthetic_curves, PROVENANCE, items=items)
        seconds.append(time.process_time() - began)
    assert len(many) > 10_000
    assert seconds[1] < 6 * seconds[0], seconds  # quadratic, it would be 16
    assert report.page.stat().st_size < 15e6


@pytest.mark.parametrize(
    ("x", "text"), [(1769.0, "1,800"), (100.0, "100"), (28.3, "28"), (-0.00031, "−0.00031"), (3e-5, "3e−05")]
)
def test_large_numbers_in_sentences_have_no_exponents(x, text):
    assert significant(x, 2) == text
