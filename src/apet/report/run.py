"""The report of one run, from the files that it left."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from apet.analysis.convergence import convergence
from apet.analysis.intervals import Floats
from apet.errors import ApetError
from apet.report import page
from apet.report.captions import CONVERGENCE_RULE
from apet.report.figures import marks, plotly_data, sheet
from apet.report.folder import FIGURES, PAGE, TABLES, Report, new_report
from apet.report.formatting import count, display_name, interval, page_kind, percent, significant
from apet.report.style import GRAY, method_style
from apet.report.table import Column, Table, Value
from apet.report.table_files import write_table

MOST_ANSWERS = 12
"""Different answers. With more accepted ones the task is free text and has no table of confusions; of given ones
those beyond share a column."""


@dataclass(frozen=True)
class Run:
    """A finished run as it lies on disk.

    Attributes:
        result: of result.json.
        settings: text of config.yaml.
        curve: step, loss, value, low, high, seconds -> numbers, (points,).
        predictions: rows of predictions.csv.
    """

    result: Mapping[str, Any]
    settings: str
    curve: Mapping[str, Floats]
    predictions: list[dict[str, str]]

    @property
    def method(self) -> str:
        """Display name."""
        method = self.result["method"]
        kind = method.get("settings", {}).get("distribution")
        return f"{method['method']}-{kind}" if kind else str(method["method"])


def write_run_report(run: Path, output: Path | None = None) -> Report:
    """Write the report of one run; an earlier one there is replaced.

    Args:
        run: folder with result.json, curve.csv and predictions.csv.
        output: where to; by default ``report`` inside the run's folder.

    Raises:
        ApetError: no finished run there, a damaged one, or a folder that cannot be written.
    """
    r = read(run)
    output = output or run / "report"
    with sheet.drawing_style(), new_report(output) as part:
        drawn = sheet.save(_draw(r), part / FIGURES, "curve")
        made = [t for t in (_facts(r), _confusion(r), _items(r)) if t.rows]
        written = [p for t in made for p in write_table(t, part / TABLES)]
        (part / PAGE).write_text(_page(r, made), "utf-8")
    figures, tables = (tuple(output / f / p.name for p in ps) for f, ps in ((FIGURES, drawn), (TABLES, written)))
    return Report(output, output / PAGE, figures, tables, answer(r), (), {})


def read(run: Path) -> Run:
    """Read a run's files.

    Raises:
        ApetError: one of them is missing or damaged.
    """
    if not (run / "result.json").is_file():
        raise ApetError(f"no finished run at {str(run)!r}; give a folder written by apet tune")
    try:
        result = json.loads((run / "result.json").read_text("utf-8"))
        _whole(result)
        settings = (run / "config.yaml").read_text("utf-8")
        with (run / "curve.csv").open(encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
        with (run / "predictions.csv").open(encoding="utf-8", newline="") as f:
            predictions = list(csv.DictReader(f))
        _answered(predictions)
        names = ("step", "loss", "score", "ci_low", "ci_high", "seconds")
        curve = {n: np.array([float(row[n]) if row[n] else np.nan for row in rows]) for n in names}
    except _Damaged as e:
        raise ApetError(f"the run at {str(run)!r} is damaged ({e}); run it again") from e
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ApetError(f"the run at {str(run)!r} is damaged ({type(e).__name__}: {e}); run it again") from e
    return Run(result, settings, curve, predictions)


_SCORE = {"metric": str, "score": float, "ci_low": float, "ci_high": float, "num_examples": int}
_RESULT: dict[str, Any] = {
    "backbone": {"name": str, "parameters": int},
    "task": {"name": str},
    "method": {"method": str},
    "num_trainable": int,
    "trainable_percent": float,
    "head": {"use": str, "parameters": int},
    "validation": _SCORE,
    "score_untrained": _SCORE,
    "last": _SCORE,
    "untrained_baseline": float,
    "selection": str,
    "best_step": int,
    "max_steps": int,
    "learning_rate": {"score": float, "rule": str},
    "seeds": {},
    "data": {"notes": list},
    "times": {"training_seconds": float, "steps_per_second": float, "started": str},
    "peak_memory_bytes": int,
}
"""Fields of result.json that the report shows, and what they hold; a mapping holds at least these."""
_WORDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "fields"}
_COLUMNS = ("where", "answer", "references", "score")
"""Of predictions.csv."""


class _Damaged(Exception):
    """What a file of a run lacks, in words."""


def _whole(result: Any, expected: Mapping[str, Any] = _RESULT, above: str = "") -> None:
    """Every field is there and holds what it should; the test split is the one that may be none."""
    for name, of in expected.items():
        field, inner = above + name, isinstance(of, Mapping)
        kind = dict if inner else of
        if not isinstance(result, Mapping) or result.get(name) is None:
            raise _Damaged(f"result.json has no {field}; expected {_WORDS[kind]}")
        value = result[name]
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise _Damaged(f"result.json: {field} is {value!r:.40}; expected {_WORDS[kind]}")
        if inner:
            _whole(value, of, field + ".")
    if not above and result.get("test") is not None:
        _whole(result["test"], _SCORE, "test.")


def _answered(predictions: list[dict[str, str]]) -> None:
    for row in predictions:
        lacking = next((c for c in _COLUMNS if row.get(c) is None), None)
        if lacking is not None:
            raise _Damaged(f"predictions.csv has a row without {lacking}")
        float(row["score"])


def answer(r: Run) -> str:
    """The first sentence."""
    x, v = r.result, r.result["validation"]
    return (
        f"{display_name(r.method)} with {count(x['num_trainable'])} trained parameters"
        f" ({significant(x['trainable_percent'])} % of {x['backbone']['name']}) has"
        f" {percent(v['value'])} % {v['measure']}"
        f" on {x['task']['name']} (95 % over {v['n']:,} validation items: {interval(v['low'], v['high'])});"
        f" untrained {percent(x['untrained']['value'])} %, chance {percent(x['chance'])} %."
    )


def _facts(r: Run) -> Table:
    x = r.result
    test = x.get("test")
    ended = convergence(r.curve["step"], r.curve["score"], float((r.curve["ci_high"] - r.curve["ci_low"]).mean() / 2))
    rows: list[list[Value]] = [
        ["method", display_name(r.method)],
        ["backbone", f"{x['backbone']['name']}, {count(x['backbone']['parameters'])} parameters"],
        ["trained parameters", f"{count(x['num_trainable'])} = {significant(x['trainable_percent'], 4)} %"],
        ["task head", f"{x['head']['use']}, {count(x['head']['parameters'])} parameters, counted apart"],
        ["validation", f"{_score(x['validation'])}; kept: step {x['best_step']:,}, {x['selection']}"],
        ["test", _score(test) if test else "no test split"],
        ["last step", _score(x["last"])],
        ["score_untrained", _score(x["score_untrained"])],
        ["untrained_baseline", f"{percent(x['chance'])} %"],
        ["convergence", ended.state if math.isnan(ended.steps) else f"by step {ended.steps:,.0f} of {x['steps']:,}"],
        ["learning rate", f"{significant(x['learning_rate']['value'])} ({x['learning_rate']['rule']})"],
        ["time", f"{x['times']['training_seconds']:,} s of training, {x['times']['steps_per_second']} steps a second"],
        ["memory", f"{x['peak_memory_bytes'] / 1e9:.2f} GB at most"],
    ]
    return Table(
        "result", "The result", "One run; intervals over its validation items.", (Column("what"), Column("score")), rows
    )


def _score(s: Mapping[str, Any]) -> str:
    return f"{percent(s['value'])} % {s['measure']} (95 % over {s['n']:,} items: {interval(s['low'], s['high'])})"


def _confusion(r: Run) -> Table:
    pairs = Counter((p["references"], p["answer"]) for p in r.predictions)
    wanted = sorted({w for w, _ in pairs})
    given, others = _columns(pairs)
    rows: list[list[Value]] = []
    for w in wanted if len(wanted) <= MOST_ANSWERS else []:
        rest = [sum(pairs[w, g] for g in others)] if others else []
        rows.append([w, *(pairs[w, g] for g in given), *rest])
    heads = [f"answered: {g or '(none)'}" for g in given] + (["answered: anything else"] if others else [])
    columns = (Column("references"), *(Column(h, count, integer=True) for h in heads))
    left = f" Anything else: {len(others):,} other answers." if others else ""
    caption = (
        f"Validation items by accepted answer (rows) and given answer (columns); n = {len(r.predictions):,}.{left}"
    )
    return Table("confusion", "Answers", caption, columns, rows)


def _columns(pairs: Mapping[tuple[str, str], int]) -> tuple[list[str], list[str]]:
    """Given answers with a column each, and the others: those that are accepted somewhere first, then the frequent."""
    often: Counter[str] = Counter()
    for (_, g), n in pairs.items():
        often[g] += n
    accepted = {w for w, _ in pairs}
    order = sorted(often, key=lambda g: (g not in accepted, -often[g], g))
    return sorted(order[:MOST_ANSWERS]), order[MOST_ANSWERS:]


def _items(r: Run) -> Table:
    rows: list[list[Value]] = [[p["where"], p["answer"], p["references"], float(p["score"])] for p in r.predictions]
    columns = (Column("where"), Column("answer"), Column("references"), Column("score", significant))
    return Table("items", "Every validation item", f"n = {len(rows):,}.", columns, rows)


def _caption(r: Run) -> str:
    v = r.result["validation"]
    return (
        f"Validation {v['measure']} ({v['n']:,} items; band: 95 % over the items) and training loss over steps; one"
        f" run, seeds {', '.join(f'{k} {s}' for k, s in r.result['seeds'].items())}. Marked: step"
        f" {r.result['best_step']:,}, whose values were kept. {CONVERGENCE_RULE}"
    )


def _draw(r: Run) -> Figure:
    c, k = r.curve, method_style(r.method)
    figure, axes = sheet.panels(1, 2, width=4.2, height=2.8)
    left, right = axes[0]
    left.fill_between(c["step"], 100 * c["ci_low"], 100 * c["ci_high"], color=k.color, alpha=0.2, linewidth=0)
    left.plot(c["step"], 100 * c["score"], color=k.color, marker=k.marker, markersize=4)
    left.axvline(r.result["best_step"], color=GRAY, linestyle="--", linewidth=1)
    left.axhline(100 * r.result["untrained_baseline"], color=GRAY, linestyle=":", linewidth=1)
    left.set_ylabel(f"validation {r.result['validation']['measure']} (%)")
    right.plot(c["step"], c["loss"], color=k.color, marker=k.marker, markersize=4)
    right.set_ylabel("training loss")
    for axis, title in ((left, "validation (dotted: chance)"), (right, "loss since the point before")):
        axis.set_xlabel("steps")
        axis.set_title(title)
    title = f"{display_name(r.method)} on {r.result['backbone']['name']}, {r.result['task']['name']}"
    return sheet.finish(figure, title, _caption(r), marks.line_legend([r.method]))


def _view(r: Run) -> plotly_data.InteractiveFigure:
    c = r.curve
    plots = {}
    for name, y, unit in (("validation", 100 * c["score"], "%"), ("training loss", c["loss"], "")):
        texts = [
            f"step {s:,.0f}, {t:,.1f} s\n{significant(v, 4)} {unit}"
            + (f"\nitems: {interval(low, high)}" if unit else "")
            for s, t, v, low, high in zip(c["step"], c["seconds"], y, c["ci_low"], c["ci_high"], strict=True)
        ]
        more: dict[str, Any] = {}
        if unit:
            up, down = 100 * (c["ci_high"] - c["score"]), 100 * (c["score"] - c["ci_low"])
            ends = {
                "array": [plotly_data.json_number(v) for v in up],
                "arrayminus": [plotly_data.json_number(v) for v in down],
            }
            more = {"error_y": {"type": "data", "thickness": 1, **ends}}
        title = f"validation {r.result['validation']['measure']} (%)" if unit else "training loss"
        data = [plotly_data.trace(r.method, c["step"].tolist(), y.tolist(), texts, **more)]
        plots[name] = {"data": data, "layout": plotly_data.axes_layout("steps", title, log=False)}
    return plotly_data.InteractiveFigure(
        "curve", "Along the way", _caption(r), {"shown": list(plots)}, plots, log=False
    )


def _page(r: Run, made: list[Table]) -> str:
    x = r.result
    versions = {f"version of {k}": v for k, v in x.get("versions", {}).items()}
    apart = {**x["seeds"], **{f"data: {k}": v for k, v in x["data"].items()}, **x.get("host", {}), **versions}
    by_name = {t.name: t for t in made}
    answers = [by_name[n] for n in ("confusion", "items") if n in by_name]
    sections = [
        page.Section("result", "Result", tables=[by_name["result"]]),
        page.Section("curve", "Along the way", _view(r)),
        page.Section("answers", "Answers", tables=answers),
        page.Section(
            "settings", "Settings and provenance", body=page.definition_list(apart) + page.source_text(r.settings)
        ),
    ]
    title = f"{display_name(r.method)} on {x['backbone']['name']}, {x['task']['name']}"
    ran = f"One run of {x['steps']:,} steps, started {x['times']['started']}; one seed, so no spread over seeds."
    footer = f"Written by apet {x.get('versions', {}).get('apet', '')}."
    what = page_kind("run report", " ".join(x["data"]["notes"]))
    return page.html_page(what, title, answer(r), ran, sections, [], footer)
