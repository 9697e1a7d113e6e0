"""Runs that share a pass end as they would alone, and their folders say how they were made."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

import apet.training.loop as loop
from apet.studies.executors.base import InProcessExecutor
from apet.studies.executors.local import LocalExecutor
from apet.studies.planning import plan_study
from apet.studies.results import Study
from apet.studies.scheduler import Scheduler
from apet.studies.store import Store
from apet.studies.study_file import parse_study
from apet.training import run_dir
from apet.training.config import RunConfig
from apet.training.group import tune_side_by_side
from apet.training.progress import Progress
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet.training.run import tune
from apet.training.sharing import pass_key, runs_side_by_side
from apet.training.side_by_side import SideBySide
from tiny_backbones import reviews, save_backbone, write_csv

TOLERANCE = 1e-4
"""Of losses in fp32, after a few steps: products of more rows at once are rounded in another order."""
VALUE_TOLERANCE = 0.02
"""Of trained values, as a share of their norm: AdamW moves a value whose gradient is zero but for rounding, too."""

MIXED = [
    {"method": "lora", "budget": 700},
    {"method": "lora", "budget": 900, "mask_seed": 4},
    {"method": "bitfit"},
    {"method": "adapter"},
    {"method": "apet-discrete"},
    {"method": "apet-adjacent"},
    {"method": "ia3"},
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    here = tmp_path_factory.mktemp("side")
    # Of different lengths, so that a run's batch is mostly shorter than the batch of all.
    rows = [{**row, "text": row["text"] + " and slow" * (i % 7)} for i, row in enumerate(reviews(100))]
    write_csv(here / "all.csv", rows)
    for kind in ("t5", "bert-head", "bert-mlm", "gpt2", "llama"):
        save_backbone(kind, here / kind)
    return here


@pytest.fixture(scope="module")
def resources():
    return Resources()


def plan(workspace, kind, **more):
    base = {"backbone": str(workspace / kind), "data": str(workspace / "all.csv"), "text": ("text",), "label": "stars"}
    base |= {"max_steps": 4, "eval_steps": 2, "batch_size": 4, "dtype": "float32", "learning_rate": 0.01}
    return resolve(RunConfig(**base | {"max_eval_samples": 20, "num_threads": 1} | more))


def side_by_side(plans, folder, resources):
    return dict(tune_side_by_side(plans, [folder / f"run{n}" for n in range(len(plans))], resources))


def require_same(folder, other, points, points_alone):
    for p, q in zip(points, points_alone, strict=True):
        assert (p.step, p.score) == (q.step, q.score)
        assert p.loss == pytest.approx(q.loss, abs=TOLERANCE)
    ours, alone = (load_file(f / "delta.safetensors") for f in (folder, other))
    for name, values in alone.items():
        difference = ours[name].float() - values.float()
        assert difference.norm() <= VALUE_TOLERANCE * values.float().norm(), name


@pytest.mark.parametrize(
    ("kind", "methods"),
    [(kind, MIXED) for kind in ("bert-head", "bert-mlm", "gpt2", "llama", "t5")]
    + [(kind, [{"method": "prompt"}] * 3) for kind in ("bert-mlm", "gpt2", "t5")],
)
def test_runs_end_as_they_would_alone(workspace, resources, tmp_path, monkeypatch, kind, methods):
    """With dropout, which each draws as it would alone, and each with its own seed, rate and budget."""
    monkeypatch.setattr(loop, "_put", lambda values, best: None)  # the last values are compared, not the best
    rates = [0.01, 0.003, 0.02, 0.005]
    plans = [
        plan(workspace, kind, **m, seed=n, learning_rate=rates[n % 4], weight_decay=0.1 * (n % 2))
        for n, m in enumerate(methods)
    ]
    together = side_by_side(plans, tmp_path, resources)
    for n, p in enumerate(plans):
        alone = tune(p, tmp_path / f"alone{n}", resources)
        assert together[n].result.side_by_side == len(plans)
        assert alone.result.side_by_side == 1
        require_same(together[n].folder, tmp_path / f"alone{n}", together[n].points, alone.points)
        run_dir.check_run(together[n].folder, p.run_id)


def test_a_run_that_reaches_its_target_or_diverges_leaves_the_others_at_it(workspace, resources, tmp_path):
    plans = [
        plan(workspace, "bert-head", method="lora"),
        plan(workspace, "bert-head", method="lora", seed=1, target_score=0.1),
        plan(workspace, "bert-head", method="lora", seed=2, learning_rate=1e38, max_grad_norm=None),
        plan(workspace, "bert-head", method="lora", seed=3, max_steps=2),
    ]
    order = [n for n, _ in tune_side_by_side(plans, [tmp_path / f"run{n}" for n in range(4)], resources)]
    assert (sorted(order[:3]), order[3]) == ([1, 2, 3], 0)
    assert not (tmp_path / "run2").exists()
    alone = tune(plans[0], None, resources)
    result, curve, _ = run_dir.check_run(tmp_path / "run0", plans[0].run_id)
    assert [p.score for p in curve] == [p.score.score for p in alone.points]
    assert result.side_by_side == 4
    assert run_dir.check_run(tmp_path / "run1", plans[1].run_id)[0].stopped_at == 2
    assert list(run_dir.read_curve(tmp_path / "run3"))[-1].step == 2


def test_the_message_of_a_run_that_diverges_is_its_own(workspace, resources):
    plans = [plan(workspace, "gpt2", method="lora", seed=n, learning_rate=r) for n, r in ((0, 0.01), (1, 1e38))]
    plans[1] = plan(workspace, "gpt2", method="lora", seed=1, learning_rate=1e38, max_grad_norm=None)
    outcomes = dict(tune_side_by_side(plans, [None, None], resources))
    assert outcomes[0].result.best_step >= 0
    assert "the loss was nan" in str(outcomes[1])


def test_runs_that_cannot_share_a_pass_are_made_one_after_another(workspace, resources):
    """A prompt of another length gives every row another length."""
    plans = [plan(workspace, "t5", method="prompt", budget=n) for n in (32 * 4, 32 * 6)]
    outcomes = dict(tune_side_by_side(plans, [None, None], resources))
    assert [outcomes[n].result.side_by_side for n in (0, 1)] == [1, 1]
    assert pass_key(plans[0]) != pass_key(plans[1])


@pytest.mark.parametrize(
    ("more", "runs"),
    [
        ({}, 8),
        ({"side_by_side": 1}, 1),
        ({"side_by_side": 3}, 3),
        ({"batch_size": 4096}, 1),
        ({"method": "prompt"}, 1),
        ({"method": "prompt", "side_by_side": 3}, 3),
        ({"method": "fine-tuning", "side_by_side": 3}, 1),
        ({"carrier": "in_place"}, 1),
        ({"gradient_checkpointing": True}, 1),
    ],
)
def test_how_many_runs_make_a_pass(workspace, more, runs):
    assert runs_side_by_side(plan(workspace, "t5", **{"method": "lora"} | more)) == runs


def test_the_setting_decides_nothing_of_what_a_run_is(workspace):
    assert plan(workspace, "t5", side_by_side=4).run_id == plan(workspace, "t5", side_by_side=1).run_id


def test_a_search_of_the_learning_rate_tries_the_same_rates_with_the_same_scores(workspace, resources):
    found = [
        tune(
            plan(workspace, "bert-mlm", method="lora", learning_rate="auto", max_steps=8, side_by_side=n),
            None,
            resources,
        )
        for n in (1, 3)
    ]
    alone, together = (f.result.learning_rate_trials for f in found)
    assert [t.learning_rate for t in together] == [t.learning_rate for t in alone]
    assert [t.score for t in together] == pytest.approx([t.score for t in alone])
    assert found[0].result.learning_rate == found[1].result.learning_rate


def study_of(workspace):
    text = f"""
