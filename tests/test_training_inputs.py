"""Faults that were found once, by name: each input here once gave a wrong number, a traceback or a lost run."""

from __future__ import annotations

import json

import pytest
import torch

from apet import ApetError
from apet.backbones.loading import load_model, load_tokenizer
from apet.tasks.examples import Example
from apet.tasks.from_file import task_from_file
from apet.tasks.objectives import make_objective
from apet.tasks.sources import TaskData, load_data
from apet.tasks.task import registered_tasks, validate_task
from apet.tasks.tokenization import TextTokenizer
from apet.training.config import RunConfig, apply_overrides
from apet.training.inference import TunedModel
from apet.training.resolve import resolve
from apet.training.run import tune
from tiny_backbones import model, reviews, save_backbone, tokenizer, write_csv, write_jsonl


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    here = tmp_path_factory.mktemp("inputs")
    for kind in ("t5", "bert-head", "bert-mlm", "gpt2"):
        save_backbone(kind, here / kind)
    write_csv(here / "train.csv", reviews(48))
    return here


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path_factory.mktemp("cache")))


def settings(workspace, kind, **more):
    base = {
        "backbone": str(workspace / kind),
        "data": str(workspace / "train.csv"),
        "text": ("text",),
        "label": "stars",
    }
    return RunConfig(**{**base, "max_steps": 2, "batch_size": 8, "dtype": "float32", **more})


def test_weights_that_a_checkpoint_lacks_are_never_drawn_at_random(workspace):
    with pytest.raises(ApetError, match=r"was not pre-trained for masked-label-word: its checkpoint lacks .*cls"):
        load_model(str(workspace / "bert-head"), "masked-label-word", 2, torch.float32)


def test_where_pre_training_had_no_pooler_the_identity_hands_the_first_token_on(workspace):
    """A checkpoint of masked words alone serves a classification head, and each time the same one."""
    loaded = load_model(str(workspace / "bert-mlm"), "classification-head", 2, torch.float32)
    hidden, pooled = loaded.bert(torch.arange(4, 12)[None])[:2]
    assert torch.equal(pooled, hidden[:, 0].tanh())


def test_a_checkpoints_own_generation_settings_do_not_change_greedy_answers(workspace, tmp_path):
    m = model("gpt2", len(tokenizer("gpt2")))
    m.generation_config.repetition_penalty = 9.0
    m.save_pretrained(tmp_path / "m")
    assert load_model(str(tmp_path / "m"), "next-token", 2, torch.float32).generation_config.repetition_penalty in (
        None,
        1.0,
    )


def test_tokenizers_that_differ_in_one_special_token_do_not_share_tokens():
    a, b = tokenizer("gpt2"), tokenizer("gpt2")
    b.eos_token = "<s>"
    assert TextTokenizer(a).fingerprint != TextTokenizer(b).fingerprint


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    model("bert-head", 300).save_pretrained(tmp_path)
    with pytest.raises(ApetError, match="has no tokenizer; save one beside the model"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        (["target"], "stars", "none may be called 'target'"),
        (["text", "text"], "stars", "each may come once only"),
        (["text", "stars"], "stars", "'stars' is both text and label"),
        (["a{b"], "stars", "cannot stand in a template; rename it"),
    ],
)
def test_columns_that_a_template_could_not_read_are_refused(text, label, message, tmp_path):
    rows = [{**r, "target": "x", "a{b": "y"} for r in reviews(30)]
    with pytest.raises(ApetError, match=message):
        task_from_file(str(write_csv(tmp_path / "a.csv", rows)), text, label)


@pytest.mark.parametrize(
    ("kind", "objective"),
    [("bert-mlm", "next-token"), ("gpt2", "classification-head"), ("t5", "next-token"), ("gpt2", "text-to-text")],
)
def test_an_objective_that_a_backbone_cannot_serve_is_refused(kind, objective, workspace):
    with pytest.raises(ApetError, match=f"objective={objective} does not fit"):
        resolve(settings(workspace, kind, objective=objective))


def test_a_run_that_may_stop_at_once_still_has_a_result(workspace):
    r = tune(settings(workspace, "bert-mlm", method="bitfit", target_score=0.0, max_steps=6, eval_steps=2)).result
    assert r.stopped_at == 2


def test_too_few_examples_to_search_a_rate_are_named(workspace):
    with pytest.raises(ApetError, match="learning_rate=auto needs more than 1 training examples"):
        tune(settings(workspace, "t5", method="bitfit", learning_rate="auto", max_train_samples=1))


