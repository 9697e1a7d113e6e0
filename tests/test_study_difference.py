"""Two studies held against each other: differences are those of scipy, and nothing is found where nothing changed."""

from __future__ import annotations

import json
from contextlib import chdir

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

import apet
from apet.analysis.study_difference import study_difference
from apet.studies.executors.base import InProcessExecutor
from apet.studies.held_store import open_store
from apet.studies.planning import plan_study
from apet.studies.scheduler import Scheduler
from apet.studies.study_file import load_study
from apet.training.progress import Progress
from apet.training.resources import Resources
from synthetic_results import row
from test_cli import call
from test_studies import TASK
from tiny_backbones import reviews, save_backbone, write_jsonl


def runs(side, scores, **columns):
    """Runs of one cell, a score a seed."""
    columns = {"budget": "default", "task": "films", "method": "lora"} | columns
    name = "-".join(map(str, columns.values()))
    made = [row(run_id=f"{side}-{name}-{i}", seed=i, score=s, **columns) for i, s in enumerate(scores)]
    return pd.DataFrame(made)


BEFORE, AFTER = [0.80, 0.81, 0.79, 0.80], [0.84, 0.86, 0.83, 0.85]


def test_a_difference_is_the_paired_test_over_seeds():
    (cell,) = study_difference(runs("a", BEFORE), runs("b", AFTER)).cells
    reference = stats.ttest_rel(AFTER, BEFORE)
    ends = reference.confidence_interval()
    assert cell.scores == pytest.approx((np.mean(BEFORE), np.mean(AFTER)))
    assert (cell.difference.score, cell.difference.p_value) == pytest.approx((0.045, reference.pvalue))
    assert (cell.difference.ci_low, cell.difference.ci_high) == pytest.approx((ends.low, ends.high))
    assert cell.verdict == "higher"
    (back,) = study_difference(runs("b", AFTER), runs("a", BEFORE)).cells
    assert (back.difference.score, back.verdict) == (pytest.approx(-0.045), "lower")


def test_a_study_does_not_differ_from_itself():
    (cell,) = study_difference(runs("a", BEFORE), runs("b", BEFORE)).cells
    assert (cell.difference.score, cell.verdict) == (0, "no significant difference")


def test_items_known_narrow_the_interval():
    rng = np.random.default_rng(0)
    before = {f"a-default-films-lora-{i}": (rng.random(1000) < s).astype(float) for i, s in enumerate(BEFORE)}
    after = {x.replace("a-", "b-", 1): np.maximum(s, rng.random(1000) < 0.2) for x, s in before.items()}
    first = runs("a", [float(x.mean()) for x in before.values()])
    second = runs("b", [float(x.mean()) for x in after.values()])
    (paired,) = study_difference(first, second, before | after).cells
    (unpaired,) = study_difference(first, second).cells
    widths = [c.difference.item_ci_high - c.difference.item_ci_low for c in (paired, unpaired)]
    assert widths[0] < widths[1]
    assert paired.verdict == "higher"
    (on_other_data,) = study_difference(first, second.assign(data_fingerprint="e"), before | after).cells
    assert on_other_data.difference == unpaired.difference


def test_one_seed_decides_nothing():
    (cell,) = study_difference(runs("a", [0.5]), runs("b", [0.9])).cells
    assert cell.verdict == "not decidable"
    assert cell.as_dict()["ci_low"] is None


def test_only_seeds_of_both_are_compared():
    (cell,) = study_difference(runs("a", [0.5, 0.6, 0.7]), runs("b", [0.5, 0.6])).cells
    assert (cell.difference.num_seeds, cell.scores) == (2, pytest.approx((0.55, 0.55)))


def test_what_is_found_among_many_cells_must_survive_holm():
    scores = [0.83, 0.83, 0.83, 0.85]
    alone = study_difference(runs("a", BEFORE), runs("b", scores)).cells[0]
    assert (alone.verdict, alone.difference.p_value) == (
        "higher",
        pytest.approx(stats.ttest_rel(scores, BEFORE).pvalue),
    )
    assert 0.05 / 13 < alone.difference.p_value < 0.05
    others = [f"t{i}" for i in range(12)]
    first = pd.concat([runs("a", BEFORE), *(runs("a", BEFORE, task=t) for t in others)])
    second = pd.concat([runs("b", scores), *(runs("b", BEFORE, task=t) for t in others)])
    found = study_difference(first, second).cells
    assert {c.verdict for c in found} == {"no significant difference"}
    assert found[0].cell[1] == "films"


