"""One run: from settings to a folder, the same numbers again, nothing half-written."""

from __future__ import annotations

import csv
import math
import subprocess
import sys

import pytest
import torch
from accelerate import DistributedType
from safetensors.torch import load_file

from apet import ApetError
from apet.api import list_methods
from apet.tasks.metrics import MetricScore
from apet.training import run_dir
from apet.training.config import RunConfig, apply_overrides, validate_config
from apet.training.inference import TunedModel, parse_columns
from apet.training.resolve import resolve
from apet.training.resources import SHARDED, Resources, refuse_sharded
from apet.training.result import read_result
from apet.training.run import tune
from tiny_backbones import KINDS, reviews, save_backbone, write_csv, write_jsonl

USES = {"t5": "text-to-text", "bert-head": "classification-head", "bert-mlm": "masked-label-word"}


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {kind: str(save_backbone(kind, root / kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviews")
    write_csv(folder / "train.csv", reviews(64))
    write_csv(folder / "validation.csv", reviews(40, 100))
    return str(folder)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path_factory.mktemp("cache")))


def settings(backbone, data, **more):
    base = {"backbone": backbone, "data": data, "text": ("text",), "label": "stars", "max_steps": 4, "batch_size": 8}
    return RunConfig(**{**base, "dtype": "float32", **more})


def score_of(result):
    """The validation score of a record, as a metric gives it."""
    return MetricScore(result.metric, result.score, result.ci_low, result.ci_high, result.num_examples)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", list_methods())
def test_every_method_trains_on_every_kind_of_backbone(kind, method, backbones, data, tmp_path):
    s = settings(backbones[kind], data, method=method, budget=None if method == "fine-tuning" else 150, max_steps=2)
    outcome = tune(s, tmp_path / "run")
    r = outcome.result
    if method != "fine-tuning":
        assert r.num_trainable == 150
    assert r.objective == USES.get(kind, "next-token")
    assert r.head == ("trained" if kind == "bert-head" else "none")
    assert 0 <= r.ci_low <= r.score <= r.ci_high <= 1
    assert r.untrained_baseline == 0.5  # of two labels: backbones that write answer with the likelier one
    tuned = TunedModel(tmp_path / "run")
    assert score_of(r) == tuned.evaluate(), "loaded again, it measures the same"
    tuned.close()


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns(kind, backbones, data):
    """One word tells the label; full fine-tuning of a random backbone finds it."""
    s = settings(backbones[kind], data, method="fine-tuning", max_steps=120, batch_size=16, learning_rate=3e-3)
    r = tune(s).result
    assert r.score >= 0.9
    assert r.score_untrained <= 0.75


def test_the_same_seeds_give_bit_equal_curves_and_another_data_seed_does_not(backbones, data, tmp_path):
    s = settings(backbones["t5"], data, method="lora", max_steps=6, eval_steps=1)
    a, b = tune(s, tmp_path / "a"), tune(s, tmp_path / "b")
    assert [(p.step, p.loss, p.score) for p in a.points] == [(p.step, p.loss, p.score) for p in b.points]
    assert (tmp_path / "a/delta.safetensors").read_bytes() == (tmp_path / "b/delta.safetensors").read_bytes()
    other = tune(s.model_copy(update={"data_seed": 5}))
    assert [p.loss for p in other.points] != [p.loss for p in a.points]
    assert (other.result.mask_seed, other.result.init_seed, other.result.data_seed) == (0, 0, 5)


def test_runs_that_share_a_backbone_do_not_touch_each_other(backbones, data):
    resources = Resources()
    s = settings(backbones["bert-head"], data, method="adapter", max_steps=3)
    first = tune(s, resources=resources)
    tune(s.model_copy(update={"method": "fine-tuning", "learning_rate": 1e-2, "init_seed": 4}), resources=resources)
    again = tune(s, resources=resources)
    assert [(p.loss, p.score) for p in first.points] == [(p.loss, p.score) for p in again.points]


def test_measurements_at_equal_ratios_change_nothing_but_when_it_is_measured(backbones, data):
    resources = Resources()
    s = settings(backbones["bert-head"], data, method="bitfit", max_steps=7, eval_steps=1)
    every, log = (tune(s.model_copy(update={"eval_steps": e}), resources=resources) for e in (1, "log"))
    assert [p.step for p in log.points] == [0, 1, 2, 3, 4, 6, 7]
    at_each = {p.step: p.score for p in every.points}
    assert [p.score for p in log.points] == [at_each[p.step] for p in log.points]


def test_the_best_values_are_kept_and_the_rule_is_stated(backbones, data, tmp_path):
    s = settings(backbones["t5"], data, method="fine-tuning", max_steps=30, learning_rate=0.01, eval_steps=3)
    outcome = tune(s, tmp_path / "run")
    values = [p.score.score for p in outcome.points]
    best = values.index(max(values))
    r = read_result(tmp_path / "run/result.json")
    assert r.best_step == outcome.points[best].step
    assert r.score == max(values)
    assert r.selection == "the highest validation metric, the earliest of equals"
    tuned = TunedModel(tmp_path / "run")
    assert tuned.evaluate().score == max(values)


def test_a_run_writes_what_a_reader_needs(backbones, data, tmp_path):
    config = settings(backbones["llama"], data, method="apet", budget=77)
    outcome = tune(config, tmp_path / "run")
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert files == {
        "result.json",
        "config.yaml",
        "task.yaml",
        "curve.csv",
        "predictions.csv",
        "delta.safetensors",
        "manifest.json",
    }
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "run").iterdir()}
    (tmp_path / "probe").touch()
    assert set(modes.values()) == {(tmp_path / "probe").stat().st_mode & 0o777}, "that of the umask"
    r = read_result(tmp_path / "run/result.json")
    assert r == outcome.result
    assert r.run_id == resolve(config).run_id
    assert r.versions["torch"] == torch.__version__
    assert r.peak_memory_bytes > 0
    assert r.config == config, "as it was given; config.yaml leaves nothing open"
    assert r.backbone_fingerprint
    assert r.data_fingerprint
    assert r.split_sizes == {"train": 64, "validation": 40}
    with (tmp_path / "run/curve.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4"]
    with (tmp_path / "run/predictions.csv").open() as f:
        items = list(csv.DictReader(f))
    assert sum(float(i["score"]) for i in items) / 40 == pytest.approx(r.score)
    assert items[0]["location"] == "validation.csv:2"


