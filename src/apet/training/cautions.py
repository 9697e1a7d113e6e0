"""What a reader of a score must not miss, a line each: at chance, below guessing, texts cut, a head beside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from apet.tasks.score_text import score_range, score_text

if TYPE_CHECKING:  # the record holds these lines, so that its module imports this one
    from apet.training.result import RunResult

REMEDY = "train longer (max_steps), at another rate (learning_rate=auto) or more (budget)"


def cautions(result: RunResult) -> list[str]:
    """What a reader of a run's score must know beside it.

    Args:
        result: the record.

    Returns:
        A line for each; empty where there is nothing.
    """
    lines = [
        chance_caution(result),
        truncation_caution(result.num_truncated, result.split_sizes, result.max_input_length),
        head_caution(result.num_head_parameters if result.head == "trained" else 0, result.num_trainable),
    ]
    return [line for line in lines if line]


def chance_caution(result: RunResult) -> str:
    """Whether a run's score can be told from guessing, and from the untrained model; empty where it can."""
    interval = score_range(result.metric, result.ci_low, result.ci_high)
    majority = result.majority_baseline if result.metric == "accuracy" else None
    if majority is not None and result.score < majority:
        return (
            f"below the majority class: {result.metric} {100 * result.score:.1f} %, always answering the most frequent"
            f" label {100 * majority:.1f} %; {REMEDY}"
        )
    if majority is not None and result.ci_low <= majority:
        return (
            f"at chance: the interval {interval} includes always answering the most frequent label,"
            f" {100 * majority:.1f} %; {REMEDY}"
        )
    if result.ci_low <= result.score_untrained:
        return (
            f"no better than untrained: the interval {interval} includes the score before the first step,"
            f" {score_text(result.metric, result.score_untrained)}; {REMEDY}"
        )
    return ""


def truncation_caution(num_truncated: Mapping[str, int], split_sizes: Mapping[str, int], max_length: int) -> str:
    """How many texts were cut, and where; empty where none was.

    Args:
        num_truncated: split -> texts of which something was cut off.
        split_sizes: split -> texts.
        max_length: tokens at which they were cut.

    Returns:
        One line, or nothing.
    """
    cut = {split: n for split, n in num_truncated.items() if n}
    if not cut:
        return ""
    splits = ", ".join(f"{n:,} of {split_sizes[split]:,} {split}" for split, n in cut.items())
    return (
        f"{sum(cut.values()):,} of {sum(split_sizes.values()):,} texts are truncated at {max_length} tokens ({splits});"
        " max_input_length keeps more, up to what the backbone holds"
    )


def head_caution(num_head_parameters: int, num_trainable: int) -> str:
    """That a head is trained beside the delta; empty where none is."""
    if not num_head_parameters:
        return ""
    return (
        f"a task head of {num_head_parameters:,} parameters is trained beside the {num_trainable:,} of the delta and"
        " counted apart; head=frozen trains the delta alone"
    )


def study_cautions(results: Iterable[RunResult]) -> list[str]:
    """What a reader of many runs must not miss, a line for each kind, with how many runs it is of.

    Args:
        results: their records.

    Returns:
        Lines; empty where there is nothing.
    """
    known = list(results)
    at_chance = [r for r in known if chance_caution(r)]
    cut = [r for r in known if any(r.num_truncated.values())]
    lines = []
    if at_chance:
        lines.append(
            f"{_of(at_chance, known)} cannot be told from guessing or from the untrained model ({_who(at_chance)})"
        )
    if cut:
        tasks = ", ".join(sorted({r.task for r in cut}))
        lines.append(f"texts are truncated in {_of(cut, known)} ({tasks})")
    return lines


MOST_NAMED = 4
"""Methods with their tasks that are named; more are counted."""


def _of(some: Sequence[RunResult], known: Sequence[RunResult]) -> str:
    return f"{len(some):,} of {len(known):,} runs"


def _who(runs: Sequence[RunResult]) -> str:
    names = sorted({f"{r.method} on {r.task}" for r in runs})
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


class ChanceWatch:
    """Says once, when half of a run's measurements are taken, that the best of them is still at chance.

    Args:
        majority_baseline: score of always giving the most frequent answer; None = the first score stands for it.
        num_measurements: of the whole run, the untrained model's included.
        log: takes the line.
        metric: name of what is measured.
    """

    def __init__(
        self, majority_baseline: float | None, num_measurements: int, log: Callable[[str], None], metric: str
    ) -> None:
        self._baseline, self._due, self._log = majority_baseline, num_measurements // 2, log
        self._metric = metric
        self._seen, self._best = 0, -math.inf

    def see(self, score: float, ci_low: float) -> None:
        """Take a measurement: a score and the lower end of its interval."""
        self._baseline = score if self._baseline is None else self._baseline
        self._best = max(self._best, ci_low) if self._seen else -math.inf  # the untrained model need not be better
        self._seen += 1
        if self._seen == self._due + 1 and self._due > 0 and self._best <= self._baseline:
            baseline = score_text(self._metric, self._baseline)
            self._log(f"caution: half way and still at chance (baseline {baseline}); {REMEDY}")
