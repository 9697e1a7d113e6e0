"""A run as a plain model folder of transformers: the delta merged, and the folder read back before it counts."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError, NotMergeableError
from apet.layers.merging import merge_remedy
from apet.tasks.examples import Example
from apet.tasks.objectives import Objective
from apet.tasks.objectives.next_token import NextToken
from apet.tasks.objectives.text_to_text import TextToText
from apet.tasks.objectives.verbalizer import greedy_generation
from apet.training.inference import TunedModel

OTHERWISE = "--to delta takes any run, --to peft what that library holds"
LABEL_BIAS = 100.0
"""What lifts label words above all other tokens, where the likeliest label is the answer: small enough that their
logits keep their order, to 1e-5."""
RELATIVE_ERROR = 1e-4
"""How far logits of the folder may be from those of the merged model: other kernels round otherwise."""


def write_plain_model(tuned: TunedModel, folder: Path) -> PreTrainedTokenizerBase:
    """Merge a run's delta, and write model and tokenizer as transformers reads them.

    Args:
        tuned: the run; its delta is merged for good.
        folder: exists.

    Returns:
        The tokenizer, as it was written.

    Raises:
        NotMergeableError: no parameter of the backbone can hold the delta.
        ApetError: a plain model of the class would not be the merged one.
    """
    model = tuned.model
    if not isinstance(model, PreTrainedModel):
        raise ApetError(f"a {type(model).__name__} cannot be written as a folder of transformers; {OTHERWISE}")
    _merge(tuned)
    if tuned.objective.name == "regression-head":
        _answer_in_units_of_the_data(model, tuned.objective)
    _settle_config(model, tuned.objective)
    tokenizer = serving_tokenizer(tuned.objective)
    expected = _probe(model, tuned.objective)
    try:
        model.save_pretrained(folder)
    except (ValueError, RuntimeError, NotImplementedError) as e:
        raise ApetError(f"transformers cannot save this {type(model).__name__} ({e}); {OTHERWISE}") from e
    tokenizer.save_pretrained(folder)
    _require_same(model, expected, tuned.objective, folder)
    return tokenizer


def _merge(tuned: TunedModel) -> None:
    obstacles = tuned.handle.spec.merge_obstacles or ()
    if obstacles:
        insertions = tuned.handle.spec.insertions
        remedy = merge_remedy(insertions, _described(tuned.model)).replace("mergeable=True", "mergeable=true")
        raise NotMergeableError(
            f"the run cannot become a plain model: {'; '.join(obstacles)}. For the next run, {remedy}; for this one,"
            f" {OTHERWISE}"
        )
    try:
        tuned.handle.merge(forget=True)
    except NotMergeableError as e:  # what only the model shows: quantized or sharded weights
        reason = str(e).partition(";")[0]
        raise NotMergeableError(f"the run cannot become a plain model: {reason}; {OTHERWISE}") from e


def _described(model: nn.Module) -> Any:
    from apet.attachment_state import state_of

    state = state_of(model)
    assert state is not None  # the delta is attached
    return state.backbone


PROBLEM_TYPES: Mapping[ObjectiveName, str | None] = {
    "classification-head": "single_label_classification",
    "regression-head": "regression",
    "multi-label-head": "multi_label_classification",
    "token-classification-head": None,
}
"""What transformers calls the problem of a head, by which its pipelines choose softmax, sigmoid or neither."""


@torch.no_grad()
def _answer_in_units_of_the_data(model: PreTrainedModel, objective: Objective) -> None:
    """Let the head's last layer say numbers of the data's own units, where it has a bias and float32 holds them."""
    outputs = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1]
    if not outputs or outputs[-1].bias is None or outputs[-1].weight.dtype != torch.float32:
        return
    task = objective.task
    outputs[-1].weight.mul_(task.target_std)
    outputs[-1].bias.mul_(task.target_std).add_(task.target_mean)
    objective.task = task.model_copy(update={"target_mean": 0.0, "target_std": 1.0})


def _settle_config(model: PreTrainedModel, objective: Objective) -> None:
    """Let the configuration say what the classes are called, and how long an answer is."""
    if objective.name in PROBLEM_TYPES:
        words = objective.task.label_words or (objective.task.target,)  # of a number, what it is of
        model.config.id2label = dict(enumerate(words))
        model.config.label2id = {word: i for i, word in enumerate(words)}
        model.config.problem_type = PROBLEM_TYPES[objective.name]
    generation = generation_of(model, objective)
    if generation is not None:
        model.generation_config = generation


def generation_of(model: nn.Module, objective: Objective) -> Any:
    """Generation settings by which a written answer is the run's own; None where nothing is generated."""
    if not isinstance(objective, (NextToken, TextToText)):
        return None
    # A label of one token is the likeliest next token, whatever would follow it.
    length = 1 if objective.verbalizer.single_token else objective.verbalizer.max_new_tokens
    start = getattr(model, "config").decoder_start_token_id if isinstance(objective, TextToText) else None
    generation = greedy_generation(objective.tokenizer, length, decoder_start_token_id=start)
    if objective.compares_labels and objective.verbalizer.single_token:
        generation.sequence_bias = [[ids, LABEL_BIAS] for ids in objective.verbalizer.ids]
    return generation


