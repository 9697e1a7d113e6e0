"""Where each run of a task has a test score, a study reports it: of the values that validation chose."""

import numpy as np
import pandas as pd
import pytest

import apet
from apet.analysis.frames import CURVES, checked_runs
from apet.analysis.study import analyze
from apet.reporting import captions
from apet.reporting.experiments import tasks
from apet.studies.held_store import open_store
from apet.studies.reported import tasks_with_test, with_reported_scores
from apet.studies.results import Study
from apet.studies.store import DamagedRunError
from apet.training.config import RunAxes, validate_config
from apet.training.manifest import write_manifest
from apet.training.run import tune
from apet.training.run_dir import TEST_PREDICTIONS, read_scores
from run_records import result_record, write_run_folder
from synthetic_results import study

NO_CURVES = pd.DataFrame(columns=list(CURVES))


def with_test_scores(runs):
    """The same runs with a test score of 4,000 items each."""
    return runs.drop(columns="split", errors="ignore").assign(
        test_score=runs["score"] - 0.05,
        test_ci_low=runs["ci_low"] - 0.05,
        test_ci_high=runs["ci_high"] - 0.05,
        test_num_examples=4000,
    )


@pytest.fixture
def runs():
    return study(seeds=2, tasks=["films", "claims"], backbones=["tiny", "mid"], true_score=lambda *_: 0.8)


def test_the_test_split_takes_the_place_of_validation_with_its_interval_and_items(runs):
    reported = checked_runs(with_test_scores(runs))
    by_id = runs.set_index("run_id").loc[reported["run_id"]]
    assert reported["score"].to_numpy() == pytest.approx(by_id["score"].to_numpy() - 0.05)
    assert reported["ci_low"].to_numpy() == pytest.approx(by_id["ci_low"].to_numpy() - 0.05)
    assert set(reported["num_examples"]) == {4000}
    assert set(reported["split"]) == {"test"}


def test_a_task_of_which_one_run_has_no_test_score_keeps_validation_in_all(runs):
    frame = with_test_scores(runs)
    frame.loc[frame.index[0], "test_score"] = np.nan
    task = frame["task"].iloc[0]
    assert tasks_with_test(frame) == set(frame["task"]) - {task}
    reported = checked_runs(frame).set_index("run_id")
    before = runs.set_index("run_id")
    mine = before.index[before["task"] == task]
    assert (reported.loc[mine, "score"] == before.loc[mine, "score"]).all()
    assert set(reported.loc[mine, "split"]) == {"validation"}


def test_a_failed_run_is_no_reason_to_leave_the_test_split(runs):
    frame = with_test_scores(runs)
    frame.loc[frame.index[0], ["state", "test_score"]] = ["failed", np.nan]
    assert tasks_with_test(frame) == set(frame["task"])


def test_reported_runs_that_are_read_again_stay_as_they_are(runs):
    once = with_reported_scores(with_test_scores(runs))
    assert with_reported_scores(once)["score"].equals(once["score"])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_captions_say_which_split_the_scores_are_of(runs, split):
    a = analyze(with_test_scores(runs) if split == "test" else runs, NO_CURVES)
    assert f"accuracy on {split} data" in captions.run_summary(a)
    assert ("with the values that validation chose" in captions.run_summary(a)) == (split == "test")
    assert tasks.caption(a).startswith(f"{split.capitalize()} score in percent")


RUN, AXES = "a" * 16, RunAxes("little", "films", "apet-discrete", "default", 0)


def write_tested_run(folder, **changes):
    """A run with answers to three test items."""
    scores = {"test_score": 2 / 3, "test_ci_low": 0.2, "test_ci_high": 0.9, "test_num_examples": 3}
    write_run_folder(folder, result_record(run_id=RUN, **(scores | changes)))
    rows = [f"test:row {n},good,good,{score}" for n, score in enumerate((1.0, 0.0, 1.0))]
    (folder / TEST_PREDICTIONS).write_text("\n".join(["location,prediction,references,score", *rows]) + "\n")
    write_manifest(folder, RUN)


def test_item_scores_are_of_the_split_that_is_reported(tmp_path):
    with open_store(tmp_path / "study") as store:
        write_tested_run(store.run_folder(RUN))
        store.record_result(RUN, AXES)
    assert Study(tmp_path / "study").items()[RUN].tolist() == [1.0, 0.0, 1.0]


def test_two_studies_are_held_against_each_other_by_test_scores_only_where_both_have_them(tmp_path):
    for name, more in (("tested", {}), ("other", {}), ("untested", None)):
        with open_store(tmp_path / name) as store:
            if more is None:
                write_run_folder(store.run_folder(RUN), result_record(run_id=RUN))
            else:
                write_tested_run(store.run_folder(RUN))
            store.record_result(RUN, AXES)
    record = result_record()
    tested, other, untested = (apet.Study(tmp_path / name) for name in ("tested", "other", "untested"))
    assert [c.scores for c in tested.diff(other).cells] == [(pytest.approx(2 / 3), pytest.approx(2 / 3))]
    assert [c.scores for c in tested.diff(untested).cells] == [(record.score, record.score)]
    both = tasks_with_test(pd.concat([tested.runs(), untested.runs()]))
    assert len(tested.items(both)[RUN]) == record.num_examples, "items of the split whose scores are compared"


@pytest.mark.parametrize("wrong", [{"test_score": 0.5}, {"test_num_examples": 4}])
def test_a_record_that_its_test_answers_contradict_is_not_taken_in(tmp_path, wrong):
    with open_store(tmp_path / "study") as store:
        write_tested_run(store.run_folder(RUN), **wrong)
        with pytest.raises(DamagedRunError, match=r"test_predictions.csv"):
            store.record_result(RUN, AXES)


def test_tuning_writes_the_answers_to_test_items_and_their_mean_is_the_test_score(tmp_path):
    config = validate_config(
        {
            "backbone": "microworld-t5-nano",
            "task": "microworld-sst2",
            "method": "bitfit",
            "max_steps": 2,
            "max_train_samples": 16,
            "max_eval_samples": 8,
            "batch_size": 4,
        }
    )
    result = tune(config, tmp_path / "run").result
    scores = read_scores(tmp_path / "run" / TEST_PREDICTIONS)
    assert result.test_score == pytest.approx(scores.mean())
    assert result.test_num_examples == len(scores) == 8, "as many as of validation"
    longer = config.model_copy(update={"max_test_samples": 24})
    assert tune(longer, tmp_path / "more").result.test_num_examples == 24
