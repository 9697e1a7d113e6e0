"""A run as an adapter of the peft library, with the lines that load it onto its backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from apet.backbones.family import ObjectiveName
from apet.backbones.registry import locate_backbone
from apet.deployment.delta_folder import bare_task
from apet.deployment.plain_model import generation_of, serving_tokenizer
from apet.deployment.usage import PLACE, answer_lines
from apet.errors import ApetError
from apet.interop.peft_adapter import write_adapter
from apet.interop.peft_export import peft_adapter
from apet.tasks.objectives import Objective
from apet.training.inference import TunedModel
from apet.training.run_dir import TASK, dump_yaml

TASK_TYPES: Mapping[ObjectiveName, str | None] = {
    "classification-head": "SEQ_CLS",
    "masked-label-word": None,
    "next-token": "CAUSAL_LM",
    "text-to-text": "SEQ_2_SEQ_LM",
}
"""peft's name for what an objective asks of a model; it has none for filling in a mask."""

_CLASSES: Mapping[ObjectiveName, str] = {
    "classification-head": "AutoModelForSequenceClassification",
    "masked-label-word": "AutoModelForMaskedLM",
    "next-token": "AutoModelForCausalLM",
    "text-to-text": "AutoModelForSeq2SeqLM",
}


def require_peft_knows(objective: Objective) -> None:
    """Pass an objective whose head an adapter of peft can hold, and whose lines are known.

    Raises:
        ApetError: it is another one.
    """
    if objective.name not in TASK_TYPES:
        raise ApetError(
            f"an adapter of peft does not say how a {objective.name} answers; --to transformers or --to delta do"
        )


def write_peft_folder(tuned: TunedModel, folder: Path) -> list[str]:
    """Write a run's delta, and its task head, as an adapter.

    Args:
        tuned: the run; its delta is taken off.
        folder: exists.

    Returns:
        What a user of the adapter must know.

    Raises:
        ApetError: peft cannot hold the delta, or is not installed; the message says what to do.
    """
    values = {name: value.detach().clone() for name, value in tuned.handle.values()}
    head = {name: value.detach().clone() for name, value in tuned.handle.head_values()}
    spec = tuned.handle.spec
    tuned.close()
    base = str(locate_backbone(tuned.config.backbone).source)
    adapter = peft_adapter(tuned.model, spec, values, head, TASK_TYPES[tuned.objective.name], base)
    write_adapter(folder, adapter)
    serving_tokenizer(tuned.objective).save_pretrained(folder)
    # For apet import: a folder of peft alone does not say what its answers mean.
    task = bare_task(tuned.task).model_copy(update={"max_input_length": tuned.objective.max_input_length})
    dump_yaml(folder / TASK, task.model_dump(mode="json", exclude_defaults=True))
    return list(adapter.notes)


def peft_lines(tuned: TunedModel) -> str:
    """Lines of Python that load an adapter and print the answer to one row.

    Args:
        tuned: the run.

    Returns:
        The lines.
    """
    objective = tuned.objective
    location, kind = locate_backbone(tuned.config.backbone), _CLASSES[objective.name]
    labels = objective.task.label_words
    options = "".join(f", {name}={value!r}" for name, value in location.options.items())
    if objective.name == "classification-head":
        options += f", num_labels={max(2, len(labels))}"
    if tuned.config.dtype == "bfloat16":
        options += ", dtype='bfloat16'"
    row = json.dumps(dict.fromkeys(objective.task.columns, "…"), ensure_ascii=False)
    load = [
        "from peft import PeftModel",
        f"from transformers import {kind}, AutoTokenizer",
        "",
        f"row = {row}",
        f'tokenizer = AutoTokenizer.from_pretrained("{PLACE}")',
        f"backbone = {kind}.from_pretrained({str(location.source)!r}{options})",
        f'model = PeftModel.from_pretrained(backbone, "{PLACE}").eval()',
    ]
    if objective.name == "classification-head":
        texts = ", ".join(f"row[{json.dumps(c, ensure_ascii=False)}]" for c in objective.task.columns)
        lines = [
            *load,
            f'inputs = tokenizer({texts}, truncation=True, return_tensors="pt")',
            f"print({list(labels)!r}[model(**inputs).logits.argmax().item()])",
        ]
    else:
        generation = generation_of(tuned.model, objective)
        if generation is not None:  # the backbone's own settings may hold penalties
            names = ("max_new_tokens", "eos_token_id", "pad_token_id", "decoder_start_token_id", "sequence_bias")
            chosen = {name: getattr(generation, name) for name in names if getattr(generation, name) is not None}
            given = ", ".join(f"{name}={value}" for name, value in chosen.items())
            load[1] += ", GenerationConfig"
            load.insert(-1, f"backbone.generation_config = GenerationConfig({given})")
        lines = answer_lines(objective, load)
    return "\n".join([*lines, ""])