name: side
backbones: [{workspace / "t5"}]
tasks: [{workspace / "all.csv"}]
methods: [lora, bitfit, fine-tuning]
seeds: [0, 1]
run_defaults: {{max_steps: 2, batch_size: 4, dtype: float32, learning_rate: 0.01, max_eval_samples: 20, text: [text],
  label: stars, side_by_side: auto}}
"""
    return plan_study(parse_study(text, "study", {}))


def test_a_study_makes_its_runs_side_by_side_where_they_may(workspace, resources, tmp_path):
    store = Store(tmp_path, create=True)
    summary = Scheduler(store, InProcessExecutor(resources), Progress(quiet=True)).run(study_of(workspace))
    runs = Study(tmp_path).runs()
    assert (summary.num_completed, summary.failed) == (6, {})
    assert dict(zip(runs.method, runs.side_by_side, strict=True)) == {"lora": 4, "bitfit": 4, "fine-tuning": 1}


@pytest.mark.slow
def test_a_pass_that_is_killed_keeps_what_had_ended_and_the_rest_is_made_again(workspace, tmp_path):
    """The worker dies when the first run's folder is there; then its runs are made alone, each in its own process."""
    store, plans = Store(tmp_path, create=True), study_of(workspace)[:4]

    class Dying(LocalExecutor):
        killed = False

        def events(self, timeout):
            events = super().events(timeout)
            if not self.killed and any(e.kind == "done" for e in events):
                self.killed = True
                self._workers[0].process.kill()
            return events

    executor = Dying(1)
    try:
        summary = Scheduler(store, executor, Progress(quiet=True)).run(plans)
    finally:
        executor.stop()
    assert executor.killed
    assert (summary.num_completed, summary.failed) == (4, {})
    for p in plans:
        run_dir.check_run(store.run_folder(p.run_id), p.run_id)


def test_a_pass_that_breaks_leaves_its_runs_to_be_made_alone(workspace, resources, tmp_path, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(SideBySide, "_take_step", out_of_memory)
    store = Store(tmp_path, create=True)
    summary = Scheduler(store, InProcessExecutor(resources), Progress(quiet=True)).run(study_of(workspace)[:2])
    assert (summary.num_completed, Study(tmp_path).runs().side_by_side.tolist()) == (2, [1, 1])