def test_the_saved_settings_run_the_same_run(backbones, data, tmp_path):
    first = tune(settings(backbones["bert-head"], data, method="bitfit", seed=3), tmp_path / "a")
    resolved, _, _ = run_dir.read_run(tmp_path / "a")
    again = tune(resolved, tmp_path / "b")
    assert [(p.loss, p.score) for p in again.points] == [(p.loss, p.score) for p in first.points]


def test_auto_finds_a_rate_on_training_data_and_says_what_it_cost(backbones, data):
    r = tune(settings(backbones["t5"], data, method="lora", max_steps=10, learning_rate="auto")).result
    assert r.learning_rate_rule == "auto"
    assert 3 <= len(r.learning_rate_trials) <= 7
    assert r.learning_rate_search_steps == 2 * len(r.learning_rate_trials)
    assert r.learning_rate in [t.learning_rate for t in r.learning_rate_trials]
    assert r.learning_rate_search_seconds > 0


def _trial_with_best(where, diverges_above=1.0):
    """A made landscape: the measure falls with the distance from the best rate."""
    from apet.tasks.metrics import MetricScore
    from apet.training.loop import DivergedError, EvalPoint

    def trial(schedule):
        if schedule.learning_rate > diverges_above:
            raise DivergedError("nan")
        value = 1 / (1 + abs(math.log(schedule.learning_rate / where)))
        untrained = EvalPoint(0, None, MetricScore("accuracy", 0.0, 0.0, 0.0, 10), 0.0)
        return [untrained, EvalPoint(schedule.max_steps, 1.0, MetricScore("accuracy", value, value, value, 10), 0.0)]

    return trial


