"""The one place where settings become a plan: names are looked up, open settings decided, impossible ones refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import torch
from pydantic import JsonValue
from transformers import PreTrainedConfig

from apet.backbones.describe import describe
from apet.backbones.family import BackboneKind, ObjectiveName, family_of
from apet.backbones.loading import default_objective, has_local_weights, load_config, load_tokenizer, meta_model
from apet.backbones.positions import Backbone
from apet.budget import parse_budget
from apet.errors import ApetError
from apet.methods import Method, make_method
from apet.registry import imported
from apet.tasks.from_file import task_from_file
from apet.tasks.objectives import MAX_SEGMENTS, check_objective, head_for, make_objective, num_outputs
from apet.tasks.rows import Reading
from apet.tasks.splits import LocalData, read_splits
from apet.tasks.task import Task, load_task, validate_task
from apet.training.config import RunConfig, import_guests
from apet.training.run_id import OF_DATA, SHARED_FIELDS, backbone_fingerprint, run_id, shared_settings, task_fingerprint
from apet.training.run_plan import RunPlan
from apet.training.tracking import require_tracker

Shared = TypeVar("Shared")


def resolve(config: RunConfig, cache: ResolveCache | None = None) -> RunPlan:
    """Decide, count and check everything of a run that needs neither data nor weights in memory.

    Args:
        config: the settings as given.
        cache: what several runs share; with one, a study of 100,000 runs is planned in seconds.

    Returns:
        The plan, with its exact count and its identifier.

    Raises:
        ApetError: settings that do not fit the backbone, the task or the method.
        UnreachableBudgetError: the method cannot have exactly that many scalars here.
    """
    cache = cache or ResolveCache()
    import_guests(config)  # before any name is looked up: it may be a guest's
    require_tracker(config.track)
    task = cache.task(config)
    objective = cache.objective(config, head_for(task))
    notes: tuple[str, ...] = ()
    if objective == "masked-label-word" and config.objective == "auto" and config.task is None:
        objective, notes = _head_for_unknown_words(objective, cache.label_word_obstacle(config.backbone, task))
    check_objective(objective, task)
    # Only a classification head has an output for each label: other objectives share one description of the backbone.
    num_labels = num_outputs(objective, task) if objective.endswith("-head") else 2
    backbone = cache.backbone(config.backbone, objective, num_labels)
    num_trainable = cache.num_trainable(config, backbone, (objective, num_labels))
    dtype = cache.dtype(config)
    data = cache.task_fingerprint(task, config.data_folder)
    identifier = run_id(
        config,
        shared=cache.shared_settings(config, dtype),
        task_fingerprint=data or task.name,
        backbone_fingerprint=cache.backbone_fingerprint(config.backbone),
        num_trainable=num_trainable,
        guests=[imported()[spec] for spec in _guest_keys(config)],
    )
    missing = None
    if data is None:
        missing = f"data of {task.name} are not on this machine; give data=FOLDER/{{task}}, or download them first"
        if config.data_folder is not None:
            missing = f"no data of {task.name} at {str(config.data_folder)!r}; put train and validation files there"
    elif not cache.has_local_weights(config.backbone):
        missing = (
            f"weights of {config.backbone} are not on this machine; give a local folder that holds them, or download"
            " them first"
        )
    return RunPlan(config, task, objective, backbone, dtype, num_trainable, identifier, missing, notes)


def _head_for_unknown_words(objective: ObjectiveName, obstacle: str | None) -> tuple[ObjectiveName, tuple[str, ...]]:
    """The objective of somebody's own labels, and what is said of it: a head where they cannot fill a blank."""
    if obstacle is None:
        return objective, ()
    return "classification-head", (f"objective: classification-head, as {obstacle.partition(';')[0]}",)


