"""Guests come in through the same doors as what ships: entry points, files after --import, a study's import key."""

from __future__ import annotations

import sys
import textwrap

import pytest
import torch
import yaml
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

import apet
from apet import ApetError, UnknownNameError
from apet import registry as registry_module
from apet.backbones.family import FAMILIES, family_of
from apet.backbones.loading import load_config
from apet.backbones.registry import BACKBONES, PackagedBackbone, PublishedShape, locate_backbone
from apet.registry import Registry, import_guest, imported
from apet.studies.executors import EXECUTORS, ExecutorOptions, running_executor
from apet.studies.executors.base import import_in_worker
from apet.studies.study_file import SUITES, load_study
from apet.tasks.metrics import METRICS, Metric, compute_metric
from apet.tasks.sources import generated_fingerprint, load_data
from apet.tasks.task import TASKS, load_task, parse_task

REGISTRIES = {
    "family": FAMILIES,
    "backbone": BACKBONES,
    "task": TASKS,
    "metric": METRICS,
    "executor": EXECUTORS,
    "study": SUITES,
}


@pytest.fixture(autouse=True)
def guests_leave_again(monkeypatch):
    for registry in REGISTRIES.values():
        registry.entries()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_origins", dict(registry._origins))
    monkeypatch.setattr(registry_module, "_imported", {})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package of these files and entry points, as pip would lay it down."""

    def install(name: str, files: dict[str, str], points: str) -> None:
        for path, text in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(textwrap.dedent(text))
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(points))
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    for module in [m for m in sys.modules if m.partition(".")[0].startswith("guest_")]:
        del sys.modules[module]


# Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REGISTRIES)
def test_an_unknown_name_says_how_to_register_one(kind):
    with pytest.raises(
        UnknownNameError, match=f"unknown {kind} 'nonesuch'; known: .*--import.*{REGISTRIES[kind].group}"
    ):
        REGISTRIES[kind].get("nonesuch")


def test_two_guests_cannot_have_one_name_and_one_guest_may_come_twice():
    METRICS.register("mine", Metric("mine", lambda p, r: 1.0), "a.py")
    METRICS.register("mine", Metric("mine", lambda p, r: 0.5), "a.py")
    assert METRICS.get("mine").score_pair("", "") == 0.5
    with pytest.raises(ApetError, match=r"two metric entries are called 'mine': one from a\.py, one from b\.py"):
        METRICS.register("mine", Metric("mine", lambda p, r: 1.0), "b.py")


@pytest.mark.parametrize(
    ("kind", "name"), [("backbone", "microworld-t5-huge"), ("task", "microworld-xyz"), ("study", "microworld-xyz")]
)
def test_a_name_of_a_known_guest_says_which_package_brings_it(kind, name, monkeypatch):
    monkeypatch.setattr(registry_module, "GUEST_PACKAGES", {"microworld*": "apet-not-installed-here"})
    with pytest.raises(UnknownNameError, match="pip install apet-not-installed-here"):
        REGISTRIES[kind].get(name)
    if kind == "backbone":
        with pytest.raises(ApetError, match="pip install apet-not-installed-here"):
            load_config(name)


# Entry points ----------------------------------------------------------------------------------------------------


def test_an_entry_point_may_name_a_package_of_yaml_files(package):
    package(
        "guest_words", {"shelf/one.yaml": "one\n", "shelf/two.yaml": "two\n"}, "[words]\nmine = guest_words.shelf\n"
    )
    words: Registry[str] = Registry(
        "word", "words", lambda: None, lambda text, where: words.register(text.strip(), where, where)
    )
    assert sorted(words) == ["one", "two"]
    assert words.origin("one").endswith("one.yaml")


def test_an_entry_point_may_name_a_function_that_returns_entries(package):
    source = """
        from apet.backbones.registry import PackagedBackbone
        def backbones():
            return {"guest-tiny": PackagedBackbone("guest_weights", "tiny", "a guest")}
    """
    package(
        "guest_weights", {"__init__.py": source, "tiny/config.json": "{}"}, "[shelf]\nmine = guest_weights:backbones\n"
    )
    backbones: Registry[PublishedShape | PackagedBackbone] = Registry("backbone", "shelf", lambda: None)
    assert backbones.get("guest-tiny").description == "a guest"
    BACKBONES.register("guest-tiny", backbones.get("guest-tiny"), "test")
    assert locate_backbone("guest-tiny").source.name == "tiny"


def test_an_entry_point_that_does_not_load_is_named_with_its_line(package):
    package("guest_broken", {"__init__.py": "x = 1\nraise OSError('no luck')\n"}, "[broken]\nmine = guest_broken\n")
    broken: Registry[str] = Registry("word", "broken", lambda: None)
    for _ in range(2):
        with pytest.raises(
            ApetError, match=r"entry point mine of broken does not load \(OSError: no luck \(at __init__\.py:2"
        ):
            broken.entries()


# Files -----------------------------------------------------------------------------------------------------------

NEOX = """
family: gpt-neox
kind: decoder
model_types: [gpt_neox]
rotary_embeddings: true
stacks:
  decoder:
    embed.tokens: embed_in
    attn.norm: layers.*.input_layernorm
    attn.qkv: layers.*.attention.query_key_value
    attn.out: layers.*.attention.dense
    mlp.norm: layers.*.post_attention_layernorm
    mlp.up: layers.*.mlp.dense_h_to_4h
    mlp.down: layers.*.mlp.dense_4h_to_h
    norm: final_layer_norm
lm_head:
  lm_head: lm_head