def test_where_no_trial_learns_anything_the_papers_rate_stays():
    from apet.tasks.metrics import MetricScore
    from apet.training.loop import EvalPoint, TrainingSchedule
    from apet.training.lr_search import search_learning_rate

    def trial(schedule):
        return [
            EvalPoint(step, 0.7, MetricScore("accuracy", 0.53, 0.49, 0.57, 500), 0.0)
            for step in (0, schedule.max_steps)
        ]

    assert search_learning_rate(3e-2, TrainingSchedule(300, 32, 3e-2, 0.0, 1.0, 50, 0), trial).value == 3e-2


def test_the_search_takes_the_smallest_rate_that_is_as_good_within_one_standard_error():
    """A rate at the edge of stability won a short trial by half a point and lost the long run."""
    from apet.tasks.metrics import MetricScore
    from apet.training.loop import EvalPoint, TrainingSchedule
    from apet.training.lr_search import search_learning_rate

    values = {9e-4: 0.786, 2.7e-3: 0.794}

    def trial(schedule):
        value = next((v for r, v in values.items() if math.isclose(r, schedule.learning_rate, rel_tol=1e-6)), 0.56)
        start = EvalPoint(0, None, MetricScore("accuracy", 0.5, 0.465, 0.535, 500), 0.0)
        return [
            start,
            EvalPoint(schedule.max_steps, 1.0, MetricScore("accuracy", value, value - 0.035, value + 0.035, 500), 0.0),
        ]

    found = search_learning_rate(3e-4, TrainingSchedule(300, 32, 3e-4, 0.0, 1.0, 50, 0), trial)
    assert found.value == pytest.approx(9e-4)
    assert 2.7e-3 in [pytest.approx(t.learning_rate) for t in found.trials]


@pytest.mark.parametrize("best", [1e-4, 3e-4, 9e-4, 8.1e-3, 2.43e-2])
def test_the_search_walks_to_the_best_rate_wherever_it_lies(best):
    from apet.training.loop import TrainingSchedule
    from apet.training.lr_search import search_learning_rate

    schedule = TrainingSchedule(40, 8, 3e-4, 0.0, 1.0, 4, 0)
    found = search_learning_rate(3e-4, schedule, _trial_with_best(best))
    assert found.value == pytest.approx(best)
    assert all(t.max_steps == 10 for t in found.trials)
    with pytest.raises(ApetError, match=r"no learning rate near 0\.0003 trains this"):
        search_learning_rate(3e-4, schedule, _trial_with_best(best, diverges_above=1e-9))


@pytest.mark.parametrize(("task", "rates"), [("sst2", (3e-4, 3e-2)), ("rte", (5e-5, 5e-5))])
def test_the_papers_rates(task, rates):
    from apet.tasks.task import load_task
    from apet.training.lr_search import paper_learning_rate

    assert (
        paper_learning_rate(list_methods()["lora"], load_task(task)),
        paper_learning_rate(list_methods()["prompt"], load_task(task)),
    ) == rates


def test_a_run_that_diverges_says_so_and_leaves_nothing(backbones, data, tmp_path):
    s = settings(backbones["t5"], data, method="fine-tuning", learning_rate=1e30, max_grad_norm=None, max_steps=8)
    with pytest.raises(ApetError, match=r"the loss was nan by step \d+ at learning rate 1e\+30; give a smaller one"):
        tune(s, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["run", "file", "other files", "below a file"])
def test_an_output_folder_that_is_taken_is_refused_before_any_work(what, backbones, data, tmp_path):
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "below a file":
        (tmp_path / "f").write_text("mine")
        out = tmp_path / "f" / "out"
    else:
        out.mkdir()
        (out / ("result.json" if what == "run" else "notes.txt")).write_text("mine")
    with pytest.raises(ApetError, match=r"holds another run|is a file|is not empty|cannot write to"):
        tune(settings(backbones["t5"], data, max_steps=1), out)
    assert not list(tmp_path.rglob("*.part"))


