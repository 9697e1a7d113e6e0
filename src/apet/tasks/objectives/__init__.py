"""How each kind of backbone solves a task: one interface for head, label word, text to text and next token."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from apet.backbones.family import ObjectiveName
from apet.tasks.objectives.classification_head import ClassificationHead
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
}


def make_objective(
    use: ObjectiveName, task: Task, tokenizer: PreTrainedTokenizerBase, max_input_length: int
) -> Objective:
    """The objective of a use.

    Raises:
        ApetError: the task cannot be learnt that way; the reason and the remedy are named.
    """
    return _OBJECTIVES[use](task, TextTokenizer(tokenizer), max_input_length)


def check_objective(use: ObjectiveName, task: Task) -> None:
    """Whether a task can be learnt that way, before a tokenizer is at hand; raises as `objective_for`."""
    _OBJECTIVES[use].check(task)


def is_generative(use: ObjectiveName) -> bool:
    """Whether answers come from the whole vocabulary, so that guessing hits none."""
    return _OBJECTIVES[use].is_generative


__all__ = ["Batch", "Objective", "check_objective", "is_generative", "make_objective"]
