"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import time
from multiprocessing.connection import Connection, wait
from typing import Any

from apet.studies.engine import Event, Job, perform
from apet.training.watch import Watch
from apet.training.workshop import Workshop

EVERY = 0.25
"""Seconds between two words of progress."""


class Local:
    """Worker processes, each with its own backbone in memory.

    Args:
        size: how many. Each run's threads are part of its settings, so results do not depend on this number.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._context = mp.get_context("forkserver")
        self._context.set_forkserver_preload(["apet.training.run", "apet.studies.local"])
        self._workers: list[tuple[Any, Connection] | None] = [None] * size

    def start(self, worker: int, job: Job) -> None:
        """Give it a job; a worker that is gone is replaced first."""
        if self._workers[worker] is None:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._workers[worker] = process, ours
        here = self._workers[worker]
        assert here is not None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # `events` will see that it is gone
            here[1].send(job)

    def events(self, timeout: float) -> list[Event]:
        """Everything the workers said by now."""
        pipes = {w[1]: i for i, w in enumerate(self._workers) if w is not None}
        found = []
        for pipe in wait(list(pipes), timeout):
            assert isinstance(pipe, Connection)
            worker = pipes[pipe]
            try:
                while pipe.poll():
                    kind, text, share = pipe.recv()
                    found.append(Event(worker, kind, text, share))
            except (EOFError, OSError):
                found.append(Event(worker, "lost", self._bury(worker)))
        return found

    def _bury(self, worker: int) -> str:
        here = self._workers[worker]
        assert here is not None
        process, pipe = here
        pipe.close()
        process.join(5)
        self._workers[worker] = None
        code = process.exitcode
        return f"its worker ended by signal {-code}" if code and code < 0 else f"its worker ended with code {code}"

    def stop(self) -> None:
        """End all, now."""
        for here in self._workers:
            if here is not None:
                here[0].kill()
                here[0].join()
                here[1].close()
        self._workers = [None] * self.size


def _serve(pipe: Connection) -> None:
    """A worker's life: jobs in, words out, until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    shop = Workshop(_Teller(pipe))
    try:
        while True:
            job: Job = pipe.recv()
            kind, text = perform(job, shop)
            pipe.send((kind, text, 1.0))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class _Teller(Watch):
    """A watch that tells the driver. When nobody listens any more it ends the run: an orphan has no business."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(quiet=True)
        self._pipe = pipe
        self._told = 0.0

    def advance(self, done: int, note: str | None = None) -> None:
        """As every watch; now and then through the pipe."""
        super().advance(done, note)
        now = time.monotonic()
        if now - self._told >= EVERY:
            self._told = now
            stage = self.stage
            self._pipe.send(("progress", stage.note, done / max(1, stage.total)))