def test_limits_take_some_of_each_class(backbones, tmp_path):
    rows = sorted(reviews(200), key=lambda r: r["stars"])
    write_csv(tmp_path / "a.csv", rows)
    s = settings(backbones["t5"], str(tmp_path / "a.csv"), max_train_samples=40, max_eval_samples=10, max_steps=1)
    r = tune(s).result
    assert r.split_sizes == {"train": 40, "validation": 10}
    assert r.majority_baseline < 0.9


def test_truncation_is_counted(backbones, tmp_path):
    rows = [{**r, "text": r["text"] + " and so on" * (60 if i == 0 else 1)} for i, r in enumerate(reviews(20))]
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "validation.csv", reviews(4, 50))
    r = tune(settings(backbones["gpt2"], str(tmp_path), max_input_length=40, max_steps=1)).result
    assert r.num_truncated == {"train": 1, "validation": 0}


def test_a_prompt_takes_its_places_from_the_text_where_positions_are_learned(backbones, data):
    s = settings(backbones["bert-head"], data, method="prompt", method_settings={"prompt_length": 100})
    assert tune(s.model_copy(update={"max_input_length": 256, "max_steps": 1})).result.max_input_length == 200
    with pytest.raises(ApetError, match="prompt_length=300 leaves no room for text"):
        resolve(s.model_copy(update={"method_settings": {"prompt_length": 300}}))


def test_frozen_heads_are_named_and_counted_apart(backbones, data):
    s = settings(backbones["bert-head"], data, method="lora", head="frozen", max_steps=2)
    r = tune(s).result
    assert (r.head, r.num_head_parameters) == ("frozen", 66)
    assert r.head_parameters == ["classifier.weight", "classifier.bias"]
    trained = tune(s.model_copy(update={"head": "trained"})).result
    assert trained.num_trainable == r.num_trainable


def test_gradient_checkpointing_gives_the_same_curve(backbones, data):
    s = settings(backbones["t5"], data, method="lora", max_steps=3)
    plain, thrifty = tune(s), tune(s.model_copy(update={"gradient_checkpointing": True}))
    losses = [[p.loss for p in o.points[1:]] for o in (plain, thrifty)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_two_processes_give_the_curve_of_one(backbones, data, tmp_path):
    """Each takes half of every batch; only the first writes."""
    words = ["tune", "--backbone", backbones["t5"], "--data", data, "--text", "text", "--label", "stars", "--json"]
    words += ["--method", "apet", "--budget", "99", "max_steps=4", "device=cpu", "dtype=float32", "batch_size=8"]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "--module", "apet"]
    with (tmp_path / "log").open("wb") as log:  # not a pipe, which a process left behind would keep open
        command = [*launch, *words, "--output", str(tmp_path / "two")]
        done = subprocess.run(command, check=False, stdout=log, stderr=log, timeout=240)
    assert done.returncode == 0, (tmp_path / "log").read_text()[-3000:]
    one = tune(settings(backbones["t5"], data, method="apet", budget=99), tmp_path / "one")
    with (tmp_path / "two/curve.csv").open() as f:
        losses = [float(r["loss"]) for r in csv.DictReader(f) if r["loss"]]
    assert losses == pytest.approx([p.loss for p in one.points[1:]], rel=0.01)  # halves weigh alike, not their tokens
    values = [load_file(tmp_path / d / "delta.safetensors")["values"] for d in ("two", "one")]
    torch.testing.assert_close(values[0], values[1], rtol=2e-2, atol=2e-5)


def test_a_spread_backbone_gives_the_run_of_a_whole_one(backbones, data):
    s = settings(backbones["t5"], data, method="apet", budget=99)
    one, spread = tune(s).result, tune(s.model_copy(update={"device_map": "auto"})).result
    for same in ("score", "ci_low", "score_last", "num_trainable"):
        assert getattr(spread, same) == getattr(one, same)


