"""What a reader of a score must not miss, a line each: at chance, below guessing, texts cut, a head beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

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
    interval = f"[{100 * result.ci_low:.1f}, {100 * result.ci_high:.1f}] %"
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
            f" {100 * result.score_untrained:.1f} %; {REMEDY}"
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


class ChanceWatch:
    """Says once, when half of a run's measurements are taken, that the best of them is still at chance.

    Args:
        majority_baseline: score of always giving the most frequent answer; None = the first score stands for it.
        num_measurements: of the whole run, the untrained model's included.
        log: takes the line.
    """

    def __init__(self, majority_baseline: float | None, num_measurements: int, log: Callable[[str], None]) -> None:
        self._baseline, self._due, self._log = majority_baseline, num_measurements // 2, log
        self._seen, self._best = 0, 0.0

    def see(self, score: float, ci_low: float) -> None:
        """Take a measurement: a score and the lower end of its interval."""
        self._baseline = score if self._baseline is None else self._baseline
        self._best = max(self._best, ci_low) if self._seen else 0.0  # the untrained model is not meant to be better
        self._seen += 1
        if self._seen == self._due + 1 and self._due > 0 and self._best <= self._baseline:
            self._log(f"caution: half way and still at chance (baseline {100 * self._baseline:.1f} %); {REMEDY}")
