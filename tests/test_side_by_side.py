"""Runs that share a pass end as they would alone, and their folders say how they were made."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

import apet.training.loop as loop
from apet.training import run_dir
from apet.training.config import RunConfig
from apet.training.group import tune_side_by_side
from apet.training.resolve import resolve
from apet.training.resources import Resources
from apet.training.run import tune
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


@pytest.mark.parametrize("kind", ["bert-head", "bert-mlm", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("methods", [MIXED, [{"method": "prompt"}] * 3], ids=["mixed", "prompt"])
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