class ResolveCache:
    """What several runs share while they are resolved: each file is read, each backbone described, once.

    It lives as long as a study's planning, or as a worker process; files are taken not to change meanwhile.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, object], object] = {}

    def _once(self, what: str, key: object, make: Callable[[], Shared]) -> Shared:
        """A value that is made at the first call with this key."""
        name = (what, key)
        if name not in self._known:
            self._known[name] = make()
        value: Shared = self._known[name]  # type: ignore[assignment]
        return value

    def forget_missing(self) -> None:
        """Look for data and weights anew: they were just downloaded, and their content is a part of every run_id."""
        stale = ("task_fingerprint", "backbone_fingerprint", "has_local_weights", "label_word_obstacle")
        self._known = {name: value for name, value in self._known.items() if name[0] not in stale}

    def task(self, config: RunConfig) -> Task:
        """The task that the settings name, or the one that data, text and label make.

        Returns:
            The task, one object for the same settings.

        Raises:
            ApetError: neither; both; or data that do not fit.
        """
        key = str([getattr(config, name) for name in sorted(OF_DATA)])
        return self._once("task", key, lambda: resolve_task(config, self.read_splits))

    def read_splits(self, path: Path, reading: Reading) -> LocalData:
        """Rows of local data files by split; see `apet.tasks.splits.read_splits`."""
        return self._once("rows", (path, reading), lambda: read_splits(path, reading))

    def forget_rows(self) -> None:
        """Let go of rows that have become examples."""
        self._known = {name: value for name, value in self._known.items() if name[0] != "rows"}

    def architecture(self, backbone: str) -> PreTrainedConfig:
        """The transformers configuration behind a backbone's name."""
        return self._once("architecture", backbone, lambda: load_config(backbone))

    def objective(self, config: RunConfig, head: ObjectiveName | None = None) -> ObjectiveName:
        """How the backbone solves the task; see `resolve_objective`."""
        key = (config.backbone, config.objective, head)
        return self._once("objective", key, lambda: resolve_objective(config, self.architecture(config.backbone), head))

    def label_word_obstacle(self, backbone: str, task: Task) -> str | None:
        """Why a task's labels cannot be words that fill a blank; None where they can, or where nobody knows yet.

        Args:
            backbone: whose tokenizer reads them.
            task: with labels.

        Returns:
            One sentence.
        """

        def find() -> str | None:
            if len(task.columns) > MAX_SEGMENTS:
                return None  # a head could not read them either
            try:
                tokenizer = load_tokenizer(backbone)
            except ApetError:  # not on this machine yet; it is looked for again once it is
                return None
            try:
                make_objective("masked-label-word", task, tokenizer, task.max_input_length)
            except ApetError as e:
                return str(e)
            return None

        return self._once("label_word_obstacle", (backbone, id(task)), lambda: (task, find()))[1]

    def backbone(self, name: str, objective: ObjectiveName, num_labels: int) -> Backbone:
        """Description of the model that serves an objective, read off the meta device."""
        return self._once(
            "backbone",
            (name, objective, num_labels),
            lambda: describe(meta_model(self.architecture(name), objective, num_labels)),
        )

    def method(self, config: RunConfig) -> Method:
        """The method with its settings."""
        key = (config.method, str(config.method_settings))
        return self._once("method", key, lambda: make_method(config.method, **config.method_settings))

    def num_trainable(self, config: RunConfig, backbone: Backbone, kind_of_head: tuple[ObjectiveName, int]) -> int:
        """The exact count that the budget means for the method on the backbone.

        Returns:
            N.

        Raises:
            UnreachableBudgetError: the method cannot have that many.
        """

        def count() -> int:
            method = self.method(config)
            budget = method.default_budget if config.budget is None else config.budget
            return method.count_trainable(backbone, parse_budget(budget, backbone))

        key = (config.backbone, kind_of_head, config.method, str(config.method_settings), config.budget)
        return self._once("num_trainable", key, count)

    def dtype(self, config: RunConfig) -> Literal["float32", "bfloat16"]:
        """Precision of the frozen weights; ``auto`` as this machine means it.

        A study's workers, also on other machines, get the answer of the machine that plans: all compute the same.

        Returns:
            Its name, never ``auto``.
        """

        def decide() -> Literal["float32", "bfloat16"]:
            from accelerate import PartialState

            # Asked of accelerate only where it is needed: its first use initializes the devices.
            device = torch.device("cpu") if config.device == "cpu" else PartialState().device
            return "bfloat16" if resolve_dtype(config, device) == torch.bfloat16 else "float32"

        return self._once("dtype", (config.dtype, config.device), decide)

    def task_fingerprint(self, task: Task, data: str | None) -> str | None:
        """Fingerprint of a task's definition and data; None where the data are not here."""
        # By identity: `task` above gives one object for one task, and hashing it would dump it for every run. The value
        # holds the task, too: once it were gone, its id could be given to another one.
        key = (id(task), data)
        return self._once("task_fingerprint", key, lambda: (task, task_fingerprint(task, data)))[1]

    def backbone_fingerprint(self, name: str) -> str:
        """Fingerprint of a backbone's files."""
        return self._once("backbone_fingerprint", name, lambda: backbone_fingerprint(name))

    def has_local_weights(self, name: str) -> bool:
        """Whether a backbone's weights are on this machine."""
        return self._once("has_local_weights", name, lambda: has_local_weights(name))

    def shared_settings(self, config: RunConfig, dtype: Literal["float32", "bfloat16"]) -> dict[str, JsonValue]:
        """The settings that enter a run_id as they are, the dtype as it is resolved."""
        key = str([getattr(config, name) for name in SHARED_FIELDS]) + dtype
        return self._once("shared_settings", key, lambda: shared_settings(config.model_copy(update={"dtype": dtype})))


def _guest_keys(config: RunConfig) -> list[str]:
    """The names by which the registry knows a run's guests."""
    files = (".py", ".yaml", ".yml")
    return [str(Path(spec).resolve()) if spec.endswith(files) else spec for spec in config.imports]


def guest_fingerprints(config: RunConfig) -> dict[str, str]:
    """The guests that a run names -> fingerprint of their source, 16 hex digits."""
    return {spec: imported()[key] for spec, key in zip(config.imports, _guest_keys(config), strict=True)}


