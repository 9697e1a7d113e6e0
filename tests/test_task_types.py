"""Every type of task: told by the data, tuned, compared and answered, by heads of transformers."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

from apet.errors import ApetError
from apet.tasks.examples import Example, read_examples
from apet.tasks.from_file import task_from_file
from apet.tasks.objectives import head_for, make_objective
from apet.tasks.rows import Row
from test_cli import call
from tiny_backbones import model, save_backbone, tokenizer, write_csv, write_jsonl

WORDS = ["fine", "warm", "clever", "dull", "cold", "slow"]
TAGS = {"fine": "B-GOOD", "warm": "I-GOOD", "dull": "B-BAD"}


def rows_of(kind: str, n: int = 60) -> list[dict[str, object]]:
    """Rows whose answer the words tell; no two texts alike."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for i in range(n):
        words = [str(w) for w in rng.choice(WORDS, 4)]
        text = f"{' '.join(words)} scene {i}"
        if kind == "regression":
            rows.append({"text": text, "answer": round(sum(w in WORDS[:3] for w in words) + i / 1000, 3)})
        elif kind == "sentence pairs":
            rows.append({"text": text, "other": f"{words[0]} film", "answer": round(2.5 + i / 30, 2)})
        elif kind == "multi-label":
            rows.append({"text": text, "answer": sorted(set(words) & {"fine", "dull"})})
        elif kind == "token-classification":
            rows.append({"text": [*words, str(i)], "answer": [*(TAGS.get(w, "O") for w in words), "O"]})
        elif kind == "multiple-choice":
            choices = [f"{w} it is" for w in WORDS[: 2 + i % 3]]
            rows.append({"text": text, "choices": choices, "answer": i % len(choices)})
        else:
            rows.append({"text": text, "answer": f"the {words[0]} film was {words[1]} in scene {i}"})
    return rows


TEXT = {"sentence pairs": ["text", "other"], "multiple-choice": ["text", "choices"]}
TYPES = ["regression", "sentence pairs", "multi-label", "token-classification", "multiple-choice", "text-generation"]
METRIC = {"regression": "pearson", "sentence pairs": "pearson", "multi-label": "micro-f1"}
METRIC |= {"token-classification": "seqeval-f1", "multiple-choice": "accuracy", "text-generation": "rouge-l"}


def task_of(kind, tmp_path, **more):
    path = write_jsonl(tmp_path / "rows.jsonl", rows_of(kind))
    asked = {"task_type": "text-generation"} if kind == "text-generation" else {}
    return task_from_file(str(path), TEXT.get(kind, ["text"]), "answer", **asked, **more)


def examples_of(task, kind):
    return read_examples(task, [Row(r, f"rows.jsonl:{n}") for n, r in enumerate(rows_of(kind), 1)])


# Told by the data -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_the_type_is_told_by_the_values_and_said(tmp_path, kind):
    task = task_of(kind, tmp_path)
    expected = "regression" if kind == "sentence pairs" else kind
    assert (task.task_type, task.metric) == (expected, METRIC[kind])
    if kind != "text-generation":
        assert task.source.note is not None
        assert task.source.note.startswith(f"{expected}, as ")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 2, 3, 4, 5], "single-label"),
        (["1", "2", "5"], "single-label"),
        ([0.5, 1.5], "single-label"),
        ([n / 4 for n in range(20)], "regression"),
        ([f"{n / 4:.2f}".replace(".", ",") for n in range(20)], "regression"),
        (list(range(0, 300, 7)), "regression"),
        ([["a"], ["a", "b"], []], "multi-label"),
        (['["a", "b"]', '["b"]', "[]"], "multi-label"),
        (["['a', 'b']", "['b']"], "multi-label"),
    ],
)
def test_numbers_with_many_values_are_a_quantity_and_lists_several_labels(tmp_path, values, found):
    rows = [{"text": f"scene {n}", "answer": values[n % len(values)]} for n in range(max(60, len(values)))]
    assert task_from_file(str(write_jsonl(tmp_path / "a.jsonl", rows)), ["text"], "answer").task_type == found


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([{"text": f"t{n}", "answer": n} for n in range(50)], {}, "column 'answer' numbers the rows"),
        ([{"text": f"t{n}", "answer": f"a text {n}"} for n in range(50)], {}, "--task-type text-generation"),
        ([{"text": "a", "answer": "b"}] * 9, {"task_type": "regression"}, "regression needs numbers.* 'b'"),
        ([{"text": "a", "answer": "b"}] * 9, {"task_type": "multiple-choice"}, "needs a column with lists of choices"),
        ([{"text": "a", "answer": 2.5}] * 9, {"task_type": "regression"}, "no two different numbers"),
        ([{"text": "a", "answer": ["b"]}] * 9, {"task_type": "single-label"}, "--task-type multi-label"),
    ],
)
def test_what_leaves_the_type_open_is_refused_with_what_to_give(tmp_path, rows, more, message):
    with pytest.raises(ApetError, match=message):
        task_from_file(str(write_jsonl(tmp_path / "a.jsonl", rows)), ["text"], "answer", **more)


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("regression", {"answer": "many"}, "'answer' is no number: 'many'"),
        ("multi-label", {"answer": ["fine", "neu"]}, "label 'neu' is unknown"),
        ("token-classification", {"answer": ["O"]}, "'answer' has 1 tags for 5 tokens"),
        ("token-classification", {"text": 7}, "'text' is no list"),
        ("multiple-choice", {"answer": 9}, "choice '9' .* is unknown"),
        ("multiple-choice", {"choices": ["one"]}, "'choices' is a list of 1"),
    ],
)
def test_a_row_that_does_not_fit_is_named_with_its_place(tmp_path, kind, bad, message):
    task = task_of(kind, tmp_path)
    rows = [Row(r, f"rows.jsonl:{n}") for n, r in enumerate(rows_of(kind), 1)]
    rows[3] = Row({**rows[3].values, **bad}, "rows.jsonl:4")
    with pytest.raises(ApetError, match=f"rows.jsonl:4: {message}"):
        read_examples(task, rows)


