"""Folders of finished runs: what is read is what the run wrote, also where the manifest was made to fit."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import ClassVar

from apet.errors import ApetError
from apet.reporting.run import Run, read
from apet.training.manifest import MANIFEST, write_manifest
from apet.training.output_folder import RESULT
from apet.training.result import CurvePoint, RunResult
from apet.training.run_dir import CONFIG, CURVE, PREDICTIONS, TASK, check_run
from run_records import write_run_folder

from .finished_runs import NUM_RUNS, record
from .kind import Kind, WrongError
from .mutations import mutate_bytes, mutate_json, mutate_text

FILES = (RESULT, RESULT, CURVE, PREDICTIONS, CONFIG, TASK, MANIFEST, MANIFEST)


class RunFolders(Kind):
    """`check_run`, by which a study takes a run in, and the reading of a run's report."""

    name: ClassVar[str] = "run folders"
    share: ClassVar[float] = 0.08

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.results = [record(0, n) for n in range(NUM_RUNS)]
        self.seeds: list[dict[str, bytes]] = []
        self.originals: list[Run] = []
        for result in self.results:
            folder = place.with_name(f"{place.name}-{result.run_id}")
            write_run_folder(folder, result)
            self.seeds.append({f.name: f.read_bytes() for f in folder.iterdir()})
            self.originals.append(read(folder))
            shutil.rmtree(folder)
        self.n, self.sealed = 0, False

    @property
    def folder(self) -> Path:
        """Where the run lies."""
        return self.place / "run"

    def make(self, rng: Random) -> str:
        """A folder with one or two files changed, gone or of another run; sometimes with a manifest that fits."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.n = rng.randrange(len(self.seeds))
        files, other = dict(self.seeds[self.n]), rng.choice(self.seeds)
        changed = rng.sample(sorted(set(FILES)), 1) if rng.random() < 0.6 else [rng.choice(FILES) for _ in range(2)]
        for name in changed:
            raw = _mutate(name, files.get(name, other[name]), other[name], rng)
            if raw is None:
                files.pop(name, None)
            else:
                files[name] = raw
        for name, raw in files.items():
            (self.folder / name).write_bytes(raw)
        self.sealed = rng.random() < 0.4
        if self.sealed:
            write_manifest(self.folder, self.results[self.n].run_id)
        first = files.get(changed[0], b"")
        return f"run {self.n}, {changed} changed, sealed={self.sealed}: {first[:600]!r}"

    def read(self) -> None:
        """Read it in both ways; the first refusal stands for both."""
        refused: ApetError | None = None
        try:
            result, curve, _ = check_run(self.folder, self.results[self.n].run_id)
            self._compare(result, curve)
        except ApetError as e:
            refused = e
        run = read(self.folder)
        self._compare(run.result, run.curve)
        if not self.sealed and run != self.originals[self.n]:
            raise WrongError("the report's run is not the one that was written")
        if refused:
            raise refused

    def _compare(self, result: RunResult, curve: list[CurvePoint]) -> None:
        if not self.sealed:
            if result != self.originals[self.n].result or curve != self.originals[self.n].curve:
                raise WrongError(f"score {result.score} and its curve are not those that were written")
            return
        # Who knows how to write a manifest may change a folder, but not so that its numbers contradict each other.
        scores = _scores((self.folder / PREDICTIONS).read_bytes())
        if len(scores) != result.num_examples or not math.isclose(
            math.fsum(scores) / len(scores), result.score, abs_tol=2e-5
        ):
            raise WrongError(
                f"score {result.score} over {result.num_examples} is not that of {len(scores)} predictions"
            )
        if not 0 <= result.ci_low <= result.score <= result.ci_high <= 1:
            raise WrongError(f"score {result.score} is outside its interval")
        if not any(p.score == result.score and p.step == result.best_step for p in curve):
            raise WrongError(f"the curve has no score {result.score} at step {result.best_step}")


def _scores(raw: bytes) -> list[float]:
    rows = list(csv.reader(io.StringIO(raw.decode("utf-8"), newline="")))
    return [float(row[rows[0].index("score")]) for row in rows[1:] if row]


def _mutate(name: str, raw: bytes, other: bytes, rng: Random) -> bytes | None:
    """Another content of a file; None = it is gone."""
    way = rng.randrange(10)
    if way == 0:
        return None
    if way == 1:
        return other
    if way < 5 and name.endswith(".json"):
        return json.dumps(mutate_json(json.loads(raw), rng), indent=1).encode() if _is_json(raw) else raw
    if way < 8:
        text = raw.decode("utf-8", "replace")
        return mutate_text(text, other.decode("utf-8", "replace"), rng).encode("utf-8", "replace")
    return mutate_bytes(raw, other, rng)


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True
