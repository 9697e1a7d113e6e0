"""Hostile inputs for everything that apet reads: saved deltas, YAML, words, data files, records and run folders.

    make fuzz
    PYTHONPATH=tests python -m benchmarks.fuzz --count 20000 --seed 7 --page docs/results/reliability.md
    PYTHONPATH=tests python -m benchmarks.fuzz --only words --seed 7 --first 1234 --count 1    # one input again

Each input is accepted and read right, or refused in one line; anything else is shown with the words that make it again,
and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

CHUNK = 250
"""Inputs of a kind that one child process is fed."""


def main() -> int:
    """Feed all inputs, show progress, then the table.

    Returns:
        1 where there was any fault.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0, help="of all inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each kind")
    parser.add_argument("--only", action="append", help="a kind; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--page", type=Path, help="write the table there")
    parser.add_argument("--show", type=int, default=10, help="faults of each kind that are shown")
    args = parser.parse_args()
    page = args.page.absolute() if args.page else None
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        # Before anything of apet is imported: no cache but our own, and nothing is asked of the hub.
        os.environ |= {"APET_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        return _fuzz(args, Path(folder), page)


def _fuzz(args: argparse.Namespace, folder: Path, page: Path | None) -> int:
    from .kind import Kind
    from .kinds import KINDS
    from .pool import feed_all
    from .tally import Tally
    from .tally import page as page_of

    chosen = [k for k in KINDS if not args.only or k.name in args.only]
    if not chosen:
        print(f"no such kind; known: {', '.join(k.name for k in KINDS)}", file=sys.stderr)
        return 2
    kinds: dict[str, Kind] = {}
    for kind in chosen:
        place = folder / kind.name.replace(" ", "-")
        place.mkdir()
        kinds[kind.name] = kind(place)
    total_share = sum(k.share for k in chosen)
    chunks: list[tuple[str, range]] = []
    for kind in chosen:
        end = args.first + max(1, round(args.count * kind.share / total_share))
        chunks += [(kind.name, range(n, min(n + CHUNK, end))) for n in range(args.first, end, CHUNK)]
    # Of each kind something early on, so that the time left is not that of the fastest one alone.
    chunks.sort(key=lambda c: (c[1].start, c[0]))
    tallies = {name: Tally(name) for name in kinds}
    began = time.monotonic()
    feed_all(kinds, chunks, args.seed, args.jobs, tallies)
    minutes = (time.monotonic() - began) / 60
    for t in tallies.values():
        for fault in t.faults[: args.show]:
            print(f"\n{t.name} {fault.number}: {fault.verdict}\n  {fault.what[:1500]}\n  {fault.message}")
    only = "".join(f" --only '{name}'" for name in args.only or ())
    command = (
        f"PYTHONPATH=tests python -m benchmarks.fuzz --count {args.count} --seed {args.seed}{only} --jobs {args.jobs}"
    )
    text = page_of(list(tallies.values()), command, args.jobs, minutes)
    print(f"\n{text}")
    if page:
        page.write_text(text, "utf-8")
    return int(any(t.num_faults for t in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
