"""One run as one writes it with peft and transformers' Trainer: the other side of benchmarks/against_trainer.py.

    python benchmarks/trainer_script.py JOB.json     # writes JOB.result.json

A job names a backbone's folder, files of rows with ``text`` and ``label``, and settings. LoRA by peft; an
encoder-decoder writes the label, an encoder classifies. Texts are padded to the longest of a batch, or all to one
length.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    set_seed,
)

IGNORED = -100


def read_rows(path: str) -> list[dict[str, str]]:
    """Rows of a file of JSON lines."""
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def arguments(job: dict[str, Any], kind: Any, **more: object) -> Any:
    """Settings of a Trainer: those of the job, nothing saved, evaluation as often as the other side evaluates."""
    return kind(
        output_dir=job["output"],
        max_steps=job["max_steps"],
        eval_strategy="steps",
        eval_steps=job["eval_steps"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        per_device_train_batch_size=job["batch_size"],
        per_device_eval_batch_size=job["eval_batch_size"],
        weight_decay=0.0,
        seed=job["seed"],
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **more,
    )


def write_labels(job: dict[str, Any], tokenizer: Any, splits: dict[str, list[dict[str, str]]]) -> list[float]:
    """Tune an encoder-decoder that writes the label."""
    model = AutoModelForSeq2SeqLM.from_pretrained(job["backbone"])
    lora = LoraConfig(TaskType.SEQ_2_SEQ_LM, r=8, lora_alpha=16, target_modules=["q", "v"])
    tuned = get_peft_model(model, lora)

    def tokens(row: dict[str, str]) -> dict[str, Any]:
        inputs = tokenizer(row["text"], truncation=True, max_length=job["max_length"])
        return {"input_ids": inputs["input_ids"], "labels": tokenizer(text_target=row["label"])["input_ids"]}

    def accuracy(predicted: Any) -> dict[str, float]:
        pad = tokenizer.pad_token_id
        written = tokenizer.batch_decode(np.where(predicted.predictions < 0, pad, predicted.predictions), True)
        right = tokenizer.batch_decode(np.where(predicted.label_ids < 0, pad, predicted.label_ids), True)
        return {"accuracy": float(np.mean([a.strip() == b.strip() for a, b in zip(written, right, strict=True)]))}

    trainer = Seq2SeqTrainer(
        model=tuned,
        args=arguments(job, Seq2SeqTrainingArguments, predict_with_generate=True, generation_max_length=6),
        train_dataset=[tokens(r) for r in splits["train"]],
        eval_dataset=[tokens(r) for r in splits["validation"]],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=IGNORED),
        compute_metrics=accuracy,
    )
    return trained(trainer)


def classify(job: dict[str, Any], tokenizer: Any, splits: dict[str, list[dict[str, str]]]) -> list[float]:
    """Tune an encoder with a head."""
    names = sorted({r["label"] for r in splits["train"]})
    model = AutoModelForSequenceClassification.from_pretrained(job["backbone"], num_labels=len(names))
    tuned = get_peft_model(model, LoraConfig(TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=["query", "value"]))
    padding = "max_length" if job["pad_to_max_length"] else False

    def tokens(row: dict[str, str]) -> dict[str, Any]:
        inputs = tokenizer(row["text"], truncation=True, max_length=job["max_length"], padding=padding)
        return {**inputs, "labels": names.index(row["label"])}

    def accuracy(predicted: Any) -> dict[str, float]:
        return {"accuracy": float((predicted.predictions.argmax(-1) == predicted.label_ids).mean())}

    trainer = Trainer(
        model=tuned,
        args=arguments(job, TrainingArguments),
        train_dataset=[tokens(r) for r in splits["train"]],
        eval_dataset=[tokens(r) for r in splits["validation"]],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
    )
    return trained(trainer)


def trained(trainer: Trainer) -> list[float]:
    """Train, evaluating on the way; the accuracies in their order, the one before training first."""
    before = trainer.evaluate()["eval_accuracy"]
    trainer.train()
    return [before, *(line["eval_accuracy"] for line in trainer.state.log_history if "eval_accuracy" in line)]


def main(path: Path) -> None:
    """One job."""
    job = json.loads(path.read_text("utf-8"))
    torch.set_num_threads(job["num_threads"])
    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(job["backbone"])
    splits = {name: read_rows(job[name]) for name in ("train", "validation")}
    curve = (write_labels if job["writes"] else classify)(job, tokenizer, splits)
    path.with_suffix(".result.json").write_text(json.dumps({"curve": curve, "score": max(curve)}), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
