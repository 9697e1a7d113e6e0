"""The eleven tasks of the paper on real subsets, end to end, on every kind of backbone that can serve them."""

from __future__ import annotations

import pytest

from apet.tasks.task import registered_tasks
from apet.training.config import RunConfig
from apet.training.run import tune
from tiny_backbones import SHARED, save_backbone

ELEVEN = ("sst2", "imdb", "rotten-tomatoes", "mnli", "qnli", "rte", "mrpc", "qqp", "nq-open", "samsum", "multi-news")
EIGHT = ELEVEN[:8]
FOUR = ("sst2", "mnli", "nq-open", "samsum")
CASES = [
    *(("t5", t) for t in ELEVEN),
    *(("bert-head", t) for t in EIGHT),
    *(("bert-mlm", t) for t in EIGHT),
    *(("llama", t) for t in FOUR),
]

real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real subsets are not at hand")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {kind: str(save_backbone(kind, root / kind)) for kind in ("t5", "bert-head", "bert-mlm", "llama")}


def folder(task: str) -> str:
    return str(SHARED / task.replace("-", "_"))


@real
@pytest.mark.parametrize(("kind", "task"), CASES)
def test_each_task_trains_and_evaluates_on_its_real_subset(kind, task, backbones, tmp_path, monkeypatch):
    monkeypatch.setenv("APET_CACHE", str(tmp_path / "cache"))
    s = RunConfig(
        backbone=backbones[kind],
        task=task,
        data=folder(task),
        method="lora",
        max_steps=2,
        batch_size=4,
        max_train_samples=24,
        max_eval_samples=8,
        dtype="float32",
    )
    r = tune(s, tmp_path / "run").result
    t = registered_tasks()[task]
    assert r.metric == t.metric
    assert r.num_examples == 8
    assert 0 <= r.ci_low <= r.ci_high <= 1
    assert r.untrained_baseline == (0 if kind in ("t5", "llama") else r.majority_baseline)
    assert r.split_sizes == {"train": 24, "validation": 8}


@pytest.mark.parametrize("task", ELEVEN)
def test_label_words_are_one_token_for_the_tokenizer_of_a_real_encoder(task):
    """One mask and one decoder step hold one token; the words were chosen so."""
    from apet.backbones.loading import load_tokenizer
    from apet.tasks.tokenization import TextTokenizer

    reader = TextTokenizer(load_tokenizer("all-minilm-l6-v2"))
    assert all(len(reader.encode_word(w)) == 1 for w in registered_tasks()[task].label_words)
