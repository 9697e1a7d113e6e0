"""The report of one run, from the files that it left."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apet.analysis.convergence import convergence
from apet.analysis.intervals import Floats
from apet.errors import ApetError
from apet.reporting import page
from apet.reporting.captions import CONVERGENCE_RULE
from apet.reporting.figures import printing, run_curve
from apet.reporting.figures.figure import Figure
from apet.reporting.figures.printing import Width
from apet.reporting.folder import FIGURES, PAGE, TABLES, Report, new_report
from apet.reporting.formatting import count, display_name, page_kind, percent, significant
from apet.reporting.table import Column, Table, Value, integer_column
from apet.reporting.table_files import write_table
from apet.tasks.score_text import score_range, score_text
from apet.training import run_dir
from apet.training.manifest import check_manifest
from apet.training.output_folder import RESULT
from apet.training.result import CurvePoint, Prediction, RunResult, read_result

MOST_ANSWERS = 12
"""Different answers. With more accepted ones the task is free text and has no table of confusions; of given ones
those beyond share a column."""


@dataclass(frozen=True)
class Run:
    """A finished run as it lies on disk.

    Attributes:
        result: its record.
        settings: text of config.yaml.
        curve: the measurements along it, the untrained model first.
        predictions: the answers to the validation examples.
    """

    result: RunResult
    settings: str
    curve: list[CurvePoint]
    predictions: list[Prediction]

    @property
    def method(self) -> str:
        """Display name."""
        return self.result.method

    def column(self, name: str) -> Floats:
        """One field of the curve as numbers, (points,); a missing one is NaN."""
        values = [getattr(p, name) for p in self.curve]
        return np.array([np.nan if v is None else float(v) for v in values])


def write_run_report(run: Path, output: Path | None = None, width: Width = "page") -> Report:
    """Write the report of one run; an earlier one there is replaced.

    Args:
        run: folder with result.json, curve.csv and predictions.csv.
        output: where to; by default ``report`` inside the run's folder.
        width: of the printed figure: of a column, or of a page with two.

    Returns:
        The report, with all its files.

    Raises:
        ApetError: no finished run there, a damaged one, or a folder that cannot be written.
    """
    r = read(run)
    output = output or run / "report"
    with new_report(output) as part:
        drawn = printing.save(figure(r), part / FIGURES, width=width)
        tables = [t for t in (_facts(r), _confusion(r), _items(r)) if t.rows]
        written = [p for t in tables for p in write_table(t, part / TABLES)]
        (part / PAGE).write_text(_page(r, tables), "utf-8")
    figures = tuple(output / FIGURES / p.name for p in drawn)
    return Report(
        output, output / PAGE, figures, tuple(output / TABLES / p.name for p in written), run_headline(r), (), {}
    )


def read(run: Path) -> Run:
    """Read a run's files; every field is checked against the types of `apet.training.result`.

    Returns:
        What they hold.

    Raises:
        ApetError: one of them is missing or damaged.
    """
    run_dir.require_run(run)
    try:
        check_manifest(run, only=[RESULT, run_dir.CONFIG, run_dir.CURVE, run_dir.PREDICTIONS])
        result = read_result(run / RESULT)
        settings = (run / run_dir.CONFIG).read_text("utf-8")
        curve, predictions = run_dir.read_curve(run), run_dir.read_predictions(run)
        run_dir.require_agreement(result, curve, np.array([p.score for p in predictions], float))
    except (ApetError, OSError, ValueError) as e:
        raise ApetError(f"the run at {str(run)!r} is damaged ({e}); run it again") from e
    return Run(result, settings, curve, predictions)


def run_headline(r: Run) -> str:
    """The first sentence of the page."""
    x = r.result
    return (
        f"{display_name(r.method)} with {count(x.num_trainable)} trained parameters"
        f" ({significant(x.trainable_percent)} % of {x.backbone}) has {score_text(x.metric, x.score)} {x.metric}"
        f" on {x.task} (95 % over {x.num_examples:,} validation items: {_ends(x.metric, x.ci_low, x.ci_high)});"
        f" untrained {score_text(x.metric, x.score_untrained)}, chance {score_text(x.metric, x.untrained_baseline)}."
    )


def _facts(r: Run) -> Table:
    x = r.result
    half_width = float((r.column("ci_high") - r.column("ci_low")).mean() / 2)
    converged = convergence(r.column("step"), r.column("score"), half_width)
    steps = f"by step {converged.steps:,.0f} of {x.max_steps:,}"
    kept = _score(x.score, x.ci_low, x.ci_high, x.num_examples, x.metric)
    first, last = r.curve[0], r.curve[-1]
    rows: list[list[Value]] = [
        ["method", display_name(r.method)],
        ["backbone", f"{x.backbone}, {count(x.num_backbone_parameters)} parameters"],
        ["trained parameters", f"{count(x.num_trainable)} = {significant(x.trainable_percent, 4)} %"],
        ["task head", f"{x.head}, {count(x.num_head_parameters)} parameters, counted apart"],
        ["validation", f"{kept}; kept: step {x.best_step:,}, {x.selection}"],
        ["test", _test_score(x)],
        *_classes(x),
        ["last step", _score(last.score, last.ci_low, last.ci_high, x.num_examples, x.metric)],
        ["untrained", _score(first.score, first.ci_low, first.ci_high, x.num_examples, x.metric)],
        ["chance", score_text(x.metric, x.untrained_baseline)],
        ["convergence", converged.state if math.isnan(converged.steps) else steps],
        ["learning rate", f"{significant(x.learning_rate)} ({x.learning_rate_rule})"],
        ["time", f"{x.training_seconds:,} s of training, {x.steps_per_second} steps a second"],
        ["memory", f"{x.peak_memory_bytes / 1e9:.2f} GB at most"],
    ]
    return Table(
        "result", "The result", "One run; intervals over its validation items.", (Column("what"), Column("score")), rows
    )


def _score(score: float, low: float, high: float, num_examples: int, metric: str) -> str:
    return f"{score_text(metric, score)} {metric} (95 % over {num_examples:,} items: {_ends(metric, low, high)})"


def _ends(metric: str, low: float, high: float) -> str:
    """Both ends of an interval, without their unit."""
    return score_range(metric, low, high).strip("[] %").replace(", ", " to ")


def _test_score(x: RunResult) -> str:
    if x.test_score is None or x.test_ci_low is None or x.test_ci_high is None or x.test_num_examples is None:
        return "no test split"
    return _score(x.test_score, x.test_ci_low, x.test_ci_high, x.test_num_examples, x.metric)


def _classes(x: RunResult) -> list[list[Value]]:
    """What accuracy does not tell of a classification task."""
    if x.macro_f1 is None or x.majority_baseline is None:
        return []
    test = f"; test {percent(x.test_macro_f1)} %" if x.test_macro_f1 is not None else ""
    return [
        ["macro-F1", f"validation {percent(x.macro_f1)} %{test}; mean over classes, each counted alike"],
        ["most frequent label", f"{percent(x.majority_baseline)} % of the validation items"],
        ["answers that are no label", f"{x.num_other_answers or 0:,} of {x.num_examples:,}, counted as wrong"],
    ]


def _confusion(r: Run) -> Table:
    pairs = Counter((p.references, p.prediction) for p in r.predictions)
    references = sorted({reference for reference, _ in pairs})
    shown, others = _columns(pairs)
    rows: list[list[Value]] = []
    # With more accepted answers than that the task is free text, and a table of confusions says nothing.
    for reference in references if len(references) <= MOST_ANSWERS else []:
        rest = [sum(pairs[reference, other] for other in others)] if others else []
        rows.append([reference, *(pairs[reference, prediction] for prediction in shown), *rest])
    heads = [f"answered: {p or '(nothing)'}" for p in shown] + (["answered: anything else"] if others else [])
    columns = (Column("references"), *(Column(h, count, integer=True) for h in heads))
    rest_note = f" Anything else: {len(others):,} other answers." if others else ""
    caption = (
        f"Validation items by accepted answer (rows) and given answer (columns); n = {len(r.predictions):,}.{rest_note}"
    )
    return Table("confusion", "Answers", caption, columns, rows)


def _columns(pairs: Mapping[tuple[str, str], int]) -> tuple[list[str], list[str]]:
    """Predictions with a column each, and the others.

    Those that are accepted somewhere come first, then the frequent ones.

    Returns:
        Answers with a column each, sorted; the other answers.
    """
    frequency: Counter[str] = Counter()
    for (_, prediction), n in pairs.items():
        frequency[prediction] += n
    accepted = {reference for reference, _ in pairs}
    order = sorted(frequency, key=lambda p: (p not in accepted, -frequency[p], p))
    return sorted(order[:MOST_ANSWERS]), order[MOST_ANSWERS:]


def _items(r: Run) -> Table:
    rows: list[list[Value]] = [[p.location, p.prediction, p.references, p.score] for p in r.predictions]
    columns = (Column("location"), Column("prediction"), Column("references"), Column("score", significant))
    return Table("items", "Every validation item", f"n = {len(rows):,}.", columns, rows)


def _points(r: Run) -> Table:
    """The curve as numbers."""
    metric = r.result.metric

    def shown(score: float) -> str:
        return score_text(metric, score)

    rows: list[list[Value]] = [[p.step, p.score, p.ci_low, p.ci_high, p.loss, p.seconds] for p in r.curve]
    columns = (
        integer_column("step"),
        Column(f"validation {metric}", shown, "score"),
        Column("low", shown, "ci_low"),
        Column("high", shown, "ci_high"),
        Column("training loss", significant, "loss"),
        Column("seconds", significant),
    )
    return Table("curve", "The curve", "The untrained model first; intervals over the items.", columns, rows)


def _seeds(x: RunResult) -> dict[str, int]:
    return {"mask_seed": x.mask_seed, "init_seed": x.init_seed, "data_seed": x.data_seed}


def _caption(r: Run) -> str:
    x = r.result
    return (
        f"Validation {x.metric} ({x.num_examples:,} items; band: 95 % over the items) and training loss over steps; one"
        f" run, seeds {', '.join(f'{purpose} {seed}' for purpose, seed in _seeds(x).items())}. Dashed: step"
        f" {x.best_step:,}, whose values were kept; dotted: chance. {CONVERGENCE_RULE}"
    )


def figure(r: Run) -> Figure:
    """Validation score and loss over steps."""
    return run_curve.figure(r.result, r.curve, _caption(r))


def _page(r: Run, tables: list[Table]) -> str:
    x = r.result
    provenance = {
        **_seeds(x),
        "data: fingerprint": x.data_fingerprint,
        "data: examples": x.split_sizes,
        "data: truncated": x.num_truncated,
        "data: max_input_length": x.max_input_length,
        "data: notes": x.data_notes,
        "device": x.device,
        **x.host,
        **{f"imported: {name}": fingerprint for name, fingerprint in x.imports.items()},
        **{f"version of {library}": version for library, version in x.versions.items()},
    }
    by_name = {t.name: t for t in tables}
    answers = [by_name[n] for n in ("confusion", "items") if n in by_name]
    sections = [
        page.Section("result", "Result", tables=[by_name["result"]]),
        page.Section("answers", "Answers", tables=answers),
        page.Section(
            "settings", "Settings and provenance", body=page.definition_list(provenance) + page.source_text(r.settings)
        ),
    ]
    title = f"{display_name(r.method)} on {x.backbone}, {x.task}"
    ran = f"One run of {x.max_steps:,} steps, started {x.started}; one seed, so no spread over seeds."
    footer = f"Written by apet {x.versions.get('apet', '')}."
    what = page_kind("run report", " ".join(x.data_notes))
    banner = " ".join(f"Caution: {line}." for line in x.cautions)
    answer = page.Section("curve", "Along the way", figure(r), [_points(r)])
    return page.html_page(what, title, run_headline(r), ran, sections, footer, banner, answer)
