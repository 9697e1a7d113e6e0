"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess

import torch

from apet.registry import imported
from apet.studies.executors.base import Event, Job, execute_side_by_side, import_in_worker
from apet.training.progress import Progress
from apet.training.resources import Resources

PROGRESS_INTERVAL = 0.25
"""Seconds between two progress events of a worker."""


@dataclass(frozen=True)
class _WorkerProcess:
    process: ForkServerProcess
    pipe: Connection


class LocalExecutor:
    """Worker processes, each with its own backbone in memory.

    Args:
        size: how many. The threads of a run are part of its config, so results do not depend on this number.
        gpus: GPUs to share out, as CUDA_VISIBLE_DEVICES names them; none = every worker sees what this process sees.
    """

    side_by_side = True

    def __init__(self, size: int, gpus: Sequence[str] = ()) -> None:
        self.size, self.gpus = size, gpus
        # A fork server: plain fork would copy threads' locks and CUDA state, spawn would import torch for every worker.
        self._context = mp.get_context("forkserver")
        self._context.set_forkserver_preload(["apet.training.run", "apet.studies.executors.local"])
        self._workers: list[_WorkerProcess | None] = [None] * size

    def start(self, worker: int, job: Job) -> None:
        """Give a job to a worker; one that has died is replaced first."""
        running = self._workers[worker] or self._start_process(worker)
        # A worker may die between two jobs; `events` then sees the end of its pipe and reports it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            running.pipe.send(job)

    def _start_process(self, worker: int) -> _WorkerProcess:
        pipe, worker_pipe = self._context.Pipe()
        arguments = (worker_pipe, gpu_of(worker, self.gpus), tuple(imported()))
        process = self._context.Process(target=worker_main, args=arguments, daemon=True)
        # It imports libraries before it can handle Ctrl-C, which the scheduler handles for all.
        with ignoring_interrupts():
            forkserver.ensure_running()
        process.start()
        # Our copy of the worker's end must go: else its pipe would stay open after its death, and nobody would notice.
        worker_pipe.close()
        started = _WorkerProcess(process, pipe)
        self._workers[worker] = started
        return started

    def events(self, timeout: float) -> list[Event]:
        """Events that the workers sent since the last call; waits at most ``timeout`` seconds for the first."""
        worker_of = {w.pipe: number for number, w in enumerate(self._workers) if w is not None}
        events = []
        for pipe in wait(list(worker_of), timeout):
            assert isinstance(pipe, Connection)
            worker = worker_of[pipe]
            try:
                while pipe.poll():
                    events.append(Event(worker, *pipe.recv()))
            except (EOFError, OSError):  # the end of the pipe: the process is gone, whatever ended it
                events.append(Event(worker, "worker_died", self._reap(worker)))
        return events

    def _reap(self, worker: int) -> str:
        """Clear away a worker that died, and say what ended it."""
        dead = self._workers[worker]
        assert dead is not None
        dead.pipe.close()
        dead.process.join(5)  # its pipe closes a moment before its exit code is known
        self._workers[worker] = None
        code = dead.process.exitcode
        return f"its worker ended by signal {-code}" if code and code < 0 else f"its worker ended with code {code}"

    def stop(self) -> None:
        """Kill all workers at once: what they have finished is on disk, the rest is run again another time."""
        for running in self._workers:
            if running is not None:
                running.process.kill()
                running.process.join()
                running.pipe.close()
        self._workers = [None] * self.size


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES; CUDA is not initialized for it."""
    return gpu_names(os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count())


def gpu_names(visible_devices: str | None, count: int) -> list[str]:
    """Names of ``count`` usable GPUs: the first of CUDA_VISIBLE_DEVICES, or their numbers where it is not set."""
    if visible_devices is None:
        return [str(n) for n in range(count)]
    return [name.strip() for name in visible_devices.split(",")][:count]


def default_workers(
    gpus: Sequence[str], devices: Collection[str], device_maps: Collection[str | None], cores: int, num_threads: int
) -> tuple[int, Sequence[str]]:
    """How many workers there are where nobody says, and the GPUs to share out among them.

    Args:
        gpus: that this process may use.
        devices: what the runs ask for: auto, cpu.
        device_maps: what the runs ask for: auto = one backbone over all GPUs, None = one GPU each.
        cores: of the processor.
        num_threads: of a run.

    Returns:
        Number of workers; GPUs to share out, none where each worker is to see what this process sees.
    """
    if not gpus or set(devices) <= {"cpu"}:
        return max(1, cores // num_threads), ()
    if "auto" in device_maps:  # one backbone lies over all GPUs, a second one would find no room
        return 1, ()
    return len(gpus), gpus


def gpu_of(worker: int, gpus: Sequence[str]) -> str | None:
    """The GPU of a worker; where there are more workers than GPUs, they take turns."""
    return gpus[worker % len(gpus)] if gpus else None


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Processes that are started inside ignore Ctrl-C until they say otherwise: signal handlers are inherited.

    Outside the main thread, which alone may set handlers, nothing is done.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def worker_main(pipe: Connection, gpu: str | None, guests: Sequence[str] = ()) -> None:
    """Main function of a worker process: takes jobs from the pipe and sends events, until the scheduler is gone.

    Args:
        pipe: jobs come in, ``(kind, message, fraction_done, run_id)`` goes out.
        gpu: the one GPU it may use, as CUDA_VISIBLE_DEVICES names it; None = all that are visible.
        guests: files and modules that the scheduler's process imported.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole process group; the scheduler handles it
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # CUDA reads it once, at its first use, which is yet to come
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    resources = Resources(PipeProgress(pipe))
    guest_error = import_in_worker(guests)
    try:
        while True:
            job: Job = pipe.recv()
            if guest_error:
                for failed in (job, *job.beside):
                    pipe.send(("failed", guest_error, 1.0, failed.run_id))
                continue
            for run_id, outcome, reason in execute_side_by_side(job, resources):
                pipe.send((outcome, reason, 1.0, run_id))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


class PipeProgress(Progress):
    """Progress that is sent to the scheduler.

    Where nobody listens any more, sending raises and so ends the run: a worker without a scheduler would only take
    the machine from the next one.
    """

    def __init__(self, pipe: Connection) -> None:
        super().__init__(quiet=True)
        self._pipe = pipe
        self._last_sent = 0.0

    def update(self, done: int, note: str | None = None) -> None:
        """Note how far the innermost stage is, and send it unless that was done a moment ago."""
        super().update(done, note)
        seconds = time.monotonic()
        if seconds - self._last_sent >= PROGRESS_INTERVAL:
            self._last_sent = seconds
            stage = self.stage
            self._pipe.send(("progress", stage.note, done / max(1, stage.total), ""))