def resolve_task(config: RunConfig, read: Callable[[Path, Reading], LocalData] = read_splits) -> Task:
    """The task that the settings name, or the one that data, text and label make.

    Args:
        config: the settings.
        read: reads local data files.

    Returns:
        The task.

    Raises:
        ApetError: neither; both; or data that do not fit.
    """
    task = _named_task(config, read)
    if config.label_words == "transfer":
        task = task.with_transfer_words()
    source = {k: v for k in ("encoding", "separator") if (v := getattr(config, k)) is not None}
    if config.test is not None:
        source["test"] = str(Path(config.test).expanduser().resolve())
    over = {k: v for k in ("on_missing", "on_overlap", "metric", "scoring") if (v := getattr(config, k)) is not None}
    if not source and not over:
        return task
    changed = task.model_copy(update={**over, "source": task.source.model_copy(update=source)})
    # A metric may not fit the task: what is copied is not checked.
    return validate_task(changed.model_dump(), f"metric={config.metric}") if config.metric is not None else changed


def _named_task(config: RunConfig, read: Callable[[Path, Reading], LocalData]) -> Task:
    if config.task is not None:
        if config.text or config.label or config.labels or config.task_type:
            raise ApetError(
                "text, label and labels describe a data file, a task has its own; give task, or data, text and label"
                " (and task_type)"
            )
        return load_task(config.task)
    if config.data is None:
        raise ApetError("there is nothing to learn; give a task (apet tasks lists them), or data, text and label")
    reading = Reading(config.encoding, config.separator)
    if not config.text or config.label is None:
        raise ApetError(
            f"data={config.data!r} needs text (the column to read) and label (the column with the answer); it has the"
            f" columns {', '.join(_columns(config.data, reading, read))}"
        )
    return task_from_file(config.data, config.text, config.label, reading, read, config.labels, config.task_type)


def _columns(data: str, reading: Reading, read: Callable[[Path, Reading], LocalData]) -> list[str]:
    rows = read(Path(data).expanduser().resolve(), reading).rows["train"]
    return list(rows[0].values) if rows else ["(none)"]


_OBJECTIVES: dict[BackboneKind, tuple[ObjectiveName, ...]] = {
    "encoder": ("classification-head", "masked-label-word"),
    "encoder-decoder": ("text-to-text",),
    "decoder": ("next-token",),
}


def resolve_objective(
    config: RunConfig, architecture: PreTrainedConfig, head: ObjectiveName | None = None
) -> ObjectiveName:
    """The objective: as asked, or by what the task asks and the backbone was pre-trained to do.

    Args:
        config: of the run.
        architecture: of the backbone.
        head: the objective of the task's type, where neither label words nor free text answer it.

    Returns:
        Its name, never ``auto``.

    Raises:
        ApetError: one was asked for that this kind of backbone cannot serve.
    """
    if head is not None and config.objective in ("auto", head):
        family = family_of(architecture.model_type)
        if family is not None and family.kind == "encoder-decoder":
            raise ApetError(f"{config.backbone!r} writes text; {head} needs an encoder, such as all-minilm-l6-v2")
        return head
    if config.objective != "auto":
        family = family_of(architecture.model_type)
        fits = _OBJECTIVES[family.kind] if family else (config.objective,)
        if config.objective not in fits:
            raise ApetError(
                f"objective={config.objective} does not fit {config.backbone!r},"
                f" a {family.kind if family else ''} backbone; give {' or '.join(fits)}"
            )
        return config.objective
    heads = getattr(architecture, "architectures", None) or ()
    return default_objective(architecture, label_words=any("MaskedLM" in h or h == "BertForPreTraining" for h in heads))


def resolve_dtype(config: RunConfig, device: torch.device) -> torch.dtype:
    """Precision of the frozen weights on a device; auto takes bfloat16 where the hardware computes with it."""
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    # Without instructions for it, bf16 on a CPU is slower than fp32 and gains nothing but memory.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if device.type == "cpu" and native else torch.float32


def text_length_limit(backbone: Backbone, max_length: int, num_taken: int) -> int:
    """Tokens of an input: as many as asked for, or what the backbone's learned positions leave.

    Args:
        backbone: whose positions count.
        max_length: asked for.
        num_taken: positions that the text cannot have: a prompt's, a generated answer's.

    Returns:
        The number of tokens, at most ``max_length``.

    Raises:
        ApetError: hardly any are left.
    """
    layer = next((x for x in backbone.layers if x.role == "embed.positions"), None)
    if layer is None:
        return max_length
    weight = layer.position("weight")
    unused = weight.unused[1] // layer.d_out if weight else 0
    room = layer.d_in - unused - num_taken
    if room < 8:
        raise ApetError(
            f"{backbone.model_class} has {layer.d_in} positions, {num_taken} are taken; {room} are left for text"
        )
    return min(max_length, room)
