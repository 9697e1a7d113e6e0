"""Answers beside the rows that they answer: as plain data, and as a CSV, TSV, JSONL, JSON or Parquet file."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from apet.errors import ApetError
from apet.tasks.answers import Answer
from apet.tasks.task import Task

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""Endings of files that answers are written to."""
DIGITS = 6
"""Of a probability, after the point."""


def answer_record(task: Task, answer: Answer) -> dict[str, JsonValue]:
    """An answer as plain data.

    Args:
        task: that was answered.
        answer: of the model.

    Returns:
        ``prediction``: a label, a number, a text, or a list of labels or tags; ``score``: its probability, of tags that
        of each; ``scores``: that of each label, or of each choice in a row's order; what there is of them.
    """
    kind, text = task.task_type, answer.text
    scores = None if answer.scores is None else [round(s, DIGITS) for s in answer.scores]
    if kind == "regression":
        return {"prediction": float(text)}
    if kind == "token-classification":
        return {"prediction": [*text.split()], "score": [*(scores or [])]}
    if kind == "multi-label":
        return {"prediction": json.loads(text), "scores": _by_label(task, scores or [])}
    record: dict[str, JsonValue] = {"prediction": text, "is_valid": answer.is_valid}
    if scores:
        record["score"] = max(scores)  # of a text that was written, of whatever kind, there is one
        if kind == "multiple-choice":
            record["scores"] = [*scores]
        elif len(scores) == len(task.label_words):
            record["scores"] = _by_label(task, scores)
    return record


def _by_label(task: Task, scores: Sequence[float]) -> dict[str, JsonValue]:
    return dict(zip(task.label_words, scores, strict=True))


def require_writable(task: Task, path: Path, columns: Sequence[str], inputs: Sequence[Path] = ()) -> None:
    """Pass where answers can be written to a file, before anything is computed.

    Args:
        task: that is answered.
        path: of the file.
        columns: of the rows that are answered.
        inputs: files that are read.

    Raises:
        ApetError: another ending, no such folder, the file that is read, or a column that is called as an answer's.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ApetError(f"--output {str(path)!r} ends in {path.suffix or 'nothing'}; give {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ApetError(f"there is no folder {str(path.parent)!r} for --output; make it, or give another")
    if path.is_dir() or any(path.resolve() == p.resolve() for p in inputs):
        what = "a folder" if path.is_dir() else "the file that is read"
        raise ApetError(f"--output {str(path)!r} is {what}; give a new file")
    # Of a number nothing but itself is known: data with scores of their own keep them.
    names = {"prediction"} if task.task_type == "regression" else {"prediction", "score", "scores", "is_valid"}
    taken = [c for c in columns if c in names or (len(names) > 1 and c.startswith("score_"))]
    if taken:
        raise ApetError(f"the rows have a column {taken[0]!r} already, which the answers would fill; rename it")


def write_answers(path: Path, rows: Sequence[Mapping[str, object]], records: Sequence[Mapping[str, JsonValue]]) -> None:
    """Write rows with their answers, the whole file or none.

    Args:
        path: of the file; its ending says how it is written. In tables each label's probability is a column
            ``score_LABEL``, and lists are JSON.
        rows: as they were read; all their columns stay.
        records: of `answer_record`, one a row.

    Raises:
        ApetError: the file cannot be written.
    """
    # Where the model chose among labels, all answers are valid, and a column of that says nothing.
    hidden = {"is_valid"} if all(r.get("is_valid", True) for r in records) else set()
    shown = [{name: value for name, value in r.items() if name not in hidden} for r in records]
    joined = [{**row, **record} for row, record in zip(rows, shown, strict=True)]
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".json"):
        lines = [json.dumps(r, ensure_ascii=False, default=str) for r in joined]
        content = ("\n".join(lines) + "\n" if suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]\n").encode()
    else:
        flat = [_flat(r) for r in joined]
        content = _parquet(flat) if suffix == ".parquet" else _delimited(flat, "\t" if suffix == ".tsv" else ",")
    try:
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as f:
                f.write(content)
            os.chmod(part, 0o666 & ~_umask())
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise ApetError(f"cannot write {str(path)!r}: {e.strerror or e}; give another place") from e


def split_scores(record: Mapping[str, object]) -> dict[str, object]:
    """A row or record whose probability of each label is a cell of its own, ``score_LABEL``."""
    cells: dict[str, object] = {}
    for name, value in record.items():
        if name == "scores" and isinstance(value, dict):
            cells |= {f"score_{label}": score for label, score in value.items()}
        else:
            cells[name] = value
    return cells


def _flat(record: Mapping[str, object]) -> dict[str, object]:
    """One level of cells, lists as JSON."""
    return {
        name: json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value
        for name, value in split_scores(record).items()
    }


def _delimited(rows: Sequence[Mapping[str, object]], separator: str) -> bytes:
    text = io.StringIO()
    out = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), delimiter=separator)
    out.writeheader()
    out.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _parquet(rows: Sequence[Mapping[str, object]]) -> bytes:
    import pandas as pd

    buffer = io.BytesIO()
    pd.DataFrame(list(rows)).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
