"""The page and the picture of a recommendation."""

from __future__ import annotations

import json
from pathlib import Path

from apet.errors import CannotWriteError
from apet.recommendation.answer import FIGURE, Recommendation, Tried
from apet.recommendation.wording import clock, method_name, number
from apet.reporting import page
from apet.reporting.figures import printing, recommendation
from apet.reporting.formatting import page_kind, significant
from apet.reporting.table import Column, Table, Value, integer_column
from apet.training.output_folder import partial_path

PAGE, RECORD = "recommendation.html", "recommendation.json"


def write_recommendation(r: Recommendation, folder: Path) -> Path:
    """Write page, picture and record into the folder of the runs; those of an earlier answer are replaced.

    Args:
        r: the answer.
        folder: of its runs.

    Returns:
        The page.

    Raises:
        CannotWriteError: the folder takes no files.
    """
    try:
        _write(folder / RECORD, (json.dumps(r.as_dict(), indent=1, allow_nan=False) + "\n").encode())
        if r.tried:
            _write(folder / FIGURE, printing.png_bytes(recommendation.figure(r)))
        _write(folder / PAGE, _page(r).encode())
    except OSError as e:
        raise CannotWriteError(f"cannot write to {str(folder)!r}: {e.strerror}; the same command goes on") from e
    return folder / PAGE


def _write(path: Path, content: bytes) -> None:
    unfinished = partial_path(path)
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _page(r: Recommendation) -> str:
    commands = "".join(f"<p>{name}</p>{_command(line)}" for name, line in r.commands.items())
    facts: dict[str, object] = {
        "reached means": r.reach,
        "validation rows": r.num_validation,
        "test rows": r.test.num_examples if r.test else "not used",
        "without training": f"{number(r.metric, r.untrained)}; best constant answer {number(r.metric, r.constant)}",
        "expected to be lost by this answer": "" if r.regret is None else f"{r.regret:.2f} points",
        "runs": f"{r.num_runs}, in {clock(r.seconds)} minutes of {clock(r.within)}; {r.ended}",
        "folder": r.folder,
        "data": list(r.notes),
    }
    if r.stand_in:
        facts["full fine-tuning"] = f"not run: {r.stand_in}; {r.reference} stands in for it"
    sections = [
        page.Section("commands", "Commands", body=commands or page.note("none yet")),
        *(
            page.Section(table.name, title, tables=[table])
            for title, table in (("What became of each way", _fates(r)),)
            if table.rows
        ),
        page.Section("settings", "Settings", body=page.definition_list(facts)),
    ]
    ran = f"{r.num_runs} runs; whole runs have {r.steps} steps; chosen on validation, scored once on test rows."
    kind = page_kind("recommendation", " ".join(r.notes))
    answer = page.Section("picture", "Picture", recommendation.figure(r), [_tried(r)]) if r.tried else None
    title = f"{r.backbone} on {r.task}"
    return page.html_page(kind, title, r.headline, ran, sections, "Written by apet recommend.", answer=answer)


def _command(line: str) -> str:
    """A command line that is seen whole, also where the page is narrow."""
    return page.source_text(line).replace("<pre>", '<pre style="white-space:pre-wrap;overflow-wrap:anywhere">', 1)


def _tried(r: Recommendation) -> Table:
    def verdict(p: Tried) -> str:
        return "recommended" if p == r.use else "best for its size" if p.is_best_for_size else ""

    rows: list[list[Value]] = [
        [
            method_name(p.family),
            verdict(p),
            p.num_trainable,
            p.learning_rate,
            p.score,
            p.num_seeds,
            p.reaches,
            p.relative_time,
            p.relative_memory,
        ]
        for p in r.tried
    ]
    columns = (
        Column("method"),
        Column(""),
        integer_column("num_trainable", "parameters"),
        Column("learning rate", significant, "learning_rate"),
        Column(r.metric, lambda x: number(r.metric, x), "score"),
        integer_column("num_seeds", "seeds"),
        Column("reaches it", lambda x: f"{x:.2f}", "reaches"),
        Column("step time ×", lambda x: f"{x:.2f}", "relative_time"),
        Column("memory ×", lambda x: f"{x:.2f}", "relative_memory"),
    )
    caption = (
        f"Reaches it: probability that the mean over seeds comes to {r.reach}. Step time as measured, of runs that were"
        " made alone; memory by the model of costs; both of full fine-tuning's."
    )
    return Table("tried", "Every way with a whole run", caption, columns, rows)


def _fates(r: Recommendation) -> Table:
    rows: list[list[Value]] = [
        [method_name(f.family), f.what, "" if f.seconds is None else clock(f.seconds), f.why] for f in r.fates
    ]
    columns = (Column("method"), Column("what"), Column("at, minutes"), Column("why"))
    return Table("fates", "Every way to tune", "Times are of computing, over all calls.", columns, rows)