@pytest.mark.parametrize(
    ("value", "choice"), [(1, "cold"), ("1", "cold"), ("B", "cold"), ("b", "cold"), ("cold", "cold")]
)
def test_a_choice_is_named_by_place_letter_or_text(tmp_path, value, choice):
    task = task_of("multiple-choice", tmp_path)
    (example,) = read_examples(task, [Row({"text": "t", "choices": ["warm", "cold"], "answer": value}, "a:1")])
    assert example.references == (choice,)


# Losses and answers, held against transformers' own ----------------------------------------------------------------


def head(kind, task, words, num_labels, cls="AutoModelForSequenceClassification", **config):
    import transformers

    torch.manual_seed(0)
    settings = model("bert-head", len(words)).config
    settings.update({"num_labels": num_labels, **config})
    return getattr(transformers, cls).from_config(settings).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "num_labels", "config"),
    [
        ("regression", 1, {"problem_type": "regression"}),
        ("multi-label", 2, {"problem_type": "multi_label_classification"}),
        ("token-classification", 4, {}),
    ],
)
def test_losses_are_those_of_transformers(tmp_path, kind, num_labels, config):
    task, words = task_of(kind, tmp_path), tokenizer("bert-head")
    cls = "AutoModelForTokenClassification" if kind == "token-classification" else "AutoModelForSequenceClassification"
    net = head(kind, task, words, num_labels, cls, **config)
    objective = make_objective(head_for(task), task, words, 64)
    examples = examples_of(task, kind)[:6]
    batch = objective.collate([objective.encode(e) for e in examples])
    if kind == "regression":
        numbers = np.array([r["answer"] for r in rows_of(kind)])
        labels = torch.tensor((numbers[:6] - numbers.mean()) / numbers.std(), dtype=torch.float32)[:, None]
    elif kind == "multi-label":
        labels = torch.tensor([[float(w in r["answer"]) for w in task.label_words] for r in rows_of(kind)[:6]])
    else:
        labels = batch["target"]
    theirs = net(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        token_type_ids=batch["token_type_ids"],
        labels=labels,
    ).loss
    torch.testing.assert_close(objective.loss(net, batch), theirs)


@torch.no_grad()
def test_multiple_choice_is_transformers_own_head_over_each_choice(tmp_path):
    task, words = task_of("multiple-choice", tmp_path), tokenizer("bert-head")
    net = head("multiple-choice", task, words, 1)
    theirs = head("multiple-choice", task, words, 1, "AutoModelForMultipleChoice")
    theirs.load_state_dict(net.state_dict())
    objective = make_objective("multiple-choice-head", task, words, 64)
    examples = examples_of(task, "multiple-choice")[:5]
    scores, right = objective.logits(net, objective.collate([objective.encode(e) for e in examples]))
    answers = objective.predict(net, objective.collate([objective.encode(e) for e in examples]))
    for n, e in enumerate(examples):
        choices = json.loads(e.texts["choices"])
        assert choices[right[n]] == e.references[0]
        read = words(
            [f" {e.texts['text']}"] * len(choices), [f" {c}" for c in choices], return_tensors="pt", padding=True
        )
        expected = theirs(**{k: v[None] for k, v in read.items()}).logits[0]
        torch.testing.assert_close(scores[n, : len(choices)], expected, rtol=1e-4, atol=1e-5)
        assert torch.isneginf(scores[n, len(choices) :]).all()
        assert answers[n].scores == pytest.approx(expected.softmax(0).tolist(), abs=1e-5)
        assert objective.worded(answers[n], e).text == choices[int(expected.argmax())]


