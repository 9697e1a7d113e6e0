"""The answer as a value: what to use, what it scores, what was tried and dropped, and how it is trained again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, cast

from pydantic import JsonValue

from apet.display import html_image, html_notes, html_table

FIGURE = "recommendation.png"
"""The picture of an answer, in the folder of its runs."""

State = Literal["decided", "not decided", "nothing to reach", "nothing measured"]


@dataclass(frozen=True)
class HeldOutScore:
    """Score of the recommended arm on rows that nothing was chosen by.

    Attributes:
        score: in [0, 1].
        ci_low, ci_high: ends of its 95 % interval over the rows.
        num_examples: rows.
    """

    score: float
    ci_low: float
    ci_high: float
    num_examples: int


@dataclass(frozen=True)
class Tried:
    """An arm that has a score: a point of the picture.

    Attributes:
        family: name.
        method: registered name.
        num_trainable: N.
        learning_rate: of its race.
        score: mean over seeds, on validation.
        num_seeds: runs behind it.
        reaches: probability that it reaches the level.
        relative_time: of a step, of full fine-tuning's; None = not known.
        relative_memory: likewise.
        run: folder of the one of its runs that scored best on validation.
        is_best_for_size: whether none with as few parameters scores higher.
    """

    family: str
    method: str
    num_trainable: int
    learning_rate: float
    score: float
    num_seeds: int
    reaches: float
    relative_time: float | None
    relative_memory: float | None
    run: str
    is_best_for_size: bool = False


@dataclass(frozen=True)
class Fate:
    """What became of a family.

    Attributes:
        family: name.
        what: recommended, tried, dropped, not tried, left out.
        why: in words.
        seconds: of computing until then; None = never begun.
    """

    family: str
    what: Literal["recommended", "tried", "dropped", "not tried", "left out"]
    why: str
    seconds: float | None


@dataclass(frozen=True)
class CurvePointOfFamily:
    """The budget curve of the recommended family at one N.

    Attributes:
        num_trainable: N.
        score: median of the mean score over seeds.
        ci_low, ci_high: ends of its 95 % interval.
    """

    num_trainable: int
    score: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Recommendation:
    """The answer.

    Attributes:
        state: whether it is decided.
        headline: the answer in one sentence.
        backbone, task, metric: of the question.
        reach: what counts as reaching full fine-tuning, in words.
        within: seconds that it might take.
        seconds: that it took.
        num_runs: runs of this question in the folder.
        ended: why it ended.
        reference: name of full fine-tuning, or of what stands in for it.
        stand_in: why full fine-tuning was not run; empty = it was.
        num_validation: rows that arms were chosen by.
        steps: of a run.
        num_families, num_raced: ways to tune that there are, and that there was time for.
        use: the recommended arm; None where nothing was measured.
        rank: of a LoRA; None for others, or below rank 1.
        where: positions of it, in words.
        test: its score on rows that nothing was chosen by; None = not taken.
        reference_score: mean over seeds, on validation; None = no run of it ended.
        reference_seeds: runs behind it.
        untrained, constant: score before training, and of the best constant answer.
        nothing_below: no N below it is likely to reach the level; None = not known.
        regret: points that are expected to be lost by this answer; see `apet.recommendation.evidence`.
        rival: the arm that might be better, in words; empty = none.
        seconds_to_decide: how much longer would decide between the two, at 80 %; None = not known.
        file_bytes: of the saved delta; None = not saved.
        tried: every arm with a score, by N.
        fates: every family.
        curve: of the recommended family.
        commands: purpose -> command line.
        notes: on the data.
        folder: where all of it lies.
    """

    state: State
    headline: str
    backbone: str
    task: str
    metric: str
    reach: str
    within: float
    seconds: float
    num_runs: int
    ended: str
    reference: str
    stand_in: str
    num_validation: int
    steps: int
    num_families: int
    num_raced: int = 0
    use: Tried | None = None
    rank: int | None = None
    where: str = ""
    test: HeldOutScore | None = None
    reference_score: float | None = None
    reference_seeds: int = 0
    untrained: float = 0.0
    constant: float = 0.0
    nothing_below: int | None = None
    regret: float | None = None
    rival: str = ""
    seconds_to_decide: float | None = None
    file_bytes: int | None = None
    tried: tuple[Tried, ...] = ()
    fates: tuple[Fate, ...] = ()
    curve: tuple[CurvePointOfFamily, ...] = ()
    commands: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    folder: str = ""

    def _repr_html_(self) -> str:
        rows = [
            (p.family, p.num_trainable, p.learning_rate, p.score, p.num_seeds, "recommended" if p == self.use else "")
            for p in self.tried
        ]
        columns = ("method", "trained parameters", "learning rate", f"validation {self.metric}", "seeds", "")
        commands = [f"{purpose}: {command}" for purpose, command in self.commands.items()]
        picture = Path(self.folder) / FIGURE
        shown = html_image(picture.read_bytes(), "score over parameters") if picture.is_file() else ""
        return html_table(self.headline, columns, rows) + shown + html_notes([*self.notes, *commands])

    def as_dict(self) -> dict[str, JsonValue]:
        """Everything as plain data, for JSON."""
        return cast("dict[str, JsonValue]", asdict(self))
