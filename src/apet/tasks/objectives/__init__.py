"""How each kind of backbone solves a task: one interface for head, label word, text to text and next token."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from apet.backbones.family import ObjectiveName
from apet.tasks.objectives.classification_head import MAX_SEGMENTS, ClassificationHead
from apet.tasks.objectives.heads import (
    MultiLabelHead,
    MultipleChoiceHead,
    RegressionHead,
    TokenClassificationHead,
)
from apet.tasks.objectives.masked_label_word import MaskedLabelWord
from apet.tasks.objectives.next_token import NextToken
from apet.tasks.objectives.objective import Batch, Objective
from apet.tasks.objectives.text_to_text import TextToText
from apet.tasks.task import Task
from apet.tasks.tokenization import TextTokenizer

_OBJECTIVES: dict[ObjectiveName, type[Objective]] = {
    "classification-head": ClassificationHead,
    "masked-label-word": MaskedLabelWord,
    "text-to-text": TextToText,
    "next-token": NextToken,
    **{head.name: head for head in (RegressionHead, MultiLabelHead, MultipleChoiceHead, TokenClassificationHead)},
}


def head_for(task: Task) -> ObjectiveName | None:
    """The objective of a task's type that no words answer; None where label words or free text do."""
    return next((name for name, o in _OBJECTIVES.items() if task.task_type in o.task_types and o not in _WORDS), None)


_WORDS = (ClassificationHead, MaskedLabelWord, TextToText, NextToken)


def num_outputs(name: ObjectiveName, task: Task) -> int:
    """Outputs of the objective's head for a task; 2 where it has none, as transformers' own default."""
    if name in ("regression-head", "multiple-choice-head"):
        return 1
    if name in ("multi-label-head", "token-classification-head"):
        return len(task.labels)
    return max(2, len(task.label_words))


def make_objective(
    name: ObjectiveName, task: Task, tokenizer: PreTrainedTokenizerBase, max_input_length: int
) -> Objective:
    """The objective of a name, for a task and a backbone's tokenizer.

    Returns:
        The objective.

    Raises:
        ApetError: the task cannot be solved that way; the reason and the remedy are named.
    """
    return _OBJECTIVES[name](task, TextTokenizer(tokenizer), max_input_length)


def check_objective(name: ObjectiveName, task: Task) -> None:
    """Check that a task can be solved that way, before a tokenizer is loaded.

    Raises:
        ApetError: it cannot; the reason and the remedy are named.
    """
    _OBJECTIVES[name].check(task)


def is_generative(name: ObjectiveName) -> bool:
    """Whether predictions come from the whole vocabulary, so that an untrained backbone guesses none."""
    return _OBJECTIVES[name].is_generative


__all__ = [
    "MAX_SEGMENTS",
    "Batch",
    "Objective",
    "check_objective",
    "head_for",
    "is_generative",
    "make_objective",
    "num_outputs",
]