def test_a_backbone_larger_than_all_devices_is_one_line(backbones, data, monkeypatch):
    monkeypatch.setattr("apet.backbones.loading.DEVICE_MAP", {"": "disk"})
    with pytest.raises(ApetError, match="is larger than all devices of this machine: 1 part"):
        tune(settings(backbones["t5"], data, method="apet", budget=99, device_map="auto"))


@pytest.mark.parametrize("launched", SHARDED)
def test_backbones_in_pieces_are_refused(launched):
    with pytest.raises(ApetError, match="cuts weights into pieces"):
        refuse_sharded(launched, None)


def test_a_spread_backbone_belongs_to_one_process():
    refuse_sharded(DistributedType.NO, "auto")
    with pytest.raises(ApetError, match="takes all devices for one process"):
        refuse_sharded(DistributedType.MULTI_CPU, "auto")


def test_bf16_backbones_keep_fp32_values(backbones, data, tmp_path):
    r = tune(settings(backbones["t5"], data, method="apet", budget=99, dtype="bfloat16"), tmp_path / "run").result
    assert r.dtype == "bfloat16"
    assert load_file(tmp_path / "run/delta.safetensors")["values"].dtype == torch.float32


def test_answers_to_new_texts(backbones, data, tmp_path):
    s = settings(backbones["bert-mlm"], data, method="fine-tuning", max_steps=60, batch_size=16, learning_rate=3e-3)
    tune(s, tmp_path / "run")
    tuned = TunedModel(tmp_path / "run")
    texts = [{"text": "a warm film , scene 7"}, {"text": "a slow film , scene 7"}]
    assert [a.text for a in tuned.predict(texts)] == ["positive", "negative"]
    with pytest.raises(ApetError, match="no text came"):
        tuned.predict([])
    with pytest.raises(ApetError, match="has 2 part"):
        parse_columns(tuned.task.model_copy(update={"columns": ("a", "b", "c")}), "x\ty")


def test_another_backbone_by_the_same_name_is_refused(backbones, data, tmp_path):
    folder = save_backbone("llama", tmp_path / "b")
    tune(settings(str(folder), data, method="bitfit", max_steps=1), tmp_path / "run")
    torch.manual_seed(1)
    from tiny_backbones import model, tokenizer

    m = model("llama", len(tokenizer("llama")))
    with torch.no_grad():
        m.lm_head.weight.add_(1)
    m.save_pretrained(folder)
    with pytest.raises(ApetError, match="was trained on a LlamaForCausalLM with weights"):
        TunedModel(tmp_path / "run")


