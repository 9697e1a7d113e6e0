"""Feeds inputs of one kind in a child process, each under an alarm, and tells what came of each of them.

The libraries are imported once, by the parent; the child is forked. Where code that no alarm reaches hangs, or takes
the process down, the parent counts it and forks another child that goes on after that input.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Literal

from apet.errors import ApetError

from .kind import Kind, WrongError, refuse_unclear

Verdict = Literal["accepted", "refused", "traceback", "hang", "stray write", "accepted wrong"]
FAULTS: tuple[Verdict, ...] = ("traceback", "hang", "stray write", "accepted wrong")
TIME_LIMIT, WAIT = 10.0, 120.0
"""Seconds of its own work that one input may take, and for which nothing may be heard of it."""
MEMORY_LIMIT = 12 << 30
"""Bytes of address space that a child may take: a small input that needs more is a fault, not this machine's end."""


@dataclass(frozen=True)
class Outcome:
    """What came of one input.

    Attributes:
        number: of the input; with the seed it makes the input again.
        verdict: the worst of what came of it.
        what: the input in words.
        message: the refusal, or what is wrong.
    """

    number: int
    verdict: Verdict
    what: str
    message: str


class _TimeUpError(BaseException):  # past every `except Exception`
    pass


def feed(kind: Kind, numbers: range, seed: int) -> Iterator[Outcome]:
    """Feed inputs.

    Args:
        kind: of the inputs, its seeds made.
        numbers: of the inputs.
        seed: of all.

    Yields:
        One outcome an input, in their order.
    """
    context = get_context("fork")
    begin = numbers.start
    while begin < numbers.stop:
        theirs, ours = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(kind, range(begin, numbers.stop), seed, ours))
        child.start()
        ours.close()
        why = ""
        try:
            while begin < numbers.stop:
                if not theirs.poll(WAIT):
                    why = "hang"
                    break
                outcome: Outcome = theirs.recv()
                begin = outcome.number + 1
                yield outcome
        except EOFError:
            why = "died"
        finally:
            if child.is_alive() and why:
                child.kill()
            child.join()
            theirs.close()
        if why == "hang":
            yield Outcome(begin, "hang", "", f"nothing heard for {WAIT:.0f} s")
        elif why:
            yield Outcome(begin, "traceback", "", f"the process ended with code {child.exitcode}")
        begin += bool(why)


def _work(kind: Kind, numbers: range, seed: int, out: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, resource.RLIM_INFINITY))
    signal.signal(signal.SIGPROF, _stop)
    kind.place = kind.place / str(os.getpid())  # two children may work on one kind
    kind.place.mkdir()
    os.chdir(kind.place)  # what is written by a relative path lands where it is seen
    for number in numbers:
        out.send(_try(kind, number, seed))
    out.close()
    os.chdir("/")
    shutil.rmtree(kind.place, ignore_errors=True)


def _stop(signum: int, frame: object) -> None:
    raise _TimeUpError


def _try(kind: Kind, number: int, seed: int) -> Outcome:
    what = kind.make(Random(f"{seed} {kind.name} {number}"))
    before = _listing(kind.place)
    verdict, message = _verdict(kind)
    after = _listing(kind.place)
    if after != before and verdict in ("accepted", "refused"):
        changed = sorted({name for name, _ in before ^ after})
        verdict, message = "stray write", f"{', '.join(changed)}; {message}"
    return Outcome(number, verdict, what[:2000].encode("utf-8", "backslashreplace").decode(), message)


def _verdict(kind: Kind) -> tuple[Verdict, str]:
    began = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT)  # of its own work, whatever else the machine does
        try:
            kind.read()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            kind.clean()
        verdict: tuple[Verdict, str] = ("accepted", "")
    except _TimeUpError as e:
        verdict = ("hang", "".join(traceback.format_tb(e.__traceback__)[-4:]))
    except ApetError as e:
        unclear = refuse_unclear(e)
        verdict = ("traceback", f"{unclear}: {str(e)!r}") if unclear else ("refused", str(e))
    except WrongError as e:
        verdict = ("accepted wrong", str(e))
    except BaseException as e:  # also the panics of libraries written in Rust, which are no Exception
        verdict = ("traceback", "".join(traceback.format_exception(e)[-8:]))
    if time.process_time() - began > TIME_LIMIT and verdict[0] in ("accepted", "refused"):
        return "hang", f"{time.process_time() - began:.0f} s: {verdict[1]}"
    return verdict


def _listing(folder: Path) -> set[tuple[str, tuple[int, int, int]]]:
    """Every file and folder under a folder, with size, time and inode: what was written anew shows by it."""
    found = set()
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            s = os.lstat(path)
            is_file = name in files
            found.add((os.path.relpath(path, folder), (s.st_size, s.st_mtime_ns, s.st_ino) if is_file else (0, 0, 0)))
    return found
