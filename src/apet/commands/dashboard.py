"""A study as it runs, in a browser on this machine: its report's page, made anew as runs end; no file is written."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

from apet.analysis.study import analyze
from apet.commands.report import report_tables
from apet.errors import ApetError
from apet.recommendation.wording import duration
from apet.reporting.page import html_page
from apet.reporting.page.live import live_page
from apet.reporting.study import study_page
from apet.studies.store_schema import FILE
from apet.studies.tables import StudyTables

HOST = "127.0.0.1"
REST = 4
"""Times as long as the last page took that nobody is kept busy with the next one."""
RECENT = 10
"""Ends of runs from which the pace is taken."""


class Dashboard:
    """The page of one study or of several parts of one, as new as their runs.

    Args:
        folders: of studies or exports, as `apet.report` takes them.

    Raises:
        ApetError: neither a study nor an export there.
    """

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = [Path(f) for f in folders]
        self._lock = threading.Lock()
        self._version, self._status, self._page = "", "", ""
        self._not_before = 0.0
        self.refresh()

    @property
    def version(self) -> str:
        """Names what the page shows; another one once the record of a study has changed."""
        files = [f / name for f in self.folders for name in (FILE, f"{FILE}-wal")]
        return "-".join(f"{s.st_mtime_ns:x}.{s.st_size:x}" for p in files if p.is_file() for s in [p.stat()]) or "0"

    def state(self) -> dict[str, str]:
        """What the page asks for: the version there is, and how the study stands."""
        self.refresh()
        return {"version": self._version, "status": self._status}

    def page(self) -> str:
        """The whole page."""
        self.refresh()
        return live_page(self._page, self._version, self._status)

    def refresh(self) -> None:
        """Make the page anew where runs have ended since.

        Raises:
            ApetError: neither a study nor an export there.
        """
        with self._lock:  # two windows ask at once, and the page takes a second
            version, began = self.version, time.monotonic()
            if version == self._version or began < self._not_before:
                return
            tables = report_tables(self.folders)
            self._page, self._status, self._version = _page(tables), status(tables), version
            now = time.monotonic()
            self._not_before = now + REST * (now - began)


def _page(tables: StudyTables) -> str:
    if not (tables.runs["state"] == "complete").any():
        return _message(tables, "No run has ended yet.")
    try:
        a = analyze(
            tables.runs,
            tables.curves,
            items=tables.items,
            transfer=tables.transfers,
            planned=tables.planned,
            allow_holes=True,
        )
    except ApetError as e:  # a study may pass through states that no report can show
        return _message(tables, str(e))
    return study_page(a, tables.facts, bool(tables.facts["running"]))


def _message(tables: StudyTables, text: str) -> str:
    return html_page("study report", str(tables.facts.get("name", "Study")), text, "", [], "")


def status(tables: StudyTables) -> str:
    """How a study stands, such as ``12 of 50 runs, 1 failed; about 18 minutes left``.

    Args:
        tables: of its current runs.

    Returns:
        A line. Time left is there once three runs have ended, by the pace of the last ten.
    """
    facts = tables.facts
    planned, done, failed = (int(str(facts[name])) for name in ("planned", "complete", "failed"))
    parts = [f"{done:,} of {planned:,} runs" + (f", {failed:,} failed" if failed else "")]
    left = planned - done - failed
    complete = tables.runs[tables.runs["state"] == "complete"]
    ends = sorted(
        datetime.fromisoformat(started).timestamp() + float(seconds)
        for started, seconds in zip(complete["started"], complete["total_seconds"], strict=True)
    )[-RECENT:]
    if left and len(ends) > 2:
        pace = sum(b - a for a, b in pairwise(ends)) / (len(ends) - 1)
        parts.append(f"about {duration(left * pace)} left while it runs")
    return "; ".join(parts) + "."


def server(dashboard: Dashboard, port: int = 0) -> ThreadingHTTPServer:
    """A server of the dashboard for browsers of this machine alone.

    Args:
        dashboard: what it shows.
        port: where; 0 = one that is free.

    Returns:
        The server, listening; ``serve_forever`` answers.

    Raises:
        ApetError: the port is taken.
    """
    try:
        return ThreadingHTTPServer((HOST, port), _handler(dashboard))
    except OSError as e:
        raise ApetError(f"port {port} cannot be opened ({e.strerror}); give another, or 0 for any that is free") from e


def _handler(dashboard: Dashboard) -> type[BaseHTTPRequestHandler]:
    answers: dict[str, tuple[str, Callable[[], str]]] = {
        "/": ("text/html; charset=utf-8", dashboard.page),
        "/state": ("application/json", lambda: json.dumps(dashboard.state())),
    }

    class Handler(BaseHTTPRequestHandler):
        """Answers with the page, and with its state."""

        def do_GET(self) -> None:
            """The two addresses that there are."""
            # A page from elsewhere can lead a browser here under a name of its own: it gets nothing to read.
            name = self.headers.get("Host", "").rpartition(":")[0]
            if name not in (HOST, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN, "for this machine alone")
                return
            kind, answer = answers.get(self.path.partition("?")[0], ("", None))
            if answer is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                body = answer().encode()
            except ApetError as e:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, str(e).splitlines()[0])
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A line for each request would bury what the terminal says."""

    return Handler
