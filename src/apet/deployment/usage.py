"""The lines by which an exported model is called: they give the answers of `apet predict`, without apet.

A run reads a template part by part, so that a tokenizer never joins a letter of the template with one of the text. A
pipeline reads one string. Where both give the same tokens, the pipeline's three lines are shown; where they do not,
lines that encode the parts one by one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from apet.backbones.family import ObjectiveName
from apet.errors import ApetError
from apet.tasks.examples import Example
from apet.tasks.objectives import Objective
from apet.tasks.objectives.heads import THRESHOLD
from apet.tasks.objectives.masked_label_word import MaskedLabelWord
from apet.tasks.objectives.next_token import NextToken
from apet.tasks.objectives.text_to_text import TextToText
from apet.tasks.template import Template

PLACE = "FOLDER"
"""What stands in the lines for the folder, or for the model's name on the hub."""

PIPELINES: Mapping[ObjectiveName, str | None] = {
    "classification-head": "text-classification",
    "regression-head": "text-classification",
    "multi-label-head": "text-classification",
    "token-classification-head": "token-classification",
    "masked-label-word": "fill-mask",
    "next-token": "text-generation",
    "text-to-text": None,
}
"""The pipeline of transformers that serves an objective; encoder-decoders have had none since transformers 5."""
OF_WHOLE_TEXTS: tuple[ObjectiveName, ...] = ("classification-head", "regression-head", "multi-label-head")
"""Objectives that read a text, or two, as it is: a pipeline gets the same tokens."""


@dataclass(frozen=True)
class Usage:
    """How an exported model is called.

    Attributes:
        code: lines of Python that print the answer to one row.
        pipeline: name of the pipeline that they use; None: they call the model.
        same_tokens: whether one string of template and text gives the tokens that the run was trained on.
        num_checked: texts that this was found out with.
    """

    code: str
    pipeline: str | None
    same_tokens: bool
    num_checked: int


def usage_of(objective: Objective, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, str]]) -> Usage:
    """Find out how an exported model is called.

    Args:
        objective: of the run.
        tokenizer: as it is exported.
        rows: texts by column, to compare tokens on.

    Returns:
        The lines, and what they rest on.

    Raises:
        ApetError: an objective that no other library can be told to serve.
    """
    require_known(objective)
    name = PIPELINES[objective.name]
    if objective.name == "token-classification-head":
        # The pipeline reads one string and finds words of its own; the run reads a list of tokens, as the lines do.
        return Usage("\n".join([*_tags(objective), ""]), name, True, 0)
    same, checked = reads_alike(objective, tokenizer, rows)
    greedy = not scores_labels(objective)
    pipeline = name if (same and greedy) or objective.name in OF_WHOLE_TEXTS else None
    write = _LINES[objective.name] if pipeline or (same and greedy and name is None) else _part_by_part
    return Usage("\n".join([*write(objective), ""]), pipeline, same, checked)


def require_known(objective: Objective) -> None:
    """Pass an objective that other libraries can be told to serve.

    Raises:
        ApetError: it is another one.
    """
    if objective.name not in PIPELINES:
        raise ApetError(
            f"transformers has no pipeline that answers as a {objective.name} does; --to delta takes any run, and apet"
            " predict answers with it"
        )


def scores_labels(objective: Objective) -> bool:
    """Whether labels of several tokens are compared, which no greedy generation does."""
    if not isinstance(objective, (NextToken, TextToText)):
        return False
    return objective.compares_labels and not objective.verbalizer.single_token


def reads_alike(
    objective: Objective, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, str]]
) -> tuple[bool, int]:
    """Whether the exported tokenizer makes of whole texts the tokens that the run was trained on.

    Args:
        objective: of the run.
        tokenizer: as it is exported.
        rows: texts by column.

    Returns:
        Whether it does on all of them, and how many could be compared: a text that is cut is no comparison.
    """
    compared = 0
    for row in rows:
        encoded = objective.encode(Example(dict(row), (), ""))
        if encoded.num_cut:
            continue
        compared += 1
        if not np.array_equal(tokenizer(*_strings(objective, row))["input_ids"], encoded.input_ids):
            return False, compared
    return True, compared


def _strings(objective: Objective, row: Mapping[str, str]) -> list[str]:
    """What is handed to a tokenizer for one row."""
    if objective.name in OF_WHOLE_TEXTS:
        return [row[column] for column in objective.task.columns]
    text = "".join(part for part, _ in objective.template.parts(dict(row)))
    if objective.name == "masked-label-word":
        text += f"{objective.tokenizer.pretrained.mask_token}{objective.template.tail}"
    return [text]