"""


def test_a_family_file_makes_an_architecture_known(tmp_path):
    assert family_of("gpt_neox") is None
    (tmp_path / "neox.yaml").write_text(NEOX)
    import_guest(str(tmp_path / "neox.yaml"))
    sizes = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, intermediate_size=24)).eval()
    backbone = apet.describe(model)
    assert backbone.family == "gpt-neox"
    assert sum(p.size for p in backbone.positions if p.parameter != "output") == model.num_parameters()
    handle = apet.attach(model, apet.plan(model, "apet", 300))
    ids = torch.tensor([[1, 2, 3]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert sum(v.grad.numel() for v in handle.parameters()) == 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knd": "decoder"}, "unknown key 'knd'; nearest: kind"),
        ({"kind": "diffuser"}, "kind: input should be 'encoder'"),
        ({"model_types": []}, "model_types: .*at least 1"),
        ({"stacks": None}, "stacks: "),
    ],
)
def test_a_family_file_with_a_wrong_key_is_named(tmp_path, change, message):
    (tmp_path / "neox.yaml").write_text(yaml.safe_dump({**yaml.safe_load(NEOX), **change}))
    with pytest.raises(ApetError, match=rf"family file '.*neox\.yaml': {message}"):
        import_guest(str(tmp_path / "neox.yaml"))


METRIC = """
from apet.tasks.metrics import METRICS, Metric

def first_word(prediction, reference):
    return float(prediction.split()[:1] == reference.split()[:1])

METRICS.register("first-word", Metric("first-word", first_word, description="equal first words"), __name__)
"""

TASK = """
name: guest-questions
category: question-answering
source: {files: {train: rows.jsonl}}
columns: [question]
target: answer
template: "{question} {target}"
metric: first-word
"""


def test_a_metric_is_one_file_and_a_task_may_use_it(tmp_path):
    (tmp_path / "metric.py").write_text(METRIC)
    (tmp_path / "task.yaml").write_text(TASK)
    with pytest.raises(ApetError, match="unknown metric 'first-word'"):
        import_guest(str(tmp_path / "task.yaml"))
    import_guest(str(tmp_path / "metric.py"))
    import_guest(str(tmp_path / "task.yaml"))
    score = compute_metric("first-word", ["a b", "b a", None], [("a c",), ("c", "b"), ("x",)])
    assert score.score == pytest.approx(2 / 3)
    assert load_task("guest-questions").metric == "first-word"
    assert load_task("guest-questions").source.files["train"] == str(tmp_path / "rows.jsonl")
    assert list(imported()) == [str(tmp_path / "metric.py"), str(tmp_path / "task.yaml")]


def test_a_study_file_becomes_a_suite(tmp_path):
    study = {
        "name": "mine",
        "description": "my own",
        "backbones": ["bert-base"],
        "tasks": ["sst2"],
        "methods": ["lora"],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    import_guest(str(tmp_path / "mine.yaml"))
    assert load_study("mine").description == "my own"


def test_an_executor_of_a_guest_runs_under_its_name():
    class Idle:
        size = 3
        stopped = False

        def __init__(self, options):
            self.options = options

        def stop(self):
            self.stopped = True

    EXECUTORS.register("idle", Idle, "test")
    with running_executor("idle", ExecutorOptions(num_workers=3)) as executor:
        assert executor.options.num_workers == 3
    assert executor.stopped
    with (
        pytest.raises(UnknownNameError, match="unknown executor 'lcal'; nearest: local"),
        running_executor("lcal", ExecutorOptions()),
    ):
        pass


def test_a_worker_that_cannot_import_a_guest_fails_its_jobs_with_the_reason(tmp_path):
    assert import_in_worker(()) == ""
    assert "there is no such file" in import_in_worker([str(tmp_path / "gone.py")])


# Rows ------------------------------------------------------------------------------------------------------------

GENERATED = """
name: sums
category: classification
source:
  generator: "guest_sums:rows"
  arguments: {largest: 40}
  note: "made up: sums"
columns: [text]
target: label
template: "{text} {target}"
labels: {0: even, 1: odd}
"""

SUMS = """
def rows(split, largest):
    first = {"train": 0, "validation": 1000}[split]
    for a in range(first, first + largest):
        yield {"text": f"{a} plus {a + 3 * (a % 2)}", "label": (3 * (a % 2)) % 2}
"""


def test_rows_may_come_from_a_function_of_a_package(package):
    package("guest_sums", {"__init__.py": SUMS}, "")
    task = parse_task(GENERATED, "sums.yaml")
    data = load_data(task)
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": 40, "validation": 40}
    assert data.splits["train"][1].references == ("odd",)
    assert data.splits["train"][1].location == "sums/train:row 2"
    assert data.notes == ("made up: sums",)
    larger = parse_task(GENERATED.replace("40", "41"), "sums.yaml")
    assert generated_fingerprint(task) == generated_fingerprint(task) != generated_fingerprint(larger)


def test_a_generator_whose_package_is_missing_or_fails_is_one_line(package):
    with pytest.raises(
        ApetError, match="made by guest_sums:rows, whose package is not installed: pip install guest-sums"
    ):
        load_data(parse_task(GENERATED, "sums.yaml"))
    package("guest_sums", {"__init__.py": SUMS}, "")
    with pytest.raises(ApetError, match=r"guest_sums:rows makes no rows of split 'train' \(TypeError: .*smallest"):
        load_data(parse_task(GENERATED.replace("largest", "smallest"), "sums.yaml"))
    with pytest.raises(ApetError, match="generator 'guest_sums' is not of the form"):
        parse_task(GENERATED.replace("guest_sums:rows", "guest_sums"), "sums.yaml")
