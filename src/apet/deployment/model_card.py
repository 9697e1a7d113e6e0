"""README.md of an exported run, by the hub's conventions: measures, what was trained, on which data, how to call it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Literal

from huggingface_hub import EvalResult, ModelCardData

from apet.backbones.registry import locate_backbone
from apet.errors import ApetError
from apet.tasks.score_text import score_text
from apet.tasks.task import Task
from apet.training.config import RunConfig
from apet.training.result import RunResult

ExportKind = Literal["transformers", "peft", "delta"]

FILL_IN = "*(to be filled in)*"


def card_text(
    config: RunConfig,
    task: Task,
    result: RunResult,
    kind: ExportKind,
    pipeline: str | None,
    usage: str,
    notes: list[str],
) -> str:
    """Write the card.

    Args:
        config: of the run.
        task: what it learned.
        result: what it recorded.
        kind: of the export.
        pipeline: of transformers that serves it, or None.
        usage: Markdown that says how it is called.
        notes: what a reader must know about it.

    Returns:
        Markdown with the hub's metadata at its top. License, language and what only its author knows are left open.
    """
    name = f"{result.backbone.rstrip('/').rpartition('/')[2]}-{result.task}-{result.method}"
    sections: Mapping[str, str] = {
        "How to use it": usage,
        "Measures": _measures(result),
        "What was trained": _trained(result),
        "Data": _data(task, result),
        "Reads and answers": _template(task),
        "To be filled in by its author": "\n".join(
            f"- {what}: {FILL_IN}"
            for what in ("license", "language", "intended use", "what it must not be used for", "known weaknesses")
        ),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    said = "".join(f"> {note}\n" for note in notes)
    about = f"`{result.backbone}` tuned on `{result.task}` by `{result.method}` with apet."
    head = _metadata(config, task, result, kind, pipeline, name)
    return f"---\n{head}\n---\n\n# {name}\n\n{about}\n\n{said}{chr(10) if said else ''}{body}\n"


_HUB_TYPES: Mapping[str, str] = {
    "single-label": "text-classification",
    "multi-label": "text-classification",
    "regression": "text-classification",
    "token-classification": "token-classification",
    "multiple-choice": "multiple-choice",
}
"""Type of task -> what the hub calls it."""


def _metadata(
    config: RunConfig, task: Task, result: RunResult, kind: ExportKind, pipeline: str | None, name: str
) -> str:
    """The hub's metadata, YAML."""
    dataset = task.source.hub
    measured = EvalResult(
        task_type=_HUB_TYPES.get(task.task_type, "text2text-generation"),
        dataset_type=dataset or result.task,
        dataset_name=result.task,
        dataset_split="validation",
        metric_type=result.metric,
        metric_value=round(result.score, 6),
    )
    data = ModelCardData(
        base_model=hub_name(config.backbone),
        datasets=dataset,
        eval_results=[measured],
        library_name="peft" if kind == "peft" else "transformers",
        metrics=[result.metric],
        model_name=name,
        pipeline_tag=pipeline,
        tags=["apet", result.backbone_family, config.method],
    )
    # As comments: the hub refuses an empty license, and a wrong one is worse than none.
    return (
        f"{data.to_yaml()}\n# license:   to be filled in, such as apache-2.0\n# language:  to be filled in, such as en"
    )


def hub_name(backbone: str) -> str | None:
    """A backbone's id on the hub; None where it is a folder, or comes with a package."""
    try:
        source = locate_backbone(backbone).source
    except ApetError:  # it was a folder, which is gone
        return None
    return source if isinstance(source, str) else None


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _measures(result: RunResult) -> str:
    shown = partial(score_text, result.metric)
    rows = [
        "| split | metric | score | 95 % interval | examples |",
        "| --- | --- | ---: | ---: | ---: |",
        f"| validation | {result.metric} | {shown(result.score)} |"
        f" {shown(result.ci_low)} to {shown(result.ci_high)} | {result.num_examples} |",
    ]
    if result.macro_f1 is not None:
        rows.append(f"| validation | macro-F1 | {_percent(result.macro_f1)} | | {result.num_examples} |")
    if result.test_score is not None and result.test_ci_low is not None and result.test_ci_high is not None:
        interval = f"{shown(result.test_ci_low)} to {shown(result.test_ci_high)}"
        rows.append(
            f"| test | {result.metric} | {shown(result.test_score)} | {interval} | {result.test_num_examples} |"
        )
    lines = ["\n".join(rows), f"Before training: {shown(result.score_untrained)} on validation."]
    if result.majority_baseline is not None:
        lines.append(f"Always the most frequent label: {_percent(result.majority_baseline)}.")
    if result.class_counts:
        table = ["| label | examples | answered | right | F1 |", "| --- | ---: | ---: | ---: | ---: |"]
        table += [
            f"| {c.label} | {c.examples} | {c.answered} | {c.right} | {_percent(c.f1)} |" for c in result.class_counts
        ]
        lines.append("\n".join(table))
    return "\n\n".join(lines)


def _trained(result: RunResult) -> str:
    head = f"{result.num_head_parameters:,} parameters, {result.head}" if result.head != "none" else "none"
    versions = ", ".join(f"{library} {version}" for library, version in sorted(result.versions.items()))
    return "\n".join(
        [
            f"- {result.num_trainable:,} parameters by {result.method}: {result.trainable_percent:.4g} % of"
            f" {result.num_backbone_parameters:,}; task head: {head}",
            f"- backbone `{result.backbone}`, a {result.backbone_class} in {result.dtype}, weights"
            f" `{result.backbone_fingerprint}`",
            f"- {result.best_step} of {result.max_steps} steps of {result.batch_size} examples, learning rate"
            f" {result.learning_rate:g}, seed {result.seed}; the values of the best validation score",
            f"- run `{result.run_id}`, started {result.started}; {versions}",
        ]
    )


def _data(task: Task, result: RunResult) -> str:
    sizes = ", ".join(f"{split} {n:,}" for split, n in result.split_sizes.items())
    lines = [f"- examples: {sizes}; fingerprint `{result.data_fingerprint}`"]
    if task.source.hub:
        lines.append(f"- from `{task.source.hub}`{f' ({task.source.config})' if task.source.config else ''}")
    return "\n".join([*lines, *(f"- {note}" for note in result.data_notes)])


def _template(task: Task) -> str:
    lines = [
        f"- columns: {', '.join(f'`{c}`' for c in task.columns)}",
        f"- template: `{json.dumps(task.template, ensure_ascii=False)}`",
    ]
    if task.labels:
        lines.append("- labels: " + ", ".join(f"`{value}` → `{word}`" for value, word in task.labels.items()))
    return "\n".join(lines)