def test_transfer_counts_label_words_by_their_unified_label(backbones, tmp_path):
    def task(name, words):
        write_jsonl(tmp_path / f"{name}-train.jsonl", [{**r, "label": r["stars"]} for r in reviews(64)])
        held = [{**r, "label": r["stars"]} for r in reviews(40, 100)]
        write_jsonl(tmp_path / f"{name}-validation.jsonl", held)
        text = f"""
name: {name}
category: sentiment
source: {{files: {{train: {name}-train.jsonl, validation: {name}-validation.jsonl}}}}
columns: [text]
target: label
template: "{{text}} Answer: {{target}}"
labels: {{negative: "{words[0]}", positive: "{words[1]}"}}
transfer_labels: {{"{words[0]}": 0, "{words[1]}": 1}}
"""
        (tmp_path / f"{name}.yaml").write_text(text)
        return str(tmp_path / f"{name}.yaml")

    source, target, inverse = task("one", ("no", "yes")), task("two", ("bad", "good")), task("three", ("x", "y"))
    s = RunConfig(
        backbone=backbones["t5"], task=source, method="fine-tuning", max_steps=60, learning_rate=3e-3, batch_size=16
    )
    tune(s, tmp_path / "run")
    tuned = TunedModel(tmp_path / "run")
    from apet.tasks.task import load_task

    own = tuned.evaluate().score
    assert own >= 0.9
    assert tuned.transfer(load_task(target)).score == own
    flipped = load_task(inverse).model_copy(update={"transfer_labels": {"x": 1, "y": 0}})
    assert tuned.transfer(flipped).score == pytest.approx(1 - own)
    shared = s.model_copy(update={"task": target, "label_words": "transfer", "max_steps": 1})
    assert resolve(shared).run_id != resolve(shared.model_copy(update={"label_words": None})).run_id
    tune(shared, tmp_path / "shared")
    assert TunedModel(tmp_path / "shared").task.label_words == ("no", "yes")
    with pytest.raises(ApetError, match="gives no transfer label to some of its words"):
        tuned.transfer(load_task(target).model_copy(update={"transfer_labels": {}}))
    with pytest.raises(ApetError, match="transfer needs two tasks of one kind"):
        tuned.transfer(load_task("samsum"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_steps": 0}, r"max_steps=0 does not fit: .*; Optimizer steps"),
        ({"max_steps": "many"}, r"max_steps='many' does not fit"),
        ({"stepz": 3}, "unknown setting 'stepz'"),
        ({"learning_rate": "fast"}, r"learning_rate='fast' does not fit: .*; A number; paper = "),
        ({"dtype": "int8"}, "dtype='int8' does not fit"),
        ({"backbone": None}, "backbone=None does not fit"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(values, message):
    with pytest.raises(ApetError, match=message):
        validate_config({"backbone": "x", "task": "sst2", **values})


def test_a_missing_backbone_is_named():
    with pytest.raises(ApetError, match="backbone is missing; give backbone="):
        validate_config({"task": "sst2"})


def test_words_go_to_the_run_or_to_its_method():
    out = apply_overrides(
        {"method": "lora", "max_steps": 3, "method_settings": {"alpha": 2}}, {"rank": 4, "max_steps": 5}
    )
    assert out == {"method": "lora", "max_steps": 5, "method_settings": {"alpha": 2, "rank": 4}}
    with pytest.raises(ApetError, match="unknown setting of a run or of lora 'rnak'; nearest: rank"):
        apply_overrides({"method": "lora"}, {"rnak": 4})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "there is nothing to learn; give a task"),
        ({"data": "x.csv"}, "cannot read data file '.*x.csv'"),
        ({"task": "sst2", "text": ("a",)}, "text, label and labels describe a data file, a task has its own"),
        ({"task": "sst3"}, "unknown task 'sst3'; nearest: sst2"),
        ({"task": "none.yaml"}, "cannot read task file 'none.yaml'"),
        ({"task": "sst2", "method": "lroa"}, "unknown method 'lroa'; nearest: lora"),
        ({"task": "sst2", "budget": "0"}, "budget='0' means nothing to train"),
        ({"task": "sst2", "method": "lora", "method_settings": {"rank": 99}}, "rank=99 exceeds the smaller side"),
        ({"task": "samsum"}, "asks for free text; an encoder cannot write"),
    ],
)
def test_what_cannot_be_planned_is_refused_before_data_and_weights(given, message, backbones):
    with pytest.raises(ApetError, match=message):
        resolve(RunConfig(backbone=backbones["bert-head"], **given))


def tuned_by_task(tmp_path, name, task, **more):
    settings = {"backbone": "microworld-t5-nano", "task": task, "method": "apet-fisher", "budget": 300, "max_steps": 2}
    settings |= {
        "max_train_samples": 64,
        "max_eval_samples": 8,
        "batch_size": 4,
        "method_settings": {"operations": ["add"]},
    }
    tune(validate_config(settings | more), tmp_path / name)
    saved = load_file(tmp_path / name / "delta.safetensors")
    indices = [v.tolist() for k, v in sorted(saved.items()) if k != "values"]
    return indices, saved["values"]


def test_masks_that_a_task_ranks_are_settled_by_training_rows_and_the_same_again(tmp_path):
    first, again, other = (
        tuned_by_task(tmp_path, name, f"microworld-{task}")
        for name, task in (("first", "sst2"), ("again", "sst2"), ("other", "mnli"))
    )
    assert first[1].numel() == 300
    assert first[0] == again[0]
    assert first[0] != other[0]
    assert torch.equal(first[1], again[1])