def _parts(template: Template) -> list[str]:
    """Python expressions of the template's parts before the answer, for a ``row`` of texts."""
    marks = {column: f"\0{n}\0" for n, (_, column) in enumerate(template.pieces) if column is not None}
    expressions = []
    for part, _ in template.parts(marks):
        lead, mark, _ = part.partition("\0")
        column = next((c for c, m in marks.items() if mark and part.endswith(m)), None)
        literal = [_quoted(lead)] if lead else []
        expressions.append(" + ".join([*literal, *([] if column is None else [f"row[{_quoted(column)}]"])]))
    return expressions


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _classify(objective: Objective, all_labels: bool = False) -> tuple[list[str], str]:
    """Lines that make the pipeline, and the expression of its answer to a row: one dictionary, or one a label."""
    columns = [f"row[{_quoted(column)}]" for column in objective.task.columns]
    made = f'classify = pipeline("text-classification", "{PLACE}", truncation=True)'
    text = columns[0] if len(columns) == 1 else f'{{"text": {columns[0]}, "text_pair": {columns[1]}}}'
    if all_labels:
        return [*_import("pipeline", objective), made], f"classify({text}, top_k=None)"
    # Of a pair it returns the answer itself, of a text a list of one.
    return [*_import("pipeline", objective), made], f"classify({text}){'' if len(columns) > 1 else '[0]'}"


def _classification(objective: Objective) -> list[str]:
    lines, answer = _classify(objective)
    return [*lines, f'print({answer}["label"])']


def _regression(objective: Objective) -> list[str]:
    lines, answer = _classify(objective)
    task, number = objective.task, f'{answer}["score"]'
    if (task.target_mean, task.target_std) != (0, 1):  # what the head's own weights could not hold
        number += f" * {task.target_std!r} + {task.target_mean!r}"
    return [*lines, f'print("%.6g" % ({number}))']


def _labels(objective: Objective) -> list[str]:
    lines, answer = _classify(objective, all_labels=True)
    return [
        *lines,
        f'scores = {{p["label"]: p["score"] for p in {answer}}}',
        f"print([label for label in {list(objective.task.label_words)!r} if scores[label] > {THRESHOLD}])",
    ]


def _tags(objective: Objective) -> list[str]:
    t, column = objective.tokenizer, objective.task.columns[0]
    return [
        "import torch",
        "from transformers import AutoModelForTokenClassification, AutoTokenizer",
        "",
        f'row = {{{_quoted(column)}: ["…", "…"]}}',
        f'tokenizer, model = AutoTokenizer.from_pretrained("{PLACE}"), '
        f'AutoModelForTokenClassification.from_pretrained("{PLACE}")',
        "plain = {'add_special_tokens': False, 'split_special_tokens': True}",
        f"tokens = [' ' * (n > 0) + token for n, token in enumerate(row[{_quoted(column)}])]",
        f"pieces = [tokenizer.encode(token, **plain) or [{t.pad_id}] for token in tokens]",
        f"ids = torch.tensor([{t.prefix_ids} + sum(pieces, []) + {t.suffix_ids}])",
        f"first = [{len(t.prefix_ids)} + sum(map(len, pieces[:n])) for n in range(len(pieces))]",
        "tags = model(input_ids=ids).logits[0, first].argmax(-1).tolist()",
        "print(*[model.config.id2label[tag] for tag in tags])",
    ]


def _fill_mask(objective: Objective) -> list[str]:
    assert isinstance(objective, MaskedLabelWord)
    pretrained = objective.tokenizer.pretrained
    *parts, last = _parts(objective.template)
    masked = f"{pretrained.mask_token}{objective.template.tail}"
    # A literal before the mask is joined with it, for whoever reads the line.
    parts += [_quoted(json.loads(last) + masked)] if last.startswith('"') else [last, _quoted(masked)]
    tokens = [str(pretrained.convert_ids_to_tokens(i)) for i in objective.word_ids]
    words = dict(zip(objective.word_ids, objective.task.label_words, strict=True))
    return [
        *_import("pipeline", objective),
        f'fill = pipeline("fill-mask", "{PLACE}", targets={json.dumps(tokens, ensure_ascii=False)}, top_k=1)',
        f"words = {words!r}",
        f'print(words[fill({" + ".join(parts)})[0]["token"]])',
    ]


def _generate(objective: Objective) -> list[str]:
    return [
        *_import("pipeline", objective),
        f'generate = pipeline("text-generation", "{PLACE}", return_full_text=False)',
        *_print_answer(objective, f'generate({" + ".join(_parts(objective.template))})[0]["generated_text"].strip()'),
    ]


