"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from apet.studies.executors.base import Event, Job, execute_job
from apet.training.progress import Progress
from apet.training.resources import Resources

EVERY = 0.25
"""Seconds between two words of progress."""


class LocalExecutor:
    """Worker processes, each with its own backbone in memory.

    Args:
        size: how many. Each run's threads are part of its settings, so results do not depend on this number.
        cards: GPUs to share out, as CUDA_VISIBLE_DEVICES names them; none = every worker sees what this process sees.
    """

    def __init__(self, size: int, cards: Sequence[str] = ()) -> None:
        self.size, self.cards = size, cards
        self._context = mp.get_context("forkserver")
        self._context.set_forkserver_preload(["apet.training.run", "apet.studies.executors.local"])
        self._workers: list[tuple[Any, Connection] | None] = [None] * size

    def start(self, worker: int, job: Job) -> None:
        """Give it a job; a worker that is gone is replaced first."""
        if self._workers[worker] is None:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=worker_main, args=(theirs, gpu_of(worker, self.cards)), daemon=True)
            with ignoring_interrupts():  # it loads libraries before it can answer Ctrl-C; the driver answers for all
                forkserver.ensure_running()
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
                found.append(Event(worker, "lost", self._reap(worker)))
        return found

    def _reap(self, worker: int) -> str:
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


def visible_gpus() -> list[str]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none of them is touched."""
    return gpu_names(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())


def gpu_names(given: str | None, count: int) -> list[str]:
    """Of ``count`` usable GPUs, the names: their numbers, or the first ones of what is given."""
    names = [str(n) for n in range(count)] if given is None else [name.strip() for name in given.split(",")]
    return names[:count]


def default_workers(
    cards: Sequence[str], devices: Collection[str], device_maps: Collection[str | None], cores: int, num_threads: int
) -> tuple[int, Sequence[str]]:
    """How many workers there are where nobody says, and the GPUs to share out among them.

    Args:
        cards: that this process may use.
        devices: what the runs ask for: auto, cpu.
        device_maps: what the runs ask for: auto = one backbone over all GPUs; None = one GPU each.
        cores: of the processor.
        num_threads: of a run.
    """
    if not cards or set(devices) <= {"cpu"}:
        return max(1, cores // num_threads), ()
    if "auto" in device_maps:  # one backbone lies over all of them
        return 1, ()
    return len(cards), cards


def gpu_of(worker: int, cards: Sequence[str]) -> str | None:
    """A worker's GPU; where there are more workers, they take turns."""
    return cards[worker % len(cards)] if cards else None


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """A process that is started meanwhile ignores Ctrl-C until it says otherwise. Only a main thread can see to it."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def worker_main(pipe: Connection, card: str | None) -> None:
    """A worker's life: jobs in, words out, until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to answer
    if card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = card  # CUDA reads it once, at its first use, which is yet to come
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    shop = Resources(PipeProgress(pipe))
    try:
        while True:
            job: Job = pipe.recv()
            kind, text = execute_job(job, shop)
            pipe.send((kind, text, 1.0))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class PipeProgress(Progress):
    """A watch that tells the driver. When nobody listens any more it ends the run: an orphan has no business."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(quiet=True)
        self._pipe = pipe
        self._told = 0.0

    def update(self, done: int, note: str | None = None) -> None:
        """As every watch; now and then through the pipe."""
        super().update(done, note)
        now = time.monotonic()
        if now - self._told >= EVERY:
            self._told = now
            stage = self.stage
            self._pipe.send(("progress", stage.note, done / max(1, stage.total)))
