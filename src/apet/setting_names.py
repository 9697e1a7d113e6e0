"""What other tools call our settings: a word that somebody brings along is answered with ours, not with a list."""

from __future__ import annotations

from collections.abc import Collection

from apet.errors import UnknownNameError

_STEPS_OF_EPOCHS = "max_steps, in optimizer steps: epochs x training examples / batch_size"
_CONSTANT = "the learning rate is constant, without warm-up (paper, appendix B.1)"

_WORDS: dict[str, tuple[str, ...]] = {
    "learning_rate": ("lr", "learningrate", "max_lr", "base_lr", "eta", "step_size"),
    "weight_decay": ("wd", "decay", "l2"),
    "max_grad_norm": ("clip", "grad_clip", "clip_grad", "gradient_clip_val", "max_norm", "clip_grad_norm"),
    "max_steps": (
        "steps", "step", "num_steps", "n_steps", "train_steps", "num_train_steps", "num_training_steps", "iterations",
        "iters", "max_iter", "max_iters",
    ),
    "eval_steps": (
        "evaluate_every", "eval_every", "eval_interval", "evaluation_steps", "val_check_interval", "logging_steps",
    ),
    "seed": ("random_seed", "random_state", "manual_seed"),
    "max_input_length": (
        "max_length", "max_len", "max_seq_length", "max_seq_len", "seq_len", "max_source_length", "model_max_length",
        "block_size", "cutoff_len", "max_input",
    ),
    "max_train_samples": ("num_train", "n_train", "train_examples", "train_size", "max_train_examples"),
    "max_eval_samples": (
        "num_eval", "n_eval", "max_val_samples", "max_validation_samples", "validation_examples", "max_eval_examples",
    ),
    "max_test_samples": ("num_test", "n_test", "max_predict_samples", "test_examples", "max_test_examples"),
    "backbone": (
        "model", "model_name", "model_name_or_path", "model_id", "base_model", "pretrained", "checkpoint", "encoder",
    ),
    "task": ("task_name", "tasks", "benchmark"),
    "data": ("dataset", "dataset_name", "data_path", "data_dir", "data_file", "data_files", "file", "train_file"),
    "text": ("text_column", "text_col", "input_column", "sentence", "input"),
    "label": ("label_column", "label_col", "target", "target_column", "class"),
    "labels": ("id2label", "label2id", "label_map", "classes", "label_names"),
    "dtype": ("precision", "fp16", "bf16", "torch_dtype", "mixed_precision", "half"),
    "device": ("gpu", "cuda", "use_cpu", "no_cuda", "accelerator"),
    "num_threads": ("threads", "n_threads", "nthreads", "num_workers", "cores", "n_jobs"),
    "target_score": ("stop_at", "early_stopping", "patience", "early_stopping_patience"),
    "method": ("peft", "peft_type", "peft_method", "tuner"),
    "budget": (
        "params", "num_params", "n_params", "num_parameters", "num_trainable", "trainable", "trainable_params", "n",
    ),
    "track": ("report_to", "log_with", "logger", "tracker", "tracking"),
    "save_delta": ("save", "save_model", "keep_theta"),
    "gradient_checkpointing": ("grad_checkpointing", "checkpointing", "activation_checkpointing"),
    "rank": ("r", "lora_r", "lora_rank", "lora_dim"),
    "alpha": ("lora_alpha", "scaling"),
    "roles": ("target_modules", "modules", "target_module", "lora_target", "lora_target_modules", "layers"),
    "prompt_length": ("num_virtual_tokens", "prompt_len", "prompt_tokens", "n_tokens", "num_tokens"),
    "bottleneck": ("bottleneck_size", "bottleneck_dim", "adapter_size", "reduction_factor"),
    "distribution": ("mask", "mask_type", "pattern"),
}  # fmt: skip
"""Setting -> what transformers, peft, Lightning, fastai, lm-evaluation-harness and users call it."""

_MEASURED_OTHERWISE: dict[tuple[str, ...], tuple[str, str]] = {
    ("epochs", "epoch", "num_epochs", "num_train_epochs", "n_epochs", "max_epochs"): (
        "max_steps",
        "optimizer steps: epochs x training examples / batch_size",
    ),
    ("bs", "batch", "batchsize", "train_batch_size", "per_device_train_batch_size", "per_gpu_train_batch_size"): (
        "batch_size",
        "examples a step, over all devices together",
    ),
    ("per_device_eval_batch_size", "eval_batch_size"): ("batch_size", "a measurement takes twice as many at a time"),
    ("gradient_accumulation_steps", "accumulate_grad_batches", "grad_accum"): (
        "batch_size",
        "all examples of a step; gradient_checkpointing=true makes more of them fit",
    ),
}
"""Words of another measure -> our setting, and what it counts."""

_NOT_SET: dict[tuple[str, ...], str] = {
    ("warmup", "warmup_steps", "warmup_ratio", "num_warmup_steps", "lr_scheduler", "lr_scheduler_type", "scheduler"): (
        "the learning rate is constant, without warm-up, as in the paper's appendix B.1"
    ),
    ("optim", "optimizer"): "the optimizer is AdamW, for every method",
    ("dropout", "lora_dropout"): "there is no dropout but the backbone's own",
}
"""Words for what cannot be set here -> how it is."""

_METHOD_OF = {"rank": "lora", "alpha": "lora", "roles": "lora", "prompt_length": "prompt", "bottleneck": "adapter"}
"""A setting that not every method has -> one that has it."""

_MEANT = {
    **{word: (setting, "") for setting, words in _WORDS.items() for word in words},
    **{word: meant for words, meant in _MEASURED_OTHERWISE.items() for word in words},
    **{word: ("", how) for words, how in _NOT_SET.items() for word in words},
}


def setting_meant(name: str) -> tuple[str, str] | None:
    """The setting that a word of another tool stands for.

    Args:
        name: as it was written, with hyphens or underscores.

    Returns:
        The setting and, where it counts something else, what; an empty setting where nothing can be set, with how it
        is. None = a word that we do not know.
    """
    return _MEANT.get(name.strip("-").replace("-", "_").lower())


def is_setting_word(name: str) -> bool:
    """Whether a word is a setting that other tools have their own word for."""
    return name in _WORDS


class UnknownSettingError(UnknownNameError):
    """A setting that is not there; the message says what the word stands for here, else the nearest settings.

    Args:
        what: whose setting it is not, such as ``"setting of lora"``.
        name: as it was written.
        known: the settings that there are.
    """

    def __init__(self, what: str, name: str, known: Collection[str]) -> None:
        super().__init__(what, name, known, hint=_hint(name, known))


def _hint(name: str, known: Collection[str]) -> str:
    written = name.replace("-", "_")
    if written in known:
        return f"write {written}=…"
    setting, how = setting_meant(name) or (written if written in _METHOD_OF else "", "")
    if not setting:
        return how
    if setting in known:
        return f"write {setting}=…{f', {how}' if how else ''}"
    whose = f"method {_METHOD_OF[setting]}" if setting in _METHOD_OF else "a run"
    return f"{setting} is a setting of {whose}, not of this one"
