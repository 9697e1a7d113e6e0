"""Writers answer with the likeliest label: held against the sum of each label's token log-probabilities, one by one."""

from __future__ import annotations

import json
import math
import os

import pytest
import torch

import apet
from apet.tasks.examples import Example
from apet.tasks.objectives import make_objective
from apet.tasks.objectives.likelihood import likeliest
from apet.tasks.task import validate_task
from test_cli import call
from tiny_backbones import model, reviews, save_backbone, tokenizer, write_csv

OBJECTIVES = {"t5": "text-to-text", "gpt2": "next-token", "llama": "next-token"}
TEXTS = ["a fine film", "a dull film , cold and slow from the first scene to the last", "warm"]
SEVERAL_TOKENS = {"1": "1", "10": "10", "not so good": "not so good", "fine": "a fine film , warm"}
ONE_TOKEN = {"0": "negative", "1": "positive"}


def task(labels, **more):
    raw = {"name": "films", "category": "classification", "source": {"files": {"train": "x.csv"}}, "columns": ["text"]}
    raw |= {"target": "stars", "template": "{text} stars: {target}", "labels": labels, "scoring": "likelihood"}
    return validate_task(raw | more, "test")


def reference(net, objective, kind, text, word):
    """Of one label after one text, without padding and without a cache."""
    words = objective.tokenizer.pretrained
    ids = torch.tensor(objective.encode(Example({"text": text}, (), "")).input_ids[None]).long()
    spelled = words(word if kind == "t5" else f" {word}", add_special_tokens=False)["input_ids"]
    # One known token is a whole answer; of several only the end token tells where the label ends.
    end = [] if word in ONE_TOKEN.values() else [words.eos_token_id]
    target = torch.tensor([[*spelled, *end]])
    if kind == "t5":
        logits = net(input_ids=ids, labels=target).logits
    else:
        logits = net(input_ids=torch.cat([ids, target], 1)).logits[:, ids.shape[1] - 1 : -1]
    return float(logits.log_softmax(-1).gather(-1, target[..., None]).sum())


@torch.no_grad()
@pytest.mark.parametrize("method", [None, "prompt", "lora", "apet", "adapter"])
@pytest.mark.parametrize("labels", [ONE_TOKEN, SEVERAL_TOKENS], ids=["one token", "several"])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_log_likelihoods_are_those_of_each_label_by_itself(kind, labels, method):
    words = tokenizer(kind)
    net = model(kind, len(words)).eval()
    handle = None
    if method:
        handle = apet.attach(net, apet.plan(net, method))
        torch.manual_seed(1)
        for p in handle.parameters():
            p.add_(0.2 * torch.randn_like(p))
        handle.refresh()
    objective = make_objective(OBJECTIVES[kind], task(labels), words, 64)
    rows = [objective.encode(Example({"text": t}, (), "")) for t in TEXTS]
    found = objective.label_log_likelihoods(net, objective.collate(rows))
    expected = [[reference(net, objective, kind, t, w) for w in labels.values()] for t in TEXTS]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    answers = objective.predict(net, objective.collate(rows))
    for answer, row in zip(answers, expected, strict=True):
        assert answer.is_valid
        assert answer.text == list(labels.values())[row.index(max(row))]
        whole = sum(math.exp(x - max(row)) for x in row)
        assert answer.scores == pytest.approx([math.exp(x - max(row)) / whole for x in row], abs=1e-4)


def test_a_label_that_begins_another_one_can_lose_to_it():
    """Without its end token ``1`` would be at least as likely as ``10`` whatever was learned."""
    words = tokenizer("llama")
    objective = make_objective("next-token", task({"1": "1", "10": "10"}), words, 64)
    assert not objective.verbalizer.single_token
    for ids in objective.verbalizer.candidates(objective.end_ids):
        assert ids[-1] == words.eos_token_id


def test_probabilities_are_of_the_labels_and_sum_to_one():
    first, second = likeliest(["no", "yes"], torch.tensor([[0.0, math.log(3)], [5.0, 5.0]]))
    assert (first.text, first.scores) == ("yes", pytest.approx((0.25, 0.75)))
    assert second.scores == (0.5, 0.5)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("likelihood")
    save_backbone("llama", folder / "llama")
    write_csv(folder / "train.csv", reviews(48))
    os.environ["APET_CACHE"] = str(folder / "cache")
    return folder


@pytest.mark.parametrize(("scoring", "floor"), [("likelihood", 0.5), ("generate", 0.0)])
def test_the_record_says_how_labels_are_scored_and_what_guessing_gives(place, scoring, floor):
    words = ("--backbone", "llama", "--data", "train.csv", "--text", "text", "--label", "stars", "--max-steps", "1")
    words += ("--quiet", "--json", "dtype=float32", "--method", "lora", "--output", scoring)
    words += (f"scoring={scoring}",) if scoring == "generate" else ()
    result = json.loads(call(place, "tune", *words).out)
    assert (result["scoring"], result["untrained_baseline"]) == (scoring, floor)
    assert (result["num_other_answers"] == 0) == (scoring == "likelihood")


def test_tasks_that_ship_are_answered_by_writing_as_in_the_paper():
    from apet.tasks.task import registered_tasks

    assert {t.scoring for t in registered_tasks().values()} == {"generate"}