def test_tags_are_read_at_the_first_piece_of_each_token_and_long_texts_are_cut_at_a_token(tmp_path):
    task, words = task_of("token-classification", tmp_path), tokenizer("bert-head")
    tokens, tags = ["fine", "extraordinary", "dull"], ["B-GOOD", "O", "B-BAD"]
    example = Example({"text": json.dumps(tokens)}, (" ".join(tags),), "")
    objective = make_objective("token-classification-head", task, words, 64)
    encoded = objective.encode(example)
    read = words(tokens, is_split_into_words=True)
    assert encoded.input_ids.tolist() == read["input_ids"]
    first = [i is not None and i not in read.word_ids()[:n] for n, i in enumerate(read.word_ids())]
    assert [int(t) >= 0 for t in encoded.target] == first
    assert [task.label_words[t] for t in encoded.target if t >= 0] == tags
    cut = make_objective("token-classification-head", task, words, len(read["input_ids"]) - 1).encode(example)
    assert [task.label_words[t] for t in cut.target if t >= 0] == tags[:2]
    assert cut.num_cut == len(read["input_ids"]) - len(cut.input_ids)


# From the command line --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("types")
    save_backbone("bert-head", folder / "bert")
    save_backbone("llama", folder / "llama")
    for kind in TYPES:
        write_jsonl(folder / f"{kind.replace(' ', '-')}.jsonl", rows_of(kind))
    os.environ["APET_CACHE"] = str(folder / "cache")
    return folder


def words_of(kind, *more, backbone="bert"):
    columns = [w for c in TEXT.get(kind, ["text"]) for w in ("--text", c)]
    asked = ["--task-type", kind] if kind == "text-generation" else []
    return ["--backbone", backbone, "--data", f"{kind.replace(' ', '-')}.jsonl", *columns, "--label", "answer", *asked,
            "dtype=float32", "batch_size=8", "--quiet", *more]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
def test_tune_evaluate_and_predict(place, kind):
    backbone = "llama" if kind == "text-generation" else "bert"
    folder = f"run-{kind.replace(' ', '-')}"
    words = words_of(kind, "--method", "lora", "--max-steps", "30", "learning_rate=5e-3", backbone=backbone)
    done = call(place, "tune", *words, "--output", folder)
    assert done.code == 0, done.err
    result = json.loads((place / folder / "result.json").read_text())
    assert result["task_type"] in done.out
    assert result["metric"] == METRIC[kind]
    assert result["score"] >= result["untrained_baseline"]
    if kind not in ("multiple-choice", "text-generation", "sentence pairs"):
        assert result["score"] > 0.1 + result["untrained_baseline"]  # what the words tell is learned
    again = json.loads(call(place, "evaluate", folder, "--json").out)
    assert again["score"] == pytest.approx(result["score"], abs=1e-6)
    row = {k: v for k, v in rows_of(kind)[0].items() if k != "answer"}
    line = "\t".join(v if isinstance(v, str) else json.dumps(v) for v in row.values())
    answered = call(place, "predict", folder, line, "--json")
    assert answered.code == 0, answered.err
    (answer,) = json.loads(answered.out)
    if result["task_type"] == "regression":
        assert float(answer["prediction"]) == pytest.approx(2.5, abs=3)
    if kind == "token-classification":
        assert len(answer["prediction"]) == len(answer["score"]) == 5
    if kind == "multiple-choice":
        assert answer["prediction"] in row["choices"]


@pytest.mark.parametrize("kind", ["regression", "token-classification"])
def test_compare_and_its_report(place, kind):
    folder = f"compare-{kind}"
    words = words_of(kind, "--methods", "lora,bitfit", "--max-steps", "3", "--seeds", "0,1")
    done = call(place, "compare", *words, "--output", folder)
    assert done.code == 0, done.err
    assert METRIC[kind] in done.out
    assert call(place, "report", folder).code == 0


def test_a_writer_is_told_that_a_head_needs_an_encoder(place):
    save_backbone("t5", place / "t5")
    done = call(place, "tune", *words_of("regression", backbone="t5"), "--output", "x")
    assert (done.code, done.out) == (2, "")
    assert "needs an encoder" in done.err


def test_a_decoder_learns_a_number_by_a_head_of_its_own(place):
    words = words_of("regression", "--method", "lora", "--max-steps", "30", "learning_rate=5e-3", backbone="llama")
    result = json.loads(call(place, "tune", *words, "--json", "--output", "decoder").out)
    assert result["backbone_class"] == "LlamaForSequenceClassification"
    assert result["score"] > 0.3


def test_settings_that_shape_the_targets_are_part_of_a_run_and_kept(place):
    words = words_of("regression", "--max-steps", "1")
    first = json.loads(call(place, "tune", *words, "--json", "--output", "kept").out)
    other = json.loads(call(place, "tune", *words, "--metric", "spearman", "--json", "--output", "kept-other").out)
    assert first["run_id"] != other["run_id"]
    assert set(first["other_scores"]) == {"spearman", "r2", "rmse", "mae"}
    assert first["other_scores"]["spearman"] == pytest.approx(other["score"], abs=1e-9)


def test_cells_of_a_csv_hold_lists_as_json_or_as_python_writes_them(tmp_path):
    for write in (json.dumps, str):
        rows = [
            {k: v if isinstance(v, str) else write(v) for k, v in r.items()} for r in rows_of("token-classification")
        ]
        task = task_from_file(str(write_csv(tmp_path / "a.csv", rows)), ["text"], "answer")
        assert task.task_type == "token-classification"
