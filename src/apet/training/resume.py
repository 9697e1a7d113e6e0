"""What lets a run go on after Ctrl-C, a kill or a power cut: its state at the last measurement, beside where it ends.

A run that goes on from it ends with the same bits as one that was never stopped.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apet.errors import ApetError
from apet.tasks.answers import Answer
from apet.tasks.metrics import MetricScore
from apet.training.evaluation import EvalPoint
from apet.training.output_folder import UNFINISHED


@dataclass(frozen=True)
class Snapshot:
    """A run at a measurement.

    Attributes:
        points: the curve so far, the untrained model first; the last one is now.
        values: the trained values as they are.
        optimizer: the optimizer's state dict.
        random: states of PyTorch's generators: the processor's, then those of the devices.
        best: place of the best measurement among the points.
        best_values: the values then.
        predictions: the answers then.
    """

    points: list[EvalPoint]
    values: list[Tensor]
    optimizer: dict[str, Any]
    random: list[Tensor]
    best: int
    best_values: list[Tensor]
    predictions: list[Answer]


def random_states() -> list[Tensor]:
    """States of PyTorch's generators, as a `Snapshot` holds them."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def set_random_states(states: list[Tensor]) -> None:
    """Go on drawing where `random_states` was taken."""
    torch.set_rng_state(states[0])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states[1:])


class ResumeFile:
    """The state of an unfinished run on disk.

    Args:
        folder: where the run's result will lie.
        run_id: of the run: the state of another one is refused.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self.path = folder / UNFINISHED
        self.run_id = run_id

    def save(self, snapshot: Snapshot) -> None:
        """Keep a state in place of the last one, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        part = self.path.with_suffix(".part")
        try:
            torch.save({"run_id": self.run_id, **asdict(snapshot)}, part)
            os.replace(part, self.path)
        except RuntimeError as e:  # of torch's own writer, on a full disk
            raise OSError(str(e)) from e
        finally:
            part.unlink(missing_ok=True)

    def load(self) -> Snapshot | None:
        """The last state.

        Returns:
            It; None where there is none.

        Raises:
            ApetError: it is another run's, or cannot be read.
        """
        if not self.path.is_file():
            return None
        where, remedy = str(self.path), "give a new folder, or remove it"
        try:
            state = torch.load(self.path, weights_only=True)
            owner = state.pop("run_id")
            points = [EvalPoint(**{**p, "score": MetricScore(**p["score"])}) for p in state.pop("points")]
            answers = [Answer(**a) for a in state.pop("predictions")]
            snapshot = Snapshot(points=points, predictions=answers, **state)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError, AttributeError) as e:
            why = (str(e).splitlines() or [type(e).__name__])[0]
            raise ApetError(f"the unfinished run {where!r} cannot be read ({why}); {remedy}") from e
        if owner != self.run_id:
            raise ApetError(f"{where!r} is of an unfinished run with other settings or data; {remedy}")
        return snapshot