def test_a_place_that_cannot_be_written_is_known_before_training(workspace, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")

    def never(*_, **__):
        raise AssertionError("trained first")

    monkeypatch.setattr("apet.training.run.train", never)
    with pytest.raises(ApetError, match="cannot write to"):
        tune(settings(workspace, "t5", method="bitfit"), tmp_path / "file" / "out")
    with pytest.raises(ApetError, match=r"cannot be a folder's name|cannot write to"):
        tune(settings(workspace, "t5", method="bitfit"), tmp_path / ("x" * 300))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.fixture(scope="module")
def tuned(workspace, tmp_path_factory):
    import os

    os.environ["APET_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    tune(settings(workspace, "bert-mlm", method="bitfit"), workspace / "run")
    return TunedModel(workspace / "run")


def test_a_single_file_is_evaluated_whole_and_limits_hold_for_every_split(tuned, workspace):
    other = write_csv(workspace / "other.csv", reviews(60, 900))
    assert tuned.evaluate(data=str(other)).num_examples == 60
    assert tuned.evaluate(data=str(other), limit=7).num_examples == 7
    assert tuned.evaluate("train", limit=5).num_examples == 5
    with pytest.raises(ApetError, match="has no split 'test'"):
        tuned.evaluate("test")


def test_any_text_can_be_predicted(tuned):
    answers = tuned.predict([{"text": "\udcff lone"}, {"text": ""}, {"text": "🙂"}])
    assert {a.text for a in answers} <= {"positive", "negative"}


@pytest.mark.parametrize("kind", ["t5", "gpt2"])
def test_an_answer_that_was_cut_is_counted_and_does_not_end(kind):
    use = {"t5": "text-to-text", "gpt2": "next-token"}[kind]
    task = validate_task(
        {**registered_tasks()["samsum"].model_dump(exclude_defaults=True), "max_target_length": 3}, "test"
    )
    o = make_objective(use, task, tokenizer(kind), 64)
    e = o.encode(Example({"dialogue": "hi"}, ("they talk about the first scene and the last",), ""))
    assert len(e.target) == 3
    assert e.target[-1] != o.tokenizer.pretrained.eos_token_id
    assert e.num_cut > 0
    whole = o.encode(Example({"dialogue": "hi"}, ("they",), ""))
    assert whole.target[-1] == o.tokenizer.pretrained.eos_token_id


def test_labels_that_are_floats_in_the_file_are_labels(tmp_path):
    rows = [{"text": r["text"], "grade": float(r["stars"] == "positive")} for r in reviews(30)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    task = task_from_file(str(tmp_path / "a.jsonl"), ["text"], "grade")
    assert task.label_words == ("0", "1")
    assert len(load_data(task).splits["train"]) == 16


def test_label_words_that_a_tokenizer_cannot_tell_apart_are_refused():
    t = tokenizer("gpt2")
    t.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Lowercase()
    task = {
        **registered_tasks()["sst2"].model_dump(exclude_defaults=True),
        "labels": {0: "Positive", 1: "positive"},
        "transfer_labels": {},
    }
    with pytest.raises(ApetError, match="'Positive' and 'positive' are the same to this backbone's tokenizer"):
        make_objective("next-token", validate_task(task, "test"), t, 64)


def test_moving_an_example_between_splits_changes_the_datas_fingerprint():
    a, b = Example({"t": "a"}, ("x",), ""), Example({"t": "b"}, ("x",), "")
    assert (
        TaskData({"train": [a], "validation": [b]}).fingerprint
        != TaskData({"train": [a, b], "validation": []}).fingerprint
    )


def test_method_settings_from_words_and_mappings_add_up():
    out = apply_overrides({"method": "lora"}, {"method_settings": {"rank": 4}, "alpha": 8})
    assert out["method_settings"] == {"rank": 4, "alpha": 8}
    with pytest.raises(ApetError, match="method_settings=5 is not a mapping"):
        apply_overrides({"method": "lora", "method_settings": 5}, {})


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.jsonl", "[" * 100_000 + "\n", r"a\.jsonl: no JSON object"),
        ("b.jsonl", '{"a": ' * 100_000 + "\n", r"b\.jsonl:1: no JSON object"),
    ],
)
def test_more_files_that_say_where(name, raw, message, tmp_path):
    from apet.tasks.files import read_table
    from apet.tasks.rows import Reading

    (tmp_path / name).write_text(raw)
    with pytest.raises(ApetError, match=message):
        read_table(tmp_path / name)
    with pytest.raises(ApetError, match="there is no encoding 'utf-9'"):
        read_table(write_csv(tmp_path / "b.csv", reviews(2)), Reading("utf-9"))


def test_settings_of_a_run_lead_back_to_its_files_from_any_folder(workspace, tmp_path, monkeypatch):
    monkeypatch.chdir(workspace)
    s = settings(workspace, "t5", method="bitfit").model_copy(update={"backbone": "t5", "data": "train.csv"})
    tune(s, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert (
        TunedModel(tmp_path / "run").evaluate().num_examples
        == json.loads((tmp_path / "run/result.json").read_text())["num_examples"]
    )


def test_a_fault_of_ours_is_one_line_too_and_can_be_traced(monkeypatch, capsys):
    from apet.cli import main

    def broken(*_, **__):
        raise RuntimeError("something unforeseen\nwith details")

    monkeypatch.setattr("apet.cli.app.app", broken)
    with pytest.raises(SystemExit) as e:
        main()
    assert e.value.code == 1
    said = capsys.readouterr().err
    assert said == "apet: RuntimeError: something unforeseen (a fault of apet's; APET_TRACEBACK=1 shows where)\n"
    monkeypatch.setenv("APET_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main()