def test_what_only_one_has_or_is_measured_otherwise_is_named():
    first = pd.concat([runs("a", BEFORE), runs("a", BEFORE, method="bitfit"), runs("a", BEFORE, task="shops")])
    second = pd.concat([runs("b", AFTER, method="adapter"), runs("b", AFTER), runs("b", AFTER, task="shops")])
    second.loc[second.task == "shops", "metric"] = "macro-f1"
    found = study_difference(first, second)
    assert [c.cell for c in found.cells] == [("mid", "films", "lora", "default")]
    assert found.only_first == (("mid", "films", "bitfit", "default"),)
    assert found.only_second == (("mid", "films", "adapter", "default"),)
    assert found.apart == {("mid", "shops", "lora", "default"): "measured by accuracy and by macro-f1"}


def run_grid(folder, name, **settings):
    """Run the grid of a folder in this process."""
    with chdir(folder), open_store(folder / name) as store:
        study, resources = load_study("grid.yaml", settings), Resources(Progress(quiet=True))
        plans = plan_study(study, resources.cache)
        store.describe(study.name, study.to_yaml(), len(plans))
        Scheduler(store, InProcessExecutor(resources), resources.progress).run(plans)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One grid, run twice: in ``slow`` with another learning rate and another seed."""
    folder = tmp_path_factory.mktemp("diff")
    write_jsonl(folder / "one.jsonl", reviews(32))
    write_jsonl(folder / "one-held.jsonl", reviews(16, 200))
    (folder / "one.yaml").write_text(TASK.format(name="one"))
    save_backbone("bert", folder / "bert")
    raw = {"name": "grid", "backbones": ["bert"], "tasks": ["one.yaml"], "methods": ["bitfit", "lora"], "seeds": [0, 1]}
    raw |= {"run_defaults": {"max_steps": 2, "batch_size": 8, "dtype": "float32", "learning_rate": 0.01}}
    (folder / "grid.yaml").write_text(yaml.safe_dump(raw))
    run_grid(folder, "quick")
    run_grid(folder, "slow", learning_rate=0.001, seeds=[1, 2])
    return folder


def test_the_command_says_what_changed_and_what_was_set_otherwise(workspace):
    shown = call(workspace, "study", "diff", "quick", "slow")
    assert shown.code == 0, shown.err
    assert "2 cells in both" in shown.out
    assert "set otherwise: learning_rate: 0.01 → 0.001" in shown.out
    found = json.loads(call(workspace, "study", "diff", "quick", "slow", "--json").out)
    assert {(c["method"], c["num_seeds"], c["verdict"]) for c in found["cells"]} == {
        (method, 1, "not decidable") for method in ("bitfit", "lora")
    }
    tables = {
        name: apet.Study(workspace / name).runs().set_index(["method", "seed"]).score for name in ("quick", "slow")
    }
    for cell in found["cells"]:
        expected = tables["slow"][cell["method"], 1] - tables["quick"][cell["method"], 1]
        assert cell["difference"] == pytest.approx(expected)


def test_a_seed_that_was_run_again_with_other_settings_counts_once(workspace):
    folder = workspace / "again"
    run_grid(workspace, "again", learning_rate=0.002)
    run_grid(workspace, "again", learning_rate=0.03)
    assert len(apet.Study(folder).runs()) == 8
    for cell in apet.Study(workspace / "quick").diff(folder).cells:
        assert cell.settings == ("learning_rate: 0.01 → 0.03",)
        assert cell.difference.num_seeds == 2


def test_a_study_against_itself_and_against_nothing(workspace):
    found = apet.Study(workspace / "quick").diff(workspace / "quick")
    assert {(c.difference.score, c.difference.num_seeds, c.settings) for c in found.cells} == {(0, 2, ())}
    missing = call(workspace, "study", "diff", "quick", "nothing")
    assert missing.code == 2
    assert "nothing" in missing.err
    assert missing.err.count("\n") == 1
