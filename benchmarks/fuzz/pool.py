"""Several processes that feed inputs, and the progress of all of them on one line."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkContext
from queue import Empty
from typing import TYPE_CHECKING

from .feeder import Outcome, feed
from .kind import Kind
from .tally import Tally

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Chunk = tuple[str, range]
"""Name of a kind, and the numbers of the inputs."""
EVERY = 20.0
"""Seconds between two lines of progress."""


def feed_all(
    kinds: Mapping[str, Kind], chunks: Sequence[Chunk], seed: int, jobs: int, tallies: Mapping[str, Tally]
) -> None:
    """Feed all chunks, and count what came of their inputs.

    Args:
        kinds: by name.
        chunks: in the order in which they are begun.
        seed: of all inputs.
        jobs: processes.
        tallies: of each kind; they are filled.
    """
    context: ForkContext = get_context("fork")
    todo: Queue[Chunk | None] = context.Queue()
    done: Queue[tuple[str, Outcome | float | None]] = context.Queue()
    for chunk in [*chunks, *[None] * jobs]:
        todo.put(chunk)
    workers = [context.Process(target=_work, args=(kinds, todo, done, seed)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    total = sum(len(numbers) for _, numbers in chunks)
    began = shown = time.monotonic()
    fed = running = 0
    running = jobs
    while running:
        try:
            name, what = done.get(timeout=5)
        except Empty:
            if not any(w.is_alive() for w in workers):
                raise RuntimeError("a process that feeds inputs has died") from None
            continue
        if what is None:
            running -= 1
        elif isinstance(what, Outcome):
            fed += 1
            tallies[name].add(what)
        else:
            tallies[name].seconds += what
        if time.monotonic() - shown > EVERY:
            shown = time.monotonic()
            _show(fed, total, shown - began, sum(t.num_faults for t in tallies.values()))
    for worker in workers:
        worker.join()


def _work(
    kinds: Mapping[str, Kind],
    todo: Queue[Chunk | None],
    done: Queue[tuple[str, Outcome | float | None]],
    seed: int,
) -> None:
    while (chunk := todo.get()) is not None:
        name, numbers = chunk
        began = time.monotonic()
        for outcome in feed(kinds[name], numbers, seed):
            done.put((name, outcome))
        done.put((name, time.monotonic() - began))
    done.put(("", None))


def _show(fed: int, total: int, seconds: float, faults: int) -> None:
    left = seconds / max(fed, 1) * (total - fed) / 60
    print(
        f"{fed:,} of {total:,} inputs, {fed / seconds:.0f} a second, {faults} faults, {left:.0f} min left",
        file=sys.stderr,
        flush=True,
    )