def serving_tokenizer(objective: Objective) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer with the run's settings: length, side of padding, and texts that hold no special token.

    Returns:
        A copy.
    """
    tokenizer = copy.deepcopy(objective.tokenizer.pretrained)
    # As in training, "</s>" in a text is five letters. A mask has to be given in the text, and stays special.
    splits = objective.name != "masked-label-word"
    tokenizer.model_max_length = objective.max_input_length
    tokenizer.padding_side, tokenizer.split_special_tokens = objective.padding, splits
    # What is saved of a tokenizer are these.
    tokenizer.init_kwargs |= {"padding_side": objective.padding, "split_special_tokens": splits}
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token  # for pipelines with batches; it is masked out
    return tokenizer


@torch.no_grad()
def _probe(model: nn.Module, objective: Objective) -> Tensor:
    """Logits of some made-up rows."""
    columns = objective.task.columns
    texts = ["a", "one two three, four five six!"]
    if objective.name == "token-classification-head":
        texts = [json.dumps(text.split()) for text in texts]
    rows = [Example(dict.fromkeys(columns, text), (), "") for text in texts]
    batch = objective.collate([objective.encode(row) for row in rows])
    device = next(model.parameters()).device
    inputs = {key: batch[key].to(device) for key in ("input_ids", "attention_mask")}
    if isinstance(objective, TextToText):
        start = getattr(model, "config").decoder_start_token_id
        inputs["decoder_input_ids"] = torch.full((len(rows), 1), start, device=device)
    logits: Tensor = model.eval()(**inputs).logits
    return logits.float().cpu()


def _require_same(model: PreTrainedModel, expected: Tensor, objective: Objective, folder: Path) -> None:
    """Refuse a folder of which transformers makes another model than the one that was written.

    Raises:
        NotMergeableError: the class has no place for some parameters.
        ApetError: parameters are missing, or the logits differ.
    """
    quiet = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        again, report = type(model).from_pretrained(folder, output_loading_info=True, dtype=model.dtype)
    finally:
        hf_logging.set_verbosity(quiet)
    name = type(model).__name__
    without_place = sorted(report["unexpected_keys"])
    if without_place:
        raise NotMergeableError(
            f"the run cannot become a plain model: merged, it has {len(without_place)} parameters that a {name} of"
            f" transformers does not have, first {without_place[0]!r}. For the next run, give a method that trains what"
            f" is there, such as lora; for this one, {OTHERWISE}"
        )
    device = next(model.parameters()).device
    difference = float((_probe(again.to(device), objective) - expected).abs().max())
    if report["missing_keys"] or not difference <= RELATIVE_ERROR * (1 + float(expected.abs().max())):
        raise ApetError(
            f"transformers reads this {name} back with other logits (by {difference:.2g}), so that a plain folder would"
            f" not be the tuned model; {OTHERWISE}"
        )
