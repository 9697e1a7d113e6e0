"""The recommendation from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from apet.recommendation.answer import Recommendation
from apet.recommendation.answering import answer
from apet.recommendation.asked import ask
from apet.recommendation.live import DeadlineProgress
from apet.training.config import validate_config


def recommend(
    backbone: str,
    *,
    output: str | Path,
    within: str = "30m",
    reach: str = "95%",
    test: str | None = None,
    max_params: int | None = None,
    max_memory: str | None = None,
    deploy: Literal["attached", "merged"] = "attached",
    quiet: bool = True,
    **settings: JsonValue,
) -> Recommendation:
    """Recommend how few parameters to train, where, in what structure, to reach full fine-tuning.

    Args:
        backbone: name, folder or hub id.
        output: folder for all runs; one that holds runs of the same question goes on.
        within: time that it may take, such as ``30m``.
        reach: what counts as reaching full fine-tuning: ``95%`` of the way to it, or ``-1pt`` below it.
        test: file of rows to test on; None = the data's own, else some are held out.
        max_params: largest number of parameters that may be recommended.
        max_memory: that training may take, such as ``8GB``.
        deploy: ``merged`` = only what can be merged into the backbone's own parameters.
        quiet: show no progress.
        **settings: ``task``, or ``data``, ``text`` and ``label``; and other settings of runs, such as ``max_steps``.

    Returns:
        The answer; its ``headline`` is one sentence.

    Raises:
        ApetError: settings or data that do not fit.

    Examples:
        >>> import apet
        >>> apet.recommend("bert-small", output="runs/x", within="soon")
        Traceback (most recent call last):
        ...
        apet.errors.ApetError: within='soon' is not a duration; give such as 30m, 90s or 1h30m
    """
    base = validate_config({"backbone": backbone, **settings})
    asked = ask(
        base,
        Path(output),
        within=within,
        reach=reach,
        test=test,
        max_params=max_params,
        max_memory=max_memory,
        deploy=deploy,
    )
    return answer(asked, DeadlineProgress(quiet))