def _import(names: str, objective: Objective) -> list[str]:
    """The import, and a row of texts."""
    row = json.dumps(dict.fromkeys(objective.task.columns, "…"), ensure_ascii=False)
    return [f"from transformers import {names}", "", f"row = {row}"]


def _print_answer(objective: Objective, answer: str) -> list[str]:
    """Print what was written; the label word where the tokenizer spells it otherwise, such as in lower case."""
    t, lead = objective.tokenizer, objective.template.lead if objective.name == "next-token" else ""
    spelled = {t.decode(t.encode_word(lead + word)): word for word in objective.task.label_words}
    if all(written == word for written, word in spelled.items()):
        return [f"print({answer})"]
    return [f"words, answer = {spelled!r}, {answer}", "print(words.get(answer, answer))"]


def _load(kind: str, objective: Objective) -> list[str]:
    return [
        *_import(f"{kind}, AutoTokenizer", objective),
        f'tokenizer, model = AutoTokenizer.from_pretrained("{PLACE}"), {kind}.from_pretrained("{PLACE}")',
    ]


def _write(objective: Objective) -> list[str]:
    return [
        *_load("AutoModelForSeq2SeqLM", objective),
        f'inputs = tokenizer({" + ".join(_parts(objective.template))}, return_tensors="pt")',
        "written = model.generate(**inputs)[0, 1:]",
        *_print_answer(objective, "tokenizer.decode(written, skip_special_tokens=True).strip()"),
    ]


_LINES: Mapping[ObjectiveName, Callable[[Objective], list[str]]] = {
    "classification-head": _classification,
    "regression-head": _regression,
    "multi-label-head": _labels,
    "masked-label-word": _fill_mask,
    "next-token": _generate,
    "text-to-text": _write,
}


def _part_by_part(objective: Objective) -> list[str]:
    kinds = {"masked-label-word": "MaskedLM", "next-token": "CausalLM", "text-to-text": "Seq2SeqLM"}
    return answer_lines(objective, _load(f"AutoModelFor{kinds[objective.name]}", objective))


def answer_lines(objective: Objective, load: Sequence[str]) -> list[str]:
    """Lines that encode the template's parts as the run did, and call the model.

    Args:
        objective: of the run.
        load: lines that make ``row``, ``tokenizer`` and ``model``.

    Returns:
        Lines that print the answer.
    """
    t = objective.tokenizer
    masked = objective.name == "masked-label-word"
    after = [t.pretrained.mask_token_id, *t.encode(objective.template.tail)] if masked else []
    suffix = [] if objective.name == "next-token" else t.suffix_ids
    lines = [
        "import torch",
        *load,
        f"parts = [{', '.join(_parts(objective.template))}]",
        "plain = {'add_special_tokens': False, 'split_special_tokens': True}",
        "ids = [i for part in parts for i in tokenizer.encode(part, **plain)]",
        f"ids = torch.tensor([{t.prefix_ids} + ids + {[*after, *suffix]}])",
    ]
    if isinstance(objective, MaskedLabelWord):
        words = dict(zip(objective.word_ids, objective.task.label_words, strict=True))
        return [
            *lines,
            f"words = {words!r}",
            f"logits = model(input_ids=ids).logits[0, -{len(after) + len(suffix)}]",
            "print(max(words.items(), key=lambda word: logits[word[0]])[1])",
        ]
    if scores_labels(objective):
        return [*lines, *_scored(objective)]
    start = "ids.shape[1]" if objective.name == "next-token" else "1"
    return [
        *lines,
        f"written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))[0, {start}:]",
        *_print_answer(objective, "tokenizer.decode(written, skip_special_tokens=True).strip()"),
    ]


def _scored(objective: Objective) -> list[str]:
    """Lines that print the likeliest label of several tokens."""
    assert isinstance(objective, (NextToken, TextToText))
    end = objective.end_ids if isinstance(objective, NextToken) else objective.tokenizer.suffix_ids
    words = dict(zip(objective.task.label_words, objective.verbalizer.candidates(end), strict=True))
    if isinstance(objective, NextToken):
        call = "input_ids=torch.cat([ids, torch.tensor([label])], 1)).logits[0, -len(label) - 1 : -1]"
    else:
        start = "[model.config.decoder_start_token_id, *label[:-1]]"
        call = f"input_ids=ids, decoder_input_ids=torch.tensor([{start}])).logits[0, -len(label):]"
    return [
        f"words, scores = {words!r}, {{}}",
        "for word, label in words.items():",
        f"    logits = model({call}",
        "    scores[word] = logits.log_softmax(-1).gather(1, torch.tensor(label)[:, None]).sum().item()",
        "print(max(scores, key=scores.get))",
    ]
