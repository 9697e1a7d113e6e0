"""A finished run put to use: its backbone with the trained delta, on the same task, another one, or new texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from apet.attachment import load
from apet.backbones.head import reset_head
from apet.errors import ApetError
from apet.handle import Handle
from apet.tasks.answers import Answer
from apet.tasks.encoding import EncodedSet
from apet.tasks.examples import Example, sample
from apet.tasks.metrics import MetricScore, compute_metric
from apet.tasks.objectives import Objective, make_objective, num_outputs
from apet.tasks.sources import TaskData, read_split
from apet.tasks.targets import refuse_input
from apet.tasks.task import Task
from apet.training import run_dir
from apet.training.evaluation import answer_probabilities, evaluate, majority_baseline, predict
from apet.training.resources import Resources


class TunedModel:
    """A backbone as a run left it: weights, trained delta, trained head, tokenizer, task.

    Args:
        folder: of the run, or of a delta that was imported with its task.
        resources: shared with other runs.
        backbone: where its backbone is by now; None = where it was.

    Attributes:
        num_truncated: texts that were answered so far and of which something was cut off.

    Raises:
        ApetError: no run there, or its backbone is missing or has other weights by now.
    """

    def __init__(self, folder: Path, resources: Resources | None = None, backbone: str | None = None) -> None:
        self.resources = resources or Resources()
        config, self.task, self.result = run_dir.read_setup(folder)
        config = config if backbone is None else config.model_copy(update={"backbone": backbone})
        self.config = config
        # A finished run's settings leave nothing open, and its task stands in its folder: nothing is looked up again.
        assert config.objective != "auto"
        assert config.max_input_length is not None
        device = self.resources.accelerator(config.device, config.device_map).device
        self.objective: Objective = make_objective(
            config.objective, self.task, self.resources.tokenizer(config.backbone), config.max_input_length
        )
        num_labels = num_outputs(config.objective, self.task)
        self.model: nn.Module = self.resources.model(
            config.backbone, config.objective, num_labels, config.dtype, device, config.device_map
        )
        # A head that was frozen is not among the saved values: the run's seed gives it back.
        reset_head(self.model, config.resolved_seed("init_seed"))
        self.handle: Handle = load(self.model, folder)
        self.num_truncated = 0

    def predict(self, texts: Sequence[Mapping[str, object]]) -> list[Answer]:
        """Answers to new texts.

        Args:
            texts: each given by input column.

        Returns:
            One answer a text.

        Raises:
            ApetError: no text came, or one without a column that the task reads.
        """
        if not texts:
            raise ApetError("no text came; give at least one")
        examples = [
            Example(refuse_input(self.task, values, f"text {n}"), (), f"text {n}")
            for n, values in enumerate(texts, start=1)
        ]
        return self.answer(examples)

    def answer(self, examples: Sequence[Example]) -> list[Answer]:
        """Answers to examples, whose references are not looked at.

        Returns:
            One answer an example.
        """
        unlabeled = [replace(e, references=()) for e in examples]
        encoded = EncodedSet.of([self.objective.encode(e) for e in unlabeled])
        self.num_truncated += encoded.num_truncated
        answers = predict(self.model, self.objective, encoded, self.config.batch_size)
        if self.objective.is_generative and not self.objective.compares_labels:
            # What was written is read once more, as training would read it: how likely was it?
            written = [replace(e, references=(a.text,)) for e, a in zip(examples, answers, strict=True)]
            taught = EncodedSet.of([self.objective.encode(e) for e in written])
            likely = answer_probabilities(self.model, self.objective, taught, self.config.batch_size)
            answers = [replace(a, scores=(p,)) for a, p in zip(answers, likely, strict=True)]
        return [self.objective.worded(a, e) for a, e in zip(answers, examples, strict=True)]

    def evaluate(self, split: str = "validation", data: str | None = None, limit: int | None = None) -> MetricScore:
        """The task's metric on a split of its own data, or on other data of the same columns.

        Args:
            split: of the data; a single other file is wholly that split.
            data: file or folder.
            limit: examples, at most.

        Returns:
            The score, with its interval over the examples.

        Raises:
            ApetError: no such split, or bad data.
        """
        examples = TaskData({split: self._examples(self.task, split, data, limit)})
        encoded = self.resources.split(self.objective, examples, split)
        return evaluate(self.model, self.objective, encoded, self.config.batch_size)[0]

    def transfer(
        self, target: Task, data: str | None = None, limit: int | None = None, split: str = "validation"
    ) -> MetricScore:
        """Zero-shot metric on another task (paper section 6.3): label words count by their transfer label.

        Texts are cut at the length that this run was trained with.

        Args:
            target: the other task.
            data: file or folder in place of the target's own source.
            limit: examples, at most.
            split: of the target.

        Returns:
            The score: accuracy over transfer labels, or for free text the metric of the target.

        Raises:
            ApetError: one of the two has labels and the other has not, or no transfer labels.
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
        # Without references: the target's label words are not among those that this run learned, and are not needed.
        unlabeled = [Example(e.texts, (), e.location) for e in examples]
        encoded = EncodedSet.of([objective.encode(e) for e in unlabeled])
        answers = predict(self.model, objective, encoded, self.config.batch_size)
        if not target.is_classification:
            references = [e.references for e in examples]
            return compute_metric(target.metric, [a.scored for a in answers], references, target.tokenizer)
        for t in (self.task, target):
            if set(t.transfer_labels) != set(t.label_words):
                raise ApetError(
                    f"task {t.name!r} gives no transfer label to some of its words; add transfer_labels to its YAML"
                )
        predictions = [str(self.task.transfer_labels[a.text]) if a.is_valid else None for a in answers]
        accepted = [[str(target.transfer_labels[e.references[0]])] for e in examples]
        return compute_metric("accuracy", predictions, accepted)

    def transfer_baseline(self, target: Task, data: str | None = None, limit: int | None = None) -> float | None:
        """What always answering one transfer label scores on another task's validation split, as `transfer` counts.

        Args:
            target: the other task.
            data: file or folder in place of the target's own source.
            limit: examples, at most.

        Returns:
            The share of the most frequent transfer label, in [0, 1]; None for free text.
        """
        if not target.is_classification:
            return None
        examples = self._examples(target, "validation", data, limit)
        return majority_baseline([(str(target.transfer_labels[e.references[0]]),) for e in examples])

    def close(self) -> None:
        """Detach: the backbone is as it was."""
        self.handle.detach()

    def _examples(self, task: Task, split: str, data: str | None, limit: int | None) -> list[Example]:
        if data is not None:
            return sample(read_split(task, Path(data), split), limit)
        folder = self.config.data_folder if task is self.task else None
        splits = self.resources.data(task, folder).splits
        if split not in splits:
            raise ApetError(f"task {task.name!r} has no split {split!r}; it has {', '.join(splits)}")
        config = self.config
        limits = {"train": config.max_train_samples, "test": config.max_test_samples or config.max_eval_samples}
        limit_in_training = limits.get(split, config.max_eval_samples)
        # The run's own limits hold for its own task alone, so that its recorded score comes out again.
        return sample(splits[split], limit or (limit_in_training if task is self.task else None))


def parse_columns(task: Task, text: str) -> dict[str, str]:
    """A line of text as the task's columns; several are separated by tabs.

    Returns:
        Column -> its text.

    Raises:
        ApetError: another number of them.
    """
    parts = text.split("\t") if len(task.inputs) > 1 else [text]
    if len(parts) != len(task.inputs):
        raise ApetError(
            f"{text[:60]!r} has {len(parts)} part(s); task {task.name!r} reads {len(task.inputs)}:"
            f" {', '.join(task.inputs)}, separated by tabs"
        )
    return dict(zip(task.inputs, parts, strict=True))
