"""A finished run put to use: its backbone with θ attached, on the same task, another one, or new texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from apet.attachment import Handle, load
from apet.backbones.head import reset_head
from apet.errors import ApetError
from apet.tasks.encoding import EncodedSet
from apet.tasks.examples import Example, sample, to_text
from apet.tasks.metrics import MetricScore, compute_metric
from apet.tasks.objectives import Objective, make_objective
from apet.tasks.sources import read_split
from apet.tasks.task import Task
from apet.training import run_dir
from apet.training.evaluation import evaluate, predict
from apet.training.resolve import resolve_dtype
from apet.training.resources import Resources


class TunedModel:
    """A backbone as a run left it.

    Args:
        folder: of the run.
        shop: shared with other runs.

    Raises:
        ApetError: no run there, its backbone is missing or another one by now.
    """

    def __init__(self, folder: Path, resources: Resources | None = None) -> None:
        self.shop = resources or Resources()
        self.config, self.task, self.result = run_dir.read_run(folder)
        s = self.config
        assert s.objective != "auto"
        assert s.max_input_length is not None
        device = self.shop.accelerator(s.device).device
        self.objective: Objective = make_objective(
            s.objective, self.task, self.shop.tokenizer(s.backbone), s.max_input_length
        )
        labels = max(2, len(self.task.labels))
        self.model: nn.Module = self.shop.model(s.backbone, s.objective, labels, resolve_dtype(s, device), device)
        reset_head(self.model, s.resolved_seed("init_seed"))
        self.handle: Handle = load(self.model, folder)

    def predict(self, texts: Sequence[dict[str, str]]) -> list[str | None]:
        """Answers to new texts, each given by input column.

        Raises:
            ApetError: no text.
        """
        if not texts:
            raise ApetError("no text came; give at least one")
        bare = [Example({c: to_text(v) for c, v in t.items()}, (), "") for t in texts]
        encoded = EncodedSet.of([self.objective.encode(e) for e in bare])
        return predict(self.model, self.objective, encoded, self.config.batch_size)

    def evaluate(self, split: str = "validation", data: str | None = None, limit: int | None = None) -> MetricScore:
        """The task's measure on a split of its own data, or on other data of the same columns.

        Args:
            split: of the data; a single other file is wholly that split.
            data: file or folder.
            limit: at most so many examples.

        Raises:
            ApetError: no such split, or bad data.
        """
        examples = self._examples(self.task, split, data, limit)
        read = self.shop.split(self.objective, examples, split)
        return evaluate(self.model, self.objective, read, self.config.batch_size)[0]

    def transfer(
        self, target: Task, data: str | None = None, limit: int | None = None, split: str = "validation"
    ) -> MetricScore:
        """Zero-shot measure on another task (paper section 6.3): label words count by their unified label.

        Texts are cut at the length that this run was trained with.

        Raises:
            ApetError: one of the two has labels and the other has not, or no unified ones.
        """
        if self.task.is_classification != target.is_classification:
            kinds = [f"{t.name} has {'labels' if t.is_classification else 'free text'}" for t in (self.task, target)]
            raise ApetError(f"{', '.join(kinds)}; transfer needs two tasks of one kind")
        # The target's text, answered with the source's words.
        reading = target.model_copy(update={"labels": self.task.labels, "transfer_labels": self.task.transfer_labels})
        examples = self._examples(target, split, data, limit)
        objective = make_objective(
            self.objective.name, reading, self.objective.tokenizer.pretrained, self.objective.max_input_length
        )
        bare = [Example(e.texts, (), e.location) for e in examples]
        encoded = EncodedSet.of([objective.encode(e) for e in bare])
        answers = predict(self.model, objective, encoded, self.config.batch_size)
        if not target.is_classification:
            return compute_metric(target.metric, answers, [e.references for e in examples])
        for t in (self.task, target):
            if set(t.transfer_labels) != set(t.label_words):
                raise ApetError(f"task {t.name!r} gives no unified label to each word; add unified to its YAML")
        mine = [None if a is None else str(self.task.transfer_labels[a]) for a in answers]
        return compute_metric("accuracy", mine, [[str(target.transfer_labels[e.references[0]])] for e in examples])

    def close(self) -> None:
        """Detach: the backbone is as it was."""
        self.handle.detach()

    def _examples(self, task: Task, split: str, data: str | None, limit: int | None) -> list[Example]:
        if data is not None:
            return sample(read_split(task, Path(data), split), limit)
        own = self.config.model_copy(update={"max_train_samples": None, "max_eval_samples": None})
        if task is not self.task:
            own = own.model_copy(update={"data": None, "task": task.name})
        found = self.shop.data(task, own).splits
        if split not in found:
            raise ApetError(f"task {task.name!r} has no split {split!r}; it has {', '.join(found)}")
        trained_with = self.config.max_train_samples if split == "train" else self.config.max_eval_samples
        return sample(found[split], limit or (trained_with if task is self.task else None))


def parse_columns(task: Task, text: str) -> dict[str, str]:
    """A line of text as the task's columns; several are separated by tabs.

    Raises:
        ApetError: another number of them.
    """
    parts = text.split("\t") if len(task.columns) > 1 else [text]
    if len(parts) != len(task.columns):
        raise ApetError(
            f"{text[:60]!r} has {len(parts)} part(s); task {task.name!r} reads {len(task.columns)}:"
            f" {', '.join(task.columns)}, separated by tabs"
        )
    return dict(zip(task.columns, parts, strict=True))
